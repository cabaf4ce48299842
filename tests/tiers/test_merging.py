"""What is left of segments that are merged: the same live rows, whatever is merged in whatever order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from akasha_stream.hot.position import pack
from akasha_stream.settings import RetentionSettings
from akasha_stream.tiers.changelog import DELETE, changelog, changelog_schema, in_order
from akasha_stream.tiers.forgotten import Forgotten
from akasha_stream.tiers.identities import doubled, identity_keys, superseded
from akasha_stream.tiers.keys import SegmentKey
from akasha_stream.tiers.live import live
from akasha_stream.tiers.merging import NO_POSITIONS, NOTHING, UNKNOWN, Earlier, Leaving, merge
from akasha_stream.tiers.parquet_segment import write_changelog
from akasha_stream.tiers.retention import Retention
from tests.tiers.segments import DIMENSIONS, LOG, Change, histories, tables

DAY_US = 86_400_000_000
NOW = datetime(2026, 6, 1, tzinfo=UTC)
NOW_US = int(NOW.timestamp() * 1e6)


@dataclass
class Part:
    start: int
    end: int
    table: pa.Table


def parts_of(changes: Sequence[Change], cuts: Sequence[int]) -> list[Part]:
    edges = sorted({0, *cuts, max([1, *cuts, *(c.offset + 1 for c in changes)])})
    made = []
    for start, end in pairwise(edges):
        rows, deletes = tables([c for c in changes if start <= c.offset < end])
        made.append(Part(start, end, changelog(rows, deletes, LOG.partition, DIMENSIONS, "compact")))
    return made


def together(parts: Sequence[Part]) -> pa.Table:
    return pa.concat_tables([each.table for each in parts])


def masked_of(parts: Sequence[Part]) -> Any:
    keys = [identity_keys(p.table["source_system"], p.table["event_id"]) for p in parts]
    positions = [p.table["position"].to_numpy() for p in parts]
    return np.concatenate([NO_POSITIONS, *(p[m] for p, m in zip(positions, superseded(keys, positions), strict=True))])


def earlier_of(parts: Sequence[Part], start: int) -> Earlier:
    before = [p for p in parts if p.start < start]
    if not before:
        return NOTHING
    rows = together(before)
    return Earlier(identities=np.unique(identity_keys(rows["source_system"], rows["event_id"])))


def rewritten(parts: list[Part], at: int, count: int, leaving: Leaving) -> list[Part]:
    chosen = parts[at : at + count]
    merged = merge(LOG, [p.table for p in chosen], leaving)
    key = SegmentKey(LOG, chosen[0].start, chosen[-1].end, 1)
    assert merged.equals(in_order(merged))
    assert write_changelog(key, 0, merged, DIMENSIONS, "compact").footer.rows == merged.num_rows
    assert merged.schema == changelog_schema(DIMENSIONS)
    return [*parts[:at], Part(chosen[0].start, chosen[-1].end, merged), *parts[at + count :]]


MERGES = st.lists(st.tuples(st.integers(0, 20), st.integers(1, 5), st.booleans(), st.booleans()), max_size=8)
CUTS = st.lists(st.integers(1, 150), max_size=8)


@settings(deadline=None)
@given(histories(), CUTS, MERGES)
def test_any_merges_of_any_history_leave_the_same_live_rows(
    changes: list[Change], cuts: list[int], merges: list[tuple[int, int, bool, bool]]
) -> None:
    parts = parts_of(changes, cuts)
    before = live(together(parts))
    for number, count, knows_masks, knows_earlier in merges:
        at = number % len(parts)
        start = parts[at].start
        leaving = Leaving(
            masked=masked_of(parts) if knows_masks else NO_POSITIONS,
            earlier=earlier_of(parts, start) if knows_earlier else UNKNOWN,
        )
        parts = rewritten(parts, at, count, leaving)
    assert live(together(parts)).equals(before)
    whole = rewritten(parts, 0, len(parts), Leaving(earlier=NOTHING))[0].table
    assert whole.num_rows == before.num_rows  # nothing is left but what counts


@settings(deadline=None)
@given(histories(), CUTS, MERGES, st.integers(0, 150), st.integers(0, 60))
def test_forgotten_and_expired_rows_go_and_nothing_older_comes_back(
    changes: list[Change], cuts: list[int], merges: list[tuple[int, int, bool, bool]], upto: int, days: int
) -> None:
    """Times descend here for some identities, which a topic with LogAppendTime can't have: it holds all the same."""
    changes = [replace(c, created_at=NOW_US - c.created_at % (60 * DAY_US)) for c in changes]
    forgotten = Forgotten().with_system("a", {LOG: upto})
    retention = Retention(RetentionSettings(days=None, systems={"c": days + 1}), NOW)
    parts = parts_of(changes, cuts)
    before = live(together(parts))
    position = before["position"].to_numpy()
    gone = forgotten.masks(LOG, before["source_system"], position) | retention.expired(
        before["source_system"], before["appended_at"].cast(pa.int64()).to_numpy()
    )
    expected = before.filter(pa.array(~gone))

    def counting() -> pa.Table:
        """As a reader masks them."""
        found = live(together(parts))
        expired = retention.expired(found["source_system"], found["appended_at"].cast(pa.int64()).to_numpy())
        masked = forgotten.masks(LOG, found["source_system"], found["position"].to_numpy())
        return found.filter(pa.array(~(expired | masked)))

    for number, count, knows_masks, knows_earlier in merges:
        at = number % len(parts)
        leaving = Leaving(
            masked=masked_of(parts) if knows_masks else NO_POSITIONS,
            forgotten=forgotten,
            retention=retention,
            earlier=earlier_of(parts, parts[at].start) if knows_earlier else UNKNOWN,
        )
        parts = rewritten(parts, at, count, leaving)
        assert counting().equals(expected)
    for at in range(len(parts)):
        parts = rewritten(parts, at, 1, Leaving(forgotten=forgotten, retention=retention))
    left = together(parts)
    assert not forgotten.masks(LOG, left["source_system"], left["position"].to_numpy()).any()
    assert live(left).equals(expected)  # now without any mask


@settings(deadline=None)
@given(histories(), st.integers(1, 80), st.integers(1, 80))
def test_rows_that_two_segments_have_count_once(changes: list[Change], one: int, other: int) -> None:
    """As left by two workers that rewrote different neighbours at once."""
    low, high = sorted((one, other))
    all_of = parts_of(changes, [])[0]
    offset = all_of.table["offset"].to_numpy()
    first = Part(0, high, all_of.table.filter(pa.array(offset < high)))
    second = Part(low, all_of.end, all_of.table.filter(pa.array(offset >= low)))
    merged = merge(LOG, [first.table, second.table], Leaving(masked=masked_of([first, second]), earlier=NOTHING))
    assert merged.num_rows == live(all_of.table).num_rows
    counted = doubled([first.table["position"].to_numpy(), second.table["position"].to_numpy()])
    assert [int(each.sum()) for each in counted] == [0, int(((offset >= low) & (offset < high)).sum())]


def test_a_delete_stays_until_the_range_begins_where_the_log_does() -> None:
    parts = parts_of([Change(0, 0, "a", "1", "x"), Change(1, 0, "a", "1", None), Change(2, 0, "a", "2", "y")], [1, 2])
    kept = rewritten(parts, 1, 2, Leaving(earlier=earlier_of(parts, 1)))
    assert kept[1].table["op"].to_pylist() == [DELETE, "upsert"]
    gone = rewritten(kept, 0, 2, Leaving(earlier=NOTHING))
    assert gone[0].table["event_id"].to_pylist() == ["2"]


def test_an_expired_row_becomes_a_delete_only_where_an_older_version_may_lie_before() -> None:
    old = NOW_US - 10 * DAY_US
    changes = [Change(0, 0, "a", "1", "x", created_at=NOW_US), Change(1, 0, "a", "1", "y", created_at=old)]
    changes += [Change(2, 0, "a", "2", "z", created_at=old)]
    parts = parts_of(changes, [1])
    retention = Retention(RetentionSettings(days=5), NOW)
    known = rewritten(parts, 1, 1, Leaving(retention=retention, earlier=earlier_of(parts, 1)))[1].table
    assert known.select(["event_id", "op", "content", "embedding"]).to_pylist() == [
        {"event_id": "1", "op": DELETE, "content": None, "embedding": None}
    ]
    unknown = rewritten(parts, 1, 1, Leaving(retention=retention))[1].table
    assert unknown["op"].to_pylist() == [DELETE, DELETE]


def test_a_row_masked_from_outside_does_not_bring_back_the_one_before() -> None:
    parts = parts_of([Change(0, 0, "a", "1", "x"), Change(1, 0, "a", "1", "y")], [])
    masked = np.array([pack(0, 1, 0)])
    assert rewritten(parts, 0, 1, Leaving(masked=masked))[0].table.num_rows == 0
