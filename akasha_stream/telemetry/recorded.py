"""What is measured where it happens. Once a batch, once a commit, once a search: never once an event."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

import numpy as np
from opentelemetry.metrics import Counter, Histogram, Meter, NoOpMeter
from opentelemetry.metrics import _Gauge as Gauge

from akasha_stream.telemetry import catalog
from akasha_stream.telemetry.catalog import Metric


def histogram(meter: Meter, metric: Metric) -> Histogram:
    return meter.create_histogram(
        metric.name, metric.unit, metric.meaning, explicit_bucket_boundaries_advisory=metric.bounds
    )


def counter(meter: Meter, metric: Metric) -> Counter:
    return meter.create_counter(metric.name, metric.unit, metric.meaning)


def gauge(meter: Meter, metric: Metric) -> Gauge:
    return meter.create_gauge(metric.name, metric.unit, metric.meaning)


RECENT_S = 60.0
_MOST_RECENT = 4_096


@dataclass(frozen=True, slots=True)
class Freshness:
    """From a record's timestamp until it was searchable, of the commits of the last minute."""

    p50_s: float
    p99_s: float
    commits: int


class IngestDurations:
    """Of batches and commits, and how fresh what they hold is. In any thread; some microseconds a call."""

    def __init__(self, meter: Meter | None = None, *, topic: str = "", group: str = "") -> None:
        """`meter` None: nothing is recorded."""
        meter = meter or NoOpMeter(__name__)
        self._process = histogram(meter, catalog.PROCESS_DURATION)
        self._commit = histogram(meter, catalog.COMMIT_DURATION)
        self._freshness = histogram(meter, catalog.FRESHNESS)
        self._of_topic = messaging(topic, "process") | {catalog.GROUP: group}
        self._of_commit = {"db.system.name": "duckdb", "db.operation.name": "COMMIT"}
        self._recent: deque[tuple[float, float]] = deque(maxlen=_MOST_RECENT)

    def processed(self, seconds: float) -> None:
        self._process.record(seconds, self._of_topic)

    def committed(self, seconds: float, error: Exception | None = None) -> None:
        failed = {} if error is None else {catalog.ERROR: type(error).__name__}
        self._commit.record(seconds, self._of_commit | failed)

    def searchable(self, oldest_timestamp_ms: int) -> None:
        seconds = max(0.0, time.time() - oldest_timestamp_ms / 1000)
        self._freshness.record(seconds)
        self._recent.append((time.monotonic(), seconds))

    def freshness(self) -> Freshness | None:
        """None where nothing was committed in the last minute."""
        since = time.monotonic() - RECENT_S
        # Copied as a whole first: commits go on in other threads.
        seconds = [seconds for at_s, seconds in self._recent.copy() if at_s >= since]
        if not seconds:
            return None
        p50, p99 = np.percentile(seconds, [50, 99]).round(4).tolist()
        return Freshness(p50, p99, len(seconds))


def messaging(topic: str, operation: str) -> dict[str, str]:
    return {catalog.SYSTEM: "kafka", catalog.DESTINATION: topic, catalog.OPERATION: operation}
