"""How often each caller may ask: a token bucket each."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from akasha_stream.errors import TooManyRequests

MOST_CALLERS = 10_000
"""Buckets that are kept; the one not asked for longest goes first."""


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at_s: float


class Rates:
    """`per_s` None: no limit."""

    def __init__(self, per_s: float | None, burst: int, *, clock: Callable[[], float] = monotonic) -> None:
        self._per_s = per_s
        self._burst = float(burst)
        self._clock = clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, caller: str) -> None:
        """Raises TooManyRequests."""
        if self._per_s is None:
            return
        now = self._clock()
        bucket = self._buckets.get(caller)
        if bucket is None:
            bucket = self._buckets[caller] = _Bucket(self._burst, now)
            if len(self._buckets) > MOST_CALLERS:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(caller)
        bucket.tokens = min(self._burst, bucket.tokens + (now - bucket.at_s) * self._per_s)
        bucket.at_s = now
        if bucket.tokens < 1.0:
            wait_s = (1.0 - bucket.tokens) / self._per_s
            raise TooManyRequests(f"more than {self._per_s:g} requests a second, and {self._burst:g} at once", wait_s)
        bucket.tokens -= 1.0
