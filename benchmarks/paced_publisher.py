"""A producer at a steady rate, in a process of its own; started by the benchmarks.

    python -m benchmarks.paced_publisher --rate 5000 --seconds 10 --first-row 100000

It publishes event by event through EventPublisher, as an application would, with the broker of the settings
(AKASHA_BROKER__BOOTSTRAP_SERVERS). Lines on stdout, one JSON object each:

    {"probe": n, "at_ns": …}           just before publish() of a probe; CLOCK_MONOTONIC, the same for all processes
    {"probe": n, "token": "3:17"}      the probe is acknowledged
    {"sent": …, "failed": …, "publish_s": …}   at the end, all acknowledged
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import gc
import sys
import time
from datetime import UTC, datetime

import numpy as np
import orjson
from numpy.typing import NDArray

from akasha_stream.events.model import Event
from akasha_stream.logs import configure
from akasha_stream.publish.delivery import Delivery
from akasha_stream.publish.publisher import EventPublisher
from akasha_stream.settings import Settings
from benchmarks.data import load, normalised, system_of

POOL = 20_000
TICK_S = 0.001


def probe_id(number: int) -> str:
    return f"probe{number:06d}"


def probe_vector(seed: int, number: int, dimensions: int) -> NDArray[np.float32]:
    """(dimensions,) a direction of its own: nothing else is as near to it, so the first hit tells."""
    rng = np.random.default_rng([seed, 1_000_003, number])
    vector: NDArray[np.float32] = normalised(rng.standard_normal((1, dimensions), np.float32))[0]
    return vector


class _Producer:
    def __init__(self, publisher: EventPublisher) -> None:
        self._publisher = publisher
        self.failed = 0

    async def publish(self, event: Event, probe: int | None) -> None:
        if probe is not None:
            _say({"probe": probe, "at_ns": time.monotonic_ns()})
        future = await self._publisher.publish(event)
        future.add_done_callback(functools.partial(self._done, probe))

    def _done(self, probe: int | None, future: asyncio.Future[Delivery]) -> None:
        if future.exception() is not None:
            self.failed += 1
        elif probe is not None:
            _say({"probe": probe, "token": future.result().token})


async def run(given: argparse.Namespace) -> None:
    settings = Settings.load()
    configure(settings.logging)  # to stderr: stdout has the answers
    corpus = load(given.seed)
    dimensions = corpus.vectors.shape[1]
    vectors = corpus.rows(given.first_row, POOL)
    every = max(1, round(given.rate / given.probes)) if given.probes else 0
    probes = 0
    gc.collect()
    gc.freeze()
    async with EventPublisher(settings) as publisher:
        producer = _Producer(publisher)
        sent, began = 0, time.monotonic()
        while (elapsed := time.monotonic() - began) < given.seconds:
            due = int(elapsed * given.rate)
            while sent < due:
                row = given.first_row + sent
                probe = None
                if every and sent % every == every - 1:
                    probe, probes = probes, probes + 1
                    identity, vector = probe_id(probe), probe_vector(given.seed, probe, dimensions)
                else:
                    identity, vector = f"p{row:09d}", vectors[sent % POOL]
                event = Event(
                    event_id=identity,
                    # Probes come from the same systems as all, so they wait in the same bundles.
                    source_system=system_of(row, given.systems),
                    content=f"{corpus.contents[row % len(corpus.contents)]} [{row}]",
                    embedding=vector,
                    created_at=datetime.now(UTC),
                )
                await producer.publish(event, probe)
                sent += 1
            await asyncio.sleep(TICK_S)
        publish_s = time.monotonic() - began
        await publisher.flush()
        _say({"sent": sent, "failed": producer.failed, "publish_s": publish_s})


def _say(line: dict[str, object]) -> None:
    sys.stdout.buffer.write(orjson.dumps(line) + b"\n")
    sys.stdout.buffer.flush()


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.paced_publisher", description=__doc__)
    parser.add_argument("--rate", type=float, required=True, help="events a second")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--first-row", type=int, default=0)
    parser.add_argument("--systems", type=int, default=100)
    parser.add_argument("--probes", type=float, default=0.0, help="probes a second")
    parser.add_argument("--seed", type=int, default=1)
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
