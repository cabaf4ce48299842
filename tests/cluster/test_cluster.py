"""Any worker answers for all: the same hits, in the same order, as one engine over all rows."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from akasha_stream.auth.systems import EVERY
from akasha_stream.errors import EmbedderMissing, EventNotFound, OwnerUnavailable, UsageError
from akasha_stream.partitioner import partition_of
from akasha_stream.search.query import EventRef, SearchRequest, SearchResponse
from tests.cluster.fleet import DIMENSIONS, PARTITIONS, Fleet
from tests.search.memory_store import Row

THREE = ([0, 3], [1, 4], [2, 5])
QUERY = [1.0, 0.5, -0.25, 0.0, 0.125, 0.0, 0.0, -1.0]


def rows(count: int = 240, systems: int = 12) -> list[Row]:
    vectors = np.random.default_rng(7).normal(size=(count, DIMENSIONS)).astype(np.float32)
    return [
        Row(f"system-{n % systems}", str(n), vector, f"content {n}", {"n": n, "odd": n % 2 == 1})
        for n, vector in enumerate(vectors)
    ]


def owner_of(system: str, owned: Any = THREE) -> int:
    return next(number for number, mine in enumerate(owned) if partition_of(system, PARTITIONS) in mine)


def reasons(answer: SearchResponse) -> dict[int | None, str]:
    return {each.partition: each.reason for each in answer.incomplete}


REQUESTS: list[dict[str, Any]] = [
    {},
    {"k": 1},
    {"k": 240},
    {"k": 7, "threshold": 0.4},
    {"k": 50, "filters": {"systems": ["system-3", "system-4", "unknown"]}},
    {"k": 20, "filters": {"metadata": {"n": {"gte": 200}, "odd": True}}},
    {"k": 3, "fields": ["content"]},
    {"k": 3, "fields": []},
    {"k": 3, "fields": ["embedding", "position"]},
    {"k": 5, "index": "exact"},
    {"k": 5, "index": "codes"},
    {"k": 5, "filters": {"created_after": "2027-01-01T00:00:00Z"}},
    {"k": 9, "filters": {"metadata": {"missing": {"exists": False}, "n": {"ne": None}}}},
]


@pytest.mark.parametrize("request_", REQUESTS, ids=str)
async def test_every_worker_answers_as_one_engine_over_all_rows(request_: dict[str, Any]) -> None:
    async with Fleet(rows(), THREE) as fleet:
        request = SearchRequest.model_validate({"vector": QUERY, **request_})
        expected = await fleet.alone.search(request)
        for number in range(3):
            async with fleet.client(number) as client:
                answer = await client.search(request)
            assert answer.complete
            assert [hit.model_dump(exclude_unset=True) for hit in answer.hits] == [
                hit.model_dump(exclude_unset=True) for hit in expected.hits
            ]
            assert sum(plan.rows for plan in answer.plan) == 240


@settings(max_examples=40)
@given(st.data())
def test_any_division_of_the_partitions_gives_the_same(data: st.DataObject) -> None:
    """Equal vectors too, whose order is by system and id; rows that were replaced; more workers than partitions."""
    cells = st.integers(-1, 1).map(float)
    vectors = st.lists(cells, min_size=DIMENSIONS, max_size=DIMENSIONS).filter(any)
    found = data.draw(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3), vectors), min_size=1, max_size=40))
    everything = [Row(f"s{system}", str(n), vector, f"{at}") for at, (system, n, vector) in enumerate(found)]
    workers = data.draw(st.integers(1, 8))
    place = [data.draw(st.integers(0, workers - 1)) for _ in range(PARTITIONS)]
    owned = [[p for p in range(PARTITIONS) if place[p] == number] for number in range(workers)]
    request = SearchRequest(vector=data.draw(vectors), k=data.draw(st.integers(1, 12)))

    async def check() -> None:
        async with Fleet(everything, owned) as fleet:
            expected = await fleet.alone.search(request)
            answer = await fleet.nodes[data.draw(st.integers(0, workers - 1))].cluster.search(request, EVERY)
            assert answer.complete
            assert answer.hits == expected.hits

    asyncio.run(check())


async def test_an_owner_is_asked_once_and_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """No question goes round in circles, whatever the workers think of who owns what."""
    async with Fleet(rows(), THREE) as fleet:
        for node in fleet.nodes[1:]:
            node.group.assigned = dict.fromkeys(range(PARTITIONS), fleet.nodes[0].url)
            node.registry.assigned = node.group.assigned
        await fleet.nodes[0].cluster.search(SearchRequest(vector=QUERY), EVERY)
        assert sorted(fleet.network.asked) == [
            (fleet.nodes[1].url, "/v1/peer/search"),
            (fleet.nodes[2].url, "/v1/peer/search"),
        ]


class Counting:
    """An embedder that counts what it is asked."""

    dimensions = DIMENSIONS
    model = "counting"

    def __init__(self) -> None:
        self.texts: list[str] = []

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.texts += texts
        return np.array([QUERY] * len(texts), np.float32)


async def test_a_text_is_embedded_once_by_the_worker_asked() -> None:
    embedder = Counting()
    async with Fleet(rows(), THREE, embedder=embedder) as fleet:
        answer = await fleet.nodes[1].cluster.search(SearchRequest(text="words", k=5), EVERY)
        assert embedder.texts == ["words"]
        assert answer.hits == (await fleet.alone.search(SearchRequest(vector=QUERY, k=5))).hits
    async with Fleet(rows(), THREE) as fleet:
        with pytest.raises(EmbedderMissing):
            await fleet.nodes[0].cluster.search(SearchRequest(text="words"), EVERY)
        assert fleet.network.asked == []


@pytest.mark.parametrize("number", range(3))
async def test_like_an_event_that_another_worker_has(number: int) -> None:
    async with Fleet(rows(), THREE) as fleet:
        request = SearchRequest(like=EventRef(source_system="system-3", event_id="3"), k=8)
        expected = await fleet.alone.search(request)
        answer = await fleet.nodes[number].cluster.search(request, EVERY)
        assert answer.hits == expected.hits
        assert ("system-3", "3") not in {(hit.source_system, hit.event_id) for hit in answer.hits}


@pytest.mark.parametrize("number", range(3))
async def test_get_an_event_that_another_worker_has(number: int) -> None:
    async with Fleet(rows(), THREE) as fleet, fleet.client(number) as client:
        event = await client.get("system-5", "17", embedding=True)
        assert event == await fleet.alone.get("system-5", "17", embedding=True)
        with pytest.raises(EventNotFound, match="no event 'none' of source system 'system-5' is stored"):
            await client.get("system-5", "none")


async def test_get_where_the_owner_is_away_is_not_a_404() -> None:
    async with Fleet(rows(), THREE) as fleet:
        owner = owner_of("system-5")
        other = (owner + 1) % 3
        fleet.network.down.add(fleet.nodes[owner].url)
        async with fleet.client(other) as client:
            with pytest.raises(OwnerUnavailable, match=r"belongs into partition \d, which could not be asked"):
                await client.get("system-5", "17")
            with pytest.raises(OwnerUnavailable):
                await client.search(like=("system-5", "17"))
            mine = next(n for n in range(12) if owner_of(f"system-{n}") == other)
            with pytest.raises(EventNotFound, match=r"partitions .* could not be asked"):
                await client.get(f"system-{mine}", "none")


@pytest.mark.parametrize(
    ("how", "reason"), [("down", "worker_unreachable"), ("stopped", "worker_timeout"), ("broken", "worker_failed")]
)
async def test_a_worker_that_does_not_answer_is_named(how: str, reason: str) -> None:
    async with Fleet(rows(), THREE, peer_timeout_s=0.3) as fleet:
        getattr(fleet.network, how).add(fleet.nodes[2].url)
        answer = await fleet.nodes[0].cluster.search(SearchRequest(vector=QUERY, k=240), EVERY)
        assert reasons(answer) == {2: reason, 5: reason}
        assert not answer.complete
        assert all(fleet.nodes[2].url in each.detail for each in answer.incomplete)
        expected = await fleet.alone.search(SearchRequest(vector=QUERY, k=240))
        theirs = [hit for hit in expected.hits if owner_of(hit.source_system) == 2]
        assert answer.hits == [hit for hit in expected.hits if hit not in theirs]


async def test_a_question_that_a_worker_refuses_is_told() -> None:
    async with Fleet(rows(), THREE) as fleet:
        fleet.nodes[1].store._partitions = 1  # has not heard yet that the topic has grown
        answer = await fleet.nodes[0].cluster.search(SearchRequest(vector=QUERY, after="4:1"), EVERY)
        assert reasons(answer) == {1: "worker_failed", 4: "worker_failed"}
        assert "names partition 4" in answer.incomplete[0].detail


async def test_a_partition_of_nobody_is_named() -> None:
    async with Fleet(rows(), ([0, 3], [1, 4])) as fleet:
        answer = await fleet.nodes[0].cluster.search(SearchRequest(vector=QUERY), EVERY)
        assert reasons(answer) == {2: "partition_not_owned", 5: "partition_not_owned"}
        answer = await fleet.nodes[0].cluster.search(SearchRequest(vector=QUERY, after="2:0"), EVERY)
        assert reasons(answer) == {2: "partition_not_owned", 5: "partition_not_owned"}


@pytest.mark.parametrize(("group", "registry"), [(True, False), (False, True)])
async def test_a_partition_that_has_moved_is_found_by_either_source(group: bool, registry: bool) -> None:
    """The one that is behind is asked in vain; then the other one."""
    async with Fleet(rows(), THREE) as fleet:
        fleet.move(4, to=2, group=group, registry=registry)
        answer = await fleet.nodes[0].cluster.search(SearchRequest(vector=QUERY, k=240), EVERY)
        assert answer.complete, answer.incomplete
        assert len(answer.hits) == 240


async def test_a_partition_that_has_moved_and_nobody_knows_is_named() -> None:
    async with Fleet(rows(), THREE) as fleet:
        fleet.move(4, to=2, group=False, registry=False)
        answer = await fleet.nodes[0].cluster.search(SearchRequest(vector=QUERY), EVERY)
        assert reasons(answer) == {4: "partition_not_owned"}
        assert "says that it does not" in answer.incomplete[0].detail


async def test_without_redis_the_group_tells_who_owns_what() -> None:
    async with Fleet(rows(), THREE) as fleet:
        for node in fleet.nodes:
            node.registry.away = True
            answer = await node.cluster.search(SearchRequest(vector=QUERY, k=240), EVERY)
            assert answer.complete
            assert len(answer.hits) == 240


async def test_the_registry_is_read_only_where_the_group_does_not_know() -> None:
    async with Fleet(rows(), THREE) as fleet:
        first = fleet.nodes[0]
        await first.cluster.search(SearchRequest(vector=QUERY), EVERY)
        assert first.registry.read == 0
        first.group.member = False
        first.group.assigned = dict.fromkeys(range(PARTITIONS), "http://nobody")
        answer = await first.cluster.search(SearchRequest(vector=QUERY), EVERY)
        assert first.registry.read == 1
        assert answer.complete


async def test_a_partition_that_may_be_lost_counts_from_who_owns_it() -> None:
    """A worker that was stopped has an old state of a partition; its new owner's is what counts."""
    async with Fleet(rows(), THREE) as fleet:
        zombie, owner = fleet.nodes[0], fleet.nodes[1]
        number = next(n for n in range(12) if owner_of(f"system-{n}") == 0)
        moved = partition_of(f"system-{number}", PARTITIONS)
        zombie.lapsed.update([0, 3])
        owner.store._owned.append(moved)
        for node in fleet.nodes:
            node.group.assigned[moved] = node.registry.assigned[moved] = owner.url
        owner.store.delete(f"system-{number}", str(number))
        for node in fleet.nodes:
            answer = await node.cluster.search(SearchRequest(vector=QUERY, k=240), EVERY)
            assert len(answer.hits) == 239
            assert reasons(answer) == {3 - moved: "ownership_lapsed"}
        with pytest.raises(EventNotFound):
            await fleet.nodes[2].cluster.get(f"system-{number}", str(number), EVERY)


async def test_a_token_is_waited_for_where_its_partition_is() -> None:
    async with Fleet(rows(), THREE) as fleet:
        system = next(f"system-{n}" for n in range(12) if owner_of(f"system-{n}") == 2)
        partition = partition_of(system, PARTITIONS)
        owner = fleet.nodes[2].store
        token = f"{partition}:{owner.next_offset(partition)}"
        async with fleet.client(0) as client:
            late = await client.search(vector=QUERY, k=1, after=token, after_timeout_s=0.01)
            assert reasons(late) == {partition: "freshness_timeout"}
            searching = asyncio.create_task(client.search(vector=QUERY, k=1, after=token, after_timeout_s=30))
            liking = asyncio.create_task(client.search(like=(system, "new"), k=1, after=token, after_timeout_s=30))
            while len(fleet.network.asked) < 4:  # the two of before, and those that wait now
                await asyncio.sleep(0.001)
            assert not searching.done()
            owner.add([Row(system, "new", QUERY, "new")])
            await owner.notify()
            answer = await searching
            assert answer.complete, answer.incomplete
            assert answer.hits[0].event_id == "new"
            assert (await liking).complete
        with pytest.raises(UsageError, match="names partition 6"):
            await fleet.nodes[0].cluster.search(SearchRequest(vector=QUERY, after="6:0"), EVERY)


async def test_stats_of_all_workers() -> None:
    async with Fleet(rows(), THREE) as fleet:
        found = await fleet.nodes[0].cluster.cluster_stats(EVERY)
        assert (found.rows, found.live_rows, found.partitions) == (240, 240, PARTITIONS)
        assert found.partitions_owned == list(range(PARTITIONS))
        assert [each.url for each in found.workers] == [node.url for node in fleet.nodes]
        fleet.network.down.add(fleet.nodes[2].url)
        async with fleet.client(0) as client:
            answer = (await client._http.get("/v1/stats", params={"cluster": "true"})).json()
        assert answer["partitions_missing"] == [2, 5]
        assert "can't be reached" in answer["workers"][2]["error"]


async def test_a_question_with_unknown_fields_is_refused() -> None:
    """A newer worker's condition that this one does not know must not be left out of the answer silently."""
    async with Fleet(rows(), THREE) as fleet, fleet.client(1) as client:
        body = {"request": {"vector": QUERY}, "partitions": [1], "as_of": 3}
        assert (await client._http.post("/v1/peer/search", json=body)).status_code == 422
