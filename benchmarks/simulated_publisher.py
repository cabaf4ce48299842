"""The simulated systems' publisher, in a process of its own; started by benchmarks.systems.

    python -m benchmarks.simulated_publisher --systems 10000 --events 600000 --rate 5000

Publishes through EventPublisher to the broker of the settings, as fast as --rate allows, and prints one JSON object
when all is acknowledged: what was sent, and how many rows must be live now.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Iterable

import orjson

from akasha_stream.events.model import Event
from akasha_stream.logs import configure
from akasha_stream.publish.delivery import Delivery
from akasha_stream.publish.publisher import EventPublisher
from akasha_stream.settings import Settings
from benchmarks.data import load
from benchmarks.simulator import Load, Simulation

TICK_S = 0.001
"""Shorter waits are not worth a sleep."""


async def run(given: argparse.Namespace) -> None:
    settings = Settings.load()
    configure(settings.logging)  # to stderr: stdout has the answer
    simulation = Simulation(
        Load(given.systems, given.events, simulated_s=given.simulated_s, seed=given.seed), load(given.seed)
    )
    failed = 0

    def done(future: asyncio.Future[Delivery]) -> None:
        nonlocal failed
        failed += future.exception() is not None

    async with EventPublisher(settings) as publisher:

        async def publish(events: Iterable[Event]) -> float:
            began = time.monotonic()
            for sent, event in enumerate(events):
                ahead = sent / given.rate - (time.monotonic() - began)
                if ahead > TICK_S:
                    await asyncio.sleep(ahead)
                (await publisher.publish(event)).add_done_callback(done)
            await publisher.flush()
            return time.monotonic() - began

        publish_s = await publish(simulation)
        await publish(simulation.again(given.again))
    answer = {
        "sent": given.events,
        "failed": failed,
        "publish_s": publish_s,
        "live": len(simulation.live),
        "systems": len(simulation.seen),
    }
    sys.stdout.buffer.write(orjson.dumps(answer) + b"\n")


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.simulated_publisher", description=__doc__)
    parser.add_argument("--systems", type=int, required=True)
    parser.add_argument("--events", type=int, required=True)
    parser.add_argument("--rate", type=float, default=5_000.0, help="events a second")
    parser.add_argument("--simulated-s", type=float, default=3_600.0, help="event time that they are spread over")
    parser.add_argument("--again", type=int, default=0, help="events that are sent once more afterwards")
    parser.add_argument("--seed", type=int, default=1)
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
