"""The ledger of forgotten source systems: which of their rows count no more, whoever brings them back.

    <prefix>/_forgotten/<sha256 of the name>/<sha256 of the entry>.json        in the hot tier

An entry says up to which offset of each log the system's rows are forgotten. Entries are only ever added, and of
several the furthest offset counts, so two that write at once take nothing from each other. A worker that has lost its
partition may still put a segment with forgotten rows; everyone who loads segments masks rows by the ledger, and the
next rewrite drops them. So the ledger stays when all is rewritten. It holds the name's hash, never the name.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from akasha_stream.errors import SegmentCorrupt
from akasha_stream.hot.position import MAX_OFFSET
from akasha_stream.incarnation import Incarnation
from akasha_stream.tiers.keys import LogId
from akasha_stream.tiers.retention import by_system

if TYPE_CHECKING:
    from akasha_stream.tiers.segment_store import SegmentStore

FOLDER = "_forgotten"
FORMAT = 1

_ENTRY = re.compile(rf"(^|/){FOLDER}/[0-9a-f]{{64}}/[0-9a-f]{{64}}\.json$", re.ASCII)


def system_hash(system: str) -> str:
    """SHA-256 of a source system's name, in hex: what the ledger and the control message call it by."""
    return hashlib.sha256(system.encode()).hexdigest()


def is_entry(path: str) -> bool:
    """Whether an object is an entry of the ledger, by its path."""
    return _ENTRY.search(path) is not None


class _Log(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    topic: str
    cluster_id: str | None
    topic_id: str | None
    partition: int = Field(ge=0)
    end: int = Field(ge=0)


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int
    system_sha256: str
    logs: list[_Log]


class _Entries(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    entries: list[_Entry]


def _log(log: LogId, end: int) -> _Log:
    return _Log(
        topic=log.topic,
        cluster_id=log.incarnation.cluster_id,
        topic_id=log.incarnation.topic_id,
        partition=log.partition,
        end=end,
    )


def _log_id(log: _Log) -> LogId:
    return LogId(log.topic, Incarnation(log.cluster_id, log.topic_id), log.partition)


def _order(log: _Log) -> tuple[str, str, str, int]:
    return log.topic, log.cluster_id or "", log.topic_id or "", log.partition


class Forgotten:
    """Up to which offset of which log the rows of a system are forgotten. Never changes."""

    def __init__(self, ends: Mapping[tuple[str, LogId], int] | None = None) -> None:
        """`ends`: (system_hash, log) → the offset after the last one that is forgotten."""
        self._ends = dict(ends or {})

    def __bool__(self) -> bool:
        return bool(self._ends)

    def end(self, log: LogId, system: str) -> int:
        """Rows of the system below this offset of the log are forgotten; 0: none."""
        return self._ends.get((system_hash(system), log), 0) if self._ends else 0

    def masks(
        self, log: LogId, systems: pa.ChunkedArray[Any] | pa.Array[Any], positions: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """(n,) which of n rows of a log are forgotten, by their source systems (strings) and positions."""
        if not self._ends:
            return np.zeros(len(positions), np.bool_)
        return (positions >> 16 & MAX_OFFSET) < by_system(systems, lambda system: self.end(log, system))

    def may_touch(self, log: LogId, systems: Iterable[str], start: int) -> bool:
        """Whether a segment that starts at `start` and has rows of these systems may have forgotten ones."""
        return bool(self._ends) and any(self.end(log, system) > start for system in systems)

    def with_system(self, system: str, ends: Mapping[LogId, int]) -> Forgotten:
        """With the rows of a system below these offsets forgotten too."""
        return self.with_hash(system_hash(system), ends)

    def with_hash(self, system_sha256: str, ends: Mapping[LogId, int]) -> Forgotten:
        """The same, by the hash of its name."""
        merged = dict(self._ends)
        for log, end in ends.items():
            merged[system_sha256, log] = max(end, merged.get((system_sha256, log), 0))
        return Forgotten(merged)

    def only(self, system: str) -> Forgotten:
        """What is said of one system."""
        hashed = system_hash(system)
        return Forgotten({key: end for key, end in self._ends.items() if key[0] == hashed})

    def pack(self) -> bytes:
        """JSON, for a local copy of the ledger; the same for the same entries."""
        by_system: dict[str, list[_Log]] = {}
        for (hashed, log), end in self._ends.items():
            by_system.setdefault(hashed, []).append(_log(log, end))
        entries = [
            _Entry(format=FORMAT, system_sha256=hashed, logs=sorted(logs, key=_order))
            for hashed, logs in sorted(by_system.items())
        ]
        return _Entries(entries=entries).model_dump_json().encode()

    @classmethod
    def unpack(cls, data: bytes, name: str) -> Forgotten:
        """The reverse of pack(). Raises SegmentCorrupt, naming `name`."""
        try:
            entries = _Entries.model_validate_json(data).entries
        except ValidationError as error:
            raise SegmentCorrupt(f"{name}: is no copy of the ledger of forgotten systems: {error}") from error
        return cls({(each.system_sha256, _log_id(log)): log.end for each in entries for log in each.logs})

    def ends(self, system: str) -> dict[LogId, int]:
        hashed = system_hash(system)
        return {log: end for (other, log), end in self._ends.items() if other == hashed}


async def load_forgotten(store: SegmentStore) -> Forgotten:
    """Read the ledger.

    Raises:
        StorageError: it can't be read; then nothing may be rewritten, as forgotten rows would get new segments.
        SegmentCorrupt: an entry is none; names it.
    """
    place = await store.place("hot")
    ends: dict[tuple[str, LogId], int] = {}
    async for found in place.adapter.list(place.bucket, _folder(place.prefix)):
        if not is_entry(found.path):
            continue
        entry = _read(await place.adapter.download(place.bucket, found.path), found.path)
        for each in entry.logs:
            key = entry.system_sha256, _log_id(each)
            ends[key] = max(each.end, ends.get(key, 0))
    return Forgotten(ends)


async def note_forgotten(store: SegmentStore, system_sha256: str, ends: Mapping[LogId, int]) -> str:
    """Add an entry; its path. The same one twice is one. Raises StorageError; may be made again."""
    logs = sorted((_log(log, end) for log, end in ends.items()), key=_order)
    data = _Entry(format=FORMAT, system_sha256=system_sha256, logs=logs).model_dump_json().encode()
    place = await store.place("hot")
    path = f"{_folder(place.prefix)}{system_sha256}/{hashlib.sha256(data).hexdigest()}.json"
    await place.adapter.put_if_absent(place.bucket, path, data)
    return path


def _folder(prefix: str) -> str:
    return f"{prefix.rstrip('/')}/{FOLDER}/" if prefix.strip("/") else f"{FOLDER}/"


def _read(data: bytes, path: str) -> _Entry:
    try:
        entry = _Entry.model_validate_json(data)
    except ValidationError as error:
        raise SegmentCorrupt(f"{path}: is no entry of the ledger of forgotten systems: {error}") from error
    if entry.format != FORMAT or f"/{entry.system_sha256}/" not in path:
        raise SegmentCorrupt(f"{path}: format {entry.format} of {entry.system_sha256}, this release reads {FORMAT}")
    return entry
