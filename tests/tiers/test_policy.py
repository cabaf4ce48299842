"""The tier policy: against a plain model, and what its settings mean."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from akasha_stream.settings import SystemTiers, TierPolicy
from akasha_stream.storage.settings import TIERS, TierName
from akasha_stream.tiers.access import AccessRecord
from akasha_stream.tiers.catalog import Catalog
from akasha_stream.tiers.keys import LogId
from akasha_stream.tiers.policy import Move, plan
from akasha_stream.tiers.stored_segment import StoredSegment
from tests.tiers.segments import LOG
from tests.tiers.stored import NOW, stored

DAY = 86_400.0
NEVER_READ = AccessRecord(1)


def wanted(
    segments: list[StoredSegment], settings: TierPolicy, access: AccessRecord = NEVER_READ, **more: Any
) -> list[tuple[int, TierName, str]]:
    return [
        (move.segment.key.start, move.to, move.reason)
        for move in plan(Catalog(segments), access, NOW, settings, **more)
    ]


def aged(start: int, days: float, **more: Any) -> StoredSegment:
    return stored(start, start + 10, newest_s=NOW - days * DAY, **more)


AGES = TierPolicy(warm_after_s=30 * DAY, cold_after_s=365 * DAY)


def test_by_age_each_goes_where_it_belongs_in_one_move() -> None:
    segments = [aged(0, 400), aged(10, 40), aged(20, 29), aged(30, 400, tier="warm"), aged(40, 400, tier="cold")]
    assert wanted(segments, AGES) == [
        (0, "cold", "newest event before 400 d, cold after 365 d"),
        (10, "warm", "newest event before 40 d, warm after 30 d"),
        (30, "cold", "newest event before 400 d, cold after 365 d"),
    ]


def test_age_may_be_that_of_the_object() -> None:
    backfilled = aged(0, 4_000, written_s=NOW - DAY)
    assert wanted([backfilled], AGES.model_copy(update={"age_of": "object"})) == []
    deletes_only = stored(0, 10, systems={"a": 0}, newest_s=None, written_s=NOW - 31 * DAY)
    assert [move[1] for move in wanted([deletes_only], AGES)] == ["warm"]


def test_a_segment_waits_for_the_longest_of_its_systems() -> None:
    settings = AGES.model_copy(
        update={
            "systems": {
                "short": SystemTiers(warm_after_s=DAY),
                "long": SystemTiers(warm_after_s=60 * DAY),
                "kept": SystemTiers(warm_after_s=None),
            }
        }
    )

    def to(days: float, *systems: str) -> list[TierName]:
        return [move[1] for move in wanted([aged(0, days, systems=dict.fromkeys(systems, 1))], settings)]

    assert to(2, "short") == ["warm"]
    assert to(2, "short", "other") == []
    assert to(40, "short", "long") == []
    assert to(61, "short", "long") == ["warm"]
    assert to(364, "kept") == []
    assert to(366, "kept") == ["cold"], "its own cold_after_s is left out, so the general one holds"


def test_what_is_searched_stays() -> None:
    access = AccessRecord(3)
    segment = aged(0, 40)
    for day in (8, 2, 1):
        access.searched([segment.key], NOW - day * DAY)
    kept = AGES.model_copy(update={"keep_within_s": 7 * DAY, "keep_searches": 2})
    assert wanted([segment], kept, access) == []
    for change in ({"keep_searches": 3}, {"keep_within_s": 1.5 * DAY}, {"keep_searches": 0}):
        assert len(wanted([segment], kept.model_copy(update=change), access)) == 1


def test_over_its_limit_a_tier_gives_up_the_least_searched_then_the_oldest() -> None:
    access = AccessRecord(10)
    segments = [aged(0, 9), aged(10, 3), aged(20, 5), aged(30, 1)]
    access.searched([segments[0].key, segments[2].key], NOW)
    access.searched([segments[0].key], NOW)
    limited = TierPolicy(warm_after_s=None, hot_max_bytes=250, keep_searches=1)
    assert wanted(segments, limited, access) == [
        (10, "warm", "hot holds more than 250 bytes"),
        (30, "warm", "hot holds more than 250 bytes"),
    ]
    held = limited.model_copy(update={"warm_after_s": DAY, "systems": {"a": SystemTiers(warm_after_s=None)}})
    segments[1] = replace(segments[1], footer=stored(10, 20, systems={"other": 1}, newest_s=NOW).footer)
    assert [move[0] for move in wanted(segments, held, access)] == [10, 30], "what an override holds goes last"


def test_what_overflows_hot_may_overflow_warm() -> None:
    segments = [aged(0, 9), aged(10, 3), aged(20, 5, tier="warm")]
    limited = TierPolicy(warm_after_s=None, hot_max_bytes=100, warm_max_bytes=100)
    assert [(move[0], move[1]) for move in wanted(segments, limited)] == [(0, "cold")]
    assert [(move[0], move[1]) for move in wanted(segments, limited, tiers=("hot", "cold"))] == [(0, "cold")]
    assert wanted(segments, limited, tiers=("hot",)) == []


def test_a_move_that_is_under_way_is_not_planned_again() -> None:
    segment = aged(0, 40, written_s=NOW - DAY)
    assert wanted([segment, replace(segment, tier="warm", modified=stored(0, 10).modified)], AGES) == []


def test_ages_that_contradict_are_refused() -> None:
    from akasha_stream.configuration.together import problem_together
    from akasha_stream.settings import Settings

    problem = problem_together(Settings(tier_policy=TierPolicy(warm_after_s=20, cold_after_s=10)))
    assert problem is not None
    assert problem[0][0] == ("tier_policy", "cold_after_s")


# ── a plain model ────────────────────────────────────────────────────────────────────────────────────────

_AGE = st.none() | st.sampled_from([5.0, 10.0, 20.0])


@st.composite
def policies(draw: st.DrawFn) -> TierPolicy:
    own = st.sampled_from([{}, {"warm_after_s": None}, {"warm_after_s": 15.0}, {"cold_after_s": 2.0}])
    return TierPolicy(
        warm_after_s=draw(_AGE),
        cold_after_s=draw(_AGE),
        hot_max_bytes=draw(st.none() | st.integers(1, 600)),
        warm_max_bytes=draw(st.none() | st.integers(1, 600)),
        keep_searches=draw(st.integers(0, 3)),
        keep_within_s=draw(st.sampled_from([1.0, 10.0])),
        systems={name: SystemTiers.model_validate(draw(own)) for name in draw(st.sets(st.sampled_from("ab")))},
    )


@st.composite
def catalogs(draw: st.DrawFn) -> tuple[list[StoredSegment], AccessRecord]:
    access = AccessRecord(3)
    segments = []
    for partition in range(draw(st.integers(1, 3))):
        log: LogId = replace(LOG, partition=partition)
        for start in range(draw(st.integers(0, 5))):
            segments.append(
                stored(
                    start,
                    start + 1,
                    log=log,
                    tier=draw(st.sampled_from(TIERS)),
                    systems=dict.fromkeys(draw(st.sets(st.sampled_from("abc"), min_size=1)), 1),
                    newest_s=NOW - draw(st.integers(0, 30)),
                    size=draw(st.integers(1, 200)),
                )
            )
            for _ in range(draw(st.integers(0, 4))):
                access.searched([segments[-1].key], NOW - draw(st.integers(0, 15)))
    return segments, access


def model_age_target(segment: StoredSegment, access: AccessRecord, settings: TierPolicy) -> TierName:
    """In other words than policy.py's: where age and searches put a segment."""
    reads = access.since(segment.key, NOW - settings.keep_within_s)
    if settings.keep_searches and reads >= settings.keep_searches:
        return segment.tier
    age = NOW - (segment.footer.last_created_at or 0) / 1e6
    best = segment.tier
    for tier, field in (("warm", "warm_after_s"), ("cold", "cold_after_s")):
        each: list[float] = []
        for system in segment.footer.systems:
            given = settings.systems[system].model_dump(exclude_unset=True) if system in settings.systems else {}
            limit = given.get(field, settings.model_dump()[field])
            each.append(math.inf if limit is None else limit)
        if age >= max(each) and TIERS.index(tier) > TIERS.index(best):
            best = tier  # type: ignore[assignment]
    return best


@given(catalogs(), policies())
def test_the_plan_is_the_models(made: tuple[list[StoredSegment], AccessRecord], settings: TierPolicy) -> None:
    segments, access = made
    moves: list[Move] = plan(Catalog(segments), access, NOW, settings)
    after = {segment.place: segment.tier for segment in segments} | {m.segment.place: m.to for m in moves}
    assert len({m.segment.place for m in moves}) == len(moves)
    assert all(TIERS.index(m.to) > m.segment.tier_rank and m.reason for m in moves)

    by_age = {s.place: model_age_target(s, access, settings) for s in segments}
    assert all(TIERS.index(after[place]) >= TIERS.index(tier) for place, tier in by_age.items())
    if settings.hot_max_bytes is None and settings.warm_max_bytes is None:
        assert after == by_age

    for tier, limit in (("hot", settings.hot_max_bytes), ("warm", settings.warm_max_bytes)):
        inside = [s for s in segments if after[s.place] == tier]
        if limit is None:
            continue
        assert sum(s.size for s in inside) <= limit
        # Nothing left a tier that was within its limit; and of one log, nothing better left than what stayed.
        before = [s for s in segments if by_age[s.place] == tier]
        if tier == "hot" and sum(s.size for s in before) <= limit:
            assert before == inside
        reads = {s.place: access.since(s.key, NOW - settings.keep_within_s) for s in segments}
        of: dict[LogId, list[StoredSegment]] = defaultdict(list)
        for s in before:
            of[s.key.log].append(s)
        if settings.systems or not settings.keep_searches or tier == "warm":
            continue
        for each in of.values():
            gone = [(reads[s.place], s.footer.last_created_at) for s in each if after[s.place] != tier]
            stay = [(reads[s.place], s.footer.last_created_at) for s in each if after[s.place] == tier]
            assert not gone or not stay or max(gone) <= min(stay)


@given(catalogs(), policies())
def test_workers_come_to_the_plan_of_the_whole_each_for_its_logs(
    made: tuple[list[StoredSegment], AccessRecord], settings: TierPolicy
) -> None:
    """Each knows only the searches of its own logs."""
    segments, access = made
    catalog = Catalog(segments)
    together = plan(catalog, access, NOW, settings)
    apart: list[Move] = []
    for log in catalog.logs:
        own = AccessRecord(3)
        for segment in catalog.current(log):
            own._times |= {k: v for k, v in access._times.items() if k == segment.key}
            own._totals |= {k: v for k, v in access._totals.items() if k == segment.key}
        apart += plan(catalog, own, NOW, settings, logs=[log])
    if settings.hot_max_bytes is None and settings.warm_max_bytes is None:
        assert {(m.segment.place, m.to) for m in apart} == {(m.segment.place, m.to) for m in together}
    else:
        sizes: defaultdict[TierName, int] = defaultdict(int)
        after = {s.place: s.tier for s in segments} | {m.segment.place: m.to for m in apart}
        for s in segments:
            sizes[after[s.place]] += s.size
        # What is kept for its searches elsewhere is not known here, so the share may be a little off.
        if not settings.keep_searches:
            assert settings.hot_max_bytes is None or sizes["hot"] <= settings.hot_max_bytes
