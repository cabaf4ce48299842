"""Many systems as they behave: a few loud ones, bursts, late and repeated events, replacements and deletes.

A generator, the same for the same seed. Vectors and texts are the real ones of benchmarks.data and perturbed copies.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from akasha_stream.events.model import Event
from benchmarks.data import Corpus

type Identity = tuple[str, str]

LATE_S = 7_200.0
JITTER_S = 30.0
REMEMBERED = 20_000
"""Of the latest events, those that may be sent again, replaced or deleted."""
BURST = (50, 500)
_AT_ONCE = 4_096


@dataclass(frozen=True, slots=True)
class Load:
    """`events` of `systems`, spread over `simulated_s` of event time. Shares are of all events."""

    systems: int
    events: int
    simulated_s: float = 3_600.0
    seed: int = 1
    zipf: float = 1.1
    """The n-th loudest system sends n^-zipf times what the loudest does."""
    bursts: float = 0.2
    """… that come in runs of 50 to 500 from one system."""
    late: float = 0.02
    """… up to two hours old."""
    jittered: float = 0.1
    """… up to half a minute out of order."""
    duplicates: float = 0.03
    """… that were sent before, as a producer's retry."""
    updates: float = 0.05
    deletes: float = 0.02


class Simulation:
    """Iterate over it once: the events in the order in which they are published. Then `live` is what must be stored."""

    def __init__(self, load: Load, corpus: Corpus, began: datetime | None = None) -> None:
        self._load = load
        self._corpus = corpus
        self._began = began or datetime.now(UTC) - timedelta(seconds=load.simulated_s)
        self._rng = random.Random(load.seed)
        self._vectors: NDArray[np.float32] = corpus.vectors[:0]
        self._new = 0
        self._recent: list[Event] = []
        self.live: set[Identity] = set()
        self.seen: set[str] = set()
        """Source systems that sent anything."""

    def __iter__(self) -> Iterator[Event]:
        load, rng = self._load, self._rng
        systems = _Systems(load, np.random.default_rng(load.seed))
        for number in range(load.events):
            at = self._began + timedelta(seconds=load.simulated_s * number / load.events)
            event = self._next(systems.next(rng), at, rng.random())
            self.seen.add(event.source_system)
            yield event

    def again(self, count: int) -> Iterator[Event]:
        """After all others: remembered events that live, as they are stored. They change nothing."""
        alive = [event for event in self._recent if _identity(event) in self.live]
        for number in range(count):
            yield alive[number % len(alive)]

    def _next(self, system: str, at: datetime, chance: float) -> Event:
        load = self._load
        if self._recent and chance < load.duplicates + load.deletes + load.updates:
            slot = self._rng.randrange(len(self._recent))
            old = self._recent[slot]
            if chance < load.duplicates:
                self.live.add(_identity(old))  # it may have been deleted since: then it is there again
                return old
            if chance < load.duplicates + load.deletes:
                self.live.discard(_identity(old))
                return Event.delete(*_identity(old), at)
            return self._event(*_identity(old), at, slot)
        slot = self._new % REMEMBERED
        return self._event(system, f"e{self._new:09d}", at, slot)

    def _event(self, system: str, event_id: str, at: datetime, slot: int) -> Event:
        load, rng, number = self._load, self._rng, self._new
        if number % _AT_ONCE == 0:
            self._vectors = self._corpus.rows(number, _AT_ONCE)
        self._new += 1
        chance = rng.random()
        if chance < load.late:
            at -= timedelta(seconds=rng.uniform(0, LATE_S))
        elif chance < load.late + load.jittered:
            at += timedelta(seconds=rng.uniform(-JITTER_S, JITTER_S))
        event = Event(
            event_id=event_id,
            source_system=system,
            # With the number content dedupe leaves every event alone.
            content=f"{self._corpus.contents[number % len(self._corpus.contents)]} [{number}]",
            embedding=self._vectors[number % _AT_ONCE],
            created_at=at,
        )
        self.live.add(_identity(event))
        if slot < len(self._recent):
            self._recent[slot] = event
        else:
            self._recent.append(event)
        return event


class _Systems:
    """Who sends next."""

    def __init__(self, load: Load, rng: np.random.Generator) -> None:
        weights = np.arange(1, load.systems + 1, dtype=np.float64) ** -load.zipf
        self._until = np.cumsum(weights / weights.sum())
        self._names = rng.permutation(load.systems)  # loud ones are spread over the partitions
        self._burst = 0
        self._bursting = ""
        length = sum(BURST) / 2
        self._starts = load.bursts / (length * (1 - load.bursts) + load.bursts) if load.bursts else 0.0

    def next(self, rng: random.Random) -> str:
        if self._burst:
            self._burst -= 1
            return self._bursting
        rank = min(int(np.searchsorted(self._until, rng.random())), len(self._names) - 1)
        name = f"system-{self._names[rank]:06d}"
        if rng.random() < self._starts:
            self._burst, self._bursting = rng.randint(*BURST), name
        return name


def _identity(event: Event) -> Identity:
    return event.source_system, event.event_id
