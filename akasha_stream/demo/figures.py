"""What the demo measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np


def percentile(samples: Sequence[float], q: float) -> float:
    """The nearest-rank percentile: a value that was measured, none between two."""
    return float(np.percentile(np.asarray(samples, float), q, method="inverted_cdf"))


@dataclass(frozen=True, slots=True)
class Found:
    """One search of the demo: what was asked, and (similarity, source system, content) of its hits, best first."""

    asked: str
    hits: list[tuple[float, str, str]]
    ms: float


@dataclass(slots=True)
class Figures:
    """Counts are asked from the running system after the fact, not added up while sending."""

    published: int = 0
    """Events that the broker acknowledged, those sent twice included, the malformed message not."""
    stored: int = 0
    """Events that a search finds."""
    duplicates: int = 0
    """Events that the worker dropped, from its counters in the Redis tables."""
    dead_letters: int = 0
    """Messages in the dead-letter topic."""
    missing: int = 0
    """Events that should be found and are not."""
    events_per_s: float = 0.0
    """Of the burst: events / seconds from the first send until the last of them was searchable."""
    searchable_ms: list[float] = field(default_factory=list)
    """Send of an event → the answer of the first search that finds it, while others arrive."""
    search_ms: list[float] = field(default_factory=list)
    """Round trips of searches for 10 events over HTTP, one after the other."""
    sent_again: int = 0
    same_text: int = 0
    malformed: int = 0
    burst: int = 0
    searches: list[Found] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Everything that was published is found, and every count is as it must be."""
        return (
            self.missing == 0
            and self.published == self.stored + self.duplicates
            and self.duplicates == self.sent_again + self.same_text
            and self.dead_letters == self.malformed
        )

    def to_json(self) -> dict[str, object]:
        return {
            "published": self.published,
            "stored": self.stored,
            "duplicates": self.duplicates,
            "dead_letters": self.dead_letters,
            "events_per_s": round(self.events_per_s),
            "searchable_p50_ms": round(percentile(self.searchable_ms, 50), 1),
            "searchable_p99_ms": round(percentile(self.searchable_ms, 99), 1),
            "searchable_samples": len(self.searchable_ms),
            "search_p50_ms": round(percentile(self.search_ms, 50), 2),
            "search_p99_ms": round(percentile(self.search_ms, 99), 2),
            "search_samples": len(self.search_ms),
            "hits": sum(len(found.hits) for found in self.searches),
            "missing": self.missing,
            "complete": self.complete,
        }
