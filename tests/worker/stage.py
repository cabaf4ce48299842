"""One test's own topics, group, data and settings on a broker, and what its shards hold."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from akasha_stream.embedded import Broker
from akasha_stream.events.model import Event
from akasha_stream.hot.store import ShardStore
from akasha_stream.incarnation import Incarnation
from akasha_stream.publish import EventPublisher
from akasha_stream.publish.delivery import Delivery, merge_tokens
from akasha_stream.settings import Settings
from tests.servers.topics import create_topic, unique_name
from tests.worker.model import Identity, Model, Row
from tests.worker.process import WorkerProcess


@dataclass(slots=True)
class Stage:
    broker: Broker
    folder: Path
    overrides: dict[str, object]
    topic: str
    partitions: int
    model: Model = field(default_factory=Model)
    token: str = ""
    """Freshness token of what was published last."""
    variables: dict[str, str] = field(default_factory=dict)
    """Of the workers' environment, besides ours."""

    @classmethod
    async def make(
        cls, broker: Broker, folder: Path, *, partitions: int = 4, valkey: str | None = None, **overrides: object
    ) -> Stage:
        """Topics of its own; `overrides` with `__` for the dot: `hot__seal_rows=500`."""
        topic = unique_name(folder.name)
        for name, count in ((topic, partitions), (f"{topic}.dlq", 1), (f"{topic}.digests", 1)):
            await create_topic(
                broker.bootstrap_servers, name, partitions=count, config={"max.message.bytes": "16777216"}
            )
        found: dict[str, object] = {
            "broker.bootstrap_servers": broker.bootstrap_servers,
            "topics.embeddings": topic,
            "topics.dead_letters": f"{topic}.dlq",
            "topics.digests": f"{topic}.digests",
            "ingest.group": topic,
            "ingest.session_timeout_s": 1.0,
            "ingest.heartbeat_s": 0.3,
            "hot.data_dir": str(folder / "data"),
            "redis.enabled": valkey is not None,
            "redis.prefix": topic,
            "http.port": 0,
        }
        if valkey is not None:
            found["redis.url"] = valkey
        found.update({name.replace("__", "."): value for name, value in overrides.items()})
        return cls(broker, folder, found, topic, partitions)

    @classmethod
    async def spilling(cls, broker: Broker, folder: Path, **overrides: Any) -> Stage:
        """Whose segments are sealed every second, and leave for object stores that are folders."""
        spilling: dict[str, Any] = {
            "hot__seal_age_s": 1.0,
            "hot__build_indexes": False,
            "tiers__enabled": True,
            "tiers__keep_local_s": 0,
            "tiers__keep_local_rows": 0,
        }
        stage = await cls.make(broker, folder, **{**spilling, **overrides})
        stage.variables["AKASHA_STORAGE_SETTINGS"] = folder_tiers(folder)
        return stage

    @property
    def settings(self) -> Settings:
        return Settings.load(overrides=self.overrides)

    @property
    def data(self) -> Path:
        return Path(str(self.overrides["hot.data_dir"]))

    def worker(self, name: str = "worker", **overrides: object) -> WorkerProcess:
        changed = {each.replace("__", "."): value for each, value in overrides.items()}
        return WorkerProcess({**self.overrides, **changed}, self.folder / f"{name}.log", self.variables)

    async def publish(self, events: Sequence[Event]) -> list[Delivery]:
        async with EventPublisher(self.settings) as publisher:
            return self.published(events, await publisher.publish_many(events))

    def published(self, events: Iterable[Event], deliveries: list[Delivery]) -> list[Delivery]:
        self.model.add(events, deliveries)
        self.token = merge_tokens(deliveries)
        return deliveries

    async def delete_records(self, before: Mapping[int, int]) -> None:
        """As retention does: all before these offsets."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.broker.bootstrap_servers)
        await admin.start()
        try:
            await admin.delete_records({TopicPartition(self.topic, p): RecordsToDelete(o) for p, o in before.items()})
        finally:
            await admin.close()

    async def until_searchable(self, worker: WorkerProcess, timeout_s: float = 30.0) -> None:
        """Until the worker has taken in what was published last."""
        answer = await worker.search(vector=[1.0] * 384, k=1, after=self.token, after_timeout_s=timeout_s)
        late = [each for each in answer["incomplete"] if each["reason"] == "freshness_timeout"]
        assert not late, f"{late}\n{worker.logged()[-4000:]}"

    async def stored(self, *, copied: bool = False) -> tuple[dict[Identity, Row], dict[int, int]]:
        """What the shards hold, read from their files: (identity → row, partition → next offset).

        copied: read a copy, so that the next worker finds the files as the last one left them.
        """
        return await asyncio.to_thread(self._stored, copied)

    def _stored(self, copied: bool) -> tuple[dict[Identity, Row], dict[int, int]]:
        with self._readable(copied) as data:
            settings = Settings.load(
                overrides={**self.overrides, "hot.data_dir": str(data), "hot.build_indexes": False}
            )
            store = ShardStore(settings, self.topic)
            try:
                offsets = {}
                for folder in sorted(store.folder.glob("0*")):
                    offsets[int(folder.name)] = store.open(int(folder.name), Incarnation()).next_offset
                return rows_of(store), offsets
            finally:
                store.close_all()

    @contextmanager
    def _readable(self, copied: bool) -> Iterator[Path]:
        if not copied:
            yield self.data
            return
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            yield shutil.copytree(self.data, Path(folder) / "data")

    async def assert_stored(self, expected: Mapping[Identity, Row] | None = None) -> None:
        """Exactly the model's rows, each once, of the version and at the place that the log says."""
        found, _ = await self.stored()
        assert_same(found, self.model.rows() if expected is None else dict(expected))


def folder_tiers(folder: Path) -> str:
    """Settings of object stores that are folders."""
    file = folder / "akasha-storage.yml"
    tiers = "\n".join(
        f"  local-{tier}: {{provider: local, root: {folder / 'objects'}, bucket_name: {tier}, tier: {tier}}}"
        for tier in ("hot", "warm")
    )
    file.write_text(f"storage:\n  tiers: {{hot: local-hot, warm: local-warm}}\n{tiers}\n")
    return str(file)


def rows_of(store: ShardStore) -> dict[Identity, Row]:
    found: dict[Identity, Row] = {}
    for view in store.views():
        for row in view.texts([place for place in range(view.rows) if view.live[place]]):
            identity = (row.source_system, row.event_id)
            assert identity not in found, f"{identity} has two live rows: {found[identity]} and {row}"
            assert row.content is not None
            found[identity] = Row((row.partition, row.offset, row.index), row.content)
    return found


def assert_same(found: Mapping[Identity, Row], expected: Mapping[Identity, Row]) -> None:
    missing = sorted(expected.keys() - found.keys())
    extra = sorted(found.keys() - expected.keys())
    other = [identity for identity in expected.keys() & found.keys() if expected[identity] != found[identity]]
    differences = [*missing, *extra, *other]
    assert not differences, (
        f"{len(missing)} missing {missing[:3]}, {len(extra)} too many {extra[:3]}, {len(other)} differ: "
        f"{[(each, found[each], expected[each]) for each in other[:3]]}"
    )
