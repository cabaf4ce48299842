"""How long from a producer's publish() to the first search that finds the event?

    uv run python -m benchmarks.freshness --rate 5000 --seconds 30 --json

Three processes: a producer (EventPublisher, event by event), a worker, and this one, which searches over HTTP.
Some events a second are probes, with a vector that nothing else is near to; a search for it with k=1 finds the
probe as soon as it is there. One clock: CLOCK_MONOTONIC, the same for all processes of a machine.

--probe after (default): when the probe is acknowledged, one search with its freshness token; the worker holds it
    until the record is in, then searches. The time ends with the answer, so it is an upper bound by one search.
--probe poll: search again and again, every --poll-ms, from the moment of publish(). Does not need the token, and
    loads the worker more.
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

import httpx
import orjson

from akasha_stream.topics.admin import ensure_topics
from benchmarks.data import load
from benchmarks.paced_publisher import probe_id, probe_vector
from benchmarks.report import end_on_sigterm, quantiles, show
from benchmarks.servers import REPOSITORY, Servers, WorkerProcess, python_module, servers, settings_for

FIND_TIMEOUT_S = 10.0
WARM_UP_S = 2.0
"""Probes of the first seconds are not counted: connections are made, code paths are cold."""


@dataclass(slots=True)
class Found:
    took_ms: list[float] = field(default_factory=list)
    acknowledged_ms: list[float] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    searches: int = 0


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks.freshness", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rate", type=float, default=5_000.0, help="events a second")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--systems", type=int, default=100)
    parser.add_argument("--broker", choices=["kafka", "embedded"], default="kafka")
    parser.add_argument("--partitions", type=int, help="default: as topics/embeddings.yml says")
    parser.add_argument("--probes", type=float, default=20.0, help="probes a second")
    parser.add_argument("--probe", choices=["after", "poll"], default="after")
    parser.add_argument("--poll-ms", type=float, default=5.0, help="pause between the searches of --probe poll")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(argv)


def run(given: argparse.Namespace) -> tuple[dict[str, object], dict[str, str]]:
    with servers(given.broker) as running, tempfile.TemporaryDirectory(prefix="akasha-fresh-") as folder:
        settings = settings_for(running, Path(folder) / "data", given.partitions)
        asyncio.run(ensure_topics(settings))
        with WorkerProcess(running, Path(folder) / "data", Path(folder) / "worker.log", {}) as worker:
            worker.wait_ready()
            found, end = asyncio.run(_probes(given, running, worker))
            sent = int(end["sent"])
            if end["failed"]:
                raise RuntimeError(f"{end['failed']} of {sent} events were not delivered")
            worker.wait_rows(sent)
        if not found.took_ms:
            raise RuntimeError("no probe was found; with few --seconds raise --probes")
        return {
            **quantiles(found.took_ms),
            "acknowledged_p50_ms": quantiles(found.acknowledged_ms)["p50_ms"],
            "acknowledged_p99_ms": quantiles(found.acknowledged_ms)["p99_ms"],
            "probes": len(found.took_ms),
            "missed": len(found.missed),
            "searches": found.searches,
            "sent": sent,
            "stored": sent,
            "achieved_rate": round(sent / float(end["publish_s"]), 1),
        }, running.versions


async def _probes(given: argparse.Namespace, running: Servers, worker: WorkerProcess) -> tuple[Found, dict[str, Any]]:
    """Run the producer and look for each of its probes; what was found, and the producer's last line."""
    dimensions = load(given.seed).vectors.shape[1]
    process = await asyncio.create_subprocess_exec(
        *python_module(["benchmarks.paced_publisher"]),
        *("--rate", str(given.rate), "--seconds", str(given.seconds + WARM_UP_S), "--systems", str(given.systems)),
        *("--probes", str(given.probes), "--seed", str(given.seed)),
        cwd=REPOSITORY,
        env={**os.environ, "AKASHA_BROKER__BOOTSTRAP_SERVERS": running.bootstrap_servers},
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    found = Found()
    sent_ns: dict[int, int] = {}
    searches: set[asyncio.Task[None]] = set()
    last: dict[str, Any] | None = None
    first_ns: int | None = None
    try:
        async with httpx.AsyncClient(base_url=worker.url, timeout=FIND_TIMEOUT_S + 5) as client:
            async for line in process.stdout:
                now_ns = time.monotonic_ns()
                said: dict[str, Any] = orjson.loads(line)
                if "probe" not in said:
                    last = said
                    continue
                number = int(said["probe"])
                token = said.get("token")
                if token is None:
                    sent_ns[number] = int(said["at_ns"])
                    first_ns = sent_ns[number] if first_ns is None else first_ns
                counts = first_ns is not None and sent_ns[number] - first_ns >= WARM_UP_S * 1e9
                if token is not None and counts:
                    found.acknowledged_ms.append((now_ns - sent_ns[number]) / 1e6)
                if (token is None) == (given.probe == "poll"):
                    vector = probe_vector(given.seed, number, dimensions).tolist()
                    probe = _Probe(number, sent_ns[number], token, counts)
                    searches.add(task := asyncio.create_task(_look(client, given, probe, vector, found)))
                    task.add_done_callback(searches.discard)
            await asyncio.gather(*searches)
        if await process.wait() or last is None:
            raise RuntimeError(f"the producer ended with {process.returncode}")
        return found, last
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@dataclass(frozen=True, slots=True)
class _Probe:
    number: int
    sent_ns: int
    token: str | None
    counts: bool


async def _look(
    client: httpx.AsyncClient, given: argparse.Namespace, probe: _Probe, vector: list[float], found: Found
) -> None:
    body: dict[str, object] = {"vector": vector, "k": 1}
    if probe.token is not None:
        body |= {"after": probe.token, "after_timeout_s": FIND_TIMEOUT_S}
    content = orjson.dumps(body)
    while True:
        answer = await client.post("/v1/search", content=content, headers={"content-type": "application/json"})
        took_ns = time.monotonic_ns() - probe.sent_ns
        found.searches += 1
        answer.raise_for_status()
        hits = orjson.loads(answer.content)["hits"]
        if hits and hits[0]["event_id"] == probe_id(probe.number):
            if probe.counts:
                found.took_ms.append(took_ns / 1e6)
            return
        if probe.token is not None or took_ns > FIND_TIMEOUT_S * 1e9:
            found.missed.append(probe_id(probe.number))
            return
        await asyncio.sleep(given.poll_ms / 1e3)


def main(argv: Sequence[str] | None = None) -> None:
    end_on_sigterm()
    given = arguments(argv)
    figures, versions = run(given)
    show("freshness", given, figures, versions, as_json=given.json)


if __name__ == "__main__":
    main()
