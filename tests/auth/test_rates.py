from __future__ import annotations

import pytest

from akasha_stream.auth.rates import MOST_CALLERS, Rates
from akasha_stream.errors import TooManyRequests


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_and_then_the_rate() -> None:
    clock = Clock()
    rates = Rates(2.0, 3, clock=clock)
    for _ in range(3):
        rates.take("a")
    with pytest.raises(TooManyRequests) as refused:
        rates.take("a")
    assert refused.value.retry_after_s == pytest.approx(0.5)
    rates.take("b")  # another caller has a bucket of its own
    clock.now += 0.5
    rates.take("a")
    with pytest.raises(TooManyRequests):
        rates.take("a")
    clock.now += 1_000.0  # no more is saved up than the burst
    for _ in range(3):
        rates.take("a")
    with pytest.raises(TooManyRequests):
        rates.take("a")


def test_without_a_rate_there_is_no_limit() -> None:
    rates = Rates(None, 1)
    for _ in range(100):
        rates.take("a")


def test_buckets_are_bounded() -> None:
    clock = Clock()
    rates = Rates(1.0, 1, clock=clock)
    for number in range(MOST_CALLERS + 10):
        rates.take(str(number))
    assert len(rates._buckets) == MOST_CALLERS
