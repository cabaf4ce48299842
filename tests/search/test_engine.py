from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from akasha_stream.errors import EmbedderFailed, EmbedderMissing, EventNotFound, LookupUnavailable, UsageError
from akasha_stream.partitioner import partition_of
from akasha_stream.search.query import Condition, EventRef, Filters, SearchRequest
from akasha_stream.settings import SearchSettings
from tests.search.conftest import MakeEngine
from tests.search.memory_store import MemoryStore, Row

PARTITIONS = 4
EAST: list[float] = [1, 0, 0, 0, 0, 0, 0, 0]
NORTH: list[float] = [0, 1, 0, 0, 0, 0, 0, 0]
BETWEEN: list[float] = [1, 1, 0, 0, 0, 0, 0, 0]


def rows() -> list[Row]:
    return [
        Row("a", "1", EAST, "east", {"n": 1}, datetime(2026, 7, 1, tzinfo=UTC)),
        Row("a", "2", NORTH, "north", {"n": 2}, datetime(2026, 7, 2, tzinfo=UTC)),
        Row("b", "1", BETWEEN, "between", {"tags": ["x"], "deep": {"er": None}}, datetime(2026, 7, 3, tzinfo=UTC)),
    ]


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore(PARTITIONS)
    store.add(rows())
    return store


class Words:
    """An embedder that knows two words."""

    dimensions = 8
    model = "words"

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.array([{"east": EAST, "north": NORTH}.get(t, EAST[:4]) for t in texts], np.float32)


async def test_a_hit_carries_everything_but_the_embedding(store: MemoryStore, make_engine: MakeEngine) -> None:
    response = await make_engine(store).search(SearchRequest(vector=NORTH, k=1))
    (hit,) = response.hits
    partition = partition_of("a", PARTITIONS)
    assert hit.model_dump(mode="json", exclude_unset=True) == {
        "source_system": "a",
        "event_id": "2",
        "similarity": 1.0,
        "content": "north",
        "metadata": {"n": 2},
        "model": "all-MiniLM-L6-v2",
        "created_at": "2026-07-02T00:00:00Z",
        "position": {"partition": partition, "offset": 1, "index": 0},
    }
    assert response.complete
    assert sum(p.rows for p in response.plan) == 3


async def test_a_projection_is_followed(store: MemoryStore, make_engine: MakeEngine) -> None:
    response = await make_engine(store).search(SearchRequest(vector=NORTH, k=1, fields=["embedding", "content"]))
    assert response.hits[0].model_dump(exclude_unset=True) == {
        "source_system": "a",
        "event_id": "2",
        "similarity": 1.0,
        "embedding": NORTH,
        "content": "north",
    }


async def test_text_is_embedded(store: MemoryStore, make_engine: MakeEngine) -> None:
    engine = make_engine(store, embedder=Words())
    response = await engine.search(SearchRequest(text="east", k=1))
    assert response.hits[0].content == "east"
    with pytest.raises(EmbedderFailed, match="4 dimensions"):
        await engine.search(SearchRequest(text="sideways"))


async def test_text_without_an_embedder_names_the_way_out(store: MemoryStore, make_engine: MakeEngine) -> None:
    with pytest.raises(EmbedderMissing, match=r"akasha-stream\[onnx\]"):
        await make_engine(store).search(SearchRequest(text="east"))


async def test_like_leaves_the_event_itself_out(store: MemoryStore, make_engine: MakeEngine) -> None:
    engine = make_engine(store)
    response = await engine.search(SearchRequest(like=EventRef(source_system="a", event_id="1")))
    assert [h.content for h in response.hits] == ["between", "north"]
    with pytest.raises(EventNotFound, match="'9' of source system 'a'"):
        await engine.search(SearchRequest(like=EventRef(source_system="a", event_id="9")))


@pytest.mark.parametrize(
    ("vector", "message"),
    [
        ([1.0] * 7, "has 7 values, and this store's vectors have 8"),
        ([0.0] * 8, "all zeros"),
        ([1e39] * 8, "not a finite 32-bit number"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
async def test_wrong_vectors_are_refused(
    store: MemoryStore, make_engine: MakeEngine, vector: list[float], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        await make_engine(store).search(SearchRequest(vector=vector))


async def test_k_is_limited_by_the_setting(store: MemoryStore, make_engine: MakeEngine) -> None:
    engine = make_engine(store, search=SearchSettings(max_k=5, threads=1))
    with pytest.raises(UsageError, match=r"k: 6 is more than search\.max_k, which is 5"):
        await engine.search(SearchRequest(vector=EAST, k=6))


async def test_partitions_of_others_are_named(make_engine: MakeEngine) -> None:
    mine = partition_of("a", PARTITIONS)
    store = MemoryStore(PARTITIONS, owned=[mine])
    store.add(rows())
    engine = make_engine(store)
    response = await engine.search(SearchRequest(vector=EAST))
    assert not response.complete
    assert {i.partition for i in response.incomplete} == set(range(PARTITIONS)) - {mine}
    assert {i.reason for i in response.incomplete} == {"partition_not_owned"}
    assert len(response.hits) == 2 + (partition_of("b", PARTITIONS) == mine)


async def test_a_system_is_found_in_whatever_partition_it_lies(make_engine: MakeEngine) -> None:
    """The topic may have had fewer partitions, or the producer another partitioner."""
    store = MemoryStore(PARTITIONS)
    store.add(rows())
    other = (partition_of("a", PARTITIONS) + 1) % PARTITIONS
    store.add_segment(
        other,
        np.array([EAST], np.float32),
        pa.table({"source_system": ["a"], "event_id": ["far"], "content": ["far"], "model": ["m"], "metadata": ["{}"]}),
        np.zeros(1, np.int64),
    )
    response = await make_engine(store).search(SearchRequest(vector=EAST, filters=Filters(systems=["a"])))
    assert {h.event_id for h in response.hits} == {"1", "2", "far"}


async def test_a_freshness_token_is_waited_for(store: MemoryStore, make_engine: MakeEngine) -> None:
    engine = make_engine(store)
    partition = partition_of("a", PARTITIONS)
    searching = asyncio.create_task(
        engine.search(SearchRequest(vector=EAST, k=9, after=f"{partition}:{store.next_offset(partition)}"))
    )
    await asyncio.sleep(0.02)
    assert not searching.done()
    store.add([Row("a", "3", EAST, "late")])
    await store.notify()
    response = await searching
    assert response.complete
    assert "late" in {h.content for h in response.hits}


async def test_a_freshness_timeout_is_told(store: MemoryStore, make_engine: MakeEngine) -> None:
    partition = partition_of("a", PARTITIONS)
    response = await make_engine(store).search(
        SearchRequest(vector=EAST, after=f"{partition}:0, {partition}:99", after_timeout_s=0.01)
    )
    assert not response.complete
    (part,) = response.incomplete
    assert (part.reason, part.partition) == ("freshness_timeout", partition)
    assert len(response.hits) == 3


@pytest.mark.parametrize("token", ["", "1", "1:x", "-1:2", "1:2,", "٣:1", "1:2;3:4", "9" * 40 + ":1"])
async def test_a_malformed_token_is_refused(store: MemoryStore, make_engine: MakeEngine, token: str) -> None:
    with pytest.raises(UsageError, match="no freshness token"):
        await make_engine(store).search(SearchRequest(vector=EAST, after=token))


async def test_a_token_of_another_topic_is_refused(store: MemoryStore, make_engine: MakeEngine) -> None:
    with pytest.raises(UsageError, match="names partition 4, and the topic has 4"):
        await make_engine(store).search(SearchRequest(vector=EAST, after="4:1"))


async def test_a_replaced_row_is_never_returned(store: MemoryStore, make_engine: MakeEngine) -> None:
    store.add([Row("a", "1", NORTH, "moved")])
    store.delete("b", "1")
    response = await make_engine(store).search(SearchRequest(vector=EAST))
    assert sorted(h.content or "" for h in response.hits) == ["moved", "north"]


async def test_two_visible_rows_of_one_identity_count_once(store: MemoryStore, make_engine: MakeEngine) -> None:
    store.add([Row("a", "1", EAST, "newer")], mask_old=False)
    response = await make_engine(store).search(SearchRequest(vector=EAST, k=1))
    assert [h.content for h in response.hits] == ["newer"]


async def test_a_search_answers_as_of_its_start(store: MemoryStore, make_engine: MakeEngine) -> None:
    """The row is replaced after it was ranked, and before it is returned."""
    old = next(s for s in store.segments if s.partition == partition_of("a", PARTITIONS))

    def commit() -> None:
        old.on_texts = None
        store.add([Row("a", "1", EAST, "replaced meanwhile")])

    old.on_texts = commit
    engine = make_engine(store)
    response = await engine.search(SearchRequest(vector=EAST, k=1))
    assert [h.content for h in response.hits] == ["east"]
    response = await engine.search(SearchRequest(vector=EAST, k=1))
    assert [h.content for h in response.hits] == ["replaced meanwhile"]


async def test_filters_hold(store: MemoryStore, make_engine: MakeEngine) -> None:
    engine = make_engine(store)

    async def found(filters: Filters) -> list[str | None]:
        return [h.content for h in (await engine.search(SearchRequest(vector=EAST, filters=filters))).hits]

    july_2 = datetime(2026, 7, 2, tzinfo=UTC)
    assert await found(Filters(systems=["b", "unknown"])) == ["between"]
    assert await found(Filters(systems=["unknown"])) == []
    assert await found(Filters(created_before=july_2)) == ["east"]
    assert await found(Filters(created_after=july_2)) == ["between", "north"]
    assert await found(Filters(metadata={"n": Condition(gte=2)})) == ["north"]
    assert await found(Filters(metadata={"n": 2.0})) == ["north"]
    assert await found(Filters(metadata={"n": True})) == []
    assert await found(Filters(metadata={"deep.er": None})) == ["between"]
    assert await found(Filters(metadata={"n": Condition(exists=False)})) == ["between"]


class Table:
    def __init__(self, answer: tuple[int, int] | Exception | None) -> None:
        self.answer = answer

    async def position(self, source_system: str, event_id: str) -> tuple[int, int] | None:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


PLACE = partition_of("a", PARTITIONS)


@pytest.mark.parametrize(
    ("answer", "source"),
    [
        ((PLACE, 1), "lookups"),
        ((PLACE, 0), "shard"),  # the table lags: another event's place
        ((PLACE, 77), "shard"),
        (None, "shard"),
        (LookupUnavailable("gone"), "shard"),
    ],
)
async def test_get_answers_from_the_lookups_or_else_the_shard(
    store: MemoryStore, make_engine: MakeEngine, answer: tuple[int, int] | Exception | None, source: str
) -> None:
    event = await make_engine(store, lookups=Table(answer)).get("a", "2", embedding=True)
    assert (event.content, event.answered_from, event.embedding) == ("north", source, NORTH)
    assert event.position.offset == 1


async def test_get_without_lookups(store: MemoryStore, make_engine: MakeEngine) -> None:
    engine = make_engine(store)
    event = await engine.get("b", "1")
    assert (event.metadata, event.answered_from, event.embedding) == (
        {"tags": ["x"], "deep": {"er": None}},
        "shard",
        None,
    )
    with pytest.raises(EventNotFound):
        await engine.get("b", "2")


async def test_get_says_when_the_partition_is_elsewhere(make_engine: MakeEngine) -> None:
    store = MemoryStore(PARTITIONS, owned=[])
    store.add(rows())
    with pytest.raises(EventNotFound, match=f"partition {PLACE} is not owned by this worker"):
        await make_engine(store).get("a", "1")


async def test_searches_run_side_by_side_while_rows_arrive(make_engine: MakeEngine) -> None:
    """Every event stays findable, in exactly one version, while another thread replaces all of them."""
    rng = np.random.default_rng(5)
    store = MemoryStore(1)
    vectors = rng.normal(size=(50, 8)).astype(np.float32)
    store.add([Row("s", str(i), v) for i, v in enumerate(vectors)])
    engine = make_engine(store, search=SearchSettings(threads=2))
    done = False

    def replace() -> None:
        for version in range(150):
            store.add([Row("s", str(i), vectors[i], str(version)) for i in range(version % 10, 50, 10)])
            time.sleep(0.001)  # no commit of DuckDB takes less

    async def search() -> None:
        while not done:
            response = await engine.search(SearchRequest(vector=vectors[0].tolist(), k=50))
            assert len({h.event_id for h in response.hits}) == len(response.hits)
            assert len(response.hits) == 50

    searches = [asyncio.create_task(search()) for _ in range(3)]
    await asyncio.to_thread(replace)
    done = True
    await asyncio.gather(*searches)


async def test_an_empty_store_answers(make_engine: MakeEngine) -> None:
    response = await make_engine(MemoryStore(2)).search(SearchRequest(vector=EAST, filters=Filters(metadata={"a": 1})))
    assert response.hits == []
    assert response.complete


async def test_stats(store: MemoryStore, make_engine: MakeEngine) -> None:
    store.delete("a", "1")
    stats = make_engine(store).stats()
    assert (stats.rows, stats.live_rows, stats.partitions, stats.partitions_owned) == (3, 2, 4, [0, 1, 2, 3])
