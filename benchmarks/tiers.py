"""What do the tiers cost: spilling, and searching segments whose bodies are in an object store?

    uv run python -m benchmarks.tiers --rows 200000 --json

The object store is SeaweedFS on this machine, behind a proxy that adds --latency-ms to each request. Segments are
written and put as the worker does it, in --segment-rows; a search then has their stubs, and no bodies.

warm_first_*: searches with an empty cache, each over all rows. warm_*: afterwards, everything cached.
recall_at_10: as in benchmarks/search.py, against an exact float32 scan of the published vectors.
bytes_read_per_search, first_bytes_read_per_search: from the store, by a warmed search and by a first one.
ingest_slowdown: how much slower a shard takes rows in while its finished segments are spilled, 0 to 1.
catalog_rebuild_s: listing and footers. plan_ms: which of 10,000 segments a filter needs.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from akasha_stream.embedded import SeaweedServer
from akasha_stream.events.decode import Decoder
from akasha_stream.events.records import Record
from akasha_stream.hot.hashes import identity_hash, identity_key, strings
from akasha_stream.hot.position import MAX_OFFSET, pack, pack_many
from akasha_stream.hot.schema import DELETE_SCHEMA, row_schema
from akasha_stream.hot.store import ShardStore
from akasha_stream.incarnation import Incarnation
from akasha_stream.logs import configure
from akasha_stream.search.engine import SearchEngine
from akasha_stream.search.query import SearchRequest, SearchResponse
from akasha_stream.search.segment import SegmentView, Span, SystemCodes
from akasha_stream.settings import Limits, LoggingSettings, Settings
from akasha_stream.storage import StorageSettings, StorageTiers
from akasha_stream.storage.settings import S3Backend
from akasha_stream.tiers.bodies import SegmentBodies
from akasha_stream.tiers.body_cache import BodyCache
from akasha_stream.tiers.catalog import Catalog
from akasha_stream.tiers.keys import LogId, SegmentKey
from akasha_stream.tiers.parquet_segment import write_segment
from akasha_stream.tiers.segment_store import SegmentStore
from akasha_stream.tiers.spilled import SpilledSegment, supersede
from akasha_stream.tiers.stored_segment import StoredSegment
from akasha_stream.tiers.stub import COLUMNS, make_stub, open_stub, write_stub
from akasha_stream.tiers.tiering import Tiering
from benchmarks.data import Corpus, bundles, load
from benchmarks.report import end_on_sigterm, quantiles, show
from benchmarks.search import K, recall
from benchmarks.search_load import TRANSACTION_BUNDLES
from tests.servers.fault_proxy import FaultProxy

LOG = LogId("akasha.embeddings.v1", Incarnation("benchmark", "tiers"), 0)
BUCKET = "tiers"
PLANNED_SEGMENTS = 10_000
PLANS = 200
CACHE_BYTES = 4 << 30
TIMEOUT_S = 60.0
WARM_UP = 20
INGEST_ROWS = 60_000
INGEST_SEGMENTS = 6
INGEST_RUNS = 2
SPILL_TIMEOUT_S = 120.0


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.tiers", description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--segment-rows", type=int, default=50_000)
    parser.add_argument("--latency-ms", type=float, default=20.0, help="added to each request")
    parser.add_argument("--first", type=int, default=10, help="searches with an empty cache")
    parser.add_argument("--warmed", type=int, default=400, help="searches with a full one")
    parser.add_argument("--systems", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(argv)


@dataclass(frozen=True, slots=True)
class Spilled:
    """Segments in the object store, and the local files of their stubs."""

    store: SegmentStore
    stored: Sequence[StoredSegment]
    stubs: Sequence[Path]


class SpilledStore:
    """A search.segment.HotStore of spilled segments alone."""

    def __init__(self, segments: Sequence[SpilledSegment], codes: SystemCodes) -> None:
        self.codes = codes
        self._segments = segments

    def views(self, partitions: Sequence[int] | None = None) -> list[SegmentView]:
        return [segment.view() for segment in self._segments]

    def owned(self) -> list[int]:
        return [0]

    def partitions(self) -> int:
        return 1

    def spans(self) -> dict[int, Span]:
        return {0: Span(0, pack(0, MAX_OFFSET, 0))}

    def forgets(self) -> dict[int, list[int]]:
        return {}

    def find(self, source_system: str, event_id: str) -> None:
        return None

    def written_at(self, partition: int, source_system: str, event_id: str) -> int | None:
        return None  # of one partition, nobody asks

    def at(self, partition: int, position: int) -> None:
        return None

    async def wait_for(self, partition: int, offset: int, timeout_s: float) -> bool:
        return True


async def run(given: argparse.Namespace) -> dict[str, object]:
    corpus = load(given.seed)
    configure(LoggingSettings(level="warning"))
    figures: dict[str, object] = {"data": corpus.name, "rows": given.rows}
    with tempfile.TemporaryDirectory(prefix="akasha-tiers-") as name, SeaweedServer.start() as server:
        folder = Path(name)
        async with FaultProxy(server.endpoint_url) as proxy, StorageTiers(_storage(server, proxy)) as tiers:
            store = SegmentStore(tiers)
            stored, figures["spill_rows_per_s"] = await _spill(store, corpus, given)
            figures["bytes_per_row"] = round(sum(segment.size for segment in stored) / given.rows, 1)
            proxy.latency_s = given.latency_ms / 1e3
            again = SegmentStore(tiers)
            began = time.perf_counter()
            await again.load()
            figures["catalog_rebuild_s"] = round(time.perf_counter() - began, 3)
            spilled = Spilled(again, stored, await _stubs(again, stored, folder))
            figures |= await _searches(spilled, folder, corpus, given)
            figures |= await _ingest(corpus, _storage(server, proxy), folder, given)
    figures["plan_ms"] = round(_plan_ms(stored[0]), 3)
    return figures


def _storage(server: SeaweedServer, proxy: FaultProxy) -> StorageSettings:
    """Both tiers in one bucket."""
    backend = S3Backend.model_validate(
        {
            "bucket_name": BUCKET,
            "tier": "warm",
            "create_bucket": True,
            "endpoint_url": proxy.url,
            "access_key_id": server.access_key_id,
            "secret_access_key": server.secret_access_key,
        }
    )
    backends = {tier: backend.model_copy(update={"tier": tier, "prefix": f"{tier}/"}) for tier in ("hot", "warm")}
    return StorageSettings.model_validate({"backends": backends, "tiers": {"hot": "hot", "warm": "warm"}})


def _ranges(given: argparse.Namespace) -> list[tuple[int, int]]:
    return [(at, min(at + given.segment_rows, given.rows)) for at in range(0, given.rows, given.segment_rows)]


def _rows(corpus: Corpus, start: int, end: int, systems: int) -> pa.Table:
    """Rows as the hot store has them."""
    table = corpus.table(start, end - start, systems)
    vectors = np.ascontiguousarray(corpus.rows(start, end - start))
    n, dimensions = vectors.shape
    numbers = np.arange(start, end, dtype=np.int64)
    keys = zip(strings(table["source_system"]), strings(table["event_id"]), strict=True)
    columns = {
        **{name: table[name] for name in ("source_system", "event_id", "content", "metadata")},
        "position": pa.array(pack_many(0, numbers, np.zeros(n, np.int32))),
        "embedding": pa.FixedSizeBinaryArray.from_buffers(pa.binary(4 * dimensions), n, [None, pa.py_buffer(vectors)]),
        "model": pa.array(["all-MiniLM-L6-v2"] * n),
        "created_at": table["created_at"].cast(pa.int64()),
        "appended_at": table["created_at"].cast(pa.int64()),
        "updated": pa.array(np.zeros(n, np.bool_)),
        "identity_hash": pa.array(np.fromiter((identity_hash(identity_key(*key)) for key in keys), np.uint64, n)),
        "payload_hash": pa.array(numbers.astype(np.uint64)),
        "content_hash": pa.array(numbers.astype(np.uint64)),
    }
    schema = row_schema(dimensions)
    return pa.table([columns[name] for name in schema.names], schema=schema)


async def _spill(store: SegmentStore, corpus: Corpus, given: argparse.Namespace) -> tuple[list[StoredSegment], int]:
    """(segments, rows a second of writing and putting them)"""
    stored, took_s = [], 0.0
    deletes = DELETE_SCHEMA.empty_table()
    for start, end in _ranges(given):
        rows = _rows(corpus, start, end, given.systems)
        began = time.perf_counter()
        segment = await asyncio.to_thread(
            write_segment, SegmentKey(LOG, start, end), 0, rows, deletes, dimensions=corpus.vectors.shape[1]
        )
        stored.append(await store.put(segment, "warm"))
        took_s += time.perf_counter() - began
    return stored, round(given.rows / took_s)


async def _stubs(store: SegmentStore, stored: Sequence[StoredSegment], folder: Path) -> list[Path]:
    paths = []
    for number, each in enumerate(stored):
        table = await store.read(each, COLUMNS)
        paths.append(folder / f"{number}.stub")
        await asyncio.to_thread(write_stub, paths[-1], make_stub(each.footer, table))
    return paths


async def _searches(spilled: Spilled, folder: Path, corpus: Corpus, given: argparse.Namespace) -> dict[str, object]:
    first_ms, first_bytes = [], []
    for number in range(given.first):
        async with _engine(spilled, folder / "cache", corpus.vectors.shape[1]) as engine:
            responses, took, read = await _timed(engine, corpus.queries[number:], 1)
            first_ms += took
            first_bytes += read
            if number + 1 == given.first:
                await _timed(engine, corpus.queries, WARM_UP)
                responses, warm_ms, warm_bytes = await _timed(engine, corpus.queries, given.warmed)
        shutil.rmtree(folder / "cache")
    return {
        "segments": len(spilled.stored),
        **quantiles(first_ms, "warm_first_"),
        **quantiles(warm_ms, "warm_"),
        "warm_recall_at_10": round(recall(corpus, given.rows, responses), 4),
        "bytes_read_per_search": round(float(np.mean(warm_bytes))),
        "first_bytes_read_per_search": round(float(np.mean(first_bytes))),
    }


@asynccontextmanager
async def _engine(spilled: Spilled, cache: Path, dimensions: int) -> AsyncIterator[SearchEngine]:
    bodies = SegmentBodies(spilled.store, BodyCache(cache, CACHE_BYTES), timeout_s=TIMEOUT_S)
    codes = SystemCodes()
    pairs = zip(spilled.stubs, spilled.stored, strict=True)
    segments = [SpilledSegment(open_stub(stub), stored, codes, bodies) for stub, stored in pairs]
    supersede(segments)
    engine = SearchEngine(SpilledStore(segments, codes), Settings(limits=Limits(dimensions=dimensions)))
    try:
        yield engine
    finally:
        engine.close()
        await bodies.close()


async def _timed(
    engine: SearchEngine, queries: NDArray[np.float32], count: int
) -> tuple[list[SearchResponse], list[float], list[int]]:
    """(one response a query, milliseconds and bytes read of each search)"""
    responses, took, read = [], [], []
    for number in range(count):
        request = SearchRequest(vector=queries[number % len(queries)].tolist(), k=K)
        began = time.perf_counter()
        response = await engine.search(request)
        took.append((time.perf_counter() - began) * 1e3)
        if not response.complete or not all(hit.content for hit in response.hits):
            raise RuntimeError(f"an answer was not complete: {response.incomplete}")
        read.append(sum(part.bytes_read for part in response.plan))
        if number < len(queries):
            responses.append(response)
    return responses, took, read


async def _ingest(
    corpus: Corpus, storage: StorageSettings, folder: Path, given: argparse.Namespace
) -> dict[str, object]:
    """Rows a second into a shard without and with a spiller beside it, in turns; the better of INGEST_RUNS each."""
    rows = min(given.rows, INGEST_ROWS)
    records = _records(corpus, rows, given.systems)
    rates: dict[bool, list[float]] = {False: [], True: []}
    segments = 0
    for run_number in range(2 * INGEST_RUNS):
        spill = run_number % 2 == 1
        overrides = {
            "hot.data_dir": str(folder / f"ingest-{run_number}"),
            "hot.seal_rows": max(100, rows // INGEST_SEGMENTS),
            "hot.build_indexes": False,
            "limits.dimensions": corpus.vectors.shape[1],
            "tiers.enabled": spill,
            "topics.embeddings": f"ingest-{run_number}",
        }
        settings = Settings.load(overrides=overrides)
        tiering = Tiering(settings, StorageTiers(storage))
        store = ShardStore(settings, settings.topics.embeddings, bodies=tiering.bodies)
        tiering.attach(store, _never_taken)
        running = asyncio.create_task(tiering.run()) if spill else None
        try:
            rates[spill].append(rows / await asyncio.to_thread(_take_in, store, settings, records))
            if running is not None:
                await _spilled(store, tiering)
                segments += tiering.spiller.totals.segments
        finally:
            if running is not None:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
            await asyncio.to_thread(store.close_all)
            await tiering.close()
    alone, beside = max(rates[False]), max(rates[True])
    return {
        "ingest_rows_per_s": round(alone),
        "ingest_rows_per_s_spilling": round(beside),
        "ingest_slowdown": round(1 - beside / alone, 3),
        "ingest_segments_spilled": segments,
    }


async def _spilled(store: ShardStore, tiering: Tiering) -> None:
    # A segment that is closed but not rewritten yet is in no backlog.
    if not await asyncio.to_thread(store.wait_sealed, SPILL_TIMEOUT_S):
        raise RuntimeError(f"segments were not rewritten within {SPILL_TIMEOUT_S:g} s: {store.backlog()}")
    for _ in range(int(SPILL_TIMEOUT_S * 10)):
        if not tiering.spiller.backlog().segments:
            return
        await asyncio.sleep(0.1)
    raise RuntimeError(f"not everything was spilled within {SPILL_TIMEOUT_S:g} s: {tiering.spiller.backlog()}")


async def _never_taken(partition: int) -> None:
    raise RuntimeError(f"partition {partition} was spilled by another worker")


def _records(corpus: Corpus, rows: int, systems: int) -> list[list[Record]]:
    """Bundles of rows 0 …, in the batches of a transaction."""
    headers = [("content-type", b"application/vnd.apache.arrow.stream")]
    now_ms = time.time_ns() // 1_000_000
    records: list[Record] = []
    for table in corpus.tables(rows, systems):
        for system, value, _ in bundles(table):
            records.append(Record(0, len(records), now_ms, system.encode(), value, headers))
    return [records[at : at + TRANSACTION_BUNDLES] for at in range(0, len(records), TRANSACTION_BUNDLES)]


def _take_in(store: ShardStore, settings: Settings, records: Sequence[list[Record]]) -> float:
    """Seconds that decoding and committing took."""
    shard = store.open(0, Incarnation("benchmark", "ingest"))
    decoder = Decoder(settings.limits, None)
    began = time.perf_counter()
    for batch in records:
        shard.apply(batch, decoder.decode(batch).batch)
    return time.perf_counter() - began


def _plan_ms(example: StoredSegment) -> float:
    """Median time of choosing among PLANNED_SEGMENTS segments by system and time."""
    hour_us = 3_600_000_000
    segments = []
    for number in range(PLANNED_SEGMENTS):
        key = replace(example.key, start=number, end=number + 1)
        footer = example.footer.model_copy(
            update={
                "start": number,
                "end": number + 1,
                "first_created_at": number * hour_us,
                "last_created_at": (number + 1) * hour_us,
            }
        )
        segments.append(replace(example, path=key.path(), key=key, footer=footer))
    catalog = Catalog(segments)
    took = []
    for number in range(PLANS):
        since = number * PLANNED_SEGMENTS // PLANS * hour_us
        began = time.perf_counter()
        catalog.prune(["session-buddy-003"], since, since + 24 * hour_us)
        took.append((time.perf_counter() - began) * 1e3)
    return float(np.median(took))


def main(argv: Sequence[str] | None = None) -> None:
    end_on_sigterm()
    given = arguments(argv)
    show("tiers", given, asyncio.run(run(given)), {}, as_json=given.json)


if __name__ == "__main__":
    main()
