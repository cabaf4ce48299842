"""Two hundred searchers at once while events arrive: is every search answered, does ingest keep up, is memory flat?

    uv run python -m benchmarks.load --rows 100000 --searchers 200 --rate 5000 --seconds 300 --json

A whole worker on Kafka, its producer and the searchers are processes on the same cores. Each searcher asks again when
it has its answer, so `searches_per_s` is what the worker can answer beside its ingest, and the times include the queue
of all others.

`statuses`: of all answers; `errors`: connections that broke or took longer than a minute. stored_per_s: of
`sent_per_s`. behind_events: the most that were due and not yet searchable. bytes_per_row: the slope of the worker's
resident memory, what is mapped left out, over its rows, from a quarter of the time on; beyond_rows_mb: memory less
2.5 KB for each row, at each quarter of the time.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from akasha_stream.publish.publisher import EventPublisher
from akasha_stream.settings import Settings
from akasha_stream.topics.admin import ensure_topics
from benchmarks.data import Corpus, load
from benchmarks.growth import ROW_BYTES
from benchmarks.report import end_on_sigterm, quantiles, show
from benchmarks.servers import (
    REPOSITORY,
    WorkerProcess,
    memory_of,
    python_module,
    servers,
    settings_for,
)


@dataclass(slots=True)
class _Watch:
    at: list[float] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    anonymous: list[int] = field(default_factory=list)

    def look(self, worker: WorkerProcess) -> None:
        stats = worker.get("/v1/stats")
        if stats is not None:
            self.at.append(time.monotonic())
            self.rows.append(int(stats["rows"]))
            self.anonymous.append(memory_of(worker.process.pid).anonymous)

    def figures(self) -> dict[str, object]:
        rows, memory = np.array(self.rows, np.float64), np.array(self.anonymous, np.float64)
        quarters = [max(0, len(rows) * part // 4 - 1) for part in (1, 2, 3, 4)]
        later = slice(quarters[0], None)
        slope = float(np.polyfit(rows[later], memory[later], 1)[0]) if np.ptp(rows[later]) else 0.0
        return {
            "rows_at_end": self.rows[-1],
            "memory_mb": round(self.anonymous[-1] / 1e6, 1),
            "bytes_per_row": round(slope),
            "beyond_rows_mb": [round(float(memory[at] - rows[at] * ROW_BYTES) / 1e6, 1) for at in quarters],
        }


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks.load", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=100_000, help="that are stored before it begins")
    parser.add_argument("--searchers", type=int, default=200)
    parser.add_argument("--rate", type=float, default=5_000.0, help="events a second")
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--systems", type=int, default=100)
    parser.add_argument("--broker", choices=["kafka", "embedded"], default="kafka")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(argv)


def run(given: argparse.Namespace) -> tuple[dict[str, object], dict[str, str]]:
    corpus = load(given.seed)
    with servers(given.broker) as running, tempfile.TemporaryDirectory(prefix="akasha-load-") as folder:
        data = Path(folder) / "data"
        settings = settings_for(running, data, None)
        with WorkerProcess(running, data, Path(folder) / "worker.log", {}) as worker:
            asyncio.run(_fill(settings, corpus, given))
            worker.wait_ready()
            worker.wait_rows(given.rows)
            figures = _load(given, corpus, running.bootstrap_servers, worker, Path(folder))
        return {"data": corpus.name, **figures}, running.versions


async def _fill(settings: Settings, corpus: Corpus, given: argparse.Namespace) -> None:
    await ensure_topics(settings)
    async with EventPublisher(settings) as publisher:
        for table in corpus.tables(given.rows, given.systems):
            await publisher.publish_table(table)


def _load(
    given: argparse.Namespace, corpus: Corpus, bootstrap_servers: str, worker: WorkerProcess, folder: Path
) -> dict[str, object]:
    queries = folder / "queries.npy"
    np.save(queries, corpus.queries)
    producer = subprocess.Popen(
        [
            *python_module(["benchmarks.paced_publisher"]),
            *("--rate", str(given.rate), "--seconds", str(given.seconds), "--first-row", str(given.rows)),
            *("--systems", str(given.systems), "--seed", str(given.seed)),
        ],
        cwd=REPOSITORY,
        env={**os.environ, "AKASHA_BROKER__BOOTSTRAP_SERVERS": bootstrap_servers},
        stdout=subprocess.PIPE,
    )
    searchers = subprocess.Popen(
        [
            *python_module(["benchmarks.http_searchers"]),
            *(str(worker.port), str(queries), str(given.searchers), str(given.seconds)),
        ],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
    )
    watch, began = _Watch(), time.monotonic()
    try:
        watch.look(worker)
        while producer.poll() is None and searchers.poll() is None:
            time.sleep(1.0)
            watch.look(worker)
        sent, searched = _said(producer), _said(searchers)
        most = given.rows + int(sent["sent"])
        published_s = float(sent["publish_s"])
        figures = watch.figures()
        # What should have been there at each look, were nothing ever late. The producer starts after `began`.
        due = given.rows + np.clip((np.array(watch.at) - began) * given.rate, 0, sent["sent"])
        ended = time.monotonic()
        worker.wait_rows(most)
        drained_s = time.monotonic() - ended
    finally:
        for process in (producer, searchers):
            if process.poll() is None:
                process.kill()
            process.wait()
    took = searched.pop("ms")
    return {
        "searches": len(took),
        "searches_per_s": round(len(took) / given.seconds, 1),
        **quantiles(took),
        **searched,
        "sent": sent["sent"],
        "failed": sent["failed"],
        "sent_per_s": round(sent["sent"] / published_s, 1),
        "stored_per_s": round((watch.rows[-1] - watch.rows[0]) / (watch.at[-1] - watch.at[0]), 1),
        "behind_events": int(np.max(due - np.array(watch.rows))),
        "behind_at_end_s": round(drained_s, 2),
        **figures,
    }


def _said(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    """Raises RuntimeError where it failed."""
    out, _ = process.communicate(timeout=120)
    if process.returncode:
        raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
    said: dict[str, Any] = orjson.loads(out.splitlines()[-1])
    return said


def main(argv: Sequence[str] | None = None) -> None:
    end_on_sigterm()
    given = arguments(argv)
    figures, versions = run(given)
    show("load", given, figures, versions, as_json=given.json)


if __name__ == "__main__":
    main()
