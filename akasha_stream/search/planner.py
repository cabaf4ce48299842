"""Which index searches which segment: by size, how many rows match, and what was measured in this process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from akasha_stream.search.query import Index

Kind = Literal["hnsw", "codes", "exact"]

_WEIGHT = 0.1
# One measurement may be a thousand times off when the thread waited for a core.
_OUTLIER = 4.0
# HNSW at ef 128 reached recall .973 on 100 k real vectors, the codes .995: HNSW has to earn it.
_HNSW_EF_PER_K = 12
_HNSW_GAIN = 2.0


class Cost:
    """A moving average of what one unit of work takes, in nanoseconds."""

    def __init__(self, prior_ns: float) -> None:
        self.ns = prior_ns
        self.measured = 0

    def observe(self, total_ns: float, units: int) -> None:
        """Threads may interleave here: losing one observation of thousands does no harm."""
        seen = total_ns / max(units, 1)
        if self.measured:
            seen = min(max(seen, self.ns / _OUTLIER), self.ns * _OUTLIER)
            seen = self.ns + _WEIGHT * (seen - self.ns)
        self.ns = seen
        self.measured += 1


class Costs:
    """Priors are measurements on 2 cores, 384 dimensions; they matter for the first few searches only."""

    def __init__(self) -> None:
        self.codes_row = Cost(4.0)
        self.exact_row = Cost(120.0)
        self.hnsw_query = Cost(5_000_000.0)


@dataclass(frozen=True, slots=True)
class Size:
    """What the planner knows of a segment."""

    rows: int
    matching: int
    has_index: bool
    remote: bool = False
    """Its vectors have to be fetched."""


@dataclass(frozen=True, slots=True)
class Choice:
    kind: Kind
    note: str | None = None


def plan(sizes: Sequence[Size], *, k: int, index: Index, exact_rows: int, hnsw_ef: int, costs: Costs) -> list[Choice]:
    """A choice per segment. `index` other than auto forces one, as far as the segment has it."""
    if index == "hnsw":
        return [
            Choice("hnsw") if size.has_index else Choice("codes", "its HNSW index is not built yet") for size in sizes
        ]
    if index != "auto":
        return [Choice(index)] * len(sizes)
    matching = sum(size.matching for size in sizes)
    if matching <= exact_rows:
        return [Choice("exact")] * len(sizes)
    return [_cheapest(size, k, hnsw_ef, costs) for size in sizes]


def _cheapest(size: Size, k: int, hnsw_ef: int, costs: Costs) -> Choice:
    exact_ns = size.matching * costs.exact_row.ns
    # Fewer rows than a quarter: only their codes are read (see candidates.py).
    codes_ns = (size.rows if 4 * size.matching >= size.rows else 2 * size.matching) * costs.codes_row.ns
    if size.remote:
        return Choice("codes")  # the codes are here; what a row's vector costs depends on what is cached
    # Codes of a small segment bring most of its rows to rescoring anyway.
    if exact_ns <= codes_ns or size.matching <= 2 * k:
        return Choice("exact")
    if size.has_index and hnsw_ef >= _HNSW_EF_PER_K * k and size.matching:
        # A filtered HNSW query over-fetches by the inverse of the selectivity.
        hnsw_ns = costs.hnsw_query.ns * size.rows / size.matching
        if hnsw_ns * _HNSW_GAIN < codes_ns:
            return Choice("hnsw")
        # The prior must not decide for ever: try once where it is near.
        if not costs.hnsw_query.measured and hnsw_ns < _HNSW_GAIN * codes_ns:
            return Choice("hnsw", "measuring what its HNSW index costs")
    return Choice("codes")
