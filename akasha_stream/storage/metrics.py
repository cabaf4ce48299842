"""Metrics of the object stores, by OpenTelemetry: those of telemetry/catalog.py that begin with akasha.storage.

Without a MeterProvider of the application's or the worker's they cost next to nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import metrics

from akasha_stream.storage.breaker import State
from akasha_stream.telemetry import catalog
from akasha_stream.telemetry.recorded import counter, gauge, histogram
from akasha_stream.telemetry.tracing import span

_meter = metrics.get_meter("akasha_stream.storage")
_duration = histogram(_meter, catalog.STORAGE_DURATION)
_io = counter(_meter, catalog.STORAGE_IO)
_retries = counter(_meter, catalog.STORAGE_RETRIES)
_breaker = gauge(_meter, catalog.STORAGE_BREAKER)

_STATES: dict[State, int] = {"closed": 0, "half_open": 1, "open": 2}


class StorageMetrics:
    """The instruments with one adapter's attributes."""

    def __init__(self, provider: str, tier: str, bucket: str) -> None:
        self._attributes = {"akasha.storage.provider": provider, "akasha.storage.tier": tier}
        self._of_span = {"storage.provider": provider, "storage.tier": tier, "storage.bucket": bucket}
        self._bucket = bucket

    @contextmanager
    def operation(self, name: str) -> Iterator[None]:
        """Measures it; its span is a child of the search's or spill's that waits for it, if that is traced."""
        attributes = {**self._attributes, "akasha.storage.operation": name}
        start = time.perf_counter()
        try:
            with span(f"storage.{name}", **self._of_span):
                yield
        except BaseException as error:
            attributes["error.type"] = type(error).__name__
            raise
        finally:
            _duration.record(time.perf_counter() - start, attributes)

    def read(self, size: int) -> None:
        _io.add(size, {**self._attributes, "akasha.storage.direction": "read"})

    def written(self, size: int) -> None:
        _io.add(size, {**self._attributes, "akasha.storage.direction": "write"})

    def retried(self, operation: str) -> None:
        _retries.add(1, {**self._attributes, "akasha.storage.operation": operation})

    def breaker(self, state: State) -> None:
        _breaker.set(_STATES[state], {**self._attributes, "akasha.storage.bucket": self._bucket})
