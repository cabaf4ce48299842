"""Write the commits of a worker's shards into the Redis tables, behind ingest and never in its way.

`offer` only queues. One task writes: everything that waits goes out in one transaction (up to a bound), so the
slower Redis answers the larger the batches get. When the queue is full, Redis gone, or a table not as the writer
left it, the queued updates of the shard are dropped and its table is repaired from the shard (`repair.py`),
while the updates that come meanwhile wait in the queue again.

A shard is in one of three states:
    gap        updates are missing from the table: none is queued, a repair will start when Redis answers
    repairing  up to the watermark at which the repair began; later updates are queued
    in step    the table's `upto` is what this writer left there; queued updates are written
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

import structlog
from redis.exceptions import OutOfMemoryError, ReadOnlyError, ResponseError

from akasha_stream.lookups import transactions
from akasha_stream.lookups.connection import UNAVAILABLE
from akasha_stream.lookups.repair import Repair, TableChanged
from akasha_stream.lookups.tables import Keys, Watermark
from akasha_stream.lookups.transactions import Command
from akasha_stream.lookups.updates import Located, LookupHealth, LookupUpdate, RepairSource

if TYPE_CHECKING:
    from redis.asyncio import Redis

log = structlog.get_logger(__name__)

QUEUE_EVENTS = 200_000
"""Some 50 MB, and 8 s of ingest at full speed."""
TRANSACTION_EVENTS = 2_048
"""Redis serves nobody else during a transaction: 2 ms with this many."""
GATHER_S = 0.1
"""Commits of so long share a transaction. With one for each of 25 commits a second, of 100 systems, Redis took 2,500
commands a second, each answer 20 µs of the loop that all requests wait for."""
REPAIR_PAUSE_S = 0.002
CHECK_INTERVAL_S = 2.0
"""How soon a FLUSHALL is noticed while nothing is written."""
BACKOFF_S = (0.1, 5.0)


class _Shard:
    def __init__(self, partition: int, watermark: Watermark) -> None:
        self.partition = partition
        self.head = watermark
        """Of the latest update offered."""
        self.pending: deque[LookupUpdate] = deque()
        self.known: set[str] = set()
        """Systems that the writer has registered since the last repair."""
        self.gap = True
        self.repair: Repair | None = None
        self.rebuild = False
        """The next repair must not trust `upto`."""

    @property
    def in_step(self) -> bool:
        return not self.gap and self.repair is None

    def take(self, events: int) -> list[LookupUpdate]:
        """The oldest updates, at least one and about so many events."""
        taken: list[LookupUpdate] = []
        while self.pending and (not taken or events > 0):
            update = self.pending.popleft()
            events -= update.events
            taken.append(update)
        return taken


class LookupWriter:
    """All methods belong to the event loop that `run` runs in. `client` is closed by whoever made it."""

    def __init__(
        self,
        client: Redis,
        keys: Keys,
        source: RepairSource,
        *,
        queue_events: int = QUEUE_EVENTS,
        check_interval_s: float = CHECK_INTERVAL_S,
    ) -> None:
        self._client = client
        self._keys = keys
        self._source = source
        self._queue_events = queue_events
        self._check_interval_s = check_interval_s
        self._shards: dict[int, _Shard] = {}
        self._queued = 0
        self._repairs = 0
        self._dropped = 0
        self._available = False
        self._error: str | None = None
        self._checked_at = 0.0
        self._wake = asyncio.Event()
        self._settled = asyncio.Event()

    def attach(self, partition: int, watermark: Watermark) -> None:
        self.detach(partition)
        self._shards[partition] = _Shard(partition, watermark)
        self._woken()

    def detach(self, partition: int) -> None:
        shard = self._shards.pop(partition, None)
        if shard is not None:
            self._drop(shard, count=False)

    def offer(self, update: LookupUpdate) -> None:
        """Queue a committed batch. Unknown partitions are ignored: their worker has just lost them."""
        shard = self._shards.get(update.partition)
        if shard is None:
            return
        unbroken = update.previous == shard.head
        shard.head = update.watermark
        if unbroken and not shard.gap:
            if self._queued + update.events <= self._queue_events:
                shard.pending.append(update)
                self._queued += update.events
                self._woken()
                return
            log.warning("lookup_queue_full", partition=update.partition)
        self._dropped += 1
        self._drop(shard)
        self._woken()

    def health(self) -> LookupHealth:
        """In any thread."""
        return LookupHealth(
            enabled=True,
            available=self._available,
            error=self._error,
            queued_events=self._queued,
            repairing=sorted(shard.partition for shard in list(self._shards.values()) if not shard.in_step),
            repairs=self._repairs,
            dropped_updates=self._dropped,
        )

    async def settled(self) -> None:
        """Wait until every table holds what was offered."""
        await self._settled.wait()

    async def run(self) -> None:
        """Write until cancelled. Redis gone is no error here: it is waited for."""
        shortest, longest = BACKOFF_S
        pause = shortest
        while True:
            try:
                await self._round()
            except TableChanged:
                # Twice in a row means that another worker believes to own the shard: don't race it.
                await asyncio.sleep(shortest)
            except UNAVAILABLE as error:
                self._unavailable(f"{error or type(error).__name__}")
                await asyncio.sleep(pause)
                pause = min(longest, pause * 2)
            except Exception as error:
                log.exception("lookup_write_failed")
                self._unavailable(f"{type(error).__name__}: {error}")
                await asyncio.sleep(longest)
            else:
                pause = shortest
                await self._wait()

    async def _wait(self) -> None:
        """Until there is something to do, and enough of it."""
        if any(not shard.in_step for shard in self._shards.values()):
            await asyncio.sleep(REPAIR_PAUSE_S)
        elif not any(shard.pending for shard in self._shards.values()):
            self._settled.set()
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._check_interval_s):
                    await self._wake.wait()
            await asyncio.sleep(GATHER_S)

    async def _round(self) -> None:
        """One transaction of updates and one step of each repair."""
        await self._write(dict(self._taken()))
        for shard in list(self._shards.values()):
            if not shard.in_step:
                await self._repair(shard)
        if time.monotonic() - self._checked_at >= self._check_interval_s:
            await self._check()
        if not self._available:
            self._available, self._error = True, None
            log.info("lookups_available")

    def _taken(self) -> Iterator[tuple[_Shard, list[LookupUpdate]]]:
        room = TRANSACTION_EVENTS
        for shard in self._shards.values():
            if shard.in_step and shard.pending and room > 0:
                updates = shard.take(room)
                room -= sum(update.events for update in updates)
                yield shard, updates
        self._queued -= TRANSACTION_EVENTS - room

    async def _write(self, taken: dict[_Shard, list[LookupUpdate]]) -> None:
        if not taken:
            return
        commands: list[Command] = []
        ends: dict[int, _Shard] = {}
        for shard, updates in taken.items():
            commands += self._commands(shard, updates)
            ends[len(commands) - 1] = shard
        try:
            results = await transactions.transact(self._client, commands)
        except ResponseError as error:
            for shard in taken:
                shard.rebuild = _may_have_split(error)
            raise
        for end, shard in ends.items():
            if results[end] != 1:
                log.warning("lookup_table_changed", partition=shard.partition)
                self._drop(shard)

    def _commands(self, shard: _Shard, updates: list[LookupUpdate]) -> Iterator[Command]:
        keys, partition = self._keys, shard.partition
        upserts: dict[str, dict[str, int]] = {}
        deletes: dict[str, set[str]] = {}
        counters: dict[str, dict[str, int]] = {}
        for update in updates:
            for system in update.forgotten:
                shard.known.discard(system)
                for gathered in (upserts, deletes, counters):
                    gathered.pop(system, None)
                yield from transactions.forget(keys, partition, system)
            new = (update.upserts.keys() | update.counters.keys()) - shard.known
            if new:
                shard.known |= new
                yield ("SADD", keys.systems(partition), *sorted(new))
            # Within an update an identity is in one of the two; a later update wins over an earlier one.
            for system, located in update.upserts.items():
                upserts.setdefault(system, {}).update(zip(*located, strict=True))
                deletes.get(system, set()).difference_update(located.event_ids)
            for system, event_ids in update.deletes.items():
                deletes.setdefault(system, set()).update(event_ids)
                for event_id in event_ids:
                    upserts.get(system, {}).pop(event_id, None)
            for system, values in update.counters.items():
                counters.setdefault(system, {}).update(values)
        merged = {system: Located(list(places), list(places.values())) for system, places in upserts.items()}
        yield from transactions.upserts(keys, partition, merged)
        yield from transactions.deletes(keys, partition, {system: sorted(ids) for system, ids in deletes.items()})
        yield from transactions.counters(keys, partition, counters)
        yield transactions.advance(keys, partition, str(updates[0].previous), str(updates[-1].watermark))

    async def _repair(self, shard: _Shard) -> None:
        if shard.repair is None:
            self._drop(shard, count=False)
            shard.gap = False
            shard.known.clear()
            shard.repair = Repair(
                self._client, self._keys, self._source, shard.partition, shard.head, rebuild=shard.rebuild
            )
        repair = shard.repair
        try:
            done = await repair.step()
        except TableChanged:
            log.warning("lookup_table_changed_in_repair", partition=shard.partition)
            self._drop(shard)
            shard.repair = None
            raise
        except ResponseError as error:
            shard.rebuild = shard.rebuild or _may_have_split(error)
            raise
        if done and shard.repair is repair:
            shard.repair = None
            shard.rebuild = False
            if repair.changed:
                self._repairs += 1
                log.info("lookup_table_repaired", partition=shard.partition, upto=str(repair.target))

    async def _check(self) -> None:
        """Notice a FLUSHALL or an empty restart while nothing is written."""
        shards = [shard for shard in self._shards.values() if shard.in_step and not shard.pending]
        commands: list[Command] = [("GET", self._keys.upto(shard.partition)) for shard in shards]
        found = await transactions.transact(self._client, commands or [("PING",)])
        for shard, raw in zip(shards, found, strict=False):
            left = shard.pending[0].previous if shard.pending else shard.head
            if not isinstance(raw, bytes) or Watermark.parse(raw) != left:
                log.warning("lookup_table_changed", partition=shard.partition)
                self._drop(shard)
        self._checked_at = time.monotonic()

    def _drop(self, shard: _Shard, *, count: bool = True) -> None:
        """The queued updates go, a repair will make up for them; a running repair goes on to its own watermark."""
        self._queued -= sum(update.events for update in shard.pending)
        self._dropped += len(shard.pending) if count else 0
        shard.pending.clear()
        shard.gap = True

    def _unavailable(self, error: str) -> None:
        if self._available or self._error is None:
            log.warning("lookups_unavailable", error=error)
        self._available, self._error = False, error
        for shard in self._shards.values():
            self._drop(shard)
            shard.repair = None

    def _woken(self) -> None:
        self._settled.clear()
        self._wake.set()


def _may_have_split(error: ResponseError) -> bool:
    """Whether the rest of the transaction may have been applied, `upto` too, as with a key of a wrong type."""
    # These refuse the transaction as a whole, before it runs.
    return not isinstance(error, OutOfMemoryError | ReadOnlyError)
