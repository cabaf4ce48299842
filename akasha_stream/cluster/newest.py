"""The newest events of several workers as one page."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from akasha_stream.cluster.merge import Version, counting, sources
from akasha_stream.cluster.messages import PeerPage
from akasha_stream.search.query import Incomplete, StoredEvent
from akasha_stream.search.recent import Place


@dataclass(frozen=True, slots=True)
class Page:
    """The newest first."""

    events: list[StoredEvent]
    appended_at: list[int]
    """Of each event, microseconds since the epoch."""
    next: str | None
    incomplete: list[Incomplete]
    owned: frozenset[int]
    """Partitions whose owner has answered."""
    lapsed: frozenset[int]
    """… of which only somebody has answered who may have lost it meanwhile."""

    def versions(self) -> dict[Version, int]:
        """→ when the log took it."""
        return {_version(event): at for event, at in zip(self.events, self.appended_at, strict=True)}

    def without(self, superseded: Collection[Version]) -> list[StoredEvent]:
        return [event for event in self.events if _version(event) not in superseded]


def joined(parts: Sequence[PeerPage], limit: int) -> Page:
    """Of parts that were asked for `limit` events each. A partition that two have counts from the one that owns it.

    It ends where the first of them ends that has more: what that one has behind its page, nobody has seen.
    """
    source, owned = sources(parts)
    seen_to = max((Place.parse(part.next) for part in parts if part.next is not None), default=None)
    found = sorted(
        (
            (place, event, at)
            for number, part in enumerate(parts)
            for place, event, at in zip(map(Place.parse, part.places), part.events, part.appended_at, strict=True)
            if source.get(event.position.partition) == number and (seen_to is None or place >= seen_to)
        ),
        key=lambda each: each[0],
        reverse=True,
    )
    page = found[:limit]
    following = page[-1][0] if len(found) > limit else seen_to
    return Page(
        [event for _, event, _ in page],
        [at for _, _, at in page],
        None if following is None else str(following),
        counting(parts, source),
        owned,
        frozenset(source) - owned,
    )


def _version(event: StoredEvent) -> Version:
    return event.source_system, event.event_id, event.position.partition
