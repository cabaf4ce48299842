"""Many searchers at once, in a process of their own; started by benchmarks.load.

    python -m benchmarks.http_searchers PORT QUERIES.npy SEARCHERS SECONDS

Each has a connection of its own and asks again as soon as it has its answer. Prints one JSON object: {"ms": [...]} of
all that were answered with 200, {"statuses": {"200": n, …}} of all answers, {"errors": {"…": n}} of what was no answer,
and {"incomplete": n} of the answers that say so.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter

import aiohttp
import numpy as np
import orjson


async def run(port: int, bodies: list[bytes], searchers: int, seconds: float) -> dict[str, object]:
    took: list[float] = []
    statuses: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    incomplete = 0
    url, end = f"http://127.0.0.1:{port}/v1/search", time.monotonic() + seconds

    async def search(session: aiohttp.ClientSession, number: int) -> None:
        nonlocal incomplete
        while time.monotonic() < end:
            body = bodies[number % len(bodies)]
            number += searchers
            began = time.perf_counter()
            try:
                async with session.post(url, data=body, headers={"content-type": "application/json"}) as response:
                    answer = await response.read()
            except (aiohttp.ClientError, TimeoutError) as error:
                errors[type(error).__name__] += 1
                continue
            statuses[str(response.status)] += 1
            if response.status == 200:
                took.append(round((time.perf_counter() - began) * 1e3, 2))
                incomplete += not orjson.loads(answer)["complete"]

    connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        await asyncio.gather(*(search(session, number) for number in range(searchers)))
    return {"ms": took, "statuses": dict(statuses), "errors": dict(errors), "incomplete": incomplete}


def main(arguments: list[str]) -> None:
    port, file, searchers, seconds = int(arguments[0]), arguments[1], int(arguments[2]), float(arguments[3])
    bodies = [orjson.dumps({"vector": query.tolist(), "k": 10}) for query in np.load(file)]
    sys.stdout.buffer.write(orjson.dumps(asyncio.run(run(port, bodies, searchers, seconds))) + b"\n")


if __name__ == "__main__":
    main(sys.argv[1:])
