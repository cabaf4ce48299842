"""What a log makes of a store, one event at a time, in plain Python: no batches, segments, hashes or code of ours."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

type Identity = tuple[str, str]
type Place = tuple[int, int, int, int]
"""(partition, epoch, offset, index); the epoch counts how often the topic was recreated."""

OUTCOMES = ("stored", "updated", "deleted", "exact", "content", "late")


@dataclass(frozen=True, slots=True)
class Upsert:
    """Also a delete, whose content is None."""

    system: str
    event_id: str
    content: str | None
    vector: bytes
    """float32"""
    created_us: int
    metadata: str
    model: str


@dataclass(frozen=True, slots=True)
class Forget:
    system_sha256: str


type Entry = tuple[Place, Upsert | Forget]


@dataclass(frozen=True, slots=True)
class Row:
    place: Place
    event: Upsert


@dataclass(slots=True)
class _Window:
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(OUTCOMES, 0))
    created: list[int] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Digests:
    """Digest key → what it may say (without its centroid): of each life that its system had."""

    allowed: dict[str, list[dict[str, object]]] = field(default_factory=dict)
    due: set[str] = field(default_factory=set)
    """Keys that must be there. One whose system was forgotten afterwards may be."""


class Model:
    """Last writer by offset wins; the same again, or the same content in one system, is dropped."""

    def __init__(self, window_s: int, lateness_s: int) -> None:
        self._size, self._lateness = window_s * 1_000_000, lateness_s * 1_000_000
        self.live: dict[Identity, Row] = {}
        self.digests = Digests()
        self._contents: dict[Identity, set[str]] = {}
        self._open: dict[str, dict[int, _Window]] = {}
        self._watermarks: dict[str, int] = {}
        self._late: dict[str, int] = {}

    def run(self, log: Iterable[Entry]) -> Model:
        """Entries of a partition in the order of their places."""
        for place, entry in log:
            if isinstance(entry, Forget):
                self._forget(entry)
            else:
                self._window(place, entry, self._event(place, entry))
        return self

    def add(self, other: Model) -> None:
        """Another partition's."""
        self.live |= other.live
        self.digests.allowed |= other.digests.allowed
        self.digests.due |= other.digests.due

    def _event(self, place: Place, event: Upsert) -> str:
        identity = event.system, event.event_id
        before = self.live.get(identity)
        if event.content is None:
            if before is not None:
                self._drop(before.event)
            return "deleted"
        if before is not None and before.event == event:
            return "exact"
        same = self._contents.setdefault((event.system, event.content), set())
        if before is None and same:
            return "content"
        if before is not None:
            self._drop(before.event)
        self.live[identity] = Row(place, event)
        same.add(event.event_id)
        return "stored" if before is None else "updated"

    def _drop(self, event: Upsert) -> None:
        assert event.content is not None
        del self.live[event.system, event.event_id]
        self._contents[event.system, event.content].discard(event.event_id)

    def _forget(self, message: Forget) -> None:
        def meant(system: str) -> bool:
            return hashlib.sha256(system.encode()).hexdigest() == message.system_sha256

        for row in [row for row in self.live.values() if meant(row.event.system)]:
            self._drop(row.event)
        for known in (self._open, self._watermarks, self._late):
            for system in [system for system in known if meant(system)]:
                del known[system]
        self.digests.due = {key for key in self.digests.due if not meant(key.partition("|")[0])}

    def _window(self, place: Place, event: Upsert, outcome: str) -> None:
        system, at = event.system, event.created_us
        start = at // self._size * self._size
        opened = self._open.setdefault(system, {})
        watermark = self._watermarks.get(system, at)
        if start + self._size + self._lateness <= watermark:
            self._late[system] = self._late.get(system, 0) + 1
        else:
            window = opened.setdefault(start, _Window())
            window.counts[outcome] += 1
            window.created.append(at)
            window.offsets.append(place[2])
        self._watermarks[system] = watermark = max(watermark, at)
        for due in sorted(start for start in opened if start + self._size + self._lateness <= watermark):
            self._close(system, due, opened.pop(due))

    def _close(self, system: str, start: int, window: _Window) -> None:
        key = f"{system}|{start}"
        found: dict[str, object] = {
            **window.counts,
            "late": self._late.pop(system, 0),
            "first_created": min(window.created),
            "last_created": max(window.created),
            "first_offset": min(window.offsets),
            "last_offset": max(window.offsets),
        }
        self.digests.allowed.setdefault(key, []).append(found)
        self.digests.due.add(key)
