"""A forgotten system in the tables, on real Valkey."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from akasha_stream.errors import LookupUnavailable
from akasha_stream.lookups.forget import forget_lookups, lookups_of
from akasha_stream.lookups.tables import Keys
from tests.lookups.model import Model, assert_equal, running, settled

pytestmark = pytest.mark.valkey


async def test_a_worker_that_forgets_leaves_nothing_and_takes_new_events(client: Redis, keys: Keys) -> None:
    model = Model()
    async with running(client, keys, model) as writer:
        await settled(writer)
        writer.offer(model.commit(0, {"a": ["1", "2"], "b": ["1"]}, {"a": ["9"]}))
        writer.offer(model.commit(1, {"a": ["3"]}))
        await settled(writer)
        # In one transaction with what came before and after it, and in one of its own.
        writer.offer(model.commit(0, {"a": ["4"]}))
        writer.offer(model.forget(0, "a"))
        writer.offer(model.commit(0, {"a": ["5"], "b": ["2"]}))
        writer.offer(model.forget(1, "a"))
        await settled(writer)
        await assert_equal(client, keys, model)
        assert await lookups_of(client, keys, [1], "a") == []
        writer.offer(model.forget(0, "a"))
        await settled(writer)
        assert await lookups_of(client, keys, [0, 1], "a") == []
        assert len(await lookups_of(client, keys, [0, 1], "b")) == 3
        writer.offer(model.commit(0, {"a": ["6"]}))
        await settled(writer)
        await assert_equal(client, keys, model)
        assert writer.health().dropped_updates == 0


async def test_the_command_does_it_beside_a_worker(client: Redis, keys: Keys) -> None:
    model = Model()
    async with running(client, keys, model) as writer:
        writer.offer(model.commit(0, {"a": ["1", "2"], "b": ["1"]}))
        await settled(writer)
        assert len(await lookups_of(client, keys, [0, 1], "a")) == 3
        assert await forget_lookups(client, keys, [0, 1], "a") == 3
        assert await forget_lookups(client, keys, [0, 1], "a") == 0
        assert await lookups_of(client, keys, [0, 1], "a") == []
        writer.offer(model.forget(0, "a"))  # the worker comes to the control message
        writer.offer(model.commit(0, {"a": ["3"]}))
        await settled(writer)
        await assert_equal(client, keys, model)


async def test_redis_gone_is_said(keys: Keys) -> None:
    client = Redis(port=1, socket_connect_timeout=0.2)
    with pytest.raises(LookupUnavailable):
        await forget_lookups(client, keys, [0], "a")
    await client.aclose()
