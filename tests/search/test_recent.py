"""The newest events in pages, against sorting all of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from akasha_stream.errors import UsageError
from akasha_stream.search.engine import SearchEngine
from akasha_stream.search.query import RecentRequest, StoredEvent
from akasha_stream.search.recent import Place
from akasha_stream.settings import Limits, RetentionSettings, SearchSettings, Settings
from tests.search.memory_store import MemoryStore, Row

START = datetime(2026, 7, 1, tzinfo=UTC)
VECTOR = [1.0] * 8


def engine_of(store: MemoryStore, retention: RetentionSettings | None = None) -> SearchEngine:
    settings = Settings(
        limits=Limits(dimensions=8), search=SearchSettings(threads=1), retention=retention or RetentionSettings()
    )
    return SearchEngine(store, settings)


async def pages(engine: SearchEngine, limit: int, *systems: str) -> list[list[StoredEvent]]:
    found = []
    cursor = None
    while True:
        page = await engine.recent(RecentRequest(systems=list(systems), limit=limit, cursor=cursor))
        found.append(page.events)
        cursor = page.next
        if cursor is None:
            return found


batches = st.lists(
    st.lists(
        st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(0, 12), st.integers(0, 5)), min_size=1, max_size=12
    ),
    max_size=6,
)


@given(batches, st.integers(1, 7), st.sets(st.sampled_from(["a", "b", "nobody"])))
async def test_pages_are_all_events_sorted(
    written: list[list[tuple[str, int, int]]], limit: int, systems: set[str]
) -> None:
    """Equal times, replaced events, several partitions and segments."""
    store = MemoryStore(3)
    number = count()
    newest: dict[tuple[str, str], tuple[datetime, str]] = {}
    for batch in written:
        rows = {}
        for system, event, second in batch:
            content = f"{next(number)}"
            rows[system, str(event)] = Row(
                system, str(event), VECTOR, content, created_at=START + timedelta(seconds=second)
            )
        store.add(list(rows.values()))
        newest |= {identity: (row.created_at, row.content) for identity, row in rows.items()}
    engine = engine_of(store)
    try:
        found = await pages(engine, limit, *systems)
    finally:
        engine.close()
    flat = [event for page in found for event in page]
    expected = {key: value for key, value in newest.items() if not systems or key[0] in systems}
    assert {(e.source_system, e.event_id): (e.created_at, e.content) for e in flat} == expected
    assert len(flat) == len(expected)
    assert all(len(page) == limit for page in found[:-1])
    times = [event.created_at for event in flat]
    assert times == sorted(times, reverse=True)


async def test_what_comes_meanwhile_moves_nothing() -> None:
    store = MemoryStore(2)
    store.add([Row("s", str(n), VECTOR, created_at=START + timedelta(seconds=n)) for n in range(10)])
    engine = engine_of(store)
    first = await engine.recent(RecentRequest(limit=4))
    store.add([Row("s", f"new-{n}", VECTOR, created_at=START + timedelta(days=1 + n)) for n in range(5)])
    second = await engine.recent(RecentRequest(limit=4, cursor=first.next))
    assert [e.event_id for e in first.events + second.events] == [str(n) for n in range(9, 1, -1)]
    engine.close()


async def test_deleted_and_expired_ones_are_left_out_and_foreign_partitions_named() -> None:
    now = datetime.now(UTC)
    store = MemoryStore(4)
    store.add([Row("s", str(n), VECTOR, created_at=now - timedelta(days=n)) for n in range(6)])
    store.delete("s", "1")
    engine = engine_of(store, RetentionSettings(days=3.5))
    page = await engine.recent(RecentRequest())
    assert [e.event_id for e in page.events] == ["0", "2", "3"]
    assert (page.complete, page.next) == (True, None)
    store._owned.remove(store.find("s", "0")[0].partition)  # type: ignore[index]
    page = await engine.recent(RecentRequest())
    assert (page.events, page.complete) == ([], False)
    assert [each.reason for each in page.incomplete] == ["partition_not_owned"]
    engine.close()


@pytest.mark.parametrize("cursor", ["", "x", "1.2", "1.2.3.4", "1.2.-3", "1.2.99999999999999999999", "１.2.3"])
def test_a_cursor_that_is_none(cursor: str) -> None:
    with pytest.raises(UsageError, match="cursor"):
        Place.parse(cursor)


@given(st.integers(-(10**16), 10**16), st.integers(0, 10**8), st.integers(0, 2**63 - 1))
def test_a_place_is_read_back(created_at: int, partition: int, position: int) -> None:
    place = Place(created_at, partition, position)
    assert Place.parse(str(place)) == place
