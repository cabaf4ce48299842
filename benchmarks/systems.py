"""Ten thousand systems on 16 partitions for an hour: does memory grow with more than the rows, does a partition starve?

    uv run python -m benchmarks.systems --systems 10000 --events 600000 --rate 5000 --again 600000 --json

An hour of simulated load (benchmarks.simulator: few loud systems, bursts, late and repeated events, replacements,
deletes) is published, by default faster than it happens; event times are those of the hour. Then --again events are
sent once more, the newest version of each, which must change nothing: events come, and no row. Meanwhile the worker's
memory, rows and offsets are read every --every-s seconds.

`memory` and `starvation` (benchmarks.growth) each say whether they hold, and by which figures. An hour of real time at
the hour's own pace: --events 600000 --rate 166.7 --again 50000.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition

from akasha_stream.settings import Settings
from akasha_stream.topics.admin import ensure_topics
from benchmarks.growth import Watch
from benchmarks.report import end_on_sigterm, show
from benchmarks.servers import REPOSITORY, Servers, WorkerProcess, memory_of, python_module, servers, settings_for


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks.systems", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--systems", type=int, default=10_000)
    parser.add_argument("--events", type=int, default=600_000)
    parser.add_argument("--rate", type=float, default=5_000.0, help="events a second that are published")
    parser.add_argument("--simulated-s", type=float, default=3_600.0, help="event time that they are spread over")
    parser.add_argument("--again", type=int, default=0, help="events that are sent once more when all are there")
    parser.add_argument("--partitions", type=int, default=16)
    parser.add_argument("--broker", choices=["kafka", "embedded"], default="kafka")
    parser.add_argument("--every-s", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(argv)


def run(given: argparse.Namespace) -> tuple[dict[str, object], dict[str, str]]:
    with servers(given.broker) as running, tempfile.TemporaryDirectory(prefix="akasha-systems-") as folder:
        data = Path(folder) / "data"
        settings = settings_for(running, data, given.partitions)
        asyncio.run(ensure_topics(settings))
        # Indexes are built when nobody else needs the core, and are not what is asked here.
        more = {"hot__build_indexes": False}
        with WorkerProcess(running, data, Path(folder) / "worker.log", more) as worker:
            worker.wait_ready()
            idle = memory_of(worker.process.pid).anonymous
            watch, sent = asyncio.run(_watch(given, settings, running, worker))
            if sent["failed"]:
                raise RuntimeError(f"{sent['failed']} of {sent['sent']} events were not delivered")
            worker.wait_rows(int(sent["live"]))
            stats = worker.get("/v1/stats") or {}
        if int(stats["live_rows"]) != sent["live"]:
            raise RuntimeError(f"{stats['live_rows']} live rows, and {sent['live']} must be")
        return {
            "events": sent["sent"],
            "events_per_s": round(sent["sent"] / sent["publish_s"], 1),
            "systems_seen": sent["systems"],
            "rows": watch.rows[-1],
            "live_rows": sent["live"],
            "idle_memory_mb": round(idle / 1e6, 1),
            "memory": watch.memory(),
            "starvation": watch.starvation(),
        }, running.versions


async def _watch(
    given: argparse.Namespace, settings: Settings, running: Servers, worker: WorkerProcess
) -> tuple[Watch, dict[str, Any]]:
    """Until all is published and taken in; what was seen, and what the publisher said."""
    process = await asyncio.create_subprocess_exec(
        *python_module(["benchmarks.simulated_publisher"]),
        *("--systems", str(given.systems), "--events", str(given.events), "--rate", str(given.rate)),
        *("--simulated-s", str(given.simulated_s), "--seed", str(given.seed)),
        *("--again", str(given.again)),
        cwd=REPOSITORY,
        env={**os.environ, "AKASHA_BROKER__BOOTSTRAP_SERVERS": running.bootstrap_servers},
        stdout=subprocess.PIPE,
    )
    told = asyncio.ensure_future(process.communicate())
    consumer = AIOKafkaConsumer(bootstrap_servers=running.bootstrap_servers)
    await consumer.start()
    watch = Watch()
    try:
        topics = [TopicPartition(settings.topics.embeddings, number) for number in range(given.partitions)]
        while not told.done():
            await asyncio.sleep(given.every_s)
            ends = {of.partition: end for of, end in (await consumer.end_offsets(topics)).items()}
            await asyncio.to_thread(_look, watch, worker, ends)
        out, _ = await told
        if process.returncode:
            raise RuntimeError(f"the publisher ended with {process.returncode}")
        said: dict[str, Any] = orjson.loads(out.splitlines()[-1])
        return watch, said
    finally:
        await consumer.stop()
        if process.returncode is None:
            process.kill()
            await process.wait()


def _look(watch: Watch, worker: WorkerProcess, ends: dict[int, int]) -> None:
    found = worker.get("/v1/partitions")
    if found is None:
        return
    states: list[dict[str, Any]] = found["partitions"]
    offsets = {int(state["partition"]): int(state["next_offset"]) for state in states}
    memory = memory_of(worker.process.pid).anonymous
    watch.look(time.monotonic(), sum(int(state["rows"]) for state in states), memory, offsets, ends)


def main(argv: Sequence[str] | None = None) -> None:
    end_on_sigterm()
    given = arguments(argv)
    figures, versions = run(given)
    show("systems", given, figures, versions, as_json=given.json)


if __name__ == "__main__":
    main()
