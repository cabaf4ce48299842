"""Bring one shard's table to what the shard holds, in small steps while ingest goes on.

The table's own watermark says what is missing:
- the shard's store, further back: identities and deletes since then are written on top;
- anything else (nothing, a rebuild that was not finished, another store, a position ahead of the shard): the table
  is built anew. Until it is, `upto` holds a random word, so that readers know, and a FLUSHALL meanwhile is noticed.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Iterable
from typing import TYPE_CHECKING

from akasha_stream.lookups import transactions
from akasha_stream.lookups.tables import REBUILDING, Keys, Watermark
from akasha_stream.lookups.transactions import Command
from akasha_stream.lookups.updates import Located, RepairSource

if TYPE_CHECKING:
    from redis.asyncio import Redis


class TableChanged(Exception):
    """Someone else emptied or wrote the table during the repair."""


class Repair:
    """Ends with the table at `target`; what the shard commits after `target` has to be written afterwards.

    `changed`: False where the table was already there.
    """

    def __init__(
        self, client: Redis, keys: Keys, source: RepairSource, partition: int, target: Watermark, *, rebuild: bool
    ) -> None:
        self.target = target
        self.changed = False
        self._client = client
        self._keys = keys
        self._source = source
        self._partition = partition
        self._rebuild = rebuild
        self._left = ""
        self._steps = self._run()

    async def step(self) -> bool:
        """Write a batch; True when all is done. Raises TableChanged and redis' errors: start again then."""
        try:
            await anext(self._steps)
        except StopAsyncIteration:
            return True
        return False

    async def _run(self) -> AsyncGenerator[None]:
        found = Watermark.parse(await self._client.get(self._keys.upto(self._partition)))
        if found == self.target and not self._rebuild:
            return
        self.changed = True
        deleted = None
        since = 0
        if found is not None and not self._rebuild and self._is_behind(found):
            deleted = await asyncio.to_thread(self._source.deleted_since, self._partition, found.position)
        if found is None or deleted is None:
            await self._empty()
        else:
            self._left, since = str(found), found.position
            while (gone := await asyncio.to_thread(next, deleted, None)) is not None:
                by_system: dict[str, list[str]] = {}
                for system, event_id in gone:
                    by_system.setdefault(system, []).append(event_id)
                await self._write(transactions.deletes(self._keys, self._partition, by_system))
                yield
        identities = self._source.identities_since(self._partition, since)
        while (batch := await asyncio.to_thread(next, identities, None)) is not None:
            located: dict[str, tuple[list[str], list[int]]] = {}
            for system, event_id, position in batch:
                event_ids, positions = located.setdefault(system, ([], []))
                event_ids.append(event_id)
                positions.append(position)
            await self._write(
                [
                    *self._registration(located),
                    *transactions.upserts(
                        self._keys, self._partition, {system: Located(*columns) for system, columns in located.items()}
                    ),
                ]
            )
            yield
        values = self._source.counters(self._partition)
        await self._write(
            [*self._registration(values), *transactions.counters(self._keys, self._partition, values)],
            watermark=str(self.target),
        )

    def _is_behind(self, found: Watermark) -> bool:
        return found.table == self.target.table and found.position < self.target.position

    def _registration(self, systems: Iterable[str]) -> Iterable[Command]:
        names = tuple(systems)
        return [("SADD", self._keys.systems(self._partition), *names)] if names else []

    async def _write(self, commands: Iterable[Command], watermark: str | None = None) -> None:
        last = transactions.advance(self._keys, self._partition, self._left, watermark or self._left)
        results = await transactions.transact(self._client, [*commands, last])
        if results[-1] != 1:
            raise TableChanged

    async def _empty(self) -> None:
        self._left = REBUILDING + secrets.token_hex(8)
        # Not by the set of systems: whatever became of it, nothing of an earlier table may stay.
        pattern = self._keys.shard_pattern(self._partition)
        stale = [key async for key in self._client.scan_iter(match=pattern, count=1_000)]
        await transactions.transact(
            self._client,
            [*(("UNLINK", key) for key in stale), ("SET", self._keys.upto(self._partition), self._left)],
        )
