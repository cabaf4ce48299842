"""All workers of the cluster, with the figures of each: what the console shows, on whichever node it is opened."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from akasha_stream.errors import OwnerUnavailable
from akasha_stream.lookups.workers import Worker
from akasha_stream.operations.workers import TIMEOUT_S, registered_workers
from akasha_stream.settings import Settings
from akasha_stream.telemetry.figures import WorkerFigures

FRESH_S = 0.8
"""Pages that ask at the same time share an answer: each asks once a second."""
REGISTRY_S = 2.0


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A worker of the cluster. `error`: why there are no figures of it."""

    name: str
    url: str
    answering: bool
    """Whether it is the one that gave this answer."""
    heartbeat_age_s: float | None
    """By its clock and ours; None where it is in no registry."""
    partitions: list[int]
    """As it says now, else as it said at its last heartbeat."""
    figures: WorkerFigures | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Overview:
    at_ms: int
    workers: list[WorkerView] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Where could not be looked, and why."""


class Peers(Protocol):
    """cluster.peers.Peers, as far as this module needs it."""

    async def figures(self, url: str, timeout_s: float) -> WorkerFigures:
        """Raises OwnerUnavailable."""
        ...


class ClusterOverview:
    """One instance belongs to one event loop, that of the worker."""

    def __init__(
        self,
        settings: Settings,
        own: Callable[[], WorkerFigures],
        url: Callable[[], str],
        *,
        others: Callable[[], Awaitable[Sequence[str]]],
        peers: Peers,
    ) -> None:
        """`own`: figures of this worker, made in a thread; `url`: its own, as others know it; `others`: URLs of the
        other workers that the group knows of."""
        self._settings = settings
        self._own = own
        self._url = url
        self._others = others
        self._peers = peers
        self._looking = asyncio.Lock()
        self._last: Overview | None = None
        self._looked_s = float("-inf")
        self._registered: tuple[list[Worker], list[str]] = ([], [])
        self._registry_read_s = float("-inf")

    async def look(self) -> Overview:
        """Raises nothing: what can't be reached is in the notes, and in `error` of a worker."""
        async with self._looking:
            if self._last is None or time.monotonic() - self._looked_s > FRESH_S:
                self._last = await self._look()
                self._looked_s = time.monotonic()
            return self._last

    async def _look(self) -> Overview:
        # Without Redis the group alone tells who there is: their URLs.
        if self._settings.redis.enabled and time.monotonic() - self._registry_read_s > REGISTRY_S:
            self._registered = await registered_workers(self._settings)
            self._registry_read_s = time.monotonic()
        workers, notes = self._registered
        me = self._url()
        known = {worker.url: worker for worker in workers}
        others = sorted({*known, *await self._others()} - {me})
        figures, found = await asyncio.gather(
            asyncio.to_thread(self._own), asyncio.gather(*(self._ask(url, known.get(url)) for url in others))
        )
        views = sorted([_view(me, known.get(me), figures, answering=True), *found], key=lambda view: view.name)
        return Overview(int(time.time() * 1000), views, list(notes))

    async def _ask(self, url: str, worker: Worker | None) -> WorkerView:
        try:
            return _view(url, worker, await self._peers.figures(url, TIMEOUT_S))
        except OwnerUnavailable as error:
            return _view(url, worker, error=str(error))


def _view(
    url: str,
    worker: Worker | None,
    figures: WorkerFigures | None = None,
    *,
    answering: bool = False,
    error: str | None = None,
) -> WorkerView:
    """`worker`: as it is in the registry."""
    if figures is not None:
        partitions = [each.partition for each in figures.partitions]
    else:
        partitions = [] if worker is None else list(worker.partitions)
    age_s = None if worker is None else round((datetime.now(UTC) - worker.heartbeat_at).total_seconds(), 3)
    return WorkerView(url if worker is None else worker.id, url, answering, age_s, partitions, figures, error)
