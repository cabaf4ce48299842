"""Which events share a bundle. Pure: no clock, no I/O; the caller says what time it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True)
class OpenBundle[T]:
    """Events of one source system, in the order they were added."""

    system: str
    deadline: float
    items: list[T] = field(default_factory=list)
    size: int = 0


class Bundler[T]:
    """Groups items by source system until a bundle is full or its linger is over.

    A bundle never has more than `max_events` items, nor more than `max_bytes` unless a single item is
    larger than that. Items of one system leave in the order they came, each exactly once.
    `linger_s` is the longest wait; half of it is the mean.
    """

    def __init__(self, max_events: int, max_bytes: int, linger_s: float) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._linger_s = linger_s
        # Insertion order is deadline order, because a bundle is only inserted when it opens.
        self._open: dict[str, OpenBundle[T]] = {}

    def add(self, system: str, item: T, size: int, now: float) -> tuple[OpenBundle[T], ...]:
        """Add an item of `size` bytes at time `now` (seconds); the bundles that this closed, oldest first.

        Two close when the item did not fit in the old one and fills the new one alone.
        """
        closed: tuple[OpenBundle[T], ...] = ()
        bundle = self._open.get(system)
        if bundle is not None and bundle.size + size > self._max_bytes:
            closed, bundle = (self._open.pop(system),), None
        if bundle is None:
            bundle = self._open[system] = OpenBundle(system, self._next_tick(now))
        bundle.items.append(item)
        bundle.size += size
        if len(bundle.items) >= self._max_events or bundle.size >= self._max_bytes:
            closed = (*closed, self._open.pop(system))
        return closed

    def _next_tick(self, now: float) -> float:
        """When the bundles that open now are closed: all at one time, at most the linger away.

        With a deadline each, 100 systems' bundles trickled to the broker in 400 requests a second; together they
        take 100, at the same mean wait. Producer, broker and worker all have less to do.
        """
        return (now // self._linger_s + 1) * self._linger_s if self._linger_s else now

    def expired(self, now: float, hold: Callable[[str], bool] = lambda system: False) -> list[OpenBundle[T]]:
        """Close the bundles whose linger is over; one whose system `hold` says to hold lingers once more.

        Holding costs nothing where the bundle would only wait behind others, and fills it meanwhile.
        """
        due = []
        for bundle in self._open.values():
            if bundle.deadline > now:
                break
            due.append(bundle)
        closed = []
        for bundle in due:
            del self._open[bundle.system]
            if hold(bundle.system):
                bundle.deadline = self._next_tick(now)
                self._open[bundle.system] = bundle
            else:
                closed.append(bundle)
        return closed

    def close(self, system: str) -> OpenBundle[T] | None:
        """Close one system's bundle, if it has one."""
        return self._open.pop(system, None)

    def drain(self) -> list[OpenBundle[T]]:
        """Close all bundles."""
        bundles, self._open = list(self._open.values()), {}
        return bundles

    @property
    def next_deadline(self) -> float | None:
        """When `expired` has something to do next; None with nothing open."""
        return next((bundle.deadline for bundle in self._open.values()), None)
