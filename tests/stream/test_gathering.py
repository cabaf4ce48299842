"""Runs of two fetches, and a rebalance between them."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from akasha_stream.stream.consumer import Run, RunConsumer

HERE, THERE = TP("t", 0), TP("t", 1)


class Consumer(RunConsumer):
    """With nothing of Faust behind it. `meanwhile` runs while the records gather."""

    def __init__(self, meanwhile: Callable[[Any], None]) -> None:
        self.app: Any = SimpleNamespace(assignment_number=1, batch_wait_s=0.0)
        self.flow_active = True
        self._meanwhile = meanwhile

    async def sleep(self, n: Any, *, loop: Any = None) -> None:
        self._meanwhile(self)

    def _get_active_partitions(self) -> set[TP]:
        return {HERE, THERE}


async def gathered(
    monkeypatch: pytest.MonkeyPatch, *fetches: dict[TP, list[Run]], meanwhile: Callable[[Any], None] = lambda _: None
) -> Any:
    answers = iter(fetches)

    async def fetch(consumer: Any, timeout: float) -> Any:
        return next(answers), {HERE, THERE}

    monkeypatch.setattr("faust.transport.drivers.aiokafka.Consumer._wait_next_records", fetch)
    found, active = await Consumer(meanwhile)._wait_next_records(1.0)
    assert active == {HERE, THERE}
    return found


def run(tp: TP, assignment: int) -> Run:
    return Run(tp.topic, tp.partition, (), assignment)


async def test_what_comes_within_the_wait_comes_along(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, other = run(HERE, 1), run(HERE, 1), run(THERE, 1)
    found = await gathered(monkeypatch, {HERE: [first]}, {HERE: [second], THERE: [other]})
    assert found == {HERE: [first, second], THERE: [other]}


async def test_a_run_of_before_the_seek_is_not_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would move Faust's read offset past records that the shard has not stored."""
    after = run(THERE, 2)

    def rebalance(consumer: Any) -> None:
        consumer.app.assignment_number = 2

    assert await gathered(monkeypatch, {HERE: [run(HERE, 1)]}, {THERE: [after]}, meanwhile=rebalance) == {
        THERE: [after]
    }


async def test_a_flow_that_stopped_is_left_to_faust(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which then seeks back, as if nothing had been fetched."""
    before = run(HERE, 1)

    def stop(consumer: Any) -> None:
        consumer.flow_active = False

    assert await gathered(monkeypatch, {HERE: [before]}, meanwhile=stop) == {HERE: [before]}
