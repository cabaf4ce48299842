"""A worker: ingest, hot store, lookups, search and HTTP in one process, started and stopped in order."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

import structlog

import akasha_stream
from akasha_stream.api.access import Guard
from akasha_stream.api.app import create_app as create_http
from akasha_stream.api.console import add_console
from akasha_stream.api.dead_letters import add_dead_letters
from akasha_stream.api.health import ComponentHealth, Health
from akasha_stream.api.map import add_map
from akasha_stream.api.metrics import add_metrics
from akasha_stream.api.overview import add_overview
from akasha_stream.api.partitions import Partitions, PartitionState
from akasha_stream.api.server import advertised_url, serve, url_of
from akasha_stream.auth.exposure import exposure_problem
from akasha_stream.cluster.cluster import Cluster
from akasha_stream.cluster.owners import Owners
from akasha_stream.cluster.peers import HttpPeers
from akasha_stream.connections.kafka import or_hidden
from akasha_stream.connections.tls import server_context
from akasha_stream.errors import (
    AkashaError,
    BrokerError,
    LogRecreated,
    SegmentTaken,
    SettingsError,
    ShardReplaced,
    UsageError,
)
from akasha_stream.events.decode import Decoder
from akasha_stream.hot.shard import Applied, Shard
from akasha_stream.hot.store import ShardStore
from akasha_stream.local import log as local_log
from akasha_stream.local import notice
from akasha_stream.lookups.connection import connect
from akasha_stream.lookups.from_shards import ShardSource, update, watermark
from akasha_stream.lookups.reader import Lookups
from akasha_stream.lookups.tables import Keys
from akasha_stream.lookups.updates import NoLookups
from akasha_stream.lookups.workers import Worker as WorkerEntry
from akasha_stream.lookups.workers import WorkerRegistry
from akasha_stream.lookups.writer import LookupWriter
from akasha_stream.operations.overview import ClusterOverview
from akasha_stream.replay.queue import Replays
from akasha_stream.search.embedders import Embedder, create_embedder
from akasha_stream.search.engine import SearchEngine
from akasha_stream.search.query import Incomplete
from akasha_stream.settings import Settings
from akasha_stream.storage.settings import StorageSettings
from akasha_stream.stream.app import IngestApp, create_app
from akasha_stream.stream.assignment import Assignment
from akasha_stream.stream.group import Group
from akasha_stream.stream.ingest import Ingest
from akasha_stream.stream.outlet import Outlet
from akasha_stream.telemetry.figures import WorkerFigures, worker_figures
from akasha_stream.telemetry.following import EventTraces
from akasha_stream.telemetry.lag import LagWatch
from akasha_stream.telemetry.observed import Parts, observe
from akasha_stream.telemetry.recorded import IngestDurations
from akasha_stream.telemetry.searches import Searches
from akasha_stream.telemetry.setup import Telemetry
from akasha_stream.turns import Turns

if TYPE_CHECKING:
    from fastapi import FastAPI

    from akasha_stream.tiers.tiering import Tiering

log = structlog.get_logger(__name__)

HOUSEKEEPING_S = 1.0
LOG_CHECK_S = 5.0
RESTART_S = (0.5, 15.0)
STOP_S = 6.0


class Worker:
    """`async with Worker(settings) as worker:` runs one until the block ends. `worker.url` is its HTTP API."""

    def __init__(
        self, settings: Settings, *, embedder: Embedder | None = None, storage: StorageSettings | None = None
    ) -> None:
        """`storage`: the object stores, where tiers are enabled; None: settings/akasha-storage.yml."""
        self.settings = settings
        self.tiering: Tiering | None = None
        self._storage = storage
        self.store: ShardStore
        self.engine: SearchEngine
        self.ingest: Ingest
        self.replays: Replays
        self.assignment: Assignment
        self.url = ""
        self.advertised_url = ""
        """Its HTTP API as other workers reach it."""
        self.failed: asyncio.Future[None]
        self._embedder = embedder
        self._lookups: LookupWriter | NoLookups = NoLookups()
        self._not_offered: set[int] = set()
        """Partitions with batches that were stored while the group might have given them to others."""
        self._stream_error: str | None = None
        self._restarts = 0
        self._guard: Guard | None = None
        self._started = False
        self._stopping = False
        self._handed_over: dict[int, int] = {}
        self._started_at_ms = int(time.time() * 1000)
        self._app: IngestApp | None = None
        self._group = Group(settings.topics.embeddings, settings.ingest.session_timeout_s)
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Worker:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Not ready from now on; http.drain_s later, what is under way is finished, and the parts are stopped."""
        self._stopping = True
        await asyncio.sleep(self.settings.http.drain_s)
        await self._stack.aclose()

    async def ready(self, timeout_s: float = 60.0) -> None:
        """Wait until this worker's shards are open. Raises BrokerError when that takes longer."""
        try:
            async with asyncio.timeout(timeout_s):
                await self.assignment.done.wait()
                for partition, offset in list(self._handed_over.items()):
                    if partition in self.store.owned():
                        await self.store.wait_for(partition, offset, timeout_s)
        except TimeoutError:
            why = self._stream_error or self._taking_over() or "the group has not assigned partitions yet"
            raise BrokerError(f"not ready after {timeout_s:g} s: {why}") from None

    def _taking_over(self) -> str:
        """What is still to come of the local log that this worker handed over to Kafka; "" for nothing."""
        for shard in self.store.shards():
            if shard.next_offset > self._handed_over.get(shard.partition, -1):
                self._handed_over.pop(shard.partition, None)
        left = sorted(self._handed_over.keys() & set(self.store.owned()))
        return f"what was written without a worker is not read back yet: partitions {left}" if left else ""

    def health(self) -> Health:
        """What /health/ready says. In any thread."""
        failures = list(self.ingest.totals.failures.values())
        lookups = self._lookups.health()
        backlog = self.store.backlog()
        components = {} if self.tiering is None else {"tiers": _tiers_health(self.tiering)}
        if self._guard is not None and self._guard.authentication.required:
            problem = self._guard.authentication.problem
            components["auth"] = ComponentHealth(problem is None, problem or "", required=False)
        if self._stopping:
            components["stopping"] = ComponentHealth(False, "the worker was told to stop")
        found = Health(
            components
            | {
                "stream": ComponentHealth(
                    self.assignment.done.is_set() and self._stream_error is None and not self._taking_over(),
                    self._stream_error or self._taking_over() or partitions_here(self.store.owned(), self._group.holds),
                ),
                "hot_store": ComponentHealth(
                    not failures,
                    next((each.reason for each in failures), "")
                    or f"{backlog.segments} segments ({backlog.rows} rows) wait for their index",
                ),
                "sealing": ComponentHealth(backlog.error is None, backlog.error or "", required=False),
                "lookups": ComponentHealth(
                    not lookups.enabled or (lookups.available and not lookups.repairing),
                    lookups.error or (f"repairing {lookups.repairing}" if lookups.repairing else ""),
                    required=False,
                ),
            }
        )
        self._started = self._started or found.ready
        return replace(found, started=self._started)

    def partitions(self) -> Partitions:
        """What /v1/partitions says."""
        return Partitions(
            self.settings.topics.embeddings,
            [
                PartitionState.of(each.partition, each.next_offset, each.views(), forgetting=each.forgetting)
                for each in self.store.shards()
            ],
        )

    def _missing(self) -> list[Incomplete]:
        """Why searches of this worker's partitions may lack events, beside what they meet themselves."""
        missing = [] if self.tiering is None else list(self.tiering.missing())
        read_to = {} if self._app is None else self._app.read_now()
        for partition, (stored, end) in self.assignment.behind(read_to).items():
            detail = (
                f"partition {partition} was taken over, and is stored up to offset {stored:,} of the {end:,} that its "
                f"log had then: {end - stored:,} to go"
            )
            missing.append(Incomplete(reason="catching_up", partition=partition, detail=detail))
        return missing

    # ── parts ────────────────────────────────────────────────────────────────────────────────────────────

    async def _start(self) -> None:
        settings = self.settings
        if (problem := exposure_problem(settings)) is not None:
            raise SettingsError(": ".join(problem))
        await asyncio.to_thread(_writable, settings.hot.data_dir)
        # A search that waits for the GIL gets it within half a millisecond; with the default of 5 ms its
        # p99 doubled while events arrive.
        sys.setswitchinterval(0.0005)
        self.failed = asyncio.get_running_loop().create_future()
        self._stack.callback(self.failed.cancel)
        telemetry = await self._start_telemetry()
        tiering = await self._start_tiering()
        bodies = None if tiering is None else tiering.bodies
        self.store = await asyncio.to_thread(ShardStore, settings, settings.topics.embeddings, bodies=bodies)
        self._stack.push_async_callback(asyncio.to_thread, self.store.close_all)
        notice.remove(self.store.folder)  # of a worker that was killed
        if tiering is not None:
            tiering.attach(self.store, self._taken, self._group.holds)
        self.assignment = Assignment(
            settings,
            self.store,
            on_opened=self._opened,
            on_closed=self._closed,
            adopt=None if tiering is None else tiering.adopt,
        )
        self._lag = LagWatch(self.assignment.end_offsets, settings.telemetry.lag_interval_s)
        self._stack.push_async_callback(self.assignment.stop)
        await self.assignment.start()
        partitions = await self.assignment.partition_count()
        if not partitions:
            raise UsageError(
                f"topic {settings.topics.embeddings} does not exist on {settings.broker.bootstrap_servers}"
                f"{or_hidden(settings.broker)}; "
                "create it with: akasha-stream topics apply"
            )
        self.store.set_partitions(partitions)
        if local_log.exists(settings):
            from akasha_stream.local.hand_over import hand_over

            self._handed_over = await hand_over(settings, self.store, partitions, await self.assignment.incarnation())
        await self.assignment.take_over()
        lookups = await self._start_lookups()
        outlet = Outlet(settings, self._held_shards)
        self._stack.push_async_callback(outlet.stop)
        await outlet.start()
        self._outlet = outlet
        self._durations = IngestDurations(
            telemetry.meter, topic=settings.topics.embeddings, group=settings.ingest.group
        )
        turns = Turns()
        self.ingest = Ingest(
            self.store,
            Decoder.of(settings),
            outlet,
            on_applied=self._applied,
            on_replaced=self.assignment.replaced,
            retry_max_s=settings.ingest.retry_max_s,
            threads=settings.ingest.threads,
            turns=turns,
            durations=self._durations,
            traces=EventTraces(settings.topics.embeddings, settings.ingest.group),
        )
        self._stack.callback(self.ingest.close)
        self._embedder = self._embedder or create_embedder(settings)
        self.engine = SearchEngine(
            self.store, settings, self._embedder, lookups=lookups, turns=turns, missing=self._missing
        )
        self._stack.callback(self.engine.close)
        self.replays = Replays(settings, self.store, quietly=self._quietly, turns=turns)
        self._stack.push_async_callback(self.replays.stop)
        await self._serve(telemetry)
        # Its certificate is for the name that others know it by.
        url = self.url if settings.http.tls_certificate is None else self.advertised_url
        notice.leave(self.store.folder, url=url, bootstrap_servers=settings.broker.bootstrap_servers)
        self._stack.callback(notice.remove, self.store.folder)
        observe(telemetry.meter, self._parts())
        await self._background("lag", self._lag.run())
        await self._background("outlet", outlet.run())
        await self._background("lookups", self._lookups.run())
        await self._background("registry", self._register())
        await self._background("housekeeping", self._housekeeping())
        if tiering is not None:
            await self._background("tiering", tiering.run())
        await self._background("stream", self._stream())
        # What was imported and opened so far lives as long as the process: without this, each full
        # collection walks it all, some 80 ms in which nothing is answered.
        gc.collect()
        gc.freeze()

    def _add_console(self, http: FastAPI, owners: Owners, peers: HttpPeers) -> None:
        """The console's page, and what it shows."""
        overview = ClusterOverview(self.settings, self.figures, owners.me, others=owners.others, peers=peers)
        add_overview(http, self.figures, overview.look)
        add_dead_letters(http, self.settings)
        add_map(http, self.engine.map)
        add_console(http)

    def figures(self) -> WorkerFigures:
        """What /v1/worker says. In any thread."""
        embedder = self._embedder
        return worker_figures(
            self._parts(), started_at_ms=self._started_at_ms, embedder=None if embedder is None else embedder.model
        )

    async def _start_telemetry(self) -> Telemetry:
        telemetry = Telemetry(self.settings.telemetry)
        self._stack.push_async_callback(telemetry.close)
        return telemetry

    def _parts(self) -> Parts:
        return Parts(
            self.settings,
            self.store,
            self.ingest,
            self._outlet,
            self._lag,
            self._durations,
            self.tiering,
            lookups=self._lookups.health,
            health=self.health,
            restarts=lambda: self._restarts,
        )

    async def _serve(self, telemetry: Telemetry) -> None:
        """Answer searches, over the partitions of all workers."""
        settings = self.settings
        guard = Guard.of(settings)
        self._stack.push_async_callback(guard.close)
        self._guard = guard
        peers = HttpPeers(secret=settings.auth.node_secret, ca=settings.http.tls_ca)
        self._stack.push_async_callback(peers.close)
        # Which port it is, only the server knows: the setting may be 0.
        owners = Owners(lambda: self.advertised_url, self._group, self._registry(), settings.redis.heartbeat_s)
        cluster = Cluster(self.engine, settings, owners=owners, peers=peers, holds=self._group.holds)
        http = create_http(
            cluster,
            health=self.health,
            partitions=self.partitions,
            replays=self.replays,
            telemetry=telemetry.of_http(),
            searches=Searches(telemetry.meter),
            guard=guard,
        )
        if telemetry.has_prometheus:
            add_metrics(http, telemetry.exposition, open_metrics=settings.auth.open_metrics)
        self._add_console(http, owners, peers)
        tls = server_context(settings.http, "http") if settings.http.tls_certificate is not None else None
        port = await self._stack.enter_async_context(
            serve(
                http,
                settings.http.host,
                settings.http.port,
                tls=tls,
                grace_s=settings.http.grace_s,
                receive_s=settings.http.receive_s,
            )
        )
        self.url = url_of(settings.http.host, port, tls=tls is not None)
        self.advertised_url = advertised_url(settings.http, port)

    async def _start_tiering(self) -> Tiering | None:
        if not self.settings.tiers.enabled:
            return None
        # Imported here: a worker without tiers needs none of it.
        from akasha_stream.storage.tiers import StorageTiers
        from akasha_stream.tiers.tiering import Tiering, load_storage_settings

        self.tiering = Tiering(self.settings, StorageTiers(self._storage or load_storage_settings()))
        self._stack.push_async_callback(self.tiering.close)
        return self.tiering

    async def _taken(self, partition: int) -> None:
        """Another worker spilled this partition's log, cut otherwise: open it again, from the object store."""
        self.assignment.discard(partition)
        if self._app is not None:
            await self._app.crash(SegmentTaken(f"partition {partition} was spilled by another worker"))
            self._app.set_shutdown()

    async def _quietly(self, partition: int, call: Callable[[], Awaitable[None]]) -> None:
        """Call it while nothing reads the partition: between two runs of the stream."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def called() -> None:
            try:
                await call()
            except Exception as exc:  # whatever it is: the stream goes on with the shard as it is
                if not done.done():
                    done.set_exception(exc)
            else:
                if not done.done():
                    done.set_result(None)

        self.assignment.before_open(partition, called)
        if self._app is not None:
            await self._app.crash(ShardReplaced(f"partition {partition} was read again by a replay"))
            self._app.set_shutdown()
        await done

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
        now = datetime.now(UTC)
        entry = WorkerEntry(
            id=f"{socket.gethostname()}-{os.getpid()}",
            host=socket.gethostname(),
            url=self.advertised_url,
            pid=os.getpid(),
            version=akasha_stream.__version__,
            started_at=now,
            heartbeat_at=now,
            data_dir=str(self.settings.hot.data_dir.absolute()),
        )
        registry = self._registry(entry)
        if registry is not None:
            await registry.run()

    def _registry(self, entry: WorkerEntry | None = None) -> WorkerRegistry | None:
        settings = self.settings.redis
        if not settings.enabled:
            return None
        keys = Keys(settings.prefix, self.settings.topics.embeddings)
        return WorkerRegistry(self._redis, keys, settings.heartbeat_s, entry, self._held)

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

    def _held(self) -> list[int]:
        """Partitions that the group can't have given to another worker."""
        return [shard.partition for shard in self._held_shards()]

    def _held_shards(self) -> list[Shard]:
        """Whose partitions the group can't have given to another worker: only of these goes anything out."""
        return [shard for shard in self.store.shards() if self._group.holds(shard.partition)]

    def _opened(self, shard: Shard) -> None:
        self._lag.wake()
        if self.tiering is not None:
            self.tiering.opened(shard)
        self._lookups.attach(shard.partition, watermark(shard))
        if shard.has_pending_digests:
            self._outlet.wake()
        self.replays.opened(shard.partition)

    def _closed(self, partition: int) -> None:
        self.replays.closed(partition)
        self._not_offered.discard(partition)
        self._lookups.detach(partition)

    def _applied(self, applied: Applied) -> None:
        shard = self.store.shard(applied.partition)
        if shard is None or not self.settings.redis.enabled:
            return
        if self._group.holds(applied.partition):
            self._lookups.offer(update(applied, shard.table_id))
        else:
            self._not_offered.add(applied.partition)

    def _mend_lookups(self) -> None:
        """Where a partition turned out to be ours all the same. Not at its next batch: there may be none for long."""
        for partition in [each for each in self._not_offered if self._group.holds(each)]:
            self._not_offered.discard(partition)
            if (shard := self.store.shard(partition)) is not None:
                self._lookups.attach(partition, watermark(shard))

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
            if isinstance(reason, AkashaError) and not reason.retriable and not isinstance(reason, SegmentTaken):
                raise reason
            self._stream_error = f"{type(error).__name__}: {error}" if error else "stopped"
            self._restarts += 1
            log.error("stream stopped, starting again", error=self._stream_error)
            reopened = isinstance(error, LogRecreated | SegmentTaken | ShardReplaced)
            pause = shortest if time.monotonic() - started > 60 or reopened else pause
            await asyncio.sleep(pause)
            pause = min(pause * 2, longest)

    @contextlib.asynccontextmanager
    async def _running_app(self) -> AsyncIterator[IngestApp]:
        self.assignment.done.clear()
        app = create_app(
            self.settings,
            self.ingest.process,
            self.assignment.start_offsets,
            self._group,
            url=self.advertised_url,
            had=self.store.owned() or self.assignment.had,
        )
        self._app = app
        self._group.follow(app)
        try:
            await app.start()
            self._stream_error = None
            yield app
        finally:
            self._app = None
            self._group.follow(None)
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

    def _fold_windows(self) -> None:
        for shard in self.store.shards():
            shard.fold_windows()

    async def _housekeeping(self) -> None:
        """Close windows, seal what is old enough, and notice a topic that was recreated or has grown."""
        checked = time.monotonic()
        while True:
            await asyncio.sleep(HOUSEKEEPING_S)
            self._mend_lookups()
            await asyncio.to_thread(self._fold_windows)
            if any(shard.has_pending_digests for shard in self.store.shards()):
                self._outlet.wake()
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


def _tiers_health(tiering: Tiering) -> ComponentHealth:
    """Not required: ingest and searches of what is local go on without the object store."""
    backlog = tiering.spiller.backlog()
    waiting = [f"partition {partition} waits: {why}" for partition, why in list(tiering.waiting.items())]
    problems = [*waiting, *tiering.problems, *([backlog.error] if backlog.error else [])]
    detail = f"{backlog.segments} segments ({backlog.rows} rows) wait to be spilled"
    return ComponentHealth(not problems, "; ".join([*problems, detail]), required=False)


def partitions_here(owned: Sequence[int], holds: Callable[[int], bool]) -> str:
    """How many, for people. A broker that is away shows first in that nothing confirms them."""
    quiet = "" if all(map(holds, owned)) else ", not confirmed lately by the group: is the broker away?"
    return f"{len(owned)} partitions{quiet}"


def _writable(folder: Path) -> None:
    """Raises SettingsError where no file can be made in the data directory: each part would say so in its own way."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise SettingsError(
            f"hot.data_dir: found {folder}, which can't be written: {error.strerror}; allowed: a folder of this user"
        ) from error
