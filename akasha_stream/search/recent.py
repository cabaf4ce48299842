"""The newest events, of all source systems or some: by their own time (created_at), in pages.

A page ends at a place, and the next one begins behind it, so that events that come meanwhile move nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from akasha_stream.auth.systems import EVERY, Systems
from akasha_stream.errors import UsageError
from akasha_stream.search.filters import codes_of, of_systems
from akasha_stream.search.query import RecentRequest
from akasha_stream.search.segment import HotStore, SegmentView
from akasha_stream.search.snapshot import snapshot

_CURSOR = re.compile(r"(-?\d{1,17})\.(\d{1,9})\.(\d{1,19})", re.ASCII)


class Place(NamedTuple):
    """Where an event stands among the newest: later is newer."""

    created_at: int
    """Microseconds since the epoch, UTC."""
    partition: int
    position: int

    def __str__(self) -> str:
        return f"{self.created_at}.{self.partition}.{self.position}"

    @classmethod
    def parse(cls, cursor: str) -> Self:
        """Raises UsageError."""
        match = _CURSOR.fullmatch(cursor)
        if match is None or int(match[3]) >= 2**63:
            raise UsageError(f"cursor: {cursor[:40]!r} is none; it is the `next` of the page before")
        return cls(int(match[1]), int(match[2]), int(match[3]))


def newest(
    store: HotStore,
    asked: RecentRequest,
    before: Place | None,
    cutoffs: Callable[[], NDArray[np.int64] | None],
    within: Systems = EVERY,
) -> tuple[list[tuple[Place, SegmentView, int]], Place | None]:
    """A page, and its last place where there are more behind it. `before`: only what is older than that.

    `cutoffs`: by system code, the time (microseconds) before which a row has expired; asked after the views were taken.
    `within`: of these systems alone.
    """
    views = snapshot(store)
    expired = cutoffs()
    wanted = codes_of(within, store.codes, asked.systems or None)
    found: list[tuple[Place, SegmentView, int]] = []
    for view, live in views:
        mask = live[: view.rows].copy()
        if wanted is not None:
            mask &= of_systems(view.systems[: view.rows], wanted)
        if expired is not None:
            mask &= view.appended_at[: view.rows] >= expired[view.systems[: view.rows]]
        if before is not None:
            mask &= _older(view, before)
        rows = _last(view, np.flatnonzero(mask), asked.limit + 1)
        created, positions = view.created_at[rows].tolist(), view.positions[rows].tolist()
        found += [
            (Place(at, view.partition, position), view, row)
            for at, position, row in zip(created, positions, rows.tolist(), strict=True)
        ]
    found.sort(key=lambda each: each[0], reverse=True)
    page = found[: asked.limit]
    following = page[-1][0] if len(found) > asked.limit else None
    return page, following


def _older(view: SegmentView, place: Place) -> NDArray[np.bool_]:
    """(rows,) True where a row stands before a place."""
    created = view.created_at[: view.rows]
    older: NDArray[np.bool_] = created < place.created_at
    if view.partition < place.partition:
        older |= created == place.created_at
    elif view.partition == place.partition:
        older |= (created == place.created_at) & (view.positions[: view.rows] < place.position)
    return older


def _last(view: SegmentView, rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The `count` of the rows that stand last."""
    created = view.created_at[rows]
    if len(rows) > count:
        # Sorting all of them would take thirty times as long.
        least = np.partition(created, len(rows) - count)[len(rows) - count]
        rows = rows[created >= least]
        created = view.created_at[rows]
    return rows[np.lexsort((view.positions[rows], created))[-count:]]
