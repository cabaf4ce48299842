"""What the agent does with a batch: decode, dead letters, commit, and only then tell everybody."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from time import monotonic

import numpy as np
import structlog
from aiokafka import ConsumerRecord
from numpy.typing import NDArray

from akasha_stream.errors import AkashaError, LogRecreated
from akasha_stream.events.decode import Decoder
from akasha_stream.events.records import Decoded, Record
from akasha_stream.hot.shard import Applied, Shard
from akasha_stream.hot.state import OUTCOMES
from akasha_stream.hot.store import ShardStore
from akasha_stream.stream.consumer import Run
from akasha_stream.stream.outlet import Outlet

log = structlog.get_logger(__name__)

FIRST_PAUSE_S = 0.2
JOINED_BYTES = 4_194_304


@dataclass(frozen=True, slots=True)
class Failure:
    reason: str
    since: float
    """monotonic() of the first failed try"""


@dataclass(slots=True)
class Totals:
    """What this worker did since it started."""

    records: int = 0
    events: int = 0
    bytes: int = 0
    dead_letters: int = 0
    redacted: int = 0
    batches: int = 0
    outcomes: NDArray[np.int64] = field(default_factory=lambda: np.zeros(OUTCOMES, np.int64))
    failures: dict[int, Failure] = field(default_factory=dict)
    """partition → why its batch at hand is not committed yet; empty while all goes well"""


class Ingest:
    """Takes runs of records to their shards.

    Partitions are independent, so a batch's runs are decoded and committed side by side: DuckDB and Arrow
    release the GIL, and one partition's fsync hides another's work.
    """

    def __init__(
        self,
        store: ShardStore,
        decoder: Decoder,
        outlet: Outlet,
        *,
        on_applied: Callable[[Applied], None],
        on_replaced: Callable[[int], None],
        retry_max_s: float,
        threads: int = 2,
    ) -> None:
        self._store = store
        self._decoder = decoder
        self._outlet = outlet
        self._on_applied = on_applied
        self._on_replaced = on_replaced
        self._retry_max_s = retry_max_s
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="ingest")
        self.totals = Totals()

    async def process(self, runs: Sequence[Run]) -> None:
        """Commit the runs. Returns when they are stored; retries what may pass, however long that takes.

        Raises LogRecreated where the records are not of the log that the shard knows, and whatever a retry
        can't mend; the caller must then not acknowledge.
        """
        by_partition: dict[int, list[Run]] = {}
        for run in runs:
            by_partition.setdefault(run.partition, []).append(run)
        await asyncio.gather(*(self._partition(number, each) for number, each in by_partition.items()))
        self.totals.batches += 1

    async def _partition(self, partition: int, runs: Sequence[Run]) -> None:
        shard = self._store.shard(partition)
        if shard is None:
            # Revoked while the batch waited: its next owner reads the same records.
            return
        # Read before anything is awaited: the assignment that these runs belong to is the current one here.
        epoch = shard.epoch
        try:
            for run in joined(runs, shard.next_offset):
                if not await self._run(shard, epoch, run):
                    return
        finally:
            self.totals.failures.pop(partition, None)
        if shard.has_pending_digests:
            self._outlet.wake()

    async def _run(self, shard: Shard, epoch: int, run: Run) -> bool:
        """False where the shard is no longer this worker's, or goes on with another log."""
        loop = asyncio.get_running_loop()
        decoded, records = await loop.run_in_executor(self._threads, self._decode, shard, run)
        if not records:
            return True

        async def letters() -> None:
            await self._outlet.dead_letters(decoded.dead)

        async def commit() -> list[Applied] | None:
            return await loop.run_in_executor(self._threads, self._commit, shard, epoch, records, decoded)

        if decoded.dead:
            await self._retried(shard, letters)
        applied = await self._retried(shard, commit)
        if applied is None:
            return False
        self._store.advanced(shard)
        totals = self.totals
        totals.records += len(records)
        totals.bytes += run.bytes
        totals.events += len(decoded.batch)
        totals.dead_letters += len(decoded.dead)
        totals.redacted += decoded.redacted
        for each in applied:
            totals.outcomes += each.outcomes
            self._on_applied(each)
        return True

    def _decode(self, shard: Shard, run: Run) -> tuple[Decoded, list[Record]]:
        first = run.records[0].offset
        if first < shard.next_offset:
            last = run.records[-1].offset
            if last < shard.next_offset and shard.knows_other(_record(run.records[-1])):
                self._on_replaced(run.partition)
                raise LogRecreated(f"{run.topic}/{run.partition}: offset {last} holds another record than before")
        # What is stored already (a rebalance came between commit and ack) is not decoded again.
        records = [_record(each) for each in run.records if each.offset >= shard.next_offset]
        return self._decoder.decode(records), records

    @staticmethod
    def _commit(shard: Shard, epoch: int, records: list[Record], decoded: Decoded) -> list[Applied] | None:
        """None where the partition was taken away, or its topic recreated, while the batch was under way."""
        with shard.lock:
            if shard.closed or shard.epoch != epoch:
                return None
            return shard.apply(records, decoded.batch, [letter.record.offset for letter in decoded.dead])

    async def _retried[T](self, shard: Shard, call: Callable[[], Awaitable[T]]) -> T:
        """Until it works: a full disk or a broker that is away stops ingest and loses nothing."""
        pause = FIRST_PAUSE_S
        failures = self.totals.failures
        while True:
            try:
                result = await call()
            except AkashaError as exc:
                if not exc.retriable:
                    raise
                before = failures.get(shard.partition)
                failures[shard.partition] = Failure(str(exc), before.since if before else monotonic())
                log.warning("batch not committed, will try again", error=str(exc), pause_s=round(pause, 1))
                await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311
                pause = min(pause * 2, self._retry_max_s)
            else:
                failed = failures.pop(shard.partition, None)
                if failed is not None:
                    log.info(
                        "committing again", partition=shard.partition, after_s=round(monotonic() - failed.since, 1)
                    )
                return result

    def close(self) -> None:
        self._threads.shutdown()


def joined(runs: Sequence[Run], next_offset: int) -> list[Run]:
    """Runs of one partition that follow each other as one, so that they share a commit, up to 4 MB.

    A commit costs an fsync whatever it holds. With one each, 100 single events a second were searchable after
    300 ms instead of 45: fetches that return one record filled a batch with commits.
    A run with records below `next_offset` stays alone: it is checked against what is stored.
    """
    result: list[Run] = []
    size = 0
    for run in runs:
        last = result[-1] if result else None
        size += run.bytes
        if (
            last is not None
            and size <= JOINED_BYTES
            and last.assignment == run.assignment
            and next_offset <= last.records[0].offset
            and last.records[-1].offset < run.records[0].offset
        ):
            result[-1] = replace(last, records=last.records + run.records)
        else:
            result.append(run)
            size = run.bytes
    return result


def _record(record: ConsumerRecord) -> Record:
    return Record(record.partition, record.offset, record.timestamp, record.key, record.value, record.headers)
