"""Searches over one kept-alive HTTP connection, from a process of its own; started by the benchmarks.

    python -m benchmarks.http_searches PORT QUERIES.npy COUNT

Prints one JSON object: {"ms": [...]}, the time of each from the request's first byte to the answer's last.
"""

from __future__ import annotations

import http.client
import json
import sys
import time

import numpy as np


def main(arguments: list[str]) -> None:
    port, file, count = int(arguments[0]), arguments[1], int(arguments[2])
    queries = np.load(file)
    bodies = [json.dumps({"vector": query.tolist(), "k": 10}).encode() for query in queries]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    took = []
    for number in range(-20, count):
        began = time.perf_counter()
        connection.request("POST", "/v1/search", bodies[number % len(bodies)], {"content-type": "application/json"})
        response = connection.getresponse()
        answer = response.read()
        if number >= 0:  # those before warm up
            took.append((time.perf_counter() - began) * 1e3)
        if response.status != 200:
            sys.exit(f"HTTP {response.status}: {answer[:500]!r}")
    print(json.dumps({"ms": took}))


if __name__ == "__main__":
    main(sys.argv[1:])
