"""A seeded fuzzer of the decoder: the bytes, keys, headers and timestamps of Kafka records of anyone.

    uv run python -m tests.fuzz --cases 20000 --seed 1 --json
    uv run python -m tests.fuzz --cases 1 --first 1234 --seed 1        a case that failed, with its traceback

A case is one call of the decoder, with one to five records. What must hold after each is in tests/fuzz/check.py. Cases
run in processes of their own, some thousand in each: one that kills or hangs its process, or takes memory for good, is
found as well. docs/testing.md says more. Exit code 1 where anything did not hold.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

from tests.fuzz.cases import case
from tests.fuzz.check import Seen, check
from tests.fuzz.running import product, run_apart


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--json", action="store_true", help="the report on one line")
    given = parser.parse_args()
    if given.cases == 1:
        check(case(given.seed, given.first), product(), Seen())
    began = time.monotonic()
    report = run_apart(given.seed, given.first, given.cases)
    figures = {**report.as_json(), "seconds": round(time.monotonic() - began, 1)}
    sys.stdout.write(json.dumps(figures, indent=None if given.json else 2) + "\n")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
