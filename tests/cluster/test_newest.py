"""The newest events of all workers, page by page, as one engine over all rows lists them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from akasha_stream.auth.systems import EVERY, Systems
from akasha_stream.cluster.cluster import Cluster
from akasha_stream.errors import UsageError
from akasha_stream.partitioner import partition_of
from akasha_stream.search.query import RecentRequest, StoredEvent
from tests.cluster.fleet import PARTITIONS, Fleet
from tests.search.memory_store import Row

THREE = ([0, 3], [1, 4], [2, 5])
START = datetime(2026, 7, 1, tzinfo=UTC)


def rows(minutes: list[int]) -> list[Row]:
    return [
        Row(f"system-{n % 7}", str(n), [1.0] * 8, created_at=START + timedelta(minutes=minute))
        for n, minute in enumerate(minutes)
    ]


async def pages(cluster: Cluster, limit: int, *systems: str, within: Systems = EVERY) -> list[StoredEvent]:
    """All of them."""
    found: list[StoredEvent] = []
    cursor = None
    while True:
        page = await cluster.recent(RecentRequest(systems=list(systems), limit=limit, cursor=cursor), within)
        assert page.complete, page.incomplete
        assert len(page.events) <= limit
        found += page.events
        cursor = page.next
        if cursor is None:
            return found


@settings(max_examples=40)
@given(st.lists(st.integers(0, 15), max_size=50), st.integers(1, 9), st.sets(st.sampled_from(["system-1", "nobody"])))
async def test_pages_are_those_of_one_engine(minutes: list[int], limit: int, systems: set[str]) -> None:
    """At equal times too, and whatever is on whose page: no event is missing, and none comes twice."""
    async with Fleet(rows(minutes), THREE) as fleet:
        expected = await fleet.alone.recent(RecentRequest(systems=sorted(systems), limit=100))
        for node in fleet.nodes:
            assert await pages(node.cluster, limit, *sorted(systems)) == expected.events


@pytest.mark.parametrize(("how", "reason"), [("down", "worker_unreachable"), ("broken", "worker_failed")])
async def test_whose_events_are_missing_is_said(how: str, reason: str) -> None:
    async with Fleet(rows([*range(40)]), THREE) as fleet:
        getattr(fleet.network, how).add(fleet.nodes[1].url)
        page = await fleet.nodes[0].cluster.recent(RecentRequest(limit=100), EVERY)
        assert {each.partition: each.reason for each in page.incomplete} == {1: reason, 4: reason}
        assert not page.complete
        there = [f"system-{n}" for n in range(7) if partition_of(f"system-{n}", PARTITIONS) not in THREE[1]]
        assert {event.source_system for event in page.events} == set(there)


async def test_only_what_the_caller_sees_is_listed() -> None:
    async with Fleet(rows([*range(40)]), THREE) as fleet:
        for node in fleet.nodes:
            found = await pages(node.cluster, 3, within=Systems.of(["system-2"]))
            assert [event.event_id for event in found] == ["37", "30", "23", "16", "9", "2"]


async def test_a_cursor_that_is_none_is_refused() -> None:
    async with Fleet(rows([1]), THREE) as fleet:
        with pytest.raises(UsageError, match="cursor"):
            await fleet.nodes[0].cluster.recent(RecentRequest(cursor="nonsense"), EVERY)
