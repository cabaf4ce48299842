from __future__ import annotations

import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from akasha_stream.incarnation import Incarnation
from akasha_stream.storage.settings import TierName
from akasha_stream.tiers.catalog import Catalog
from akasha_stream.tiers.footer import Counts, SegmentFooter
from akasha_stream.tiers.keys import LogId, SegmentKey
from akasha_stream.tiers.stored_segment import StoredSegment
from akasha_stream.tiers.tiling import Gap, Overlap
from tests.tiers.segments import LOG
from tests.tiers.stored import footer_of


def stored(
    start: int,
    end: int,
    times: tuple[int, int] | None = (0, 10),
    systems: dict[str, tuple[int, int]] | None = None,
    *,
    log: LogId = LOG,
    generation: int = 0,
    tier: TierName = "hot",
) -> StoredSegment:
    """`systems`: name → (upserts, deletes)."""
    counts = {name: Counts(upserts=u, deletes=d) for name, (u, d) in (systems or {"a": (1, 0)}).items()}
    key = SegmentKey(log, start, end, generation)
    return StoredSegment(key.path(), 1, "e", key, footer_of(key, counts, times), tier)


def ranges(segments: tuple[StoredSegment, ...]) -> list[tuple[int, int]]:
    return [(s.key.start, s.key.end) for s in segments]


def test_segments_that_tile() -> None:
    catalog = Catalog([stored(10, 20), stored(5, 10), stored(20, 21)])
    assert ranges(catalog.current(LOG)) == [(5, 10), (10, 20), (20, 21)]
    assert (catalog.end(LOG), catalog.problems, catalog.superseded) == (21, (), ())
    assert catalog.end(replace(LOG, partition=4)) is None


def test_a_gap_and_an_overlap_are_reported() -> None:
    catalog = Catalog([stored(0, 10), stored(12, 20), stored(18, 30)])
    assert catalog.problems == (Gap(LOG, 10, 12), Overlap(LOG, 18, 20))
    assert "[10, 12)" in str(catalog.problems[0])
    assert catalog.end(LOG) == 30


def test_a_compacted_segment_stands_for_those_it_covers() -> None:
    catalog = Catalog([stored(0, 5), stored(5, 10), stored(0, 10), stored(10, 15)])
    assert ranges(catalog.current(LOG)) == [(0, 10), (10, 15)]
    assert sorted(ranges(catalog.superseded)) == [(0, 5), (5, 10)]
    assert catalog.problems == ()
    assert [s.key.start for s in catalog.prune()] == [0, 10]
    assert len(catalog.with_changes(removed=[s.place for s in catalog.superseded])) == 2


def test_a_rewritten_segment_stands_for_the_one_before() -> None:
    catalog = Catalog([stored(0, 5, generation=1), stored(5, 10), stored(0, 5), stored(0, 5, generation=10)])
    assert [(s.key.start, s.key.generation) for s in catalog.current(LOG)] == [(0, 10), (5, 0)]
    assert [s.key.generation for s in catalog.superseded] == [1, 0]


def test_an_object_on_its_way_to_another_tier_counts_once() -> None:
    catalog = Catalog([stored(0, 5, tier="warm"), stored(0, 5), stored(5, 10, tier="cold")])
    assert [s.tier for s in catalog.current(LOG)] == ["hot", "cold"]
    assert (len(catalog), [s.tier for s in catalog.superseded], catalog.problems) == (3, ["warm"], ())
    moved = catalog.with_changes(removed=[catalog.current(LOG)[0].place])
    assert [s.tier for s in moved.current(LOG)] == ["warm", "cold"]


def test_logs_are_apart() -> None:
    """A recreated topic's offsets begin anew."""
    again = replace(LOG, incarnation=Incarnation("c", "another"))
    catalog = Catalog([stored(0, 10), stored(0, 7, log=again), stored(0, 3, log=replace(LOG, partition=0))])
    assert (catalog.end(LOG), catalog.end(again), len(catalog.logs)) == (10, 7, 3)
    assert catalog.superseded == ()


_RANGES = st.lists(st.tuples(st.integers(0, 25), st.integers(1, 12)).map(lambda r: (r[0], sum(r))), unique=True)


@given(_RANGES)
def test_tiling_against_a_plain_model(found: list[tuple[int, int]]) -> None:
    catalog = Catalog([stored(start, end) for start, end in found])
    covered = {
        one for one in found if any(other[0] <= one[0] and one[1] <= other[1] for other in found if other != one)
    }
    assert set(ranges(catalog.superseded)) == covered
    current = ranges(catalog.current(LOG))
    assert current == sorted(set(found) - covered)
    times = {offset: sum(start <= offset < end for start, end in current) for offset in range(40)}
    gaps = {offset for p in catalog.problems if isinstance(p, Gap) for offset in range(p.start, p.end)}
    twice = {offset for p in catalog.problems if isinstance(p, Overlap) for offset in range(p.start, p.end)}
    if current:
        assert gaps == {o for o, n in times.items() if not n and current[0][0] <= o < current[-1][1]}
        assert twice == {o for o, n in times.items() if n > 1}
        assert catalog.end(LOG) == max(end for _, end in found)


_SYSTEMS = st.dictionaries(st.sampled_from("abcd"), st.tuples(st.integers(0, 2), st.integers(0, 2)), max_size=3)
_BOUND = st.none() | st.integers(-1, 30)


@st.composite
def _segments(draw: st.DrawFn) -> list[StoredSegment]:
    each = []
    for at in range(draw(st.integers(0, 12))):
        systems = draw(_SYSTEMS) or {"a": (0, 1)}
        first = draw(st.integers(0, 25))
        has_upserts = any(upserts for upserts, _ in systems.values())
        each.append(stored(at, at + 1, (first, first + draw(st.integers(0, 5))) if has_upserts else None, systems))
    return each


@given(_segments(), st.none() | st.sets(st.sampled_from("abcde")), _BOUND, _BOUND)
def test_pruning_against_a_plain_model(
    segments: list[StoredSegment], systems: set[str] | None, since: int | None, until: int | None
) -> None:
    def may_have(footer: SegmentFooter) -> bool:
        if systems is not None and not any(c.upserts for name, c in footer.systems.items() if name in systems):
            return False
        if since is None and until is None:
            return True
        if footer.first_created_at is None or footer.last_created_at is None:
            return False
        return (since is None or footer.last_created_at >= since) and (until is None or footer.first_created_at < until)

    expected = [s.path for s in segments if may_have(s.footer)]
    assert [s.path for s in Catalog(segments).prune(systems, since, until)] == expected
    before = Catalog([*segments[:3], stored(100, 101)])
    old = before.prune(systems, since, until)
    after = before.with_changes(segments[3:], [stored(100, 101).place, ("hot", "none")])
    assert [s.path for s in after.prune(systems, since, until)] == expected
    assert before.prune(systems, since, until) == old


@pytest.fixture(scope="module")
def ten_thousand() -> list[StoredSegment]:
    # Fifty are made, the others are copies: validating 750,000 counts takes 6 s.
    made = [
        stored(0, 50, systems={f"session-buddy-{i:03d}": (80, 1) for i in range(first, 100)}).footer
        for first in range(50)
    ]
    found = []
    for partition in range(8):
        log = replace(LOG, partition=partition)
        for at in range(1_250):
            key = SegmentKey(log, at * 50, at * 50 + 50)
            place = {"partition": partition, "start": key.start, "end": key.end}
            times = {"first_created_at": at * 10, "last_created_at": at * 10 + 25}
            footer = made[at % 50].model_copy(update={**place, **times})
            found.append(StoredSegment(key.path(), 1, "e", key, footer))
    return found


def test_planning_over_10_000_segments_takes_at_most_20_ms(ten_thousand: list[StoredSegment]) -> None:
    catalog = Catalog(ten_thousand)
    queries = [
        (["session-buddy-007"], 3_000, 3_100),
        ([f"session-buddy-{i:03d}" for i in range(50)], None, 9_000),
        (None, 0, None),
    ]
    for systems, since, until in queries:
        took = []
        for _ in range(5):
            began = time.perf_counter()
            found = catalog.prune(systems, since, until)
            took.append(time.perf_counter() - began)
        assert found
        assert min(took) < 0.020, took


def test_an_object_that_was_replaced_is_seen_as_it_is_now() -> None:
    before = Catalog([stored(0, 10, systems={"a": (1, 0)})])
    after = before.with_changes([stored(0, 10, systems={"b": (1, 0)})])
    assert (len(after), len(after.prune(["a"])), len(after.prune(["b"]))) == (1, 0, 1)
