"""Which segments are rewritten together."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from akasha_stream.settings import CompactionSettings
from akasha_stream.tiers.compaction_plan import Group, Waste, level, plan_compaction
from akasha_stream.tiers.stored_segment import StoredSegment
from tests.tiers.test_catalog import stored

SETTINGS = CompactionSettings(target_bytes=10_000, fan_in=4, masked_share=0.25)


def segment(start: int, rows: int = 10, size: int | None = None, end: int | None = None) -> StoredSegment:
    """Ten bytes a row."""
    made = stored(start, start + 10 if end is None else end, systems={"a": (rows, 0)})
    return replace(made, size=rows * 10 if size is None else size)


def planned(groups: list[Group]) -> list[tuple[str, list[int]]]:
    return [(group.reason, [each.key.start // 10 for each in group.segments]) for group in groups]


def test_neighbours_of_a_size_are_merged_once_there_are_enough() -> None:
    assert planned(plan_compaction([segment(at * 10) for at in range(3)], SETTINGS)) == []
    assert planned(plan_compaction([segment(at * 10) for at in range(9)], SETTINGS)) == [
        ("small", [0, 1, 2, 3]),
        ("small", [4, 5, 6, 7]),
    ]


def test_smaller_ones_between_come_along_and_larger_ones_end_a_stretch() -> None:
    rows = [100, 100, 1, 100, 1, 100, 500, 1]
    current = [segment(at * 10, each) for at, each in enumerate(rows)]
    assert planned(plan_compaction(current, SETTINGS)) == [("small", [0, 1, 2, 3, 4, 5])]
    assert planned(plan_compaction([segment(at * 10, 500 if at == 2 else 10) for at in range(5)], SETTINGS)) == []


def test_what_is_as_large_as_half_the_target_is_left_alone() -> None:
    current = [segment(at * 10, 10, size=5_000) for at in range(8)]
    assert plan_compaction(current, SETTINGS) == []
    current = [segment(at * 10, 10, size=4_000) for at in range(8)]
    assert planned(plan_compaction(current, SETTINGS)) == [("small", [0, 1, 2]), ("small", [3, 4, 5])]


def test_never_over_a_gap_a_tier_another_kind_or_into_an_archive() -> None:
    four = [segment(at * 10) for at in range(4)]
    for other in (
        segment(40),  # a gap
        replace(four[2], tier="warm"),
        replace(four[2], storage_class="GLACIER"),
        replace(four[2], storage_class="Archive"),
        replace(four[2], footer=four[2].footer.model_copy(update={"precision": "float32"})),
        replace(four[2], footer=four[2].footer.model_copy(update={"epoch": 1})),
    ):
        current = sorted([four[0], four[1], other, four[3]], key=lambda each: each.key.start)
        assert plan_compaction(current, SETTINGS) == []


def test_waste() -> None:
    current = [segment(at * 100, end=at * 100 + 100) for at in range(3)]
    waste = {current[0].place: Waste(dropped=2), current[2].place: Waste(dropped=3)}
    assert planned(plan_compaction(current, SETTINGS, waste)) == [("masked", [20])]
    assert planned(plan_compaction(current, SETTINGS, {current[1].place: Waste(forgotten=1)})) == [("forgotten", [10])]
    assert planned(plan_compaction(current, SETTINGS, {current[1].place: Waste(1, 0, 1)})) == [("overdue", [10])]
    archived = [replace(each, storage_class="GLACIER") for each in current]
    assert plan_compaction(archived, SETTINGS, {current[1].place: Waste(forgotten=1)}) == []


def test_those_that_overlap_are_merged_first() -> None:
    current = [segment(0), segment(10, end=30), segment(20, end=40), segment(40), segment(50)]
    assert planned(plan_compaction(current, SETTINGS)) == [("overlap", [1, 2])]


@given(st.integers(0, 10**9), st.integers(2, 16))
def test_a_level_is_the_whole_part_of_the_logarithm(rows: int, base: int) -> None:
    found = level(rows, base)
    assert base**found <= max(rows, 1) < base ** (found + 1)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=250), st.integers(2, 5))
def test_a_row_is_rewritten_once_a_level(sizes: list[int], fan_in: int) -> None:
    """Segments come one by one; after each, what is planned is done."""
    with_fan_in = SETTINGS.model_copy(update={"fan_in": fan_in, "target_bytes": 20_000})
    current: list[StoredSegment] = []
    rewritten: dict[tuple[int, int], int] = {}
    end = 0
    for rows in sizes:
        current.append(segment(end, rows, end=end + 10))
        end += 10
        for group in plan_compaction(current, with_fan_in):
            first, last = group.segments[0].key.start, group.segments[-1].key.end
            times = 1 + max(rewritten.get((s.key.start, s.key.end), 0) for s in group.segments)
            rewritten[first, last] = times
            assert group.bytes < 1.5 * with_fan_in.target_bytes
            merged = segment(first, group.rows, end=last)
            current = sorted([*(s for s in current if s not in group.segments), merged], key=lambda s: s.key.start)
    assert [s.key.start for s in current[1:]] == [s.key.end for s in current[:-1]]
    most = level(20_000 // 10, fan_in) + 2
    assert max(rewritten.values(), default=0) <= most
    small = [s for s in current if s.size < with_fan_in.target_bytes / 2]
    full = len(current) - len(small)
    assert len(small) <= (full + 1) * fan_in * (level(1_000, fan_in) + 1)
