"""Which worker has which partition, and its URL.

Two sources know it. The **group** itself: each worker names its URL when it joins, and what the group assigns tells
every member who has which partition (Faust sends that along for its table routing). It is exact from the moment of
the assignment, costs no request, and needs no Redis; but only a member that the group still counts as one hears of
the next. The **registry** in Redis: up to a heartbeat behind, and at hand for whoever is in no group at the moment.
So the group is asked first, and the registry where the group does not know, or what it says turns out wrong.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

import structlog

from akasha_stream.errors import LookupUnavailable
from akasha_stream.lookups.workers import Worker

log = structlog.get_logger(__name__)


class GroupState(Protocol):
    """The consumer group, as this worker has last heard of it."""

    def owners(self) -> Mapping[int, str]:
        """Partition → URL of its owner, of the last assignment that this worker knows."""
        ...

    def urls(self) -> Sequence[str]:
        """Of all members, those without a partition too."""
        ...

    def confirmed(self) -> bool:
        """Whether the group has lately counted this worker as a member."""
        ...


class Registry(Protocol):
    async def list(self) -> Sequence[Worker]:
        """Raises LookupUnavailable."""
        ...


class Owners:
    """`me`: this worker's URL, which is never named. `registry`: None where Redis is switched off."""

    def __init__(
        self,
        me: Callable[[], str] = str,
        group: GroupState | None = None,
        registry: Registry | None = None,
        fresh_s: float = 2.0,
    ) -> None:
        """`fresh_s`: how long what the registry said is good."""
        self.me = me
        self._group = group
        self._registry = registry
        self._fresh_s = fresh_s
        self._workers: Sequence[Worker] = ()
        self._read = -float("inf")
        self._available = True

    async def find(self, partitions: Collection[int], *, wrong: Mapping[int, str] | None = None) -> dict[int, str]:
        """Partition → URL, of those whose owner is known.

        `wrong`: those that were asked, and are not the owner or did not answer; the registry is read anew, and one of
        them is named again only where nobody else is known.
        """
        me = self.me()
        group = {} if self._group is None else self._group.owners()
        trusted = self._group is not None and self._group.confirmed()
        if trusted and not wrong and all(group.get(p, me) != me for p in partitions):
            return {p: group[p] for p in partitions}
        registered = {p: each.url for each in await self._listed(anew=bool(wrong)) for p in each.partitions}
        found = {}
        for partition in partitions:
            known = [each.get(partition) for each in ((group, registered) if trusted else (registered, group))]
            others = [url for url in known if url is not None and url != me]
            fresh = [url for url in others if wrong is None or url != wrong.get(partition)]
            if fresh or others:
                found[partition] = (fresh or others)[0]
        return found

    async def others(self) -> list[str]:
        """URLs of all other workers that are known."""
        known = {each.url for each in await self._listed()}
        if self._group is not None:
            known.update(self._group.urls())
        return sorted(known - {self.me()})

    async def _listed(self, *, anew: bool = False) -> Sequence[Worker]:
        if self._registry is None:
            return ()
        if anew or time.monotonic() - self._read > self._fresh_s:
            try:
                self._workers = await self._registry.list()
                self._available = True
            except LookupUnavailable as error:
                if self._available:
                    log.warning("worker_registry_unavailable", error=str(error))
                self._available = False
                self._workers = ()
            self._read = time.monotonic()
        return self._workers
