"""Which partitions this worker has, and where reading each of them starts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Mapping
from pathlib import Path
from typing import Protocol

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaPartition
from aiokafka.errors import KafkaError
from faust.types import TP

from akasha_stream.connections.kafka import client_options
from akasha_stream.errors import BrokerError
from akasha_stream.hot.shard import Shard
from akasha_stream.hot.store import ShardStore
from akasha_stream.incarnation import Incarnation
from akasha_stream.settings import Settings
from akasha_stream.stream.consumer import ReadTo
from akasha_stream.stream.membership import Membership, leave
from akasha_stream.topics.broker import connecting
from akasha_stream.topics.incarnation import incarnation_through

log = structlog.get_logger(__name__)

STOP_S = 3.0
TAIL_CHECKS = 5
TAIL_PAUSE_S = 1.0


class Adopt(Protocol):
    async def __call__(self, partition: int, folder: Path, *, only_stored: bool = False) -> None: ...


class Assignment:
    """Opens the shards of the partitions that the group gives this worker, and closes those it takes.

    Reading starts at the offset that a shard has stored. That offset belongs to one log: where the topic
    was deleted and created again under its name, the shard goes on with a new epoch from the log's start.
    """

    def __init__(
        self,
        settings: Settings,
        store: ShardStore,
        *,
        on_opened: Callable[[Shard], None],
        on_closed: Callable[[int], None],
        adopt: Adopt | None = None,
    ) -> None:
        """`adopt`: makes a shard's folder agree with the object store, before it is opened."""
        self._adopt = adopt
        self._discarded: set[int] = set()
        self._before_open: dict[int, Callable[[], Awaitable[None]]] = {}
        self._settings = settings
        self._topic = settings.topics.embeddings
        self._store = store
        self._on_opened = on_opened
        self._on_closed = on_closed
        # Asks the broker about the log; a member of no group, it reads nothing.
        self._probe = AIOKafkaConsumer(**client_options(settings.broker, "-probe"))
        self._asking = asyncio.Lock()
        self._replaced: set[int] = set()
        self._ends_then: dict[int, int] = {}
        """Partition → where its log ended when this worker got it; until all that is stored."""
        self._at_once = asyncio.Semaphore(settings.ingest.threads)
        self._ahead: dict[int, asyncio.Task[None]] = {}
        self._opening: set[asyncio.Task[Shard]] = set()
        """Of this assignment, and of one that a rebalance cut short: a thread that opens a shard can't be stopped."""
        self._leaving: asyncio.Task[None] | None = None
        self.had: tuple[int, ...] = ()
        """What this data folder's last worker had."""
        self.done = asyncio.Event()
        """Set while the shards of the current assignment are open."""

    async def start(self) -> None:
        """Raises BrokerError."""
        async with connecting(self._settings.broker):
            await self._probe.start()

    async def take_over(self) -> None:
        """Go on where this data folder's last worker, which may have been killed, stopped. Raises BrokerError.

        Starts to open the shards that it had, and has the group let go of it. Both go on while this worker joins:
        with 200,000 rows, opening takes as long as all the rest of a start.
        """
        last = Membership.read(self._store.folder)
        if last is None or last.group != self._settings.ingest.group:
            return
        self.had = last.partitions
        now = await self.incarnation()
        self._ahead = {each: asyncio.create_task(self._open_ahead(each, now)) for each in last.partitions}
        # A static member (ingest.instance_id) has its place back at once.
        if last.member_id and self._settings.ingest.instance_id is None:
            self._leaving = asyncio.create_task(leave(self._probe._client, last))

    async def _open_ahead(self, partition: int, now: Incarnation) -> None:
        async with self._at_once:
            if partition not in self._ahead:
                return
            try:
                await self._prepare(partition)
                await asyncio.to_thread(self._store.open_ahead, partition, now)
            except Exception as exc:  # whatever it is: tried again where the partition is ours, and then reported
                log.info("shard not opened ahead", partition=partition, error=repr(exc))

    async def _keep_ahead(self, partitions: Collection[int]) -> None:
        """Of what is opened ahead, close and open no others than these."""
        unwanted = [task for partition, task in self._ahead.items() if partition not in partitions]
        self._ahead = {partition: task for partition, task in self._ahead.items() if partition in partitions}
        if unwanted:
            await asyncio.wait(unwanted)
        for partition in self._store.ahead():
            if partition not in partitions:
                await asyncio.to_thread(self._store.close, partition)

    async def stop(self) -> None:
        await self._keep_ahead(())
        await self._opened_all()
        if self._leaving is not None:
            self._leaving.cancel()
        with contextlib.suppress(TimeoutError, KafkaError, OSError):
            await asyncio.wait_for(self._probe.stop(), STOP_S)

    async def incarnation(self) -> Incarnation:
        """Which log the topic is now; unknown parts are None. Raises BrokerError."""
        async with self._asking:
            return await incarnation_through(self._probe._client, self._topic)

    async def recreated(self) -> bool:
        """Whether the topic is another log than a shard's. A consumer alone can't see it: it goes on at its offset."""
        now = await self.incarnation()
        return any(shard.incarnation.differs_from(now) for shard in self._store.shards())

    async def start_offsets(self, partitions: set[TP], member_id: str) -> dict[TP, int]:
        """Open the shards of an assignment; the offset to start each partition at. `member_id`: ours in the group."""
        self.done.clear()
        mine = {tp.partition: tp for tp in partitions if tp.topic == self._topic}
        await asyncio.to_thread(self._remember, member_id, sorted(mine))
        # One that is opened after this has closed what is not ours would stay open, and answer for its next owner.
        await self._opened_all()
        for partition in self._store.owned():
            if partition not in mine or partition in self._discarded:
                self._on_closed(partition)
                await asyncio.to_thread(self._store.close, partition)
        await self._keep_ahead(mine)
        if not mine:
            self.done.set()
            return {}
        now = await self.incarnation()
        beginnings = await self._beginnings(sorted(mine))

        async def open_one(partition: int) -> int:
            async with self._at_once:
                await self._prepare(partition)
                opening = asyncio.create_task(asyncio.to_thread(self._open, partition, now, beginnings[partition]))
                self._opening.add(opening)
                opening.add_done_callback(self._opening.discard)
                shard = await asyncio.shield(opening)
            return await self._start_offset(shard, now, beginnings[partition])

        ends = await self._ends(sorted(mine))
        tasks = [asyncio.create_task(open_one(partition)) for partition in mine]
        try:
            opened = dict(zip(mine, await asyncio.gather(*tasks), strict=True))
        finally:
            for task in tasks:  # where one failed, the others would go on
                task.cancel()
        self._ends_then = {partition: end for partition, end in ends.items() if opened[partition] < end}
        for partition in mine:
            shard = self._store.shard(partition)
            assert shard is not None
            self._on_opened(shard)
        self.done.set()
        log.info("partitions assigned", partitions=sorted(mine), offsets={str(p): opened[p] for p in sorted(opened)})
        return {mine[partition]: offset for partition, offset in opened.items()}

    def behind(self, read_to: Mapping[int, ReadTo]) -> dict[int, tuple[int, int]]:
        """Partition → (next offset that it stores, end of the log when this worker got it), while there is a gap.

        Caught up is who has stored all that the log held when the partition came. What was published since is no
        reason to wait: a search with a freshness token waits for that itself.
        """
        if not self._ends_then:  # so it nearly always is, and each search asks
            return {}
        for partition, end in list(self._ends_then.items()):
            shard, read = self._store.shard(partition), read_to.get(partition)
            # The log may end in markers of transactions, which nobody stores.
            last = read.last_record if read is not None and read.position >= end else None
            if shard is None or shard.next_offset >= end or (last is not None and shard.next_offset > last):
                self._ends_then.pop(partition, None)
        stored = {shard.partition: shard.next_offset for shard in self._store.shards()}
        return {p: (stored[p], end) for p, end in self._ends_then.items() if p in stored}

    def before_open(self, partition: int, call: Callable[[], Awaitable[None]]) -> None:
        """Call this at the next assignment, while nothing reads the partition. What it raises is its own affair."""
        self._before_open[partition] = call

    async def _opened_all(self) -> None:
        if self._opening:
            await asyncio.wait(self._opening)

    def discard(self, partition: int) -> None:
        """Open a shard anew, from the object store, at the next assignment."""
        self._discarded.add(partition)

    async def _prepare(self, partition: int) -> None:
        if (call := self._before_open.pop(partition, None)) is not None:
            await call()
        shard = self._store.shard(partition)
        opened = (shard is not None and not shard.closed) or partition in self._store.ahead()
        if self._adopt is not None and not opened:
            folder = self._store.shard_folder(partition)
            await self._adopt(partition, folder, only_stored=partition in self._discarded)
            self._discarded.discard(partition)

    def _remember(self, member_id: str, partitions: list[int]) -> None:
        member = Membership(group=self._settings.ingest.group, member_id=member_id, partitions=tuple(partitions))
        try:
            member.write(self._store.folder)
        except OSError as exc:
            log.warning("membership not written, the start after a kill will take longer", error=str(exc))

    def replaced(self, partition: int) -> None:
        """A record says that this partition is another log, on a broker that gives no topic ids."""
        self._replaced.add(partition)

    def _open(self, partition: int, now: Incarnation, beginning: int) -> Shard:
        shard = self._store.open(partition, now, beginning)
        if shard.incarnation.differs_from(now) or partition in self._replaced:
            log.warning(
                "topic was recreated: reading its new log from the start",
                topic=self._topic,
                partition=partition,
                stored_offset=shard.next_offset,
            )
            shard.begin_log(now)
        self._replaced.discard(partition)
        return shard

    async def _start_offset(self, shard: Shard, now: Incarnation, beginning: int) -> int:
        partition = shard.partition
        if shard.next_offset > beginning and (end := await self._shorter_log(partition, shard.next_offset)) is not None:
            # From the stored offset on, all would be skipped that is written until the log is that long again.
            log.error(
                "the log ends before the stored offset, the broker has lost its tail: going on where it ends",
                topic=self._topic,
                partition=partition,
                stored_offset=shard.next_offset,
                log_end=end,
            )
            await asyncio.to_thread(shard.begin_log, now, end)
        if shard.next_offset < beginning:
            if shard.next_offset:
                log.error(
                    "records were deleted before they were read; retention is shorter than the worker was away",
                    topic=self._topic,
                    partition=partition,
                    first_lost=shard.next_offset,
                    first_there=beginning,
                )
            return beginning
        return shard.next_offset

    async def _shorter_log(self, partition: int, stored: int) -> int | None:
        """The end of a log that is shorter than what is stored of it; None, as it should be, where it is not."""
        end = 0
        for attempt in range(TAIL_CHECKS):
            if attempt:
                # For a moment after its election, a leader may know of a smaller end than it has.
                await asyncio.sleep(TAIL_PAUSE_S)
            end = (await self._ends([partition]))[partition]
            if end >= stored:
                return None
        return end

    async def _beginnings(self, partitions: list[int]) -> dict[int, int]:
        return await self._offsets("first offsets", self._probe.beginning_offsets, partitions)

    async def end_offsets(self) -> dict[int, int]:
        """Next offset of each owned partition's log. Raises BrokerError."""
        return await self._ends(self._store.owned())

    async def _ends(self, partitions: list[int]) -> dict[int, int]:
        return await self._offsets("end offsets", self._probe.end_offsets, partitions)

    async def _offsets(
        self,
        what: str,
        ask: Callable[[list[KafkaPartition]], Awaitable[dict[KafkaPartition, int]]],
        partitions: list[int],
    ) -> dict[int, int]:
        asked = [KafkaPartition(self._topic, partition) for partition in partitions]
        try:
            async with self._asking:
                found = await ask(asked)
        except (KafkaError, OSError) as exc:
            raise BrokerError(f"{what} of {self._topic} not known: {exc!r}") from exc
        return {tp.partition: int(offset) for tp, offset in found.items()}

    async def partition_count(self) -> int:
        """Partitions of the topic; 0 where it does not exist. Raises BrokerError."""
        try:
            async with self._asking:
                await self._probe._client.force_metadata_update()
                found = await self._probe._client.fetch_all_metadata()
        except (KafkaError, OSError) as exc:
            raise BrokerError(f"partitions of {self._topic} not known: {exc!r}") from exc
        return len(found.partitions_for_topic(self._topic) or ())
