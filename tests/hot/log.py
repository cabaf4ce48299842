"""A partition's log for tests: records with their events, cut into batches at will."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from akasha_stream.events.batch import EventBatch
from akasha_stream.events.forget import Forget, encode_forget
from akasha_stream.events.records import Record
from akasha_stream.hot.hnsw import IndexReader
from akasha_stream.hot.recovery import open_shard
from akasha_stream.hot.sealer import Sealer
from akasha_stream.hot.shard import Applied, ClosedSegment, Shard
from akasha_stream.incarnation import Incarnation
from akasha_stream.search.segment import SystemCodes
from akasha_stream.settings import DedupeSettings, HotSettings, Limits, Settings, WindowSettings
from akasha_stream.tiers.forgotten import system_hash

D = 8
SECOND = 1_000_000
START_MS = 1_780_000_000_000
BUILT_S = 150
"""How long an index may take: its builder has the idle scheduling class, so on a busy machine it waits for others."""


@dataclass(frozen=True)
class Event:
    """As small as an event can be; `vector` is the number of one."""

    system: str
    event_id: str
    content: str = ""
    vector: int = 0
    created_s: int = 0
    delete: bool = False

    @property
    def created_at(self) -> int:
        return START_MS * 1000 + self.created_s * SECOND


@dataclass(frozen=True)
class Message:
    """A record: its events (none: it went to the dead letters) and the time it was appended, in s.

    `forgets`: a system; the record is the control message that forgets it.
    """

    events: tuple[Event, ...]
    appended_s: int = 0
    gap: int = 0
    """Offsets before it that hold no record."""
    forgets: str = ""


@dataclass(frozen=True)
class Log:
    messages: tuple[Message, ...]
    offsets: tuple[int, ...]

    @classmethod
    def of(cls, messages: Iterable[Message], start: int = 0) -> Log:
        messages = tuple(messages)
        offsets, at = [], start
        for message in messages:
            at += message.gap
            offsets.append(at)
            at += 1
        return cls(messages, tuple(offsets))

    @property
    def end(self) -> int:
        return self.offsets[-1] + 1 if self.offsets else 0

    def __len__(self) -> int:
        return len(self.messages)

    def records(self, low: int = 0, high: int | None = None) -> list[Record]:
        return [
            _record(offset, message)
            for offset, message in list(zip(self.offsets, self.messages, strict=True))[low:high]
        ]

    def batch(self, low: int = 0, high: int | None = None, dimensions: int = D) -> EventBatch:
        flat = [
            (offset, index, START_MS * 1000 + message.appended_s * SECOND, event)
            for offset, message in list(zip(self.offsets, self.messages, strict=True))[low:high]
            for index, event in enumerate(message.events)
        ]
        events = [event for *_, event in flat]
        n = len(flat)
        return EventBatch(
            offset=np.array([offset for offset, *_ in flat], np.int64),
            index=np.array([index for _, index, *_ in flat], np.int32),
            appended_at=np.array([at for _, _, at, _ in flat], np.int64),
            source_system=pa.array([event.system for event in events], pa.string()),
            event_id=pa.array([event.event_id for event in events], pa.string()),
            content=pa.array(["" if event.delete else event.content for event in events], pa.string()),
            embedding=np.array(
                [np.zeros(dimensions) if event.delete else vector_of(event.vector, dimensions) for event in events],
                np.float32,
            ).reshape(n, dimensions),
            model=pa.array(["m"] * n, pa.string()),
            metadata=pa.array(["{}"] * n, pa.string()),
            created_at=np.array([event.created_at for event in events], np.int64),
            delete=np.array([event.delete for event in events], np.bool_),
        )

    def dead(self, low: int = 0, high: int | None = None) -> list[int]:
        parts = list(zip(self.offsets, self.messages, strict=True))[low:high]
        return [offset for offset, message in parts if not message.events and not message.forgets]

    def apply(self, shard: Shard, low: int = 0, high: int | None = None) -> list[Applied]:
        dimensions = shard._settings.limits.dimensions
        return shard.apply(self.records(low, high), self.batch(low, high, dimensions), self.dead(low, high))


@cache
def _record(offset: int, message: Message) -> Record:
    at = START_MS + message.appended_s * 1000
    if message.forgets:
        key, value, headers = encode_forget(Forget(system_hash(message.forgets), datetime.fromtimestamp(at / 1e3, UTC)))
        return Record(0, offset, at, key, value, headers)
    return Record(0, offset, at, b"key", repr(message.events).encode())


def vector_of(number: int, dimensions: int = D) -> NDArray[np.float32]:
    """Neighbours by threes: 3 i, 3 i + 1 and 3 i + 2 are nearly the same vector, others are not."""
    base = np.random.default_rng(number // 3).normal(size=dimensions)
    base += 0.02 * (number % 3) * np.random.default_rng(number).normal(size=dimensions)
    vector = base.astype(np.float32)
    vector.flags.writeable = False
    return vector


def settings_for(
    folder: Path,
    *,
    dimensions: int = D,
    seal_rows: int = 100,
    seal_age_s: float = 3_600.0,
    build_indexes: bool = False,
    dedupe: DedupeSettings | None = None,
    windows: WindowSettings | None = None,
) -> Settings:
    hot = HotSettings(
        data_dir=folder, seal_rows=max(seal_rows, 100), seal_age_s=seal_age_s, build_indexes=build_indexes
    )
    return Settings(
        hot=hot.model_copy(update={"seal_rows": seal_rows}),  # tests want smaller segments than anybody else
        limits=Limits(dimensions=dimensions, bundle_events=8),
        dedupe=dedupe or DedupeSettings(window_s=60),
        windows=windows or WindowSettings(size_s=30, allowed_lateness_s=10),
    )


@cache
def _reader() -> IndexReader:
    """For shards whose segments get no index: loading vss takes .1 s."""
    return IndexReader()


class OneShard:
    """A shard with what it needs around it; `reopen` is a worker's restart."""

    def __init__(self, settings: Settings, *, seal: bool = True) -> None:
        self.settings = settings
        self.folder = settings.hot.data_dir / "topic" / "00000"
        self.seal = seal
        self.closed: list[ClosedSegment] = []
        self.incarnation = Incarnation("cluster", "topic-1")
        self._open()

    def _open(self) -> None:
        self.codes = SystemCodes()
        self.reader = IndexReader() if self.settings.hot.build_indexes else _reader()
        self.sealer = Sealer(self.settings, self.codes, self.reader)
        self.shard = open_shard(
            self.folder,
            topic="topic",
            partition=0,
            settings=self.settings,
            codes=self.codes,
            reader=self.reader,
            on_closed=self.sealer.submit if self.seal else self.closed.append,
            incarnation=self.incarnation,
        )

    def sealed(self) -> None:
        assert self.sealer.wait_idle(BUILT_S)

    def close(self) -> None:
        self.shard.close()
        self.sealer.release(self.shard)
        self.sealer.close()
        for each in self.closed:
            each.let_go()
        self.closed.clear()
        if self.settings.hot.build_indexes:
            self.reader.close()

    def reopen(self) -> None:
        self.close()
        self._open()

    def __enter__(self) -> OneShard:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def live(shard: Shard) -> dict[tuple[str, str], tuple[int, str, bytes]]:
    """identity → (position, content, vector) of every live row; each identity has at most one."""
    found: dict[tuple[str, str], tuple[int, str, bytes]] = {}
    for view in shard.views():
        for row in np.flatnonzero(view.live[: view.rows]).tolist():
            stored = view.texts([row])[0]
            key = stored.source_system, stored.event_id
            assert key not in found, f"{key} is stored twice"
            assert stored.content is not None
            found[key] = stored.position, stored.content, view.vectors(np.array([row]))[0].tobytes()
    return found


def counters(shard: Shard) -> dict[str, list[int]]:
    return {system: counts.tolist() for system, counts in sorted(shard.counters.items())}


def digests(shard: Shard) -> list[bytes]:
    shard.fold_windows()
    return [digest.value() for digest in shard.pending_digests(1_000_000)]


def windows(shard: Shard) -> tuple[object, ...]:
    shard.fold_windows()
    rows = shard._state.windows.snapshot_rows()
    return sorted(rows.windows), sorted(rows.systems)


def state(shard: Shard) -> tuple[object, ...]:
    """All that the log determines."""
    return live(shard), counters(shard), digests(shard), windows(shard), shard.next_offset


def cut(log: Log, edges: Sequence[int]) -> list[tuple[int, int]]:
    """The log as runs of messages between the edges."""
    points = sorted({0, len(log), *(edge % (len(log) + 1) for edge in edges)})
    return list(pairwise(points))
