"""What must be stored, from the log alone: a few dictionaries, no code of the product's."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np

from akasha_stream.events.model import Event
from akasha_stream.publish.delivery import Delivery

type Identity = tuple[str, str]
type Place = tuple[int, int, int]
"""(partition, offset, index)"""

DIMENSIONS = 384


@dataclass(frozen=True, slots=True)
class Row:
    place: Place
    content: str


@dataclass(slots=True)
class Model:
    """Last writer by offset wins; the same again, or the same content in one system, is dropped."""

    log: list[tuple[Place, Event]] = field(default_factory=list)

    def add(self, events: Iterable[Event], deliveries: Iterable[Delivery]) -> None:
        self.log += [
            ((delivery.partition, delivery.offset, delivery.index), event)
            for event, delivery in zip(events, deliveries, strict=True)
        ]

    def rows(self, next_offsets: Mapping[int, int] | None = None) -> dict[Identity, Row]:
        """identity → live row; of the records below these offsets only."""
        live: dict[Identity, Row] = {}
        contents: dict[tuple[str, str], set[Identity]] = {}
        payloads: dict[Identity, tuple[str, bytes]] = {}
        for place, event in sorted(self.log, key=lambda entry: entry[0]):
            if next_offsets is not None and place[1] >= next_offsets.get(place[0], 0):
                continue
            identity = (event.source_system, event.event_id)
            before = live.get(identity)
            if event.op == "delete":
                if before is not None:
                    contents[event.source_system, before.content].discard(identity)
                    del live[identity]
                continue
            same = contents.setdefault((event.source_system, event.content), set())
            payload = (event.content, event.embedding.tobytes())
            if before is None and same:
                continue
            if before is not None:
                if payloads[identity] == payload:
                    continue
                contents[event.source_system, before.content].discard(identity)
            live[identity] = Row(place, event.content)
            payloads[identity] = payload
            same.add(identity)
        return live


class Maker:
    """Seeded events: new ones, updates, exact and content duplicates, deletes. All times lie within a minute."""

    def __init__(self, seed: int, systems: int = 12) -> None:
        self._random = random.Random(seed)
        self._vectors = np.random.default_rng(seed)
        self._systems = systems
        self._made: list[Event] = []
        self._start = datetime.now(UTC) - timedelta(minutes=5)

    def new(self, count: int, *, at: datetime | None = None) -> list[Event]:
        made = [self._new(at) for _ in range(count)]
        self._made += made
        return made

    def mixed(self, count: int) -> list[Event]:
        return [self._one() for _ in range(count)]

    def _one(self) -> Event:
        kind = self._random.random()
        if kind < 0.6 or not self._made:
            return self.new(1)[0]
        before = self._random.choice(self._made)
        if kind < 0.75:  # an update
            fresh = self._new()
            event = Event(
                event_id=before.event_id,
                source_system=before.source_system,
                content=fresh.content,
                embedding=fresh.embedding,
                created_at=fresh.created_at,
            )
            self._made.append(event)
            return event
        if kind < 0.85:  # the same once more
            return before
        if kind < 0.92:  # the same text under another name
            fresh = self._new()
            return Event(
                event_id=fresh.event_id,
                source_system=before.source_system,
                content=before.content,
                embedding=before.embedding,
                created_at=fresh.created_at,
            )
        return Event.delete(before.source_system, before.event_id, created_at=self._start)

    def _new(self, at: datetime | None = None) -> Event:
        number = self._random.getrandbits(64)
        return Event(
            event_id=f"e{number:016x}",
            source_system=f"system-{self._random.randrange(self._systems)}",
            content=f"text {number:x} of an event",
            embedding=self._vectors.normal(size=DIMENSIONS).astype(np.float32),
            created_at=at or self._start + timedelta(seconds=self._random.uniform(0, 60)),
        )
