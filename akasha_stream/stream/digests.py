"""Digests: what a closed window says about one source system, as a record of a compacted topic.

A digest is a function of the log alone, and its bytes are a function of the digest, so sending one again
after a crash writes the same key and value: delivery at least once is enough.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import orjson
from numpy.typing import NDArray

TYPE = "akasha.digest.v1"


@dataclass(frozen=True, slots=True)
class WindowCounts:
    """Events of one window by what became of them."""

    stored: int = 0
    updated: int = 0
    deleted: int = 0
    duplicates_exact: int = 0
    duplicates_content: int = 0
    duplicates_near: int = 0

    @property
    def duplicates(self) -> int:
        return self.duplicates_exact + self.duplicates_content + self.duplicates_near

    @property
    def events(self) -> int:
        return self.stored + self.updated + self.deleted + self.duplicates


def to_iso(timestamp: int) -> str:
    """Microseconds since the epoch → `2026-01-31T10:00:00.000000Z`; any int64, unlike datetime."""
    return f"{np.datetime64(timestamp, 'us')}Z"


def from_iso(text: str) -> int:
    """Back from `to_iso`. Raises ValueError."""
    return int(np.datetime64(text.removesuffix("Z"), "us").astype(np.int64))


@dataclass(frozen=True, slots=True, eq=False)
class Digest:
    """One closed window [window_start, window_end) of one source system. Times: µs since the epoch, UTC."""

    system: str
    window_start: int
    window_end: int
    partition: int
    counts: WindowCounts
    late: int
    """Events of this system that came after *their* windows had closed, since its digest before this one.

    They are stored and searchable; they are in no window's counts.
    """
    centroid: NDArray[np.float32] | None
    """(dimensions,) mean direction of the accepted vectors, length 1; None where there is none."""
    coherence: float
    """|mean of the unit vectors|: 1 where all point the same way, near 0 where they scatter."""
    first_created_at: int
    last_created_at: int
    first_offset: int
    last_offset: int
    forgotten: bool = False
    """Its system was forgotten before it was sent: in its place goes a record without a value, which removes the
    window's digest from the compacted topic."""

    @property
    def vectors(self) -> int:
        """Vectors in the centroid: each accepted event has one."""
        return self.counts.stored + self.counts.updated

    def key(self) -> bytes:
        """Record key: the later digest of the same window replaces the earlier one on compaction."""
        return f"{self.system}|{to_iso(self.window_start)}".encode()

    def record_value(self) -> bytes | None:
        """What is sent: value(), or None, which deletes."""
        return None if self.forgotten else self.value()

    def value(self) -> bytes:
        """Record value, JSON. The same digest gives the same bytes."""
        counts = self.counts
        return orjson.dumps(
            {
                "type": TYPE,
                "source_system": self.system,
                "window_start": to_iso(self.window_start),
                "window_end": to_iso(self.window_end),
                "partition": self.partition,
                "events": {
                    "stored": counts.stored,
                    "updated": counts.updated,
                    "deleted": counts.deleted,
                    "duplicates": {
                        "exact": counts.duplicates_exact,
                        "content": counts.duplicates_content,
                        "near": counts.duplicates_near,
                    },
                    "late": self.late,
                },
                "first_created_at": to_iso(self.first_created_at),
                "last_created_at": to_iso(self.last_created_at),
                "first_offset": self.first_offset,
                "last_offset": self.last_offset,
                "coherence": self.coherence,
                # float32 on purpose: orjson prints its shortest digits, which read back to the same bits.
                "centroid": self.centroid,
            },
            option=orjson.OPT_SERIALIZE_NUMPY,
        )

    def headers(self) -> list[tuple[str, bytes]]:
        """CloudEvents, binary content mode."""
        return [
            ("content-type", b"application/json"),
            ("ce_specversion", b"1.0"),
            ("ce_id", self.key()),
            ("ce_source", f"/akasha-stream/partitions/{self.partition}".encode()),
            ("ce_type", TYPE.encode()),
            ("ce_time", to_iso(self.window_end).encode()),
        ]

    def to_row(self) -> tuple[str, int, bytes]:
        """(system, window_start, value): the row of an outbox table with key (system, window_start)."""
        return self.system, self.window_start, b"null" if self.forgotten else self.value()

    @classmethod
    def gone(cls, system: str, window_start: int) -> Digest:
        """In the place of a window's digest whose system was forgotten."""
        nothing = WindowCounts()
        return cls(system, window_start, window_start, 0, nothing, 0, None, 0.0, 0, 0, 0, 0, forgotten=True)

    @classmethod
    def from_row(cls, row: tuple[str, int, bytes]) -> Digest:
        """Back from `to_row`. Raises ValueError or KeyError where the value is no digest."""
        record = orjson.loads(row[2])
        if record is None:
            return cls.gone(row[0], row[1])
        events = record["events"]
        duplicates = events["duplicates"]
        centroid = record["centroid"]
        return cls(
            system=record["source_system"],
            window_start=from_iso(record["window_start"]),
            window_end=from_iso(record["window_end"]),
            partition=record["partition"],
            counts=WindowCounts(
                stored=events["stored"],
                updated=events["updated"],
                deleted=events["deleted"],
                duplicates_exact=duplicates["exact"],
                duplicates_content=duplicates["content"],
                duplicates_near=duplicates["near"],
            ),
            late=events["late"],
            centroid=None if centroid is None else np.array(centroid, dtype=np.float32),
            coherence=record["coherence"],
            first_created_at=from_iso(record["first_created_at"]),
            last_created_at=from_iso(record["last_created_at"]),
            first_offset=record["first_offset"],
            last_offset=record["last_offset"],
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Digest) and self.value() == other.value()

    def __hash__(self) -> int:
        return hash((self.system, self.window_start, self.partition, self.last_offset))
