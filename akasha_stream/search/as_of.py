"""Searches as of an earlier moment: which rows lived then, and whether all of them are still there.

A row lived as of a position when it stands before it and what replaced or deleted it (Segment.ended) does not. A time
becomes a position in each partition, by the times at which the log took the rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from akasha_stream.errors import UsageError
from akasha_stream.hot.position import pack, unpack
from akasha_stream.hot.segment import GONE, NEVER
from akasha_stream.search.filters import of_systems
from akasha_stream.search.freshness import parse_tokens
from akasha_stream.search.query import Incomplete
from akasha_stream.search.segment import SegmentView, Span, is_remote


@dataclass(frozen=True, slots=True)
class AsOf:
    """`offsets`: partition → offset of the last record that counts; partitions that are not named are searched as they
    are. Or `time_us`: the last microsecond since 1970 that counts."""

    offsets: dict[int, int]
    time_us: int | None = None


def parse_as_of(text: str, partitions: int) -> AsOf:
    """ "partition:offset,…" or an RFC 3339 time with an offset. Raises UsageError."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return AsOf(parse_tokens(text, partitions, field="as_of"))
    if time.tzinfo is None:
        raise UsageError(f"as_of: {text} has no offset; write {text}Z for UTC")
    return AsOf({}, int(time.timestamp() * 1e6))


def as_of_masks(
    views: Sequence[SegmentView],
    as_of: AsOf,
    spans: Mapping[int, Span],
    forgets: Mapping[int, Sequence[int]],
    seen: NDArray[np.int32] | None = None,
) -> tuple[list[tuple[SegmentView, NDArray[np.bool_]]], list[Incomplete]]:
    """The views with the rows that lived then, and what keeps the answer from being whole.

    `spans`: HotStore.spans, of the partitions that are searched and from before the views were made; a view of another
    one is left out. `forgets`: HotStore.forgets. `seen`: codes of the systems whose rows are counted in what is said;
    None: all.
    """
    by_partition: dict[int, list[SegmentView]] = {}
    for view in views:
        by_partition.setdefault(view.partition, []).append(view)
    result: list[tuple[SegmentView, NDArray[np.bool_]]] = []
    incomplete: list[Incomplete] = []
    for partition, span in spans.items():
        found = [(view, view.ended[: view.rows].copy()) for view in by_partition.get(partition, ())]
        at = _position(found, as_of, partition, span, incomplete=incomplete, seen=seen)
        if at is None:
            result += [(view, ended == NEVER) for view, ended in found]
            continue
        result += [(view, (view.positions[: view.rows] < at) & (ended >= at)) for view, ended in found]
        if at <= span.first and (start := unpack(span.first).offset):
            incomplete.append(
                Incomplete(
                    reason="as_of",
                    partition=partition,
                    detail=f"partition {partition} is stored from offset {start} on: what it held before is not known",
                )
            )
        if at > _newest(found) and all(position < at for position in forgets.get(partition, ())):
            continue  # as it is now: what is gone lived at no later moment
        gone = any(
            ((ended == GONE) & (view.positions[: view.rows] < at) & _seen(view, seen)).any() for view, ended in found
        )
        if gone or any(position >= at for position in forgets.get(partition, ())):
            incomplete.append(
                Incomplete(
                    reason="as_of",
                    partition=partition,
                    detail=f"a source system of partition {partition} was forgotten since: its rows are not found",
                )
            )
        for view, _ in found:
            if is_remote(view) and view.rewritten and view.positions[0] < at:
                incomplete.append(
                    Incomplete(
                        reason="as_of",
                        partition=partition,
                        tier=None if view.tier == "local" else view.tier,
                        path=view.path,
                        detail=f"{view.path} was rewritten since: what was replaced, deleted, forgotten or expired by "
                        "then is no longer in it, also where it lived at the moment that is asked for",
                    )
                )
    return result, incomplete


def _seen(view: SegmentView, seen: NDArray[np.int32] | None) -> NDArray[np.bool_] | bool:
    return True if seen is None else of_systems(view.systems[: view.rows], seen)


def _newest(found: Sequence[tuple[SegmentView, NDArray[np.int64]]]) -> int:
    """The last position at which anything is known to have happened."""
    ends = [int(ended[ended != NEVER].max(initial=0)) for _, ended in found]
    return max([*ends, *(int(view.positions[view.rows - 1]) for view, _ in found if view.rows)], default=0)


def _position(
    found: Sequence[tuple[SegmentView, NDArray[np.int64]]],
    as_of: AsOf,
    partition: int,
    span: Span,
    *,
    incomplete: list[Incomplete],
    seen: NDArray[np.int32] | None,
) -> int | None:
    """The first position of a partition that does not count; None: all do."""
    if as_of.time_us is None:
        offset = as_of.offsets.get(partition)
        if offset is None:
            return None
        # Offsets are those of the log as it is now; what came before it was recreated counts too.
        return pack(unpack(span.end).epoch, offset + 1, 0)
    before, after = -1, NEVER
    for view, _ in found:
        positions, counts = view.positions[: view.rows], view.appended_at[: view.rows] <= as_of.time_us
        if counts.any():
            before = max(before, int(positions[counts].max()))
        if not counts.all():
            after = min(after, int(positions[~counts].min()))
    # Between the last row of then and the first one after there may be deletes, whose times are not known here.
    unsure = sum(int(np.count_nonzero((ended > before) & (ended < after) & _seen(view, seen))) for view, ended in found)
    if unsure:
        incomplete.append(
            Incomplete(
                reason="as_of",
                partition=partition,
                detail=f"{unsure} events of partition {partition} were deleted between the last event stored before "
                "that time and the first one after: whether they lived then is not known, they are left out",
            )
        )
    # Where nothing that is here was stored by then, that time may lie before all that is.
    return after if before >= 0 else span.first
