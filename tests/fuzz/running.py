"""Running cases: in this process, or in others that they may kill."""

from __future__ import annotations

import faulthandler
import multiprocessing
import resource
import sys
import time
import traceback
from dataclasses import dataclass, field
from typing import Any

from akasha_stream.events.decode import Decoder
from akasha_stream.events.redaction import Redactor
from akasha_stream.settings import RedactionSettings
from tests.fuzz.cases import LIMITS, case
from tests.fuzz.check import Seen, check

SLICE = 50_000
"""Cases of a process."""
WARM = 2_000
"""Cases after which a process has what it needs; what it takes more than that is a leak."""
MOST_GROWTH_MB = 150
MOST_DEATHS = 10
"""Processes that cases ended, after which no more are run."""
HANG_S = 60
"""For a hundred cases, which take some 0.2 s."""


@dataclass(slots=True)
class Report:
    cases: int = 0
    seen: Seen = field(default_factory=Seen)
    failed: dict[int, str] = field(default_factory=dict)
    """Case → what did not hold."""
    growth_mb: float = 0.0
    slowest: tuple[float, int] = (0.0, 0)
    """(ms, case)"""

    def add(self, other: Report) -> None:
        self.cases += other.cases
        self.seen.records += other.seen.records
        self.seen.events += other.seen.events
        self.seen.letters += other.seen.letters
        self.failed |= other.failed
        self.growth_mb = max(self.growth_mb, other.growth_mb)
        self.slowest = max(self.slowest, other.slowest)

    def as_json(self) -> dict[str, Any]:
        return {
            "cases": self.cases,
            "failed": self.failed,
            "records": self.seen.records,
            "events": self.seen.events,
            "letters_by_reason": dict(sorted(self.seen.letters.items())),
            "memory_growth_mb": round(self.growth_mb, 1),
            "slowest_ms": round(self.slowest[0], 1),
            "slowest_case": self.slowest[1],
        }


def product() -> Decoder:
    return Decoder(LIMITS, Redactor(RedactionSettings()))


def run(seed: int, first: int, cases: int, at: Any = None, decoder: Decoder | None = None) -> Report:
    """Cases `first` …, in this process. `at`: told which one is under way. `decoder`: instead of the product's."""
    decoder = decoder or product()
    report = Report(cases=cases)
    warm = 0.0
    for number in range(first, first + cases):
        if at is not None:
            at.value = number
            if number % 100 == 0:
                faulthandler.dump_traceback_later(HANG_S, exit=True)
        if number == first + WARM:
            warm = _most_memory_mb()
        drawn = case(seed, number)
        began = time.perf_counter()
        try:
            check(drawn, decoder, report.seen)
        except Exception as error:  # the rest of the cases is run all the same
            report.failed[number] = _told(error)
        report.slowest = max(report.slowest, ((time.perf_counter() - began) * 1e3, number))
    faulthandler.cancel_dump_traceback_later()
    if cases > WARM:
        report.growth_mb = _most_memory_mb() - warm
        if report.growth_mb > MOST_GROWTH_MB:
            report.failed[first + cases - 1] = f"{report.growth_mb:.0f} MB more than after {WARM} cases"
    return report


def _told(error: Exception) -> str:
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in line {place.lineno} of {place.filename.rpartition('/')[2]}: {error}"[:2_000]


def _most_memory_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _slice(seed: int, first: int, cases: int, at: Any, answer: Any) -> None:
    answer.send(run(seed, first, cases, at))


def run_apart(seed: int, first: int, cases: int) -> Report:
    """In a process, and after one that dies in another: a case that kills it is a failed one."""
    context = multiprocessing.get_context("spawn")
    report = Report()
    end, deaths = first + cases, 0
    while first < end and deaths < MOST_DEATHS:
        at: Any = context.Value("q", first, lock=False)
        theirs, ours = context.Pipe()
        process = context.Process(target=_slice, args=(seed, first, min(SLICE, end - first), at, ours))
        process.start()
        ours.close()
        try:
            part: Report = theirs.recv()
        except EOFError:
            process.join()
            died = f"ended its process: {process.exitcode}"
            # Those before it are run again by nobody: they were sound, or are found when it is mended.
            part = Report(cases=at.value - first + 1, failed={at.value: died})
            deaths += 1
        process.join()
        report.add(part)
        for number, told in part.failed.items():
            sys.stderr.write(f"case {number}: {told}\n")
        first += part.cases
        sys.stderr.write(f"{report.cases} of {cases} cases\n")
    return report
