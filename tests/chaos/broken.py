"""The product broken on purpose, to see that the harness finds it. Patches for worker processes, never in the product.

python -m tests.chaos --broken NAME --schedules 20
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

import structlog
from aiokafka.admin import AIOKafkaAdminClient
from faust.types import TP

from akasha_stream import worker
from akasha_stream.cluster.here import Here
from akasha_stream.hot.durable import passed
from akasha_stream.hot.shard import Shard
from akasha_stream.hot.store import ShardStore
from akasha_stream.lookups import transactions
from akasha_stream.lookups.writer import LookupWriter
from akasha_stream.storage.guarded import GuardedAdapter
from akasha_stream.stream.app import IngestApp
from akasha_stream.stream.assignment import Assignment
from akasha_stream.stream.consumer import Run
from akasha_stream.stream.ingest import Ingest

log = structlog.get_logger(__name__)


def ack_before_commit() -> None:
    """A batch is acknowledged when it has come and stored a moment later; a restart goes on at the group's offsets."""
    commit, stored, make = Ingest.process, Assignment.start_offsets, worker.create_app  # type: ignore[attr-defined]
    under_way: set[asyncio.Task[None]] = set()

    async def process(self: Ingest, runs: Sequence[Run]) -> None:
        async def later() -> None:
            await asyncio.sleep(0.3)
            await commit(self, runs)

        task = asyncio.create_task(later())
        under_way.add(task)
        task.add_done_callback(under_way.discard)

    async def start_offsets(self: Assignment, partitions: set[TP], member_id: str) -> dict[TP, int]:
        offsets = await stored(self, partitions, member_id)
        settings = self._settings
        admin = AIOKafkaAdminClient(bootstrap_servers=settings.broker.bootstrap_servers)
        await admin.start()
        try:
            found = await admin.list_consumer_group_offsets(settings.ingest.group)
        finally:
            await admin.close()
        ours = {(tp.topic, tp.partition): each.offset for tp, each in found.items()}
        # Where a shard is empty all is read, as ever.
        return {tp: max(at, ours.get((tp.topic, tp.partition), 0)) if at else at for tp, at in offsets.items()}

    def create_app(*args: Any, **options: Any) -> IngestApp:
        app = make(*args, **options)
        app.conf.broker_commit_interval = 0.05
        return app

    Ingest.process = process  # type: ignore[method-assign]
    Assignment.start_offsets = start_offsets  # type: ignore[method-assign]
    worker.create_app = create_app  # type: ignore[attr-defined]


def no_fencing() -> None:
    """A worker that lost its partitions keeps their shards open, answers for them and writes to them."""
    ShardStore.close = lambda self, partition: None  # type: ignore[method-assign]
    Here.owned = lambda self: self.engine.store.owned()  # type: ignore[method-assign]


def offset_outside_the_transaction() -> None:
    """First the offset is committed, then the rows."""

    def in_two(self: Shard, prepared: Any, tables: dict[str, Any]) -> None:
        file = self._file
        assert file is not None
        with file.transaction(0):
            file.insert_progress(prepared.progress)
        with file.transaction(sum(table.nbytes for table in tables.values() if table is not None)):
            for name, table in tables.items():
                if table is not None and table.num_rows:
                    file.insert(name, table)
            if prepared.forgets is not None:
                file.insert_forgets(prepared.forgets)
            passed("before commit")

    Shard._write = in_two  # type: ignore[method-assign]


def put_without_condition() -> None:
    """An object is put whether its key is taken or not."""

    async def put(self: Any, bucket: str, path: str, data: Any) -> bool:
        await self.upload(bucket, path, data)
        return True

    GuardedAdapter.put_if_absent = put  # type: ignore[method-assign]


def stale_cache() -> None:
    """A batch that goes into Redis tables which were flushed meanwhile makes them count as complete.

    Nor does anybody look for half a minute: a table that no batch goes into is still found empty.
    """
    options: Any = LookupWriter.__init__.__kwdefaults__
    options["check_interval_s"] = 30.0
    transactions.ADVANCE = "redis.call('SET', KEYS[1], ARGV[2]) return 1"  # type: ignore[attr-defined]


BROKEN: Final[dict[str, Callable[[], None]]] = {
    each.__name__: each
    for each in (ack_before_commit, no_fencing, offset_outside_the_transaction, put_without_condition, stale_cache)
}
