"""What do two workers store a second, against one, on the same machine with the broker on it?

    uv run python -m benchmarks.scale --events 300000 --json

The workers are there first, each with its equal share of the partitions. Then N events are written in one transaction
of Kafka: they lie in the log, and nobody reads them until it commits. The clock runs from the commit to the moment
when all rows are stored. Each number of workers has a topic, a group and data directories of its own.

A worker decodes and commits in threads, so one alone, with its broker and Redis, keeps some 1.5 cores busy
(`one_cores_busy`), and on two cores little is left for a second one to add: at the same cost an event `most_speedup` is
what it could. So it is measured twice: with all cores for everybody, and with one core for each worker
(`core_each_…`), as where a worker more is a machine more. The broker has all cores both times.

Cores that share a memory bus are not two machines: `copy_speedup` is what two processes that only copy memory get done
a second, against one.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil
from aiokafka import AIOKafkaProducer

from akasha_stream.events.bundles import headers
from akasha_stream.settings import Settings
from akasha_stream.topics.admin import ensure_topics
from benchmarks.data import Corpus, bundles, load
from benchmarks.report import end_on_sigterm, show
from benchmarks.servers import Servers, WorkerProcess, cpu_of, servers, settings_for

POLL_S = 0.05
TIMEOUT_S = 120.0
COPYING = """
import time
import numpy as np
source = np.ones(4_000_000, np.float32)
target = source.copy()
copies, began = 0, time.monotonic()
while time.monotonic() - began < 2:
    target[:] = source
    copies += 1
print(copies / (time.monotonic() - began))
"""


@dataclass(frozen=True, slots=True)
class Measured:
    wall_s: float
    worker_cpu_s: float
    broker_cpu_s: float
    cores_busy: float
    """Of the machine, whatever ran on it."""


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.scale", description=__doc__)
    parser.add_argument("--events", type=int, default=300_000)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--systems", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=1, help="of one worker, then two; the medians count")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(argv)
    if given.partitions % 2 or given.events < 1 or given.rounds < 1:
        parser.error("--partitions must be even, --events and --rounds at least 1")
    return given


def run(given: argparse.Namespace) -> tuple[dict[str, object], dict[str, str]]:
    corpus = load(given.seed)
    found: dict[tuple[str, int], list[Measured]] = {(how, n): [] for how in ("", "core_each_") for n in (1, 2)}
    for _ in range(given.rounds):
        for (how, workers), measured in found.items():
            # A broker of its own: the page cache and the heap of one that has worked are no fair start.
            with servers("kafka") as running, tempfile.TemporaryDirectory(prefix="akasha-scale-") as folder:
                measured.append(_once(running, Path(folder), given, corpus, workers, core_each=bool(how)))
                versions = running.versions
    figures: dict[str, object] = {"data": corpus.name, "events": given.events, "cores": len(os.sched_getaffinity(0))}
    for how in ("", "core_each_"):
        one, two = (sorted(found[how, n], key=lambda m: m.wall_s)[given.rounds // 2] for n in (1, 2))
        for name, each in (("one", one), ("two", two)):
            figures |= {
                f"{how}{name}_wall_s": round(each.wall_s, 3),
                f"{how}{name}_events_per_s": round(given.events / each.wall_s),
                f"{how}{name}_cpu_us_per_event": round(each.worker_cpu_s / given.events * 1e6, 2),
                f"{how}{name}_kafka_cpu_us_per_event": round(each.broker_cpu_s / given.events * 1e6, 2),
                f"{how}{name}_cores_busy": round(each.cores_busy, 2),
            }
        figures |= {
            # Of each pair of measurements: the machine is not the same from minute to minute.
            f"{how}speedup": round(
                median(a.wall_s / b.wall_s for a, b in zip(found[how, 1], found[how, 2], strict=True)), 3
            ),
            f"{how}cpu_ratio": round(two.worker_cpu_s / one.worker_cpu_s, 3),
        }
        if not how:
            figures["most_speedup"] = round(psutil.cpu_count() / one.cores_busy, 3)
    figures["copy_speedup"] = round(_copies(2) / _copies(1), 3)
    return figures, versions


def _once(
    running: Servers, folder: Path, given: argparse.Namespace, corpus: Corpus, workers: int, *, core_each: bool
) -> Measured:
    settings = settings_for(running, folder / "unused", given.partitions)
    asyncio.run(ensure_topics(settings))
    share = given.partitions // workers
    with contextlib.ExitStack() as stack:
        running_workers = []
        cores = sorted(os.sched_getaffinity(0))
        for n in range(workers):
            with _on({cores[n % len(cores)]} if core_each else set(cores)):  # it starts where it is made
                worker = WorkerProcess(running, folder / f"data-{n}", folder / f"worker-{n}.log", {})
            running_workers.append(stack.enter_context(worker))
        _wait(lambda: all(_owned(worker) == share for worker in running_workers), running_workers)
        return asyncio.run(_measure(running, settings, given, corpus, running_workers))


@contextlib.contextmanager
def _on(cores: set[int]) -> Iterator[None]:
    """What is started here runs on these cores alone."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


async def _measure(
    running: Servers, settings: Settings, given: argparse.Namespace, corpus: Corpus, workers: list[WorkerProcess]
) -> Measured:
    broker = psutil.Process(running.broker_pid)
    producer = AIOKafkaProducer(
        bootstrap_servers=running.bootstrap_servers,
        transactional_id="scale",
        transaction_timeout_ms=600_000,
        max_batch_size=900_000,
        max_request_size=1_000_000,
        linger_ms=5,
    )
    await producer.start()
    try:
        await producer.begin_transaction()
        places: dict[str, int] = {}
        sent: list[asyncio.Future[object]] = []
        for table in corpus.tables(given.events, given.systems):
            for number, (system, value, _) in enumerate(bundles(table)):
                # Not by the key: every partition shall have the same share.
                partition = places.setdefault(system, len(places) % given.partitions)
                named = headers("arrow", system, f"{len(sent)}-{number}")
                sent.append(
                    await producer.send(
                        settings.topics.embeddings, value, key=system.encode(), partition=partition, headers=named
                    )
                )
        await asyncio.gather(*sent)
        await asyncio.sleep(2.0)  # what the broker still does for the writes is none of the reading
        before = [cpu_of(worker.process).own for worker in workers]
        broker_before, busy_before = cpu_of(broker).own, _busy()
        began = time.monotonic()
        await producer.commit_transaction()
        # Seldom until most are there: an answer costs a worker 1 ms, and 20 a second of two a fiftieth of the machine.
        for rows, every_s in ((given.events * 4 // 5, 5 * POLL_S), (given.events, POLL_S)):
            await asyncio.to_thread(_wait_stored, rows, workers, every_s)
        wall_s = time.monotonic() - began
        cpu_s = sum(cpu_of(worker.process).own for worker in workers) - sum(before)
        return Measured(wall_s, cpu_s, cpu_of(broker).own - broker_before, (_busy() - busy_before) / wall_s)
    finally:
        await producer.stop()


def _owned(worker: WorkerProcess) -> int:
    stats = worker.get("/v1/stats")
    return -1 if stats is None else len(stats["partitions_owned"])


def _rows(worker: WorkerProcess) -> int:
    stats = worker.get("/v1/stats")
    return 0 if stats is None else int(stats["rows"])


def _wait_stored(rows: int, workers: Sequence[WorkerProcess], every_s: float) -> None:
    _wait(lambda: sum(map(_rows, workers)) >= rows, workers, every_s)


def _busy() -> float:
    """Seconds that the cores of the machine worked, since it was started."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + getattr(times, "irq", 0.0) + getattr(times, "softirq", 0.0))


def _copies(processes: int) -> float:
    """Blocks of 16 MB that so many processes together copy a second."""
    running = [
        subprocess.Popen([sys.executable, "-c", COPYING], stdout=subprocess.PIPE, text=True) for _ in range(processes)
    ]
    return sum(float(each.communicate()[0]) for each in running)


def _wait(met: Callable[[], bool], workers: Sequence[WorkerProcess], every_s: float = POLL_S) -> None:
    began = time.monotonic()
    while not met():
        if time.monotonic() - began > TIMEOUT_S:
            raise RuntimeError(f"not within {TIMEOUT_S:g} s:\n" + "\n".join(worker.tail() for worker in workers))
        time.sleep(every_s)


def main(argv: Sequence[str] | None = None) -> None:
    end_on_sigterm()
    given = arguments(argv)
    figures, versions = run(given)
    show("scale", given, figures, versions, as_json=given.json)


if __name__ == "__main__":
    main()
