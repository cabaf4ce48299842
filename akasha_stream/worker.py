"""A worker: ingest, hot store, lookups, search and HTTP in one process, started and stopped in order."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Coroutine
from datetime import UTC, datetime
from typing import Any

import structlog

import akasha_stream
from akasha_stream.api.app import create_app as create_http
from akasha_stream.api.health import ComponentHealth, Health
from akasha_stream.api.server import serve
from akasha_stream.errors import AkashaError, BrokerError, LogRecreated, UsageError
from akasha_stream.events.decode import Decoder
from akasha_stream.events.redaction import Redactor
from akasha_stream.hot.shard import Applied, Shard
from akasha_stream.hot.store import ShardStore
from akasha_stream.lookups.connection import connect
from akasha_stream.lookups.from_shards import ShardSource, update, watermark
from akasha_stream.lookups.reader import Lookups
from akasha_stream.lookups.tables import Keys
from akasha_stream.lookups.updates import NoLookups
from akasha_stream.lookups.workers import Worker as WorkerEntry
from akasha_stream.lookups.workers import WorkerRegistry
from akasha_stream.lookups.writer import LookupWriter
from akasha_stream.search.embedders import Embedder, create_embedder
from akasha_stream.search.engine import SearchEngine
from akasha_stream.settings import Settings
from akasha_stream.stream.app import IngestApp, create_app
from akasha_stream.stream.assignment import Assignment
from akasha_stream.stream.ingest import Ingest
from akasha_stream.stream.outlet import Outlet

log = structlog.get_logger(__name__)

HOUSEKEEPING_S = 1.0
LOG_CHECK_S = 5.0
RESTART_S = (0.5, 15.0)
STOP_S = 6.0


class Worker:
    """`async with Worker(settings) as worker:` runs one until the block ends. `worker.url` is its HTTP API."""

    def __init__(self, settings: Settings, *, embedder: Embedder | None = None) -> None:
        self.settings = settings
        self.store: ShardStore
        self.engine: SearchEngine
        self.ingest: Ingest
        self.assignment: Assignment
        self.url = ""
        self.failed: asyncio.Future[None]
        self._embedder = embedder
        self._lookups: LookupWriter | NoLookups = NoLookups()
        self._stream_error: str | None = None
        self._app: IngestApp | None = None
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Worker:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def ready(self, timeout_s: float = 60.0) -> None:
        """Wait until this worker's shards are open. Raises BrokerError when that takes longer."""
        try:
            async with asyncio.timeout(timeout_s):
                await self.assignment.done.wait()
        except TimeoutError:
            why = self._stream_error or "the group has not assigned partitions yet"
            raise BrokerError(f"not ready after {timeout_s:g} s: {why}") from None

    def health(self) -> Health:
        """What /health/ready says."""
        failures = self.ingest.totals.failures
        lookups = self._lookups.health()
        backlog = self.store.backlog()
        return Health(
            {
                "stream": ComponentHealth(
                    self.assignment.done.is_set() and self._stream_error is None,
                    self._stream_error or f"{len(self.store.owned())} partitions",
                ),
                "hot_store": ComponentHealth(
                    not failures,
                    next((each.reason for each in failures.values()), "")
                    or f"{backlog.segments} segments ({backlog.rows} rows) wait for their index",
                ),
                "lookups": ComponentHealth(
                    not lookups.enabled or (lookups.available and not lookups.repairing),
                    lookups.error or (f"repairing {lookups.repairing}" if lookups.repairing else ""),
                    required=False,
                ),
            }
        )

    # ── parts ────────────────────────────────────────────────────────────────────────────────────────────

    async def _start(self) -> None:
        settings = self.settings
        # A search that waits for the GIL gets it within half a millisecond; with the default of 5 ms its
        # p99 doubled while events arrive.
        sys.setswitchinterval(0.0005)
        self.failed = asyncio.get_running_loop().create_future()
        self._stack.callback(self.failed.cancel)
        self.store = await asyncio.to_thread(ShardStore, settings, settings.topics.embeddings)
        self._stack.push_async_callback(asyncio.to_thread, self.store.close_all)
        self.assignment = Assignment(settings, self.store, on_opened=self._opened, on_closed=self._closed)
        self._stack.push_async_callback(self.assignment.stop)
        await self.assignment.start()
        partitions = await self.assignment.partition_count()
        if not partitions:
            raise UsageError(
                f"topic {settings.topics.embeddings} does not exist on {settings.broker.bootstrap_servers}; "
                "create it with: akasha-stream topics apply"
            )
        self.store.set_partitions(partitions)
        lookups = await self._start_lookups()
        outlet = Outlet(settings, self.store.shards)
        self._stack.push_async_callback(outlet.stop)
        await outlet.start()
        self._outlet = outlet
        redactor = Redactor(settings.redaction) if settings.redaction.enabled else None
        self.ingest = Ingest(
            self.store,
            Decoder(settings.limits, redactor),
            outlet,
            on_applied=self._applied,
            on_replaced=self.assignment.replaced,
            retry_max_s=settings.ingest.retry_max_s,
            threads=settings.ingest.threads,
        )
        self._stack.callback(self.ingest.close)
        embedder = self._embedder or create_embedder(settings)
        self.engine = SearchEngine(self.store, settings, embedder, lookups=lookups)
        self._stack.callback(self.engine.close)
        http = create_http(self.engine, health=self.health)
        port = await self._stack.enter_async_context(serve(http, settings.http.host, settings.http.port))
        host = settings.http.host
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        await self._background("outlet", outlet.run())
        await self._background("lookups", self._lookups.run())
        await self._background("registry", self._register())
        await self._background("housekeeping", self._housekeeping())
        await self._background("stream", self._stream())
        # What was imported and opened so far lives as long as the process: without this, each full
        # collection walks it all, some 80 ms in which nothing is answered.
        gc.collect()
        gc.freeze()

    async def _start_lookups(self) -> Lookups | None:
        settings = self.settings.redis
        if not settings.enabled:
            return None
        keys = Keys(settings.prefix, self.settings.topics.embeddings)
        self._redis = connect(settings)
        self._stack.push_async_callback(self._redis.aclose)
        self._lookups = LookupWriter(self._redis, keys, ShardSource(self.store))
        return Lookups(self._redis, keys, self.store.partitions)

    async def _register(self) -> None:
        if not self.settings.redis.enabled:
            return
        now = datetime.now(UTC)
        entry = WorkerEntry(
            id=f"{socket.gethostname()}-{os.getpid()}",
            host=socket.gethostname(),
            url=self.url,
            pid=os.getpid(),
            version=akasha_stream.__version__,
            started_at=now,
            heartbeat_at=now,
        )
        keys = Keys(self.settings.redis.prefix, self.settings.topics.embeddings)
        await WorkerRegistry(self._redis, keys, self.settings.redis.heartbeat_s, entry, self.store.owned).run()

    async def _background(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Run for as long as the worker; one that fails takes the worker with it, never silently."""

        async def watched() -> None:
            try:
                await work
            except asyncio.CancelledError:
                raise
            except Exception as exc:
                log.exception("part failed", part=name)
                if not self.failed.done():
                    self.failed.set_exception(exc)

        task = asyncio.create_task(watched(), name=name)

        async def stop() -> None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

        self._stack.push_async_callback(stop)

    def _opened(self, shard: Shard) -> None:
        self._lookups.attach(shard.partition, watermark(shard))
        if shard.has_pending_digests:
            self._outlet.wake()

    def _closed(self, partition: int) -> None:
        self._lookups.detach(partition)

    def _applied(self, applied: Applied) -> None:
        shard = self.store.shard(applied.partition)
        if shard is not None and self.settings.redis.enabled:
            self._lookups.offer(update(applied, shard.table_id))

    # ── loops ────────────────────────────────────────────────────────────────────────────────────────────

    async def _stream(self) -> None:
        """Run the Faust app; when it stops by itself, start a new one at the stored offsets."""
        shortest, longest = RESTART_S
        pause = shortest
        while True:
            started = time.monotonic()
            try:
                async with self._running_app() as app:
                    await app.wait_until_stopped()
                    error = app.crash_reason
            except Exception as exc:  # Faust and aiokafka: a broker that is away shows in many ways
                error = exc
            reason = error if isinstance(error, Exception) else None
            if isinstance(reason, AkashaError) and not reason.retriable:
                raise reason
            self._stream_error = f"{type(error).__name__}: {error}" if error else "stopped"
            log.error("stream stopped, starting again", error=self._stream_error)
            pause = shortest if time.monotonic() - started > 60 or isinstance(error, LogRecreated) else pause
            await asyncio.sleep(pause)
            pause = min(pause * 2, longest)

    @contextlib.asynccontextmanager
    async def _running_app(self) -> AsyncIterator[IngestApp]:
        self.assignment.done.clear()
        app = create_app(self.settings, self.ingest.process, self.assignment.start_offsets)
        self._app = app
        try:
            await app.start()
            self._stream_error = None
            yield app
        finally:
            self._app = None
            with contextlib.suppress(Exception):
                await asyncio.wait_for(app.stop(), STOP_S)

    async def _seal_old(self) -> None:
        now_ms = int(time.time() * 1000)
        due = [shard for shard in self.store.shards() if shard.due(now_ms)]
        if not due:
            return
        try:
            ends = await self.assignment.end_offsets()
        except BrokerError as exc:
            log.warning("old segments not sealed, will try again", error=str(exc))
            return
        for shard in due:
            try:
                if shard.partition in ends:
                    await asyncio.to_thread(shard.seal_if_due, now_ms, ends[shard.partition])
            except AkashaError as exc:
                log.warning("segment not sealed, will try again", partition=shard.partition, error=str(exc))

    async def _housekeeping(self) -> None:
        """Seal what is old enough, and notice a topic that was recreated or has grown."""
        checked = time.monotonic()
        while True:
            await asyncio.sleep(HOUSEKEEPING_S)
            await self._seal_old()
            if time.monotonic() - checked < LOG_CHECK_S:
                continue
            checked = time.monotonic()
            try:
                recreated = await self.assignment.recreated()
                self.store.set_partitions(await self.assignment.partition_count() or self.store.partitions())
            except (AkashaError, OSError) as exc:
                log.warning("topic not checked", error=str(exc))
                continue
            if recreated and self._app is not None:
                log.warning("topic was recreated, reading it anew", topic=self.settings.topics.embeddings)
                await self._app.crash(LogRecreated(f"{self.settings.topics.embeddings} was recreated"))
                self._app.set_shutdown()
