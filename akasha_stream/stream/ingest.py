"""What the agent does with a batch: decode, dead letters, commit, and only then tell everybody."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from time import monotonic, time_ns

import numpy as np
import pyarrow as pa
import structlog
from aiokafka import ConsumerRecord
from numpy.typing import NDArray

from akasha_stream.errors import AkashaError, LogRecreated, ShardWriteError
from akasha_stream.events.batch import EventBatch
from akasha_stream.events.decode import Decoder
from akasha_stream.events.records import DeadLetter, Record
from akasha_stream.hot.shard import Applied, Shard
from akasha_stream.hot.state import OUTCOMES
from akasha_stream.hot.store import ShardStore
from akasha_stream.stream.consumer import Run
from akasha_stream.stream.outlet import Outlet
from akasha_stream.telemetry.following import Commit, EventTraces
from akasha_stream.telemetry.recorded import IngestDurations
from akasha_stream.turns import Turns

log = structlog.get_logger(__name__)

FIRST_PAUSE_S = 0.2
JOINED_BYTES = 8_388_608
"""What is decoded and committed at once. A commit costs 3 ms whatever it holds: 5 % of one of so many bytes."""
SMALL_BYTES = 1_048_576
TRIM_AFTER_S = 1.0
"""After the last large round: what a backlog's records and columns took is given back then."""
TRIM_BYTES = 16_777_216
"""… and after small rounds of so many bytes together: glibc keeps a tenth of a worker's memory between rows."""


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
    reasons: Counter[str] = field(default_factory=Counter)
    """Why (events/reasons.py) → dead letters."""
    redacted: int = 0
    batches: int = 0
    outcomes: NDArray[np.int64] = field(default_factory=lambda: np.zeros(OUTCOMES, np.int64))
    failures: dict[int, Failure] = field(default_factory=dict)
    """partition → why its batch at hand is not committed yet; empty while all goes well"""


@dataclass(slots=True)
class _Share:
    """What a batch has for one partition."""

    shard: Shard
    epoch: int
    runs: list[Run]
    """In the order of the log; the first is next."""
    fetched_ns: int
    """time_ns() when the batch came."""


@dataclass(frozen=True, slots=True)
class _Part:
    """One partition's events of what was decoded together."""

    records: list[Record]
    batch: EventBatch
    dead: list[DeadLetter]
    bytes: int


@dataclass(frozen=True, slots=True)
class _Committed:
    applied: list[Applied]
    began_ns: int
    ended_ns: int


class Ingest:
    """Takes runs of records to their shards.

    What a batch has of the partitions, up to JOINED_BYTES, is decoded together: a call costs 1.5 ms whatever it holds,
    and small bundles are read by one call of Arrow. They commit side by side, as DuckDB releases the GIL and one
    partition's fsync hides another's work; small ones one after the other while a search is under way. So a backlog,
    where each partition has as much and more, is stored by one thread: two were a tenth faster, at a fifth more CPU
    an event, which the next worker on the machine then lacked.
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
        turns: Turns | None = None,
        durations: IngestDurations | None = None,
        traces: EventTraces | None = None,
    ) -> None:
        self._durations = durations or IngestDurations()
        self._traces = traces
        self._store = store
        self._decoder = decoder
        self._outlet = outlet
        self._on_applied = on_applied
        self._on_replaced = on_replaced
        self._retry_max_s = retry_max_s
        self._turns = turns or Turns()
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="ingest")
        self._trim: asyncio.TimerHandle | None = None
        self._untrimmed = 0
        self.totals = Totals()

    async def process(self, runs: Sequence[Run]) -> None:
        """Commit the runs. Returns when they are stored; retries what may pass, however long that takes.

        Raises LogRecreated where the records are not of the log that the shard knows, and whatever a retry
        can't mend; the caller must then not acknowledge.
        """
        began = monotonic()
        try:
            await self._rounds(self._shares(runs))
        finally:
            for run in runs:
                self.totals.failures.pop(run.partition, None)
        if any(shard.has_pending_digests for shard in self._store.shards()):
            self._outlet.wake()
        self.totals.batches += 1
        self._durations.processed(monotonic() - began)

    def _shares(self, runs: Sequence[Run]) -> list[_Share]:
        fetched_ns = time_ns()
        by_partition: dict[int, list[Run]] = {}
        for run in runs:
            by_partition.setdefault(run.partition, []).append(run)
        shares = []
        for partition, each in by_partition.items():
            shard = self._store.shard(partition)
            # None: revoked while the batch waited; its next owner reads the same records. The epoch is read
            # before anything is awaited: the assignment that these runs belong to is the current one here.
            if shard is not None:
                shares.append(_Share(shard, shard.epoch, joined(each, shard.next_offset), fetched_ns))
        return shares

    async def _rounds(self, shares: Sequence[_Share]) -> None:
        """Commit a run of each partition, then the next ones."""
        loop = asyncio.get_running_loop()
        while shares:
            for group in _together(shares):
                runs = [share.runs.pop(0) for share in group]
                parts = await loop.run_in_executor(self._threads, self._decode, group, runs)
                for lost in await self._store_parts(group, parts):
                    lost.runs.clear()
            shares = [share for share in shares if share.runs]

    async def _store_parts(self, shares: Sequence[_Share], parts: Sequence[_Part]) -> list[_Share]:
        """The shares whose shard was lost."""
        nbytes = sum(part.bytes for part in parts)
        small = nbytes <= SMALL_BYTES
        self._untrimmed += nbytes
        if not small:  # a backlog
            self._store.put_off_indexes()
            self._trim_later()
        elif self._untrimmed > TRIM_BYTES:
            self._trim_later()
        if self._turns.searching and small:
            # One after the other, which leaves a core to searches: side by side their p99 was half as long again, and
            # the batch took two thirds of the time.
            kept = [await self._store_part(share, part) for share, part in zip(shares, parts, strict=True)]
        else:
            kept = await asyncio.gather(
                *(self._store_part(share, part) for share, part in zip(shares, parts, strict=True))
            )
        return [share for share, stored in zip(shares, kept, strict=True) if not stored]

    async def _store_part(self, share: _Share, part: _Part) -> bool:
        """False where the shard is no longer this worker's, or goes on with another log."""
        shard = share.shard
        if not part.records:
            return True

        async def letters() -> None:
            await self._outlet.dead_letters(part.dead)

        async def commit() -> _Committed | None:
            return await asyncio.get_running_loop().run_in_executor(
                self._threads, self._commit, shard, share.epoch, part
            )

        if part.dead:
            await self._retried(shard, letters)
        committed = await self._retried(shard, commit)
        if committed is None:
            return False
        self._store.advanced(shard)
        self._durations.searchable(part.records[0].timestamp_ms)
        totals = self.totals
        totals.records += len(part.records)
        totals.bytes += part.bytes
        totals.events += len(part.batch)
        totals.dead_letters += len(part.dead)
        if part.dead:
            totals.reasons.update(letter.reason for letter in part.dead)
        for each in committed.applied:
            totals.outcomes += each.outcomes
            self._on_applied(each)
        self._trace(share, part, committed)
        return True

    def _trace(self, share: _Share, part: _Part, committed: _Committed) -> None:
        if self._traces is None or not self._traces.is_on:
            return
        done = Commit(
            share.shard.partition,
            share.epoch,
            part.records,
            len(part.batch),
            len(part.dead),
            committed.began_ns,
            committed.ended_ns,
        )
        self._traces.committed(done, share.fetched_ns, share.shard.traced)

    def _decode(self, shares: Sequence[_Share], runs: Sequence[Run]) -> list[_Part]:
        """The events of each run that are not stored yet."""
        self._turns.give_way()
        fresh = [self._fresh(share.shard, run) for share, run in zip(shares, runs, strict=True)]
        decoded = self._decoder.decode([record for records in fresh for record in records])
        self.totals.redacted += decoded.redacted
        ends = np.cumsum([len(records) for records in fresh])
        rows = np.searchsorted(decoded.record_of, ends).tolist()
        dead: dict[int, list[DeadLetter]] = {}
        for letter in decoded.dead:
            dead.setdefault(letter.record.partition, []).append(letter)
        return [
            _Part(records, decoded.batch[start:end], dead.get(run.partition, []), run.bytes)
            for run, records, start, end in zip(runs, fresh, [0, *rows[:-1]], rows, strict=True)
        ]

    def _fresh(self, shard: Shard, run: Run) -> list[Record]:
        if run.records[0].offset < shard.next_offset:
            self._check_log(shard, _record(run.records[-1]))
        # What is stored already (a rebalance came between commit and ack) is not decoded again.
        return [_record(each) for each in run.records if each.offset >= shard.next_offset]

    def _check_log(self, shard: Shard, last: Record) -> None:
        """Raises LogRecreated where a record that should be stored already is another one."""
        if last.offset < shard.next_offset and shard.knows_other(last):
            self._on_replaced(shard.partition)
            raise LogRecreated(f"partition {shard.partition}: offset {last.offset} holds another record than before")

    def _commit(self, shard: Shard, epoch: int, part: _Part) -> _Committed | None:
        """None where the partition was taken away, or its topic recreated, while the batch was under way."""
        self._turns.give_way()
        with shard.lock:
            if shard.closed or shard.epoch != epoch:
                return None
            self._check_log(shard, part.records[-1])
            began = time_ns()
            try:
                applied = shard.apply(part.records, part.batch, [letter.record.offset for letter in part.dead])
            except ShardWriteError as error:
                self._durations.committed((time_ns() - began) / 1e9, error)
                raise
            ended = time_ns()
            self._durations.committed((ended - began) / 1e9)
            return _Committed(applied, began, ended)

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

    def _trim_later(self) -> None:
        self._untrimmed = 0
        if self._trim is not None:
            self._trim.cancel()
        loop = asyncio.get_running_loop()
        self._trim = loop.call_later(TRIM_AFTER_S, loop.run_in_executor, None, release_free_memory)

    def close(self) -> None:
        if self._trim is not None:
            self._trim.cancel()
        self._threads.shutdown()


def _together(shares: Iterable[_Share]) -> Iterator[list[_Share]]:
    """The shares in groups whose next runs have up to JOINED_BYTES, or that are one."""
    group: list[_Share] = []
    size = 0
    for share in shares:
        nbytes = share.runs[0].bytes
        if group and size + nbytes > JOINED_BYTES:
            yield group
            group, size = [], 0
        group.append(share)
        size += nbytes
    if group:
        yield group


def joined(runs: Sequence[Run], next_offset: int) -> list[Run]:
    """Runs of one partition that follow each other as one, so that they share a commit, up to JOINED_BYTES.

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


def release_free_memory() -> None:
    """Give free memory back to the system: Arrow's, and what glibc keeps in the arena of each thread (malloc_trim(3)).

    Elsewhere than with glibc Arrow's alone.
    """
    pa.default_memory_pool().release_unused()
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
