"""How long from the start of a worker's process until it is ready, with rows in its shards?

    uv run python -m benchmarks.startup --rows 200000 --json

The rows come through Kafka into a first worker, which then ends (--end kill: by SIGKILL, so that DuckDB replays
its log). The second one is timed, from its process's start to the first 200 of /health/ready. Files are in the
page cache.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from akasha_stream.publish.publisher import EventPublisher
from akasha_stream.settings import Settings
from akasha_stream.topics.admin import ensure_topics
from benchmarks.data import Corpus, load
from benchmarks.report import end_on_sigterm, show
from benchmarks.servers import REPOSITORY, WorkerProcess, servers, settings_for


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.startup", description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--broker", choices=["kafka", "embedded"], default="kafka")
    parser.add_argument("--partitions", type=int, help="default: as topics/embeddings.yml says")
    parser.add_argument("--systems", type=int, default=100)
    parser.add_argument("--end", choices=["stop", "kill"], default="stop", help="how the worker before ended")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(argv)


def run(given: argparse.Namespace) -> tuple[dict[str, object], dict[str, str]]:
    corpus = load(given.seed)
    with servers(given.broker) as running, tempfile.TemporaryDirectory(prefix="akasha-start-") as folder:
        data_dir, log = Path(folder) / "data", Path(folder) / "worker.log"
        settings = settings_for(running, data_dir, given.partitions)
        asyncio.run(_publish(settings, corpus, given.rows, given.systems))
        with WorkerProcess(running, data_dir, log, {}) as first:
            empty_s = first.wait_ready()
            first.wait_rows(given.rows)
            if given.end == "kill":
                first.kill()
        with WorkerProcess(running, data_dir, log, {}) as second:
            ready_s = second.wait_ready()
            stats = second.get("/v1/stats")
            if stats is None or stats["live_rows"] != given.rows:
                raise RuntimeError(f"{given.rows} rows were stored, after the start there are {stats}")
        return {
            "data": corpus.name,
            "rows": given.rows,
            "ready_s": round(ready_s, 3),
            "ready_empty_s": round(empty_s, 3),
            "import_s": round(_import_s(), 3),
            "segments": stats["segments"],
            "indexed_segments": stats["indexed_segments"],
            "partitions": stats["partitions"],
        }, running.versions


async def _publish(settings: Settings, corpus: Corpus, rows: int, systems: int) -> None:
    await ensure_topics(settings)
    async with EventPublisher(settings) as publisher:
        for table in corpus.tables(rows, systems):
            await publisher.publish_table(table)


def _import_s() -> float:
    """Seconds of a process that imports the worker and ends."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import akasha_stream.worker"], cwd=REPOSITORY, check=True)
    return time.perf_counter() - began


def main(argv: Sequence[str] | None = None) -> None:
    end_on_sigterm()
    given = arguments(argv)
    figures, versions = run(given)
    show("startup", given, figures, versions, as_json=given.json)


if __name__ == "__main__":
    main()
