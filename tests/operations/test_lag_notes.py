"""What `lag` says of workers that did not tell how far they are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from akasha_stream.lookups.workers import Worker
from akasha_stream.operations.lag import LagMeter
from akasha_stream.operations.workers import Workers, WorkerState
from akasha_stream.settings import Settings
from akasha_stream.topics.reader import TopicReader


class Reader:
    topic = "events"
    partitions = (0, 1)

    async def beginnings(self) -> dict[int, int]:
        return dict.fromkeys(self.partitions, 0)

    ends = beginnings

    async def between(self, *_: Any, **__: Any) -> AsyncIterator[list[Any]]:
        for records in list[list[Any]]():
            yield records


async def test_a_worker_that_refuses_is_named_and_its_partitions_have_a_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    async def none_committed(*_: Any) -> dict[int, int]:
        return {}

    monkeypatch.setattr("akasha_stream.operations.lag.committed_offsets", none_committed)
    now = datetime.now(UTC)
    one = Worker(
        id="one", host="h", url="http://one", pid=1, version="1", started_at=now, heartbeat_at=now, partitions=(0,)
    )
    refusing = WorkerState("http://one", one, error="refuses: an API key is needed", refused=True)
    lag = await LagMeter(Settings.load()).look(cast("TopicReader", Reader()), Workers((refusing,)))
    assert lag.notes[0] == "worker one at http://one refuses: an API key is needed"
    assert "partitions without a reader: 1;" in lag.notes[1]
