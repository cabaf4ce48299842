"""What a shard must hold, one event at a time, in plain Python: no hashes, segments or batches."""

from __future__ import annotations

from functools import cache

import numpy as np

from akasha_stream.settings import DedupeSettings
from akasha_stream.stream.windows import Outcome
from tests.hot.log import Event, Log, vector_of


class Model:
    def __init__(self, dedupe: DedupeSettings, dimensions: int = 8) -> None:
        self.dedupe = dedupe
        self.dimensions = dimensions
        self.live: dict[tuple[str, str], tuple[Event, int]] = {}
        self.counters: dict[str, list[int]] = {}
        self.outcomes: list[Outcome] = []

    def run(self, log: Log) -> Model:
        for offset, message in zip(log.offsets, log.messages, strict=True):
            if message.forgets:
                self.forget(message.forgets)
            for index, event in enumerate(message.events):
                self.event(event, offset << 16 | index)
        return self

    def forget(self, system: str) -> None:
        self.live = {identity: row for identity, row in self.live.items() if identity[0] != system}
        self.counters.pop(system, None)

    def event(self, event: Event, position: int) -> None:
        outcome = self._outcome(event)
        identity = event.system, event.event_id
        if outcome is Outcome.DELETED:
            self.live.pop(identity, None)
        elif outcome in {Outcome.STORED, Outcome.UPDATED}:
            self.live[identity] = event, position
        self.outcomes.append(outcome)
        self.counters.setdefault(event.system, [0] * len(Outcome))[outcome] += 1

    def _outcome(self, event: Event) -> Outcome:
        if event.delete:
            return Outcome.DELETED
        current = self.live.get((event.system, event.event_id))
        if current is not None:
            return Outcome.DUPLICATE_EXACT if current[0] == event else Outcome.UPDATED
        others = [
            other
            for other, _ in self.live.values()
            if other.system == event.system
            and abs(other.created_at - event.created_at) <= self.dedupe.window_s * 1_000_000
        ]
        if self.dedupe.content and self.dedupe.window_s and any(same(other, event) for other in others):
            return Outcome.DUPLICATE_CONTENT
        threshold = self.dedupe.near_threshold
        if threshold is not None and any(self.cosine(other, event) >= threshold for other in others):
            return Outcome.DUPLICATE_NEAR
        return Outcome.STORED

    def cosine(self, a: Event, b: Event) -> float:
        x, y = (vector_of(each.vector, self.dimensions).astype(np.float64) for each in (a, b))
        return round(float(x @ y) / float(np.linalg.norm(x) * np.linalg.norm(y)), 6)

    def expected(self) -> dict[tuple[str, str], tuple[int, str, bytes]]:
        return {
            identity: (position, event.content, vector_of(event.vector, self.dimensions).tobytes())
            for identity, (event, position) in self.live.items()
        }


def same(a: Event, b: Event) -> bool:
    return words(a.content) == words(b.content)


@cache
def words(content: str) -> list[str]:
    return content.split()
