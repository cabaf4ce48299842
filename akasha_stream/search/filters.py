"""Which rows of a segment a search may return: live, of the wanted systems and time, and maybe the metadata."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from akasha_stream.auth.systems import EVERY, Systems
from akasha_stream.search.metadata import MetadataFilter
from akasha_stream.search.query import Filters
from akasha_stream.search.segment import LocalView, SegmentView, SystemCodes

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _micros(time: datetime) -> int:
    """Microseconds since the epoch; a float would lose the last ones."""
    return (time - _EPOCH) // timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class RowFilter:
    """A search's filters, compiled against this process's system codes."""

    systems: NDArray[np.int32] | None
    """Codes of the wanted systems that are known here; None: all."""
    since: int | None
    """Microseconds, inclusive."""
    until: int | None
    """Microseconds, exclusive."""
    metadata: MetadataFilter
    cutoffs: NDArray[np.int64] | None = None
    """By system code: rows appended before it have expired; None: none have."""

    def mask(self, view: SegmentView, live: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
        """(rows,) True where a row passes everything but the metadata conditions; None: all rows do."""
        mask: NDArray[np.bool_] | None = None if live.all() else live
        if self.cutoffs is not None and view.rows:
            mask = _both(mask, view.appended_at >= self.cutoffs[view.systems])
        if self.systems is not None:
            mask = _both(mask, of_systems(view.systems, self.systems))
        if self.since is not None:
            mask = _both(mask, view.created_at >= self.since)
        if self.until is not None:
            mask = _both(mask, view.created_at < self.until)
        return mask

    def narrowed(self, view: LocalView, mask: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
        """The mask less the rows that certainly fail the metadata conditions (6 ms per 100 k rows)."""
        matching = view.rows if mask is None else int(np.count_nonzero(mask))
        if not matching:
            return mask
        if mask is not None and 4 * matching < view.rows:
            # Copying the few strings out costs less than looking through all of them.
            rows = np.flatnonzero(mask)
            possible = self.metadata.possible(view.metadata().take(rows))
            if possible is not None:
                mask = mask.copy()
                mask[rows] = possible
            return mask
        # A growing segment's column may have grown past the view.
        possible = self.metadata.possible(view.metadata().slice(0, view.rows))
        return mask if possible is None else _both(mask, possible)


def codes_of(within: Systems, codes: SystemCodes, names: Iterable[str] | None = None) -> NDArray[np.int32] | None:
    """Codes of the systems that may be seen, and are named where `names` are given; None: all.

    Call it after the views were taken: a system that comes later is none of these.
    """
    if names is None:
        if within.all:
            return None
        names = [*within.names, *(name for name in (codes.names() if within.prefixes else ()) if name in within)]
    known = {code for name in names if name in within and (code := codes.find(name)) is not None}
    return np.array(sorted(known), np.int32)


def compile_filters(
    filters: Filters | None, codes: SystemCodes, cutoffs: NDArray[np.int64] | None = None, within: Systems = EVERY
) -> RowFilter:
    systems = codes_of(within, codes, None if filters is None else filters.systems)
    if filters is None:
        return RowFilter(systems, None, None, MetadataFilter({}), cutoffs)
    return RowFilter(
        systems,
        None if filters.created_after is None else _micros(filters.created_after),
        None if filters.created_before is None else _micros(filters.created_before),
        MetadataFilter(filters.metadata),
        cutoffs,
    )


def _both(a: NDArray[np.bool_] | None, b: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return b if a is None else a & b


def of_systems(column: NDArray[np.int32], wanted: NDArray[np.int32]) -> NDArray[np.bool_]:
    """(rows,) True where a row's code is among the wanted ones."""
    if len(wanted) == 1:
        same: NDArray[np.bool_] = column == wanted[0]
        return same
    if len(wanted) == 0 or len(column) == 0:
        return np.zeros(len(column), np.bool_)
    table = np.zeros(int(max(column.max(), wanted.max())) + 1, np.bool_)
    table[wanted] = True
    found: NDArray[np.bool_] = table[column]
    return found
