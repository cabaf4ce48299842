"""Figures of searches: how long each took, by what answered it and whether the answer is complete."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.metrics import Meter, NoOpMeter

from akasha_stream.telemetry import catalog
from akasha_stream.telemetry.recorded import histogram

if TYPE_CHECKING:
    from akasha_stream.search.query import SearchResponse


@dataclass(slots=True)
class Search:
    """One search under way."""

    response: SearchResponse | None = None


class Searches:
    def __init__(self, meter: Meter | None = None) -> None:
        """`meter` None: nothing is recorded."""
        self._duration = histogram(meter or NoOpMeter(__name__), catalog.SEARCH_DURATION)

    @contextmanager
    def measured(self) -> Iterator[Search]:
        search, started = Search(), perf_counter()
        attributes = {catalog.INDEX: "none", catalog.OUTCOME: "error"}
        try:
            yield search
        except Exception as error:
            attributes[catalog.ERROR] = type(error).__name__
            raise
        else:
            if search.response is not None:
                attributes = _answered(search.response)
        finally:
            self._duration.record(perf_counter() - started, attributes)


def _answered(response: SearchResponse) -> dict[str, str]:
    kinds = {segment.index for segment in response.plan}
    index = "none" if not kinds else kinds.pop() if len(kinds) == 1 else "mixed"
    outcome = "complete" if response.complete else "incomplete"
    span = trace.get_current_span()
    if span.is_recording():
        span.set_attributes({catalog.INDEX: index, catalog.OUTCOME: outcome, "akasha.search.hits": len(response.hits)})
    return {catalog.INDEX: index, catalog.OUTCOME: outcome}
