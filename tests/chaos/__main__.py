"""Seeded histories of faults on real Kafka, workers, Redis and an object store; what must hold is checked after each.

    uv run python -m tests.chaos --schedules 20 --seed 1 --json
    uv run python -m tests.chaos --schedules 1 --seed 17          what a failing seed did, step by step
    uv run python -m tests.chaos --schedules 10 --broken put_without_condition

A seed gives the same events and the same steps each time; how they interleave with the workers is up to the machine.
docs/testing.md says more. Exit code 1 where anything did not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import math
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from akasha_stream.logs import configure
from akasha_stream.settings import LoggingSettings
from tests.chaos.nursery import Nursery
from tests.chaos.plan import Fault, Plan, plan_of
from tests.chaos.schedule import Schedule, run_schedule
from tests.chaos.servers import Servers
from tests.chaos.violation import Violation


@dataclass(slots=True)
class Report:
    schedules: int = 0
    failed: list[int] = field(default_factory=list)
    """Seeds"""
    faults: Counter[str] = field(default_factory=Counter)
    events: int = 0
    """Acknowledged by Kafka."""
    found: list[Violation] = field(default_factory=list)
    seconds: float = 0.0

    def count(self, kind: str) -> int:
        return sum(each.count for each in self.found if each.kind == kind)

    def as_json(self) -> dict[str, Any]:
        return {
            "schedules": self.schedules,
            "failed_seeds": self.failed,
            "faults_by_kind": dict(sorted(self.faults.items())),
            "events": self.events,
            "lost": self.count("lost"),
            "duplicated": self.count("duplicated"),
            "wrong": self.count("wrong"),
            "seconds": round(self.seconds, 1),
        }


async def run(
    plans: Iterable[Plan],
    *,
    broken: str | None = None,
    keep: Path | None = None,
    until_found: bool = False,
    seconds: float = math.inf,
) -> Report:
    """`keep`: where the files of failing schedules go. `until_found`: no further once something did not hold.

    `seconds`: none begins later than that.
    """
    report = Report()
    began = time.monotonic()
    with Servers() as servers:
        async with Nursery(broken) as nursery:
            for plan in plans:
                folder = Path(tempfile.mkdtemp(prefix=f"chaos-{plan.seed}-"))
                started = time.monotonic()
                schedule, found = await run_schedule(plan, servers, nursery, folder)
                report.schedules += 1
                report.faults += schedule.faults
                report.events += len(schedule.stage.acknowledged)
                report.found += found
                if found:
                    report.failed.append(plan.seed)
                    if keep is not None:
                        shutil.copytree(folder, keep / folder.name)
                shutil.rmtree(folder, ignore_errors=True)
                _tell(plan, schedule, found, time.monotonic() - started, broken)
                if (found and until_found) or time.monotonic() > began + seconds:
                    break
    report.seconds = time.monotonic() - began
    return report


def _tell(plan: Plan, schedule: Schedule, found: list[Violation], seconds: float, broken: str | None) -> None:
    faults = ", ".join(f"{name} {count}" for name, count in sorted(schedule.faults.items()))
    sys.stderr.write(f"{'FAILED' if found else 'ok':6} {plan} in {seconds:.1f} s; {faults}\n")
    if not found:
        return
    lines = [*(f"{each.kind}: {each.text}" for each in found), *schedule.done, *schedule.stage.notes]
    again = f"again: python -m tests.chaos --schedules 1 --seed {plan.seed}{plan.drawn_with}"
    again += "" if broken is None else f" --broken {broken}"
    sys.stderr.write("".join(f"    {line}\n" for line in [*lines, again]))


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--schedules", type=int, default=20)
    made.add_argument("--seed", type=int, default=1, help="of the first; the others follow it")
    made.add_argument("--seconds", type=float, default=math.inf, help="begin none later than that")
    made.add_argument("--brokers", type=int, choices=[1, 3], help="instead of those that the seed draws")
    made.add_argument("--fault", type=Fault, help="every schedule has this one: " + ", ".join(Fault))
    made.add_argument("--broken", help="break the workers on purpose, until it is found: a name of broken.py")
    made.add_argument("--keep", type=Path, help="a folder for the files of schedules that fail")
    made.add_argument("--json", action="store_true", help="the report on one line")
    return made


def main() -> int:
    given = parser().parse_args()
    configure(LoggingSettings(level="error"))
    logging.disable(logging.CRITICAL)  # what a client says while its broker is away
    plans = [plan_of(seed, given.brokers, given.fault) for seed in range(given.seed, given.seed + given.schedules)]
    report = asyncio.run(
        run(plans, broken=given.broken, keep=given.keep, until_found=given.broken is not None, seconds=given.seconds)
    )
    sys.stdout.write(json.dumps(report.as_json(), indent=None if given.json else 2) + "\n")
    return 1 if report.found else 0


if __name__ == "__main__":
    sys.exit(main())
