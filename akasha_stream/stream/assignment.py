"""Which partitions this worker has, and where reading each of them starts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaPartition
from aiokafka.errors import KafkaError
from faust.types import TP

from akasha_stream.errors import BrokerError
from akasha_stream.hot.segment_file import Incarnation
from akasha_stream.hot.shard import Shard
from akasha_stream.hot.store import ShardStore
from akasha_stream.settings import Settings
from akasha_stream.topics.incarnation import log_incarnation

log = structlog.get_logger(__name__)

STOP_S = 3.0
TAIL_CHECKS = 5
TAIL_PAUSE_S = 1.0


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
    ) -> None:
        self._settings = settings
        self._topic = settings.topics.embeddings
        self._store = store
        self._on_opened = on_opened
        self._on_closed = on_closed
        # Asks the broker about the log; a member of no group, it reads nothing.
        self._probe = AIOKafkaConsumer(
            bootstrap_servers=settings.broker.bootstrap_servers, client_id=f"{settings.broker.client_id}-probe"
        )
        self._asking = asyncio.Lock()
        self._replaced: set[int] = set()
        self.done = asyncio.Event()
        """Set while the shards of the current assignment are open."""

    async def start(self) -> None:
        """Raises BrokerError."""
        try:
            await self._probe.start()
        except (KafkaError, OSError) as exc:
            raise BrokerError(f"Kafka can't be reached at {self._settings.broker.bootstrap_servers}: {exc}") from exc

    async def stop(self) -> None:
        with contextlib.suppress(TimeoutError, KafkaError, OSError):
            await asyncio.wait_for(self._probe.stop(), STOP_S)

    async def incarnation(self) -> Incarnation:
        """Which log the topic is now; unknown parts are None. Raises BrokerError."""
        async with self._asking:
            found = await log_incarnation("", self._topic, client=self._probe._client)
        return Incarnation() if found is None else Incarnation(found.cluster_id, str(found.topic_id))

    async def recreated(self) -> bool:
        """Whether the topic is another log than a shard's. A consumer alone can't see it: it goes on at its offset."""
        now = await self.incarnation()
        return any(shard.incarnation.differs_from(now) for shard in self._store.shards())

    async def start_offsets(self, partitions: set[TP]) -> dict[TP, int]:
        """Open the shards of an assignment; the offset to start each partition at."""
        self.done.clear()
        mine = {tp.partition: tp for tp in partitions if tp.topic == self._topic}
        for partition in self._store.owned():
            if partition not in mine:
                self._on_closed(partition)
                await asyncio.to_thread(self._store.close, partition)
        if not mine:
            self.done.set()
            return {}
        now = await self.incarnation()
        beginnings = await self._beginnings(sorted(mine))
        at_once = asyncio.Semaphore(self._settings.ingest.threads)

        async def open_one(partition: int) -> int:
            async with at_once:
                shard = await asyncio.to_thread(self._open, partition, now)
            return await self._start_offset(shard, now, beginnings[partition])

        opened = dict(zip(mine, await asyncio.gather(*map(open_one, mine)), strict=True))
        for partition in mine:
            shard = self._store.shard(partition)
            assert shard is not None
            self._on_opened(shard)
        self.done.set()
        log.info("partitions assigned", partitions=sorted(mine), offsets={str(p): opened[p] for p in sorted(opened)})
        return {mine[partition]: offset for partition, offset in opened.items()}

    def replaced(self, partition: int) -> None:
        """A record says that this partition is another log, on a broker that gives no topic ids."""
        self._replaced.add(partition)

    def _open(self, partition: int, now: Incarnation) -> Shard:
        shard = self._store.open(partition, now)
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
