"""One window: its counts and its exact sum of vectors, and the rows it is persisted as."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from akasha_stream.errors import SegmentCorrupt
from akasha_stream.stream.digests import Digest, WindowCounts
from akasha_stream.stream.unitsums import UNIT_SCALE


class Outcome(IntEnum):
    """What the shard did with an event. Stored values: never renumber."""

    STORED = 0
    UPDATED = 1
    DELETED = 2
    DUPLICATE_EXACT = 3
    DUPLICATE_CONTENT = 4
    DUPLICATE_NEAR = 5


class WindowRow(NamedTuple):
    """A window as it is persisted; the key is (system, window_start)."""

    system: str
    window_start: int
    state: bytes


class WindowKey(NamedTuple):
    system: str
    window_start: int


class SystemRow(NamedTuple):
    """A system's watermark and its late events that no digest has carried yet; the key is system."""

    system: str
    watermark: int
    late: int


class WindowRows(NamedTuple):
    """The whole state, as a new segment file begins with it."""

    windows: list[WindowRow]
    systems: list[SystemRow]


# version, dimensions, size_us, Outcome counts in their order, first and last created_at, first and last offset;
# then (dimensions,) int64 little-endian: the sum of the quantised unit vectors.
_HEADER = struct.Struct("<HHq6Iqqqq")
_VERSION = 1
_OUTCOMES = len(Outcome)


@dataclass(frozen=True, slots=True)
class Window:
    """An open window. Immutable: a batch makes new ones, so a failed transaction leaves nothing behind."""

    size_us: int
    counts: tuple[int, ...]
    first_created_at: int
    last_created_at: int
    first_offset: int
    last_offset: int
    total: NDArray[np.signedinteger]
    """(dimensions,) sum of the quantised unit vectors of accepted events; int64, or int32 where that holds it."""

    def merged(self, other: Window) -> Window:
        return Window(
            self.size_us,
            tuple(map(int.__add__, self.counts, other.counts)),
            min(self.first_created_at, other.first_created_at),
            max(self.last_created_at, other.last_created_at),
            min(self.first_offset, other.first_offset),
            max(self.last_offset, other.last_offset),
            _narrowest(np.add(self.total, other.total, dtype=np.int64)),
        )

    def alone(self) -> Window:
        """With a sum of its own. A batch's sums are rows of one array, which each of them keeps as a whole."""
        return replace(self, total=_narrowest(self.total))

    def pack(self) -> bytes:
        header = _HEADER.pack(
            _VERSION,
            len(self.total),
            self.size_us,
            *self.counts,
            self.first_created_at,
            self.last_created_at,
            self.first_offset,
            self.last_offset,
        )
        return header + self.total.astype("<i8", copy=False).tobytes()

    @classmethod
    def unpack(cls, state: bytes, dimensions: int) -> Window:
        """Raises SegmentCorrupt where the bytes are no window of this many dimensions."""
        if len(state) != _HEADER.size + 8 * dimensions:
            raise SegmentCorrupt(f"window state of {len(state)} bytes does not fit {dimensions} dimensions")
        version, stored_dimensions, size_us, *rest = _HEADER.unpack_from(state)
        if version != _VERSION or stored_dimensions != dimensions:
            raise SegmentCorrupt(f"window state has version {version} and {stored_dimensions} dimensions")
        total = np.frombuffer(state, dtype="<i8", offset=_HEADER.size).astype(np.int64)
        first, last, first_offset, last_offset = rest[_OUTCOMES:]
        return cls(size_us, tuple(rest[:_OUTCOMES]), first, last, first_offset, last_offset, total)

    def digest(self, key: WindowKey, partition: int, late: int) -> Digest:
        counts = WindowCounts(*self.counts)
        # fsum rounds once, so the bits don't depend on the machine's vector width as a numpy sum's do. A log of
        # old events closes a window with almost each one: Python's integers took 50 µs here, this takes 8.
        squares = np.square(self.total.astype(np.float64))
        length = math.sqrt(math.fsum(squares.tolist()))
        vectors = counts.stored + counts.updated
        return Digest(
            system=key.system,
            window_start=key.window_start,
            window_end=key.window_start + self.size_us,
            partition=partition,
            counts=counts,
            late=late,
            centroid=(self.total / length).astype(np.float32) if length else None,
            coherence=min(1.0, round(length / (UNIT_SCALE * vectors), 6)) if vectors else 0.0,
            first_created_at=self.first_created_at,
            last_created_at=self.last_created_at,
            first_offset=self.first_offset,
            last_offset=self.last_offset,
        )


def _narrowest(total: NDArray[np.signedinteger]) -> NDArray[np.signedinteger]:
    """A copy, as int32 where that holds it: half the bytes for windows of some dozens of events, as most are."""
    narrow = total.astype(np.int32)
    return narrow if np.array_equal(narrow, total) else total.copy()
