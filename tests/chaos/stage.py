"""What one schedule works on: its topics, producers, workers and disks. Names of its own on servers that stay."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from akasha_stream.errors import AkashaError, PublishError
from akasha_stream.events.bundles import encode_bundle, headers
from akasha_stream.events.forget import Forget, encode_forget
from akasha_stream.events.model import Event
from akasha_stream.publish import EventPublisher
from akasha_stream.publish.delivery import Delivery
from akasha_stream.settings import Settings
from tests.chaos.history import Maker, Raw, as_upsert, entries, read_records, sha256
from tests.chaos.model import Entry, Model, Place, Upsert
from tests.chaos.nursery import ForkedWorker, Nursery
from tests.chaos.plan import Fault, Plan
from tests.chaos.servers import Servers
from tests.events.malformed import RARE, malformed_records
from tests.servers.fault_proxy import FaultProxy
from tests.servers.topics import create_topic, unique_name
from tests.worker.test_tiers import storage_yaml

SESSION_S = 3.0
WINDOW_S, LATENESS_S = 60, 10
DISK_MB = 96
TOPIC = {"message.timestamp.type": "LogAppendTime", "max.message.bytes": "16777216"}


@dataclass(slots=True)
class Slot:
    """A machine that a worker runs on. What recovers it from a fault is under way in `recovery`."""

    number: int
    disk: Path
    worker: ForkedWorker | None = None
    recovery: asyncio.Task[None] | None = None
    mounted: bool = False
    starts: int = 0
    left: list[Path] = field(default_factory=list)
    """Disks that it lost."""

    @property
    def name(self) -> str:
        return f"worker-{self.number}"


class Stage:
    def __init__(self, plan: Plan, servers: Servers, nursery: Nursery, proxy: FaultProxy, folder: Path) -> None:
        self.plan = plan
        self.folder = folder
        self.proxy = proxy
        self._nursery = nursery
        self.bootstrap_servers, self.nodes = servers.kafka(plan.brokers)
        self.valkey = servers.valkey()
        self.topic = unique_name(f"chaos-{plan.seed}")
        self.maker = Maker(plan.seed)
        self.acknowledged: list[tuple[Place, Upsert]] = []
        self.malformed: dict[Raw, str] = {}
        """What was sent of those → its kind."""
        self.epoch = 0
        self.past: list[Any] = []
        """(epoch, records) of the logs before the topic was recreated."""
        self.notes: list[str] = []
        self.launched: list[ForkedWorker] = []
        self.slots = [Slot(number, folder / f"disk-{number}") for number in range(plan.workers)]
        self._variables: dict[str, str] = {}
        if plan.tiers:
            file = folder / "akasha-storage.yml"
            file.write_text(storage_yaml(proxy.url, servers.seaweed(), self.topic.lower()[:60]))
            self._variables["AKASHA_STORAGE_SETTINGS"] = str(file)
        self.overrides: dict[str, object] = {
            "broker.bootstrap_servers": self.bootstrap_servers,
            "topics.embeddings": self.topic,
            "topics.dead_letters": f"{self.topic}.dlq",
            "topics.digests": f"{self.topic}.digests",
            "ingest.group": self.topic,
            "ingest.session_timeout_s": SESSION_S,
            "ingest.heartbeat_s": 0.5,
            "ingest.retry_max_s": 1.0,
            "ingest.fetch_wait_ms": 100,
            "publish.bundle_events": 8,
            "publish.linger_ms": 10,
            "hot.seal_rows": plan.seal_rows,
            "hot.build_indexes": plan.indexes,
            "windows.size_s": WINDOW_S,
            "windows.allowed_lateness_s": LATENESS_S,
            "redis.url": self.valkey.url,
            "redis.prefix": self.topic,
            "redis.timeout_s": 1.0,
            "search.max_k": 10_000,
            "tiers.enabled": plan.tiers,
            "tiers.precision": "float32",
            "tiers.keep_local_s": 0,
            "tiers.keep_local_rows": 0,
        }
        self._publishing = asyncio.Lock()
        self._publisher: EventPublisher | None = None
        self._foreign: AIOKafkaProducer | None = None

    # ── topics ───────────────────────────────────────────────────────────────────────────────────────────

    async def create_topics(self) -> None:
        copies = min(self.plan.brokers, 3)
        names = [(self.topic, self.plan.partitions), (f"{self.topic}.dlq", 1), (f"{self.topic}.digests", 1)]
        for name, partitions in names:
            await create_topic(self.bootstrap_servers, name, partitions=partitions, config=TOPIC, copies=copies)

    async def recreate_topic(self) -> None:
        self.past.append((self.epoch, await self.records()))
        await self.end_producers()
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap_servers)
        await admin.start()
        try:
            await admin.delete_topics([self.topic])
            while self.topic in await admin.list_topics():
                await asyncio.sleep(0.05)
        finally:
            await admin.close()
        copies = min(self.plan.brokers, 3)
        await create_topic(
            self.bootstrap_servers, self.topic, partitions=self.plan.partitions, config=TOPIC, copies=copies
        )
        self.epoch += 1

    async def records(self) -> list[Any]:
        return await read_records(self.bootstrap_servers, self.topic, self.plan.partitions)

    async def log(self) -> dict[int, list[Entry]]:
        """Partition → everything that its logs ever held."""
        found: dict[int, list[Entry]] = {partition: [] for partition in range(self.plan.partitions)}
        for epoch, records in [*self.past, (self.epoch, await self.records())]:
            for partition, each in entries(records, epoch, self.malformed).items():
                found[partition] += each
        return found

    def model(self, log: Mapping[int, list[Entry]]) -> Model:
        """Of all partitions together; each is a shard of its own, also for what it forgets."""
        whole = Model(WINDOW_S, LATENESS_S)
        for partition in log.values():
            whole.add(Model(WINDOW_S, LATENESS_S).run(partition))
        return whole

    # ── producers ────────────────────────────────────────────────────────────────────────────────────────

    async def publish(self, count: int, what: str) -> None:
        """What is acknowledged is noted; what is not may be in the log all the same."""
        async with self._publishing:  # one after the other, so that a seed always makes the same events
            for _ in range(max(1, count // 40)):
                if self.maker.chance.random() < 0.25:
                    await self._publish_json(self.maker.mixed(6))
                await self._publish(self.maker.mixed(min(count, 40)))
                await asyncio.sleep(0.05)
            if "malformed" in what:
                await self._publish_malformed()
            if "forgotten" in what:
                await self._forget(self.maker.system())
                await self._publish(self.maker.mixed(20))

    async def _publish(self, events: Sequence[Event]) -> None:
        publisher = await self._open_publisher()
        pending = [await publisher.publish(event) for event in events]
        for event, each in zip(events, await asyncio.gather(*pending, return_exceptions=True), strict=True):
            if isinstance(each, Delivery):
                self._note(each.partition, each.offset, each.index, event)
            elif not isinstance(each, PublishError):
                raise each

    async def _publish_json(self, events: Sequence[Event]) -> None:
        """By a producer of somebody else's, one record for each; a retry of its may append it twice."""
        for event in events:
            key, value = event.source_system.encode(), encode_bundle([event], "json")
            sent = await self._send(key, value, headers("json", event.source_system, event.event_id))
            if sent is not None:
                self._note(sent.partition, sent.offset, 0, event)

    async def _publish_malformed(self) -> None:
        for kind, key, value, head in malformed_records(self.maker.chance.getrandbits(30), 60):
            # Of the same kinds every time, so that their number stays small.
            if kind in RARE or self.maker.chance.random() > 0.15 or (key is None and value is None):
                continue
            self.malformed[key, value] = kind
            await self._send(key, value, head)

    async def _forget(self, system: str) -> None:
        key, value, head = encode_forget(Forget(sha256(system), self.maker.mixed(1)[0].created_at))
        for partition in range(self.plan.partitions):
            await self._send(key, value, head, partition)

    async def _send(self, key: Any, value: Any, head: Any, partition: int | None = None) -> Any:
        try:
            producer = await self._open_foreign()
            return await producer.send_and_wait(self.topic, value, key=key, partition=partition, headers=head)
        except (KafkaError, OSError):
            return None

    def _note(self, partition: int, offset: int, index: int, event: Event) -> None:
        # -1: the broker only says that it has it already.
        self.acknowledged.append(((partition, self.epoch, offset, index), as_upsert(event)))

    async def _open_publisher(self) -> EventPublisher:
        while self._publisher is None:
            made = EventPublisher(Settings.load(overrides=self.overrides))
            made._connection.idempotent = self.plan.idempotent
            try:
                await made.start()
                self._publisher = made
            except AkashaError:
                await made.close()
                await asyncio.sleep(0.3)
        return self._publisher

    async def _open_foreign(self) -> AIOKafkaProducer:
        if self._foreign is None:
            made = AIOKafkaProducer(
                bootstrap_servers=self.bootstrap_servers,
                acks="all",
                request_timeout_ms=20_000,
                max_request_size=1 << 24,
            )
            try:
                await made.start()
            except BaseException:  # no broker just now
                await made.stop()
                raise
            self._foreign = made
        return self._foreign

    async def end_producers(self) -> None:
        publisher, foreign = self._publisher, self._foreign
        self._publisher = self._foreign = None
        if publisher is not None:
            await publisher.close()
        if foreign is not None:
            with suppress(KafkaError, OSError):
                await foreign.stop()

    # ── workers ──────────────────────────────────────────────────────────────────────────────────────────

    async def start(self, slot: Slot) -> None:
        """Start a worker there, without waiting until it is ready."""
        slot.starts += 1
        slot.worker = await self._nursery.launch(
            {**self.overrides, "hot.data_dir": str(slot.disk)},
            self.folder / f"{slot.name}.log",
            self.folder / f"{slot.name}.{slot.starts}",
            self._variables,
        )
        self.launched.append(slot.worker)

    def running(self) -> list[ForkedWorker]:
        return [slot.worker for slot in self.slots if slot.worker is not None and slot.worker.running]

    def mount_small_disks(self) -> None:
        """Where the plan fills a disk: a tmpfs, if this user may mount one."""
        wanted = {step.worker for step in self.plan.steps if step.fault is Fault.DISK_FULL}
        for slot in self.slots:
            if slot.number in wanted and os.geteuid() == 0 and shutil.which("mount"):
                slot.disk.mkdir()
                size = f"size={DISK_MB}m"
                command = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(slot.disk)]
                slot.mounted = not subprocess.run(command, capture_output=True, check=False).returncode

    async def close(self) -> None:
        for worker in self.running():
            await worker.kill()
        await self.end_producers()
        for slot in self.slots:
            for disk in [slot.disk, *slot.left]:
                if disk.is_mount():
                    subprocess.run(["umount", "-l", str(disk)], capture_output=True, check=False)
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap_servers)
        with suppress(KafkaError, OSError):
            await admin.start()
            try:
                await admin.delete_topics([self.topic, f"{self.topic}.dlq", f"{self.topic}.digests"])
            finally:
                await admin.close()
