"""Where an assignment is read from, when the next one comes while its shards are opened."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import IllegalStateError
from faust.types import TP

from akasha_stream.stream.consumer import RunConsumer

KEPT, TAKEN = TP("t", 0), TP("t", 1)


class Consumer(RunConsumer):
    """With nothing of Faust behind it. It has `first`, and what is `then` once shards were opened."""

    def __init__(self, first: set[TP], then: set[TP]) -> None:
        self.app: Any = SimpleNamespace(
            assignment_number=0,
            start_offsets=self._opens,
            group=SimpleNamespace(generation=lambda: 1, ready=lambda generation, partitions: None),
            crash=self._report,
        )
        self.assigned, self._next = first, then
        self.opened: list[set[TP]] = []
        self.reported: list[Exception] = []
        self.sought: dict[TP, int] = {}
        self._seeking = asyncio.Lock()
        self._thread: Any = SimpleNamespace(seek_wait=self._seeks, _consumer=None)

    def assignment(self) -> set[TP]:
        return self.assigned

    async def _opens(self, partitions: set[TP], member_id: str) -> dict[TP, int]:
        self.opened.append(partitions)
        self.assigned = self._next
        return dict.fromkeys(partitions, 7)

    async def _seeks(self, offsets: dict[TP, int]) -> None:
        for tp, offset in offsets.items():
            if tp not in self.assigned:
                raise IllegalStateError(f"No current assignment for partition {tp}")
            self.sought[tp] = offset

    async def _report(self, error: Exception) -> None:
        self.reported.append(error)


async def test_a_partition_that_is_taken_again_while_shards_are_opened_ends_no_stream() -> None:
    consumer = Consumer(first={KEPT, TAKEN}, then={KEPT})
    assert await consumer.seek_to_committed() == {KEPT: 7}
    assert consumer.opened == [{KEPT, TAKEN}, {KEPT}]
    assert consumer.sought == {KEPT: 7}
    assert not consumer.reported
    assert consumer.app.assignment_number == 2, "what was fetched for the first assignment is fetched again"


async def test_a_seek_that_fails_for_another_reason_does() -> None:
    consumer = Consumer(first={KEPT}, then={KEPT})

    async def refuse(offsets: dict[TP, int]) -> None:
        raise IllegalStateError("no")

    consumer._thread.seek_wait = refuse
    with pytest.raises(IllegalStateError):
        await consumer.seek_to_committed()
    assert len(consumer.reported) == 1
