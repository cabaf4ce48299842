"""A topic that has grown: keys have moved, and a partition has versions that are newer than another's."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from akasha_stream.auth.systems import EVERY
from akasha_stream.errors import EventNotFound
from akasha_stream.partitioner import partition_of
from akasha_stream.search.query import EventRef, FieldName, RecentRequest, SearchRequest
from tests.cluster.fleet import DIMENSIONS, PARTITIONS, Fleet
from tests.search.memory_store import Row

BEFORE, AFTER = 2, PARTITIONS
FIRST, LATER = datetime(2026, 7, 1, tzinfo=UTC), datetime(2026, 7, 2, tzinfo=UTC)
OWNED = ([0, 3], [1, 4], [2, 5])


def grown(before: list[Row], after: list[Row], deleted: list[tuple[str, str]] = []) -> Fleet:  # noqa: B006
    """Rows from when the topic had two partitions, then rows from when it had six, of which some were deleted."""
    fleet = Fleet([], OWNED)
    for node in fleet.nodes:
        node.store._partitions = BEFORE
        node.store._next = dict.fromkeys(range(AFTER), 0)
        if before:
            node.store.add(before)
        written_before = {(row.source_system, row.event_id) for row in before}
        for system, event_id in written_before.intersection((row.source_system, row.event_id) for row in after):
            if partition_of(system, BEFORE) == partition_of(system, AFTER):
                node.store.delete(system, event_id)  # masked by its own shard, as ever
        node.store._partitions = AFTER
        if after:
            node.store.add(after, mask_old=False)
        for identity in deleted:
            node.store.delete(*identity)
    return fleet


def moved_system() -> str:
    """One whose key leads to another worker than before."""
    return next(
        system
        for system in map("s{}".format, range(99))
        if partition_of(system, BEFORE) % 3 != partition_of(system, AFTER) % 3
    )


CELLS = st.lists(st.integers(-1, 1).map(float), min_size=DIMENSIONS, max_size=DIMENSIONS).filter(any)
IDENTITIES = st.tuples(st.integers(0, 6).map("s{}".format), st.integers(0, 4).map(str))


@settings(max_examples=60)
@given(st.data())
def test_the_newest_version_is_found_and_no_other(data: st.DataObject) -> None:
    """As many as asked for, too: old versions take no place from others."""
    before = data.draw(st.dictionaries(IDENTITIES, CELLS, max_size=20))
    after = data.draw(st.dictionaries(IDENTITIES, CELLS, max_size=20))
    deleted = data.draw(st.lists(st.sampled_from(sorted(after)), unique=True)) if after else []
    old = [Row(*identity, vector, created_at=FIRST) for identity, vector in before.items()]
    new = [Row(*identity, vector, created_at=LATER) for identity, vector in after.items()]
    live = [row for row in old if (row.source_system, row.event_id) not in after]
    live += [row for row in new if (row.source_system, row.event_id) not in deleted]
    query, k = data.draw(CELLS), data.draw(st.integers(1, 12))

    async def check() -> None:
        async with Fleet(live, OWNED) as one, grown(old, new, deleted) as fleet:
            fields: list[FieldName] = ["created_at"]
            request = SearchRequest(vector=query, k=k, fields=fields)
            expected = await one.alone.search(request)
            for node in fleet.nodes:
                answer = await node.cluster.search(request, EVERY)
                assert answer.complete, answer.incomplete
                assert answer.hits == expected.hits

    asyncio.run(check())


async def test_get_and_like_take_the_newest() -> None:
    system = moved_system()
    east, north = [1.0] + [0.0] * 7, [0.0, 1.0] + [0.0] * 6
    old = [Row(system, "1", east, "old", created_at=FIRST), Row(system, "2", north, "only", created_at=FIRST)]
    new = [Row(system, "1", north, "new", created_at=LATER)]
    async with grown(old, new) as fleet:
        for node in fleet.nodes:
            assert (await node.cluster.get(system, "1", EVERY)).content == "new"
            assert (await node.cluster.get(system, "2", EVERY)).content == "only"
            like = EventRef(source_system=system, event_id="1")
            answer = await node.cluster.search(SearchRequest(like=like), EVERY)
            assert [(hit.content, hit.similarity) for hit in answer.hits] == [("only", 1.0)]
    async with grown(old, new, [(system, "1")]) as fleet:
        for node in fleet.nodes:
            with pytest.raises(EventNotFound):
                await node.cluster.get(system, "1", EVERY)
            answer = await node.cluster.search(SearchRequest(vector=east), EVERY)
            assert [hit.content for hit in answer.hits] == ["only"]


async def test_the_owner_of_the_newer_version_is_asked_only_for_what_has_moved() -> None:
    system = moved_system()
    rng = np.random.default_rng(3)
    new = [Row(f"s{n}", str(n), rng.normal(size=DIMENSIONS).astype(np.float32), created_at=LATER) for n in range(40)]
    async with grown([], new) as fleet:
        await fleet.nodes[0].cluster.search(SearchRequest(vector=[1.0] * 8, k=40), EVERY)
        assert {path for _, path in fleet.network.asked} == {"/v1/peer/search"}
    async with grown([Row(system, "1", [1.0] * 8, created_at=FIRST)], new) as fleet:
        answers = [await node.cluster.search(SearchRequest(vector=[1.0] * 8, k=5), EVERY) for node in fleet.nodes]
        assert all(answer.hits[0].source_system == system for answer in answers)
        assert [path for _, path in fleet.network.asked].count("/v1/peer/written") == 2


async def test_the_newest_events_are_listed_in_their_newest_version() -> None:
    system = moved_system()
    old = [Row(system, "1", [1.0] * 8, "old", created_at=FIRST), Row(system, "2", [1.0] * 8, "only", created_at=FIRST)]
    new = [Row(system, "1", [1.0] * 8, "new", created_at=LATER)]
    async with grown(old, new) as fleet:
        for node in fleet.nodes:
            page = await node.cluster.recent(RecentRequest(), EVERY)
            assert [event.content for event in page.events] == ["new", "only"]
            assert page.complete
