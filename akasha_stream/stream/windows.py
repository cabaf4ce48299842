"""Tumbling windows by event time, one `Windows` a shard: counts, duplicates and the centroid per source system.

Rules
-----
- The window of an event is [floor(created_at / size) * size, + size). Times are int64 microseconds, UTC.
- Each source system has its own watermark: the greatest created_at seen of it in this shard, whatever
  became of the event. A system with a slow clock neither closes nor delays the windows of another.
- A window closes when its system's watermark reaches its end + allowed lateness, and gives one `Digest`.
- An event whose window has closed is *late*. It is stored and searchable like any other; here it only adds
  to `late`, which the next digest of its system carries.
- No wall clock: the state is a function of the log alone, so a replay gives the same digests. Hence the
  windows of a system that falls silent stay open until its next event; `open_windows()` shows them.
- When windows.size_s changes between two runs, windows of the old size close with what they have at the
  next event of their system.

How the log is cut into batches changes nothing, down to the bits of the centroid: the sum is kept in
integers (`quantised_units`), and integer addition has no order.

Cost: 0.7 to 1.5 µs an event in bundles of 64 (batches of 4,096 down to 64), most of it the vectors; with 64 single
events of 64 systems 9 µs, as each is a window of its own. The persisted state is 68 + 8 * dimensions bytes
for each open window; in memory most have half the sum (`Window.total`), and 1.1 KB beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from akasha_stream.errors import SegmentCorrupt
from akasha_stream.stream.digests import Digest
from akasha_stream.stream.unitsums import unit_sums
from akasha_stream.stream.window import Outcome, SystemRow, Window, WindowKey, WindowRow, WindowRows

__all__ = ["Outcome", "SystemRow", "Window", "WindowDelta", "WindowKey", "WindowRow", "WindowRows", "Windows"]


_OUTCOMES = len(Outcome)


@dataclass(frozen=True, slots=True)
class WindowDelta:
    """What a batch changes, for `Windows.commit`; its rows are what a store that persists each batch would write."""

    windows: list[WindowRow]
    """Changed windows that stay open: insert or replace."""
    removed: list[WindowKey]
    """Persisted windows that closed: delete."""
    systems: list[SystemRow]
    """Changed watermarks: insert or replace."""
    closed: list[Digest]
    """Digests for the outbox, in the order of the log; the order does not depend on the batches either."""
    late: int
    """Late events in this batch."""
    generation: int = field(repr=False)
    changed: dict[WindowKey, Window] = field(repr=False)


class _System(NamedTuple):
    """One system's part of a batch."""

    name: str
    code: int
    rows: NDArray[np.int64]
    """Its rows in the order of the log."""
    watermark: int
    """After the batch."""
    running: NDArray[np.int64] | None
    """Its watermark after each of `rows`; None where the batch closes nothing and has nothing late."""
    late: NDArray[np.int64]
    """Places in `rows` of the late events."""


class _Columns(NamedTuple):
    """n events of a batch, or some of them."""

    codes: NDArray[np.int64]
    start: NDArray[np.int64]
    created_at: NDArray[np.int64]
    outcome: NDArray[np.uint8]
    offset: NDArray[np.int64]
    rows: NDArray[np.int64] | None = None
    """Their rows in the batch; None where they are all of it, in its order."""

    def take(self, rows: NDArray[np.int64]) -> _Columns:
        codes, start, created_at, outcome, offset, before = self
        return _Columns(
            codes[rows],
            start[rows],
            created_at[rows],
            outcome[rows],
            offset[rows],
            rows if before is None else before[rows],
        )


class _Closing(NamedTuple):
    row: int
    """The row of the batch that closes the window."""
    key: WindowKey
    window: Window
    late: int
    """Late events that the digest carries."""


_NOTHING: NDArray[np.int64] = np.empty(0, dtype=np.int64)


class Windows:
    """The open windows of one shard. Not thread-safe: the shard's writer is its only user."""

    def __init__(self, size_us: int, lateness_us: int, dimensions: int, *, partition: int) -> None:
        if size_us <= 0 or lateness_us < 0:
            raise ValueError("a window needs a size above 0 and a lateness of at least 0 microseconds")
        self.size_us = size_us
        self.lateness_us = lateness_us
        self.dimensions = dimensions
        self.partition = partition
        self._open: dict[str, dict[int, Window]] = {}
        self._systems: dict[str, SystemRow] = {}
        self._resized: set[str] = set()
        self._generation = 0

    @property
    def open_count(self) -> int:
        """In any thread."""
        return sum(map(len, list(self._open.values())))

    def apply(
        self,
        systems: Sequence[str] | tuple[NDArray[np.integer], Sequence[str]],
        created_at: NDArray[np.int64],
        outcome: NDArray[np.uint8],
        vectors: NDArray[np.float32],
        offset: NDArray[np.int64],
    ) -> WindowDelta:
        """What n events, in the order of the log, change; changes nothing itself.

        `systems`: n names, or (n codes, names by code). `vectors`: (n, dimensions), finite; only rows whose
        outcome is STORED or UPDATED are read. A batch that failed can be applied again.
        """
        n = len(created_at)
        if n == 0:
            return WindowDelta([], [], [], [], 0, self._generation, {})
        codes, names = _coded(systems)
        start = created_at - created_at % self.size_us
        parts = list(self._by_system(codes, names, created_at, start))
        batch = _Columns(codes, start, created_at, outcome, offset)
        if any(len(part.late) for part in parts):
            in_time = np.ones(n, dtype=np.bool_)
            for part in parts:
                in_time[part.rows[part.late]] = False
            batch = batch.take(np.flatnonzero(in_time))
        return self._delta(parts, self._grouped(batch, names, vectors))

    def commit(self, delta: WindowDelta) -> None:
        """Make the delta of the latest `apply` the state. Raises ValueError for one of an older state."""
        if delta.generation != self._generation:
            raise ValueError("this delta was computed from a state that is no longer the current one")
        self._generation += 1
        for key, window in delta.changed.items():
            self._open.setdefault(key.system, {})[key.window_start] = window
        for system, window_start in delta.removed:
            opened = self._open[system]
            del opened[window_start]
            if not opened:
                del self._open[system]
        for row in delta.systems:
            self._systems[row.system] = row
        if self._resized:
            self._resized.difference_update(digest.system for digest in delta.closed)

    @classmethod
    def restore(
        cls,
        size_us: int,
        lateness_us: int,
        dimensions: int,
        *,
        partition: int,
        windows: Iterable[tuple[str, int, bytes]],
        systems: Iterable[tuple[str, int, int]],
    ) -> Windows:
        """The state that was persisted. Raises SegmentCorrupt where a state is none of this shard's."""
        self = cls(size_us, lateness_us, dimensions, partition=partition)
        for name, window_start, state in windows:
            window = Window.unpack(state, dimensions)
            self._open.setdefault(name, {})[window_start] = window
            if window.size_us != size_us:
                self._resized.add(name)
        for row in systems:
            self._systems[row[0]] = SystemRow(*row)
        if missing := self._open.keys() - self._systems.keys():
            raise SegmentCorrupt(f"windows without a watermark: {sorted(missing)[:3]}")
        return self

    def forget(self, system: str) -> None:
        """Drop the system's windows and watermark; not between `apply` and `commit`."""
        self._open.pop(system, None)
        self._systems.pop(system, None)
        self._resized.discard(system)

    def snapshot_rows(self) -> WindowRows:
        """Everything, as a new segment file begins with it."""
        windows = [
            WindowRow(name, window_start, window.pack())
            for name, opened in self._open.items()
            for window_start, window in opened.items()
        ]
        return WindowRows(windows, list(self._systems.values()))

    def open_windows(self) -> dict[WindowKey, Window]:
        """The open windows, those of silent systems among them."""
        return {
            WindowKey(name, start): window for name, opened in self._open.items() for start, window in opened.items()
        }

    def watermarks(self) -> dict[str, int]:
        """Greatest created_at of each system."""
        return {name: row.watermark for name, row in self._systems.items()}

    def _by_system(
        self, codes: NDArray[np.int64], names: Sequence[str], created_at: NDArray[np.int64], start: NDArray[np.int64]
    ) -> Iterator[_System]:
        order, bounds = _groups(codes)
        in_order = created_at if order is None else created_at[order]
        tops = np.maximum.reduceat(in_order, bounds).tolist()
        lows = np.minimum.reduceat(in_order, bounds).tolist()
        horizon = self.size_us + self.lateness_us
        edges = [*bounds.tolist(), len(codes)]
        for i, top in enumerate(tops):
            rows = np.arange(len(codes)) if order is None else order[edges[i] : edges[i + 1]]
            code = int(codes[rows[0]])
            name = names[code]
            known = self._systems.get(name)
            watermark = top if known is None else max(top, known.watermark)
            oldest = min(lows[i] - lows[i] % self.size_us, *self._open.get(name, (watermark,)))
            if oldest + horizon > watermark and name not in self._resized:
                yield _System(name, code, rows, watermark, None, _NOTHING)
                continue
            running = np.maximum.accumulate(created_at[rows])
            if known is not None:
                np.maximum(running, known.watermark, out=running)
            late = np.flatnonzero(start[rows] + horizon <= running)
            yield _System(name, code, rows, watermark, running, late)

    def _grouped(self, batch: _Columns, names: Sequence[str], vectors: NDArray[np.float32]) -> dict[WindowKey, Window]:
        """The batch's own part of each window. `vectors`: of the whole batch, addressed by `batch.rows`."""
        if len(batch.codes) == 0:
            return {}
        order, bounds = _groups(batch.codes, batch.start)
        if order is not None:
            batch = batch.take(order)
        group = np.repeat(np.arange(len(bounds)), np.diff(bounds, append=len(batch.codes)))
        counts = np.bincount(group * _OUTCOMES + batch.outcome, minlength=len(bounds) * _OUTCOMES)
        accepted = batch.outcome <= Outcome.UPDATED
        if accepted.all():
            firsts = bounds
            # Gathering the vectors is a third of all the cost; bundles often come in an order that needs none.
            vectors = vectors if batch.rows is None else vectors[batch.rows]
        else:
            firsts = (np.cumsum(accepted) - accepted)[bounds]
            vectors = vectors[accepted if batch.rows is None else batch.rows[accepted]]
        columns = zip(
            batch.codes[bounds].tolist(),
            batch.start[bounds].tolist(),
            counts.reshape(-1, _OUTCOMES).tolist(),
            np.minimum.reduceat(batch.created_at, bounds).tolist(),
            np.maximum.reduceat(batch.created_at, bounds).tolist(),
            np.minimum.reduceat(batch.offset, bounds).tolist(),
            np.maximum.reduceat(batch.offset, bounds).tolist(),
            unit_sums(vectors, firsts),
            strict=True,
        )
        return {
            WindowKey(names[code], window_start): Window(
                self.size_us, tuple(count), first, last, first_offset, last_offset, total
            )
            for code, window_start, count, first, last, first_offset, last_offset, total in columns
        }

    def _delta(self, parts: list[_System], batch: dict[WindowKey, Window]) -> WindowDelta:
        closing: list[_Closing] = []
        systems: list[SystemRow] = []
        for part in parts:
            known = self._systems.get(part.name)
            waiting = len(part.late) + (0 if known is None else known.late)
            if part.running is not None:
                for each in self._closing(part, part.running, batch):
                    closing.append(each)
                    waiting -= each.late
            row = SystemRow(part.name, part.watermark, waiting)
            if row != known:
                systems.append(row)
        closing.sort(key=lambda each: (each.row, each.key))
        ended = {each.key for each in closing if each.window.size_us == self.size_us}
        gone = {each.key for each in closing if each.key.window_start in self._open.get(each.key.system, ())}
        changed: dict[WindowKey, Window] = {}
        for key, window in batch.items():
            if key not in ended:
                before = None if key in gone else self._open.get(key.system, {}).get(key.window_start)
                changed[key] = window.alone() if before is None else before.merged(window)
        return WindowDelta(
            windows=[WindowRow(key.system, key.window_start, window.pack()) for key, window in changed.items()],
            removed=sorted(gone - changed.keys()),
            systems=systems,
            closed=[each.window.digest(each.key, self.partition, each.late) for each in closing],
            late=sum(len(part.late) for part in parts),
            generation=self._generation,
            changed=changed,
        )

    def _closing(self, part: _System, running: NDArray[np.int64], batch: dict[WindowKey, Window]) -> Iterator[_Closing]:
        """The windows of a system that end in this batch, in the order in which they do."""
        opened = self._open.get(part.name, {})
        mine = {key.window_start: window for key, window in batch.items() if key.system == part.name}
        found: list[tuple[int, int, Window]] = []
        for window_start in opened.keys() | mine.keys():
            before, window = opened.get(window_start), mine.get(window_start)
            if before is not None and before.size_us != self.size_us:
                found.append((0, window_start, before))
            elif before is not None:
                window = before if window is None else before.merged(window)
            due = window_start + self.size_us + self.lateness_us
            if window is not None and due <= part.watermark:
                found.append((int(np.searchsorted(running, due)), window_start, window))
        known = self._systems.get(part.name)
        waiting = 0 if known is None else known.late
        carried = 0
        for place, window_start, window in sorted(found, key=lambda item: item[:2]):
            so_far = waiting + int(np.searchsorted(part.late, place))
            yield _Closing(int(part.rows[place]), WindowKey(part.name, window_start), window, so_far - carried)
            carried = so_far


def _coded(
    systems: Sequence[str] | tuple[NDArray[np.integer], Sequence[str]],
) -> tuple[NDArray[np.int64], Sequence[str]]:
    if isinstance(systems, tuple) and len(systems) == 2 and isinstance(systems[0], np.ndarray):
        return systems[0].astype(np.int64, copy=False), systems[1]
    names: dict[str, int] = {}
    codes = np.fromiter((names.setdefault(name, len(names)) for name in systems), dtype=np.int64, count=len(systems))
    return codes, list(names)


def _groups(
    codes: NDArray[np.int64], start: NDArray[np.int64] | None = None
) -> tuple[NDArray[np.int64] | None, NDArray[np.int64]]:
    """(order, bounds): rows in this order lie together by (code, start), each group in the order of the log.

    None for an order that changes nothing, as bundles of one system often give it: no gathering of vectors then.
    """
    breaks = codes[1:] != codes[:-1]
    if start is not None:
        breaks = breaks | (start[1:] != start[:-1])
    places = np.flatnonzero(breaks)
    if len(places) == 0:
        return None, np.zeros(1, dtype=np.int64)
    order = np.argsort(codes, kind="stable") if start is None else np.lexsort((start, codes))
    codes = codes[order]
    breaks = codes[1:] != codes[:-1]
    if start is not None:
        start = start[order]
        breaks = breaks | (start[1:] != start[:-1])
    return order, np.concatenate(([0], np.flatnonzero(breaks) + 1))
