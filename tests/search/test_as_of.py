"""A search as of an earlier moment finds what a plain model of the log had live then."""

from __future__ import annotations

import asyncio
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from akasha_stream.errors import UsageError
from akasha_stream.hot.store import ShardStore
from akasha_stream.incarnation import Incarnation
from akasha_stream.search.as_of import as_of_masks, parse_as_of
from akasha_stream.search.engine import SearchEngine
from akasha_stream.search.query import SearchRequest, SearchResponse
from akasha_stream.search.segment import Span
from tests.hot.log import START_MS, Event, Log, Message, settings_for
from tests.hot.model import Model
from tests.hot.test_model import logs

INCARNATION = Incarnation("cluster", "topic-1")


def opened(folder: str | Path, rows: int = 100) -> ShardStore:
    return ShardStore(settings_for(Path(folder), seal_rows=rows), "topic")


async def search(store: ShardStore, **options: Any) -> SearchResponse:
    engine = SearchEngine(store, settings_for(store.folder))
    try:
        return await engine.search(SearchRequest(vector=[1.0] * 8, k=1_000, **options))
    finally:
        engine.close()


def found(answer: SearchResponse) -> dict[tuple[str, str], tuple[int, str | None]]:
    rows = {}
    for hit in answer.hits:
        assert hit.position is not None
        assert (hit.source_system, hit.event_id) not in rows
        rows[hit.source_system, hit.event_id] = (hit.position.offset << 16 | hit.position.index, hit.content)
    return rows


def expected(log: Log, count: int) -> dict[tuple[str, str], tuple[int, str]]:
    model = Model(settings_for(Path()).dedupe).run(Log(log.messages[:count], log.offsets[:count]))
    return {identity: (position, content) for identity, (position, content, _) in model.expected().items()}


@settings(max_examples=25, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(log=logs, rows=st.integers(3, 12), at=st.integers(0, 29), reopened=st.booleans(), sealed=st.booleans())
async def test_as_of_any_offset_a_search_finds_what_the_model_had(
    *, log: Log, rows: int, at: int, reopened: bool, sealed: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = opened(folder, rows)
        try:
            log.apply(store.open(0, INCARNATION))
            if sealed:
                assert store.wait_sealed(60)
            if reopened:
                store.close_all()
                store = opened(folder, rows)
                store.open(0, INCARNATION)
            number = at % len(log)
            answer = await search(store, as_of=f"0:{log.offsets[number]}")
            assert found(answer) == expected(log, number + 1)
            assert answer.complete
            assert found(await search(store)) == expected(log, len(log))
        finally:
            store.close_all()


async def test_as_of_a_time_and_where_that_is_not_known(tmp_path: Path) -> None:
    def message(event: Event, at: int) -> Message:
        return Message((event,), appended_s=at)

    first, second = Event("a", "1", "x"), Event("a", "1", "y")
    log = Log.of([message(first, 0), message(Event("a", "2", "z", 7), 10), message(second, 20)])
    store = opened(tmp_path)
    log.apply(store.open(0, INCARNATION))

    def time(seconds: int) -> str:
        return datetime.fromtimestamp(START_MS / 1000 + seconds, UTC).isoformat()

    for seconds, count in ((-5, 0), (0, 1), (5, 1), (10, 2), (19, 2), (20, 3), (1000, 3)):
        answer = await search(store, as_of=time(seconds))
        assert found(answer) == expected(log, count), seconds
        assert answer.complete
    gone = Log.of([message(Event("a", "2", delete=True), 30), message(Event("a", "3", "w", 9), 40)], start=log.end)
    gone.apply(store.open(0, INCARNATION))
    unsure = await search(store, as_of=time(35))
    assert [(each.reason, each.partition) for each in unsure.incomplete] == [("as_of", 0)]
    assert (await search(store, as_of=time(45))).complete
    store.close_all()


async def test_what_was_forgotten_since_is_said_and_not_found(tmp_path: Path) -> None:
    log = Log.of([Message((Event("a", "1", "x"), Event("b", "1", "y", 5))), Message((), forgets="a")])
    log = Log((*log.messages, Message((Event("b", "2", "z", 9),))), (*log.offsets, 2))
    store = opened(tmp_path)
    log.apply(store.open(0, INCARNATION))
    for _ in range(2):
        then = await search(store, as_of="0:0")
        assert list(found(then)) == [("b", "1")]
        assert [each.reason for each in then.incomplete] == ["as_of"]
        assert "forgotten" in then.incomplete[0].detail
        assert store.wait_sealed(60)  # rewritten without it
    assert (await search(store, as_of="0:2")).complete
    store.close_all()


async def test_a_record_that_is_not_stored_yet_is_waited_for_and_then_named(tmp_path: Path) -> None:
    store = opened(tmp_path)
    log = Log.of([Message((Event("a", str(i), f"text {i}", i),)) for i in range(4)])
    shard = store.open(0, INCARNATION)
    log.apply(shard)
    late = await search(store, as_of="0:4", after_timeout_s=0.05)
    assert [(each.reason, each.partition) for each in late.incomplete] == [("freshness_timeout", 0)]
    assert found(late) == expected(log, 4)
    asked = asyncio.create_task(search(store, as_of="0:5", after_timeout_s=60))
    for number in (4, 5):
        await asyncio.sleep(0.05)
        assert not asked.done()
        more = Log.of([Message((Event("a", str(number), f"text {number}", number),))], start=number)
        more.apply(shard)
        store.advanced(shard)
        log = Log((*log.messages, *more.messages), (*log.offsets, *more.offsets))
    answer = await asked
    assert answer.complete
    assert found(answer) == expected(log, 6)
    store.close_all()


@pytest.mark.parametrize("rows", [100, 1])
async def test_before_what_is_stored_nothing_is_known(tmp_path: Path, rows: int) -> None:
    """Kafka had let the first records go when the shard began."""
    store = opened(tmp_path, rows)
    log = Log.of([Message((Event("a", str(i), f"text {i}", i),), appended_s=10 * i) for i in range(3)], start=7)
    log.apply(store.open(0, INCARNATION, 7))
    empty = opened(tmp_path / "empty")
    empty.open(0, INCARNATION)
    at = datetime.fromtimestamp(START_MS / 1000 - 1, UTC).isoformat()
    for moment in ("0:0", "0:6", at):
        before = await search(store, as_of=moment)
        assert [(each.reason, each.partition) for each in before.incomplete] == [("as_of", 0)], moment
        assert "from offset 7 on" in before.incomplete[0].detail
        assert before.hits == []
    for moment, count in (("0:7", 1), ("0:9", 3)):
        answer = await search(store, as_of=moment)
        assert answer.complete
        assert found(answer) == expected(log, count)
    assert (await search(empty, as_of=at)).complete  # from the first record on: there was nothing
    store.close_all()
    store = opened(tmp_path, rows)
    assert store.open(0, INCARNATION).span() == Span(7 << 16, 10 << 16)
    store.close_all()
    empty.close_all()


class _Rewritten:
    """As much of a remote view as as_of_masks asks for."""

    name, partition, rows, tier, path, rewritten = "x", 0, 2, "warm", "some/object", True
    positions = np.array([1 << 16, 5 << 16])
    ended = np.array([9 << 16, np.iinfo(np.int64).max])
    appended_at = np.array([0, 1])


def test_a_rewritten_object_makes_an_earlier_moment_incomplete() -> None:
    view: Any = _Rewritten()
    spans = {0: Span(0, 10 << 16)}
    [(_, live)], [incomplete] = as_of_masks([view], parse_as_of("0:7", 1), spans, {})
    assert live.tolist() == [True, True]
    assert (incomplete.reason, incomplete.tier, incomplete.path) == ("as_of", "warm", "some/object")
    [(_, live)], nothing = as_of_masks([view], parse_as_of("0:9", 1), spans, {})
    assert (live.tolist(), nothing) == ([False, True], [])


@pytest.mark.parametrize("text", ["yesterday", "2026-07-01T00:00:00", "5:1", "0:", ""])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="as_of"):
        parse_as_of(text, 2)
