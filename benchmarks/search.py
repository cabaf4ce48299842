"""How fast and how right is a search? Idle, and while events arrive.

    uv run python -m benchmarks.search --rows 100000 --json

Idle: the rows go straight to the shards of this process, without Kafka. A search is timed from the request to
the response with its ten hits, content and metadata included; then the same over HTTP from another process.
Busy: the rows come through Kafka into a whole worker in this process, and while the same searches run another
process publishes --busy-rate events a second. One search after the other, without a pause.

one_system_*: the same searches, of one source system's events only. cpu_ms: CPU of the whole process, each search.
recall_at_10: of ten hits, how many are as similar as the tenth of an exact float32 scan (less 1e-6, for ties).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from akasha_stream.api.app import create_app
from akasha_stream.api.server import serve
from akasha_stream.cluster.cluster import Cluster
from akasha_stream.hot.store import ShardStore
from akasha_stream.logs import configure
from akasha_stream.publish.publisher import EventPublisher
from akasha_stream.search.engine import SearchEngine
from akasha_stream.search.query import Filters, SearchRequest, SearchResponse
from akasha_stream.settings import Settings
from akasha_stream.topics.admin import ensure_topics
from akasha_stream.topics.definition import definitions
from akasha_stream.worker import Worker
from benchmarks.data import Corpus, load, row_of, system_of
from benchmarks.report import end_on_sigterm, quantiles, show
from benchmarks.search_load import fill_shards, partitions_of
from benchmarks.servers import REPOSITORY, python_module, servers, settings_for

K = 10
TIE = 1e-6
WARM_UP = 50
SEAL_TIMEOUT_S = (60.0, 0.01)
"""At least, and for each row: an index costs up to 2.2 ms CPU a row."""
SCAN_ROWS = 20_000


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.search", description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--vectors", type=Path, help="Parquet with a column embedding, instead of the real ones")
    parser.add_argument("--queries", type=Path, help="Parquet with a column embedding")
    parser.add_argument("--index", choices=["auto", "hnsw", "codes", "exact"], default="auto")
    parser.add_argument("--partitions", type=int, help="default: as topics/embeddings.yml says")
    parser.add_argument("--systems", type=int, default=100)
    parser.add_argument("--queries-n", type=int, default=1_000, help="searches of each kind")
    parser.add_argument("--busy-rate", type=float, default=5_000.0, help="events a second; 0 leaves the busy part out")
    parser.add_argument("--broker", choices=["kafka", "embedded"], default="kafka")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(argv)


async def run(given: argparse.Namespace) -> tuple[dict[str, object], dict[str, str]]:
    corpus = load(given.seed, given.vectors, given.queries)
    figures: dict[str, object] = {"data": corpus.name, "rows": given.rows, "queries": len(corpus.queries)}
    with tempfile.TemporaryDirectory(prefix="akasha-search-") as folder:
        figures |= await _idle(given, corpus, Path(folder))
    if given.busy_rate <= 0:
        return figures, {}
    with (
        tempfile.TemporaryDirectory(prefix="akasha-search-") as folder,
        servers(given.broker) as running,
    ):
        settings = settings_for(
            running,
            Path(folder) / "data",
            given.partitions,
            search__index=given.index,
            limits__dimensions=corpus.vectors.shape[1],
        )
        figures |= await _busy(given, corpus, settings, Path(folder))
        return figures, running.versions


async def _idle(given: argparse.Namespace, corpus: Corpus, folder: Path) -> dict[str, object]:
    settings = Settings.load(
        overrides={
            "hot.data_dir": str(folder / "data"),
            "search.index": given.index,
            "limits.dimensions": corpus.vectors.shape[1],
            "logging.level": "warning",
        }
    )
    configure(settings.logging)
    count = given.partitions or partitions_of(definitions(settings), settings)
    store = ShardStore(settings, settings.topics.embeddings)
    try:
        store.set_partitions(count)
        loaded = time.perf_counter()
        fill_shards(store, settings, corpus, rows=given.rows, systems=given.systems, partitions=count)
        figures: dict[str, object] = {
            "partitions": count,
            "load_rows_per_s": round(given.rows / (time.perf_counter() - loaded)),
        }
        if given.index == "hnsw":
            figures |= await asyncio.to_thread(_index_everything, store, corpus)
        engine = SearchEngine(store, settings)
        try:
            began = time.process_time()
            responses, took = await _searches(engine, corpus.queries, given.queries_n)
            figures["cpu_ms"] = _cpu_ms(began, given.queries_n)
            figures["recall_at_10"] = round(recall(corpus, given.rows, responses), 4)
            figures["plan"] = _plan(responses)
            figures |= quantiles(took)
            began = time.process_time()
            _, took = await _searches(engine, corpus.queries, given.queries_n, system_of(0, given.systems))
            figures |= quantiles(took, "one_system_") | {"one_system_cpu_ms": _cpu_ms(began, given.queries_n)}
            async with serve(create_app(Cluster(engine, settings)), "127.0.0.1", 0) as port:
                figures |= quantiles(await _http(port, corpus, given.queries_n, folder), "http_")
        finally:
            engine.close()
    finally:
        await asyncio.to_thread(store.close_all)
    return figures


def _index_everything(store: ShardStore, corpus: Corpus) -> dict[str, object]:
    """Seal all rows, wait for the indexes, and ask DuckDB for its plan of each."""
    began = time.perf_counter()
    for shard in store.shards():
        shard.seal()
    timeout_s = SEAL_TIMEOUT_S[0] + SEAL_TIMEOUT_S[1] * sum(view.rows for view in store.views())
    if not store.wait_sealed(timeout_s):
        raise RuntimeError(f"indexes were not built within {timeout_s:g} s: {store.backlog()}")
    build_s = time.perf_counter() - began
    plans = []
    for view in store.views():
        index = view.index
        if index is None:
            raise RuntimeError(f"segment {view.name} has no index")
        explain = getattr(index, "explain")  # noqa: B009 - SegmentIndex has it, the protocol of searches has not
        plans.append("HNSW" in str(explain(corpus.queries[0], K)))
    return {"explain_says_hnsw": bool(plans) and all(plans), "indexes": len(plans), "seal_s": round(build_s, 1)}


async def _busy(given: argparse.Namespace, corpus: Corpus, settings: Settings, folder: Path) -> dict[str, object]:
    await ensure_topics(settings)
    async with Worker(settings) as worker:
        await worker.ready()
        async with EventPublisher(settings) as publisher:
            for table in corpus.tables(given.rows, given.systems):
                await publisher.publish_table(table)
        await _stored(worker, given.rows)
        if given.index == "hnsw":
            await asyncio.to_thread(_index_everything, worker.store, corpus)
        producer = await asyncio.create_subprocess_exec(
            *python_module(["benchmarks.paced_publisher"]),
            *("--rate", str(given.busy_rate), "--seconds", "86400", "--first-row", str(given.rows)),
            *("--systems", str(given.systems), "--seed", str(given.seed)),
            cwd=REPOSITORY,
            env=_environment(settings),
            stdout=asyncio.subprocess.DEVNULL,
        )
        try:
            # Let it come up to its rate.
            await _stored(worker, given.rows + int(given.busy_rate))
            before, began = worker.ingest.totals.events, time.perf_counter()
            responses, took = await _searches(worker.engine, corpus.queries, given.queries_n)
            rate = (worker.ingest.totals.events - before) / (time.perf_counter() - began)
            before, began = worker.ingest.totals.events, time.perf_counter()
            port = int(worker.url.rpartition(":")[2])
            over_http = await _http(port, corpus, given.queries_n, folder)
            http_rate = (worker.ingest.totals.events - before) / (time.perf_counter() - began)
            if producer.returncode is not None:
                raise RuntimeError(f"the producer ended with {producer.returncode}")
        finally:
            if producer.returncode is None:
                producer.kill()
            await producer.wait()
        return {
            **quantiles(took, "busy_"),
            "busy_events_per_s": round(rate),
            "busy_plan": _plan(responses),
            **quantiles(over_http, "busy_http_"),
            "busy_http_events_per_s": round(http_rate),
            "busy_rows_at_end": worker.engine.stats().live_rows,
        }


async def _stored(worker: Worker, rows: int, idle_timeout_s: float = 60.0) -> None:
    most, moved = -1, time.monotonic()
    while (stored := worker.ingest.totals.events) < rows:
        if stored > most:
            most, moved = stored, time.monotonic()
        if time.monotonic() - moved > idle_timeout_s:
            raise RuntimeError(f"{stored} of {rows} events arrived, none for {idle_timeout_s:g} s: {worker.health()}")
        await asyncio.sleep(0.05)


def _cpu_ms(began: float, searches: int) -> float:
    return round((time.process_time() - began) * 1e3 / (searches + WARM_UP), 3)


async def _searches(
    engine: SearchEngine, queries: NDArray[np.float32], count: int, system: str | None = None
) -> tuple[list[SearchResponse], list[float]]:
    """(one response a query that was asked, milliseconds of each search). `system`: the only one that is asked for."""
    vectors: list[list[float]] = queries.tolist()
    filters = Filters() if system is None else Filters(systems=[system])
    responses: list[SearchResponse] = []
    took = []
    for number in range(-WARM_UP, count):
        vector = vectors[number % len(vectors)]
        began = time.perf_counter()
        response = await engine.search(SearchRequest(vector=vector, k=K, filters=filters))
        if number < 0:
            continue
        took.append((time.perf_counter() - began) * 1e3)
        if number < len(vectors):
            responses.append(response)
        if not all(hit.content for hit in response.hits):
            raise RuntimeError("a hit came without its content")
    return responses, took


def recall(corpus: Corpus, rows: int, responses: Sequence[SearchResponse]) -> float:
    """Of the responses to queries 0, 1, …: the part of the ten nearest that was found. Scans by blocks of rows."""
    queries = corpus.queries[: len(responses)]
    best = np.full((len(queries), 0), 0.0, np.float32)
    found = [np.array([row_of(hit.event_id) for hit in response.hits], np.int64) for response in responses]
    similar = [np.empty(len(each), np.float32) for each in found]
    for start in range(0, rows, SCAN_ROWS):
        count = min(SCAN_ROWS, rows - start)
        scores = queries @ corpus.rows(start, count).T
        best = -np.sort(-np.concatenate([best, -np.partition(-scores, min(K, count) - 1)[:, :K]], axis=1))[:, :K]
        for query, each in enumerate(found):
            here = (each >= start) & (each < start + count)
            similar[query][here] = scores[query, each[here] - start]
    wanted = best.shape[1]
    hits = sum(int(np.sum(each >= best[query, -1] - TIE)) for query, each in enumerate(similar))
    return hits / (wanted * len(queries))


async def _http(port: int, corpus: Corpus, count: int, folder: Path) -> list[float]:
    """Milliseconds of each of `count` searches over one connection from another process."""
    file = folder / "queries.npy"
    np.save(file, corpus.queries)
    process = await asyncio.create_subprocess_exec(
        *python_module(["benchmarks.http_searches"]), str(port), str(file), str(count),
        cwd=REPOSITORY,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    answer, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"the HTTP client ended with {process.returncode}")
    took: list[float] = json.loads(answer)["ms"]
    return took


def _environment(settings: Settings) -> dict[str, str]:
    return {
        **os.environ,
        "AKASHA_BROKER__BOOTSTRAP_SERVERS": settings.broker.bootstrap_servers,
        "AKASHA_LIMITS__DIMENSIONS": str(settings.limits.dimensions),
    }


def _plan(responses: Sequence[SearchResponse]) -> dict[str, int]:
    """Segments of the last search by how they were searched."""
    kinds: dict[str, int] = {}
    for segment in responses[-1].plan:
        kinds[segment.index] = kinds.get(segment.index, 0) + 1
    return kinds


def main(argv: Sequence[str] | None = None) -> None:
    end_on_sigterm()
    given = arguments(argv)
    figures, versions = asyncio.run(run(given))
    show("search", given, figures, versions, as_json=given.json)


if __name__ == "__main__":
    main()
