"""How fast does a worker store what lies in Kafka? And how fast are DuckDB alone, and Kafka alone?

    uv run python -m benchmarks.ingest --events 500000 --json

N events are published first, in bundles of 64. Then a worker process starts, with its Redis tables, and its
/v1/stats is read ten times a second. The clock runs from the last reading without a row (so it includes the
first fetch) to the first reading with all N.

`cost_by_rows` has what the 100,000 events cost that came when so many rows were stored. All three take
--events 1100000.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from akasha_stream.publish.delivery import TableDelivery
from akasha_stream.publish.publisher import EventPublisher
from akasha_stream.settings import Settings
from akasha_stream.topics.admin import ensure_topics
from benchmarks.data import BUNDLE, Corpus, load
from benchmarks.ingest_parts import duckdb_only, kafka_only
from benchmarks.report import end_on_sigterm, show
from benchmarks.servers import Cpu, Servers, WorkerProcess, cpu_of, memory_of, servers, settings_for

EDGE = 100_000
"""Events at either end whose rates are compared; half of the events where they are fewer than twice that."""
COST_AT = (20_000, 200_000, 1_000_000)
"""Stored rows at which the cost of the next `EDGE` events is told."""
IDLE_TIMEOUT_S = 90.0
SETTLE_S = 3.0
UNACKNOWLEDGED_TABLES = 4


@dataclass(frozen=True, slots=True)
class Sample:
    at: float
    rows: int
    worker: Cpu
    broker: float
    valkey: float


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.ingest", description=__doc__)
    parser.add_argument("--events", type=int, default=500_000)
    parser.add_argument("--broker", choices=["kafka", "embedded"], default="kafka")
    parser.add_argument("--format", choices=["arrow", "json"], default="arrow")
    parser.add_argument("--partitions", type=int, help="default: as topics/embeddings.yml says")
    parser.add_argument("--systems", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(argv)
    if given.events < 2 or given.systems < 1:
        parser.error("--events must be at least 2, --systems at least 1")
    return given


def run(given: argparse.Namespace) -> tuple[dict[str, object], dict[str, str]]:
    corpus = load(given.seed)
    with servers(given.broker) as running, tempfile.TemporaryDirectory(prefix="akasha-ingest-") as folder:
        settings = settings_for(
            running,
            Path(folder) / "data",
            given.partitions,
            publish__format=given.format,
            publish__bundle_events=BUNDLE,
        )
        bundles, publish_s, partitions = asyncio.run(publish(settings, corpus, given.events, given.systems))
        figures: dict[str, object] = {
            "data": corpus.name,
            "partitions": partitions,
            "bundles": bundles,
            "published_events_per_s": round(given.events / publish_s),
        }
        figures |= _worker(running, Path(folder), given.events)
        kafka = asyncio.run(kafka_only(settings, bundles))
        duckdb = duckdb_only(settings, corpus, given.events, given.systems, Path(folder) / "duckdb")
        rate = float(str(figures["events_per_s"]))
        figures |= {
            "kafka_only_events_per_s": round(given.events / kafka.wall_s),
            "kafka_only_cpu_us_per_event": round(kafka.cpu_s / given.events * 1e6, 2),
            "of_kafka_only": round(rate / (given.events / kafka.wall_s), 3),
            "duckdb_only_events_per_s": round(given.events / duckdb.wall_s),
            "duckdb_only_cpu_us_per_event": round(duckdb.cpu_s / given.events * 1e6, 2),
            "of_duckdb_only": round(rate / (given.events / duckdb.wall_s), 3),
        }
        return figures, running.versions


async def publish(settings: Settings, corpus: Corpus, events: int, systems: int) -> tuple[int, float, int]:
    """(bundles, seconds of publishing without making the tables, partitions that got some)."""
    await ensure_topics(settings)
    bundles, publish_s = 0, 0.0
    partitions: set[int] = set()
    waiting: list[Awaitable[TableDelivery]] = []

    async def settle(most: int) -> None:
        nonlocal bundles
        while len(waiting) > most:
            delivery = await waiting.pop(0)
            bundles += delivery.bundles
            partitions.update(np.unique(delivery.partition).tolist())

    async with EventPublisher(settings) as publisher:
        for table in corpus.tables(events, systems):
            began = time.perf_counter()
            waiting.append(await publisher.submit_table(table))
            await settle(UNACKNOWLEDGED_TABLES)
            publish_s += time.perf_counter() - began
        began = time.perf_counter()
        await settle(0)
        publish_s += time.perf_counter() - began
    return bundles, publish_s, len(partitions)


def _worker(running: Servers, folder: Path, events: int) -> dict[str, object]:
    """Start a worker on the full topic and watch it."""
    with WorkerProcess(running, folder / "data", folder / "worker.log", {}) as worker:
        samples, before = _watch(worker, running, events)
        # Anything stored twice would show now; and what was under way is let go of: rss_peak_mb has it.
        time.sleep(SETTLE_S)
        memory = memory_of(worker.process.pid)
        stats = worker.get("/v1/stats")
        if stats is None:
            raise RuntimeError(f"the worker does not answer:\n{worker.tail()}")
    stored, rows = int(stats["live_rows"]), int(stats["rows"])
    if stored != events or rows != events:
        raise RuntimeError(f"{events} distinct events were published; {rows} rows are stored, {stored} of them live")
    first, last = samples[0], samples[-1]
    edge = min(EDGE, events // 2)
    at = np.array([each.at for each in samples])
    count = np.array([each.rows for each in samples])
    # Rows grow strictly between readings that are kept, so that the time of a count can be read off.
    keep = np.concatenate([[True], np.diff(count) > 0])
    edge_from, edge_to = np.interp([edge, events - edge], count[keep], at[keep]).tolist()
    cpu, wall = last.worker - first.worker, last.at - first.at
    first_rate, last_rate = edge / (edge_from - first.at), edge / (last.at - edge_to)
    return {
        "stored": stored,
        "wall_s": round(wall, 3),
        "events_per_s": round(events / wall),
        "edge_events": edge,
        "first_100k_events_per_s": round(first_rate),
        "last_100k_events_per_s": round(last_rate),
        "last_of_first": round(last_rate / first_rate, 3),
        "cpu_us_per_event": round(cpu.own / events * 1e6, 2),
        "cost_by_rows": _cost_by_rows(samples, events),
        "index_build_cpu_s": round(cpu.children, 2),
        "kafka_cpu_us_per_event": round((last.broker - first.broker) / events * 1e6, 2),
        "valkey_cpu_us_per_event": round((last.valkey - first.valkey) / events * 1e6, 2),
        "rss_mb": round(memory.rss / 1e6, 1),
        "rss_anon_mb": round(memory.anonymous / 1e6, 1),
        "rss_file_mb": round(memory.file / 1e6, 1),
        "rss_peak_mb": round(memory.peak / 1e6, 1),
        "rss_before_mb": round(before / 1e6, 1),
        "rss_bytes_per_row": round((memory.rss - before) / events),
        "rss_limit_mb": round((2_500 * events + 400e6) / 1e6, 1),
        "sealed_segments": int(stats["sealed_segments"]),
        "indexed_segments": int(stats["indexed_segments"]),
    }


def _cost_by_rows(samples: Sequence[Sample], events: int) -> list[dict[str, float]]:
    rows, own = [each.rows for each in samples], [each.worker.own for each in samples]
    at = [each.at for each in samples]
    costs = []
    for count in COST_AT:
        if count + EDGE <= events:
            (cpu_from, cpu_to), (from_s, to_s) = (np.interp([count, count + EDGE], rows, each) for each in (own, at))
            costs.append(
                {
                    "rows": count,
                    "cpu_us_per_event": round(float(cpu_to - cpu_from) / EDGE * 1e6, 2),
                    "events_per_s": round(EDGE / float(to_s - from_s)),
                }
            )
    return costs


def _watch(worker: WorkerProcess, running: Servers, events: int) -> tuple[list[Sample], int]:
    """Readings from the last one without a row to the first with all; and the memory before, in bytes."""
    broker, valkey = psutil.Process(running.broker_pid), psutil.Process(running.valkey_pid)
    samples: list[Sample] = []
    before = 0
    moved = time.monotonic()
    while not samples or samples[-1].rows < events:
        stats = worker.get("/v1/stats")
        now = time.monotonic()
        if now - moved > IDLE_TIMEOUT_S:
            rows = samples[-1].rows if samples else 0
            raise RuntimeError(f"{rows} of {events} events stored, none for {IDLE_TIMEOUT_S:g} s:\n{worker.tail()}")
        if stats is None:
            time.sleep(0.02)
            continue
        rows = int(stats["rows"])
        sample = Sample(now, rows, cpu_of(worker.process), _seconds(broker), _seconds(valkey))
        if rows == 0:
            samples = [sample]
            before = memory_of(worker.process.pid).rss
        else:
            samples.append(sample)
        if len(samples) > 1 and samples[-1].rows > samples[-2].rows:
            moved = now
        time.sleep(_pause(samples, events))
    return samples, before


def _pause(samples: Sequence[Sample], events: int) -> float:
    """A tenth of a second; less where the clock starts and stops."""
    last = samples[-1]
    if last.rows == 0:
        return 0.02
    rate = last.rows / max(last.at - samples[0].at, 0.05)
    return 0.02 if events - last.rows < 0.2 * rate else 0.1


def _seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def main(argv: Sequence[str] | None = None) -> None:
    end_on_sigterm()
    given = arguments(argv)
    figures, versions = run(given)
    show("ingest", given, figures, versions, as_json=given.json)


if __name__ == "__main__":
    main()
