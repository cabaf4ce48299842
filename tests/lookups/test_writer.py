"""The writer on real Valkey: whatever happens to Redis, the tables end up as the shards are."""

from __future__ import annotations

import asyncio
import os
import random
import signal

import pytest
from redis.asyncio import Redis

from akasha_stream.embedded import ValkeyServer
from akasha_stream.lookups.tables import Keys, Watermark
from tests.lookups.model import Model, assert_equal, client_of, running, settled, table_of, until

pytestmark = pytest.mark.valkey


def names(n: int, start: int = 0) -> list[str]:
    return [f"e{i}" for i in range(start, start + n)]


async def test_batches_arrive_with_updates_deletes_and_counters(client: Redis, keys: Keys) -> None:
    model = Model()
    async with running(client, keys, model) as writer:
        await settled(writer)
        writer.offer(model.commit(0, {"a": names(5), "b": names(3)}))
        writer.offer(model.commit(1, {"c": names(2)}))
        writer.offer(model.commit(0, {"a": ["e1"]}, {"a": ["e2", "never-seen"], "b": names(3)}))
        writer.offer(model.commit(0, {"a": ["e2"]}))
        await settled(writer)
        await assert_equal(client, keys, model)
        health = writer.health()
        assert (health.available, health.queued_events, health.repairing) == (True, 0, [])
        assert health.dropped_updates == 0


async def test_any_unicode_name_comes_back(client: Redis, keys: Keys) -> None:
    model = Model()
    async with running(client, keys, model) as writer:
        writer.offer(model.commit(0, {"ключ: *[x]": ["ид 1", "a:b", "*", ""], "{tag}": ["\u2028"]}))
        await settled(writer)
        await assert_equal(client, keys, model)


async def test_more_than_one_transaction_of_updates(client: Redis, keys: Keys) -> None:
    model = Model()
    async with running(client, keys, model) as writer:
        await settled(writer)
        for i in range(40):
            writer.offer(model.commit(i % 2, {f"s{i % 3}": names(200, i * 100)}, {f"s{i % 3}": names(50, i * 50)}))
        await settled(writer)
        await assert_equal(client, keys, model)
        assert writer.health().dropped_updates == 0


async def test_an_attached_shard_without_events_has_a_complete_table(client: Redis, keys: Keys) -> None:
    model = Model(partitions=1)
    async with running(client, keys, model) as writer:
        await settled(writer)
        await assert_equal(client, keys, model)


async def test_a_second_start_on_a_complete_table_repairs_nothing(client: Redis, keys: Keys) -> None:
    model = Model()
    async with running(client, keys, model) as writer:
        writer.offer(model.commit(0, {"a": names(50)}))
        await settled(writer)
    model.repairs_read = 0
    async with running(client, keys, model) as writer:
        await settled(writer)
        assert writer.health().repairs == 0
    assert model.repairs_read == 0


async def test_a_table_behind_its_shard_gets_only_what_is_missing(client: Redis, keys: Keys) -> None:
    model = Model()
    async with running(client, keys, model) as writer:
        writer.offer(model.commit(0, {"a": names(100)}))
        await settled(writer)
    model.commit(0, {"a": ["e1", "new"]}, {"a": ["e5"], "b": ["x"]})
    model.commit(0, {"b": ["x"]})
    model.repairs_read = 0
    async with running(client, keys, model) as writer:
        await settled(writer)
        assert writer.health().repairs == 1
    await assert_equal(client, keys, model)
    assert model.repairs_read == 1, "3 identities are one batch; 100 would be many"


@pytest.mark.parametrize(
    "reason", ["another store", "ahead of the shard", "deletes forgotten", "garbage", "unfinished"]
)
async def test_a_table_that_is_no_base_is_built_anew(client: Redis, keys: Keys, reason: str) -> None:
    model = Model(partitions=1)
    shard = model.shards[0]
    async with running(client, keys, model) as writer:
        writer.offer(model.commit(0, {"a": names(30), "stale": names(3)}))
        await settled(writer)
    # What the writer never heard of: without a rebuild these stay in the table.
    model.commit(0, {}, {"a": ["e3"], "stale": names(3)})
    shard.counters.pop("stale")
    if reason == "another store":
        shard.table = "other"
    elif reason == "ahead of the shard":
        await client.set(keys.upto(0), str(Watermark(shard.table, shard.position + 1)))
    elif reason == "deletes forgotten":
        shard.forgets_deletes = True
    else:
        await client.set(keys.upto(0), {"garbage": b"\xff/1/x", "unfinished": b"rebuilding:1234"}[reason])
    async with running(client, keys, model) as writer:
        await settled(writer)
    await assert_equal(client, keys, model)


async def test_flushall_is_noticed_at_the_next_batch(client: Redis, keys: Keys, valkey_killable: ValkeyServer) -> None:
    own = client_of(valkey_killable)
    model = Model()
    async with running(own, keys, model, check_interval_s=60) as writer:
        writer.offer(model.commit(0, {"a": names(30)}))
        await settled(writer)
        await own.flushall()
        writer.offer(model.commit(0, {"a": ["one"]}))
        await settled(writer)
        table = await table_of(own, keys, 0)
        assert table is not None
        assert table.live == model.shards[0].live
        assert writer.health().repairs >= 1
    await own.aclose()


async def test_flushall_is_noticed_without_any_batch(keys: Keys, valkey_killable: ValkeyServer) -> None:
    own = client_of(valkey_killable)
    model = Model()
    async with running(own, keys, model) as writer:
        writer.offer(model.commit(0, {"a": names(30)}))
        await settled(writer)
        before = writer.health().repairs
        await own.flushall()
        await until(lambda: writer.health().repairs >= before + 2)
        await settled(writer)
        await assert_equal(own, keys, model)
    await own.aclose()


async def test_flushall_in_the_middle_of_a_repair(keys: Keys, valkey_killable: ValkeyServer) -> None:
    own = client_of(valkey_killable)
    model = Model(partitions=1)
    model.commit(0, {"a": names(100)})
    flushed = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def flush() -> None:
        await own.flushall()
        flushed.set()

    def on_read() -> None:
        if model.repairs_read == 5:
            asyncio.run_coroutine_threadsafe(flush(), loop).result(5)

    model.on_read = on_read
    async with running(own, keys, model) as writer:
        await settled(writer)
        assert flushed.is_set()
        await assert_equal(own, keys, model)
    await own.aclose()


async def test_commits_during_a_repair_are_not_lost(client: Redis, keys: Keys) -> None:
    model = Model(partitions=1)
    model.commit(0, {"a": names(100)})
    loop = asyncio.get_running_loop()
    async with running(client, keys, model) as writer:

        def commit() -> None:
            n = model.repairs_read
            if n <= 8:
                writer.offer(model.commit(0, {"a": [f"e{n}", f"new{n}"]}, {"a": [f"e{90 + n}", f"new{n - 1}"]}))

        def on_read() -> None:
            loop.call_soon_threadsafe(commit)

        model.on_read = on_read
        await until(lambda: model.repairs_read >= 10)
        await settled(writer)
        await assert_equal(client, keys, model)


async def test_a_killed_redis_stops_nothing_and_is_made_whole(keys: Keys, valkey_killable: ValkeyServer) -> None:
    own = client_of(valkey_killable)
    model = Model()
    async with running(own, keys, model) as writer:
        writer.offer(model.commit(0, {"a": names(50)}))
        await settled(writer)
        valkey_killable.kill()
        for i in range(20):
            writer.offer(model.commit(i % 2, {"a": [f"while-down-{i}"]}, {"a": [f"e{i}"]}))
            await asyncio.sleep(0.01)
        await until(lambda: not writer.health().available)
        health = writer.health()
        assert health.error
        assert health.queued_events == 0
        assert health.repairing == [0, 1]
        valkey_killable.restart()
        await settled(writer)
        assert writer.health().available
        assert writer.health().error is None
        await assert_equal(own, keys, model)
    await own.aclose()


async def test_a_paused_redis_is_given_up_after_the_timeout(keys: Keys, valkey_killable: ValkeyServer) -> None:
    own = client_of(valkey_killable, timeout_s=0.2)
    model = Model()
    async with running(own, keys, model) as writer:
        await settled(writer)
        os.kill(valkey_killable.pid, signal.SIGSTOP)
        try:
            writer.offer(model.commit(0, {"a": names(3)}))
            await until(lambda: not writer.health().available)
        finally:
            os.kill(valkey_killable.pid, signal.SIGCONT)
        await settled(writer)
        await assert_equal(own, keys, model)
    await own.aclose()


async def test_redis_that_comes_up_later(keys: Keys, valkey_killable: ValkeyServer) -> None:
    valkey_killable.kill()
    own = client_of(valkey_killable)
    model = Model()
    async with running(own, keys, model) as writer:
        writer.offer(model.commit(0, {"a": names(3)}))
        await until(lambda: writer.health().error is not None)
        valkey_killable.restart()
        await settled(writer)
        await assert_equal(own, keys, model)
    await own.aclose()


async def test_a_full_queue_drops_and_repairs(client: Redis, keys: Keys) -> None:
    model = Model()
    async with running(client, keys, model, queue_events=100) as writer:
        await settled(writer)
        for i in range(30):
            writer.offer(model.commit(0, {"a": names(10, i * 5)}))
        assert writer.health().queued_events <= 100
        assert writer.health().dropped_updates > 0
        await settled(writer)
        await assert_equal(client, keys, model)
        writer.offer(model.commit(1, {"b": names(101)}))
        await settled(writer)
        await assert_equal(client, keys, model)


async def test_an_update_that_does_not_follow_the_last_one_is_repaired(client: Redis, keys: Keys) -> None:
    model = Model()
    async with running(client, keys, model) as writer:
        await settled(writer)
        model.commit(0, {"a": names(10)})
        writer.offer(model.commit(0, {"a": ["last"]}))
        await settled(writer)
        await assert_equal(client, keys, model)


async def test_a_key_of_a_wrong_type_is_repaired(client: Redis, keys: Keys) -> None:
    model = Model()
    async with running(client, keys, model, check_interval_s=60) as writer:
        writer.offer(model.commit(0, {"a": names(10)}))
        await settled(writer)
        await client.delete(keys.ids(0, "a"))
        await client.set(keys.ids(0, "a"), "not a hash")
        writer.offer(model.commit(0, {"a": ["last"], "b": ["first"]}))
        await settled(writer)
        await assert_equal(client, keys, model)


async def test_a_detached_shard_is_not_written(client: Redis, keys: Keys) -> None:
    model = Model()
    async with running(client, keys, model) as writer:
        await settled(writer)
        writer.detach(1)
        before = await table_of(client, keys, 1)
        writer.offer(model.commit(1, {"a": names(10)}))
        writer.offer(model.commit(0, {"a": names(10)}))
        await settled(writer)
        assert await table_of(client, keys, 1) == before
        writer.attach(1, model.shards[1].watermark)
        await settled(writer)
        await assert_equal(client, keys, model)


async def test_two_owners_of_a_shard_end_with_the_one_that_stays(client: Redis, keys: Keys) -> None:
    model, zombie = Model(partitions=1), Model(partitions=1)
    zombie.shards[0].table = "another-store"
    async with running(client, keys, model) as writer:
        async with running(client, keys, zombie) as other:
            for i in range(10):
                writer.offer(model.commit(0, {"a": [f"mine{i}"]}))
                other.offer(zombie.commit(0, {"a": [f"mine{i}", f"zombie{i}"]}))
                await asyncio.sleep(0.02)
        await settled(writer)
        writer.offer(model.commit(0, {"a": ["after"]}))
        await settled(writer)
        await assert_equal(client, keys, model)


@pytest.mark.parametrize("seed", range(4))
async def test_random_accidents(keys: Keys, valkey_killable: ValkeyServer, seed: int) -> None:
    chance = random.Random(seed)
    own = client_of(valkey_killable, timeout_s=0.3)
    model = Model()
    async with running(own, keys, model, queue_events=400) as writer:
        for _ in range(120):
            event_ids = [f"e{chance.randrange(80)}" for _ in range(chance.randrange(1, 30))]
            upserts = sorted(set(event_ids[::2]))
            deletes = sorted(set(event_ids) - set(upserts))
            update = model.commit(chance.randrange(2), {"a": upserts, "b": upserts[:3]}, {"a": deletes})
            if chance.random() > 0.05:
                writer.offer(update)
            accident = chance.random()
            if accident < 0.03:
                valkey_killable.kill()
                await asyncio.sleep(chance.random() * 0.1)
                valkey_killable.restart()
            elif accident < 0.06:
                await own.flushall()
            elif accident < 0.09:
                partition = chance.randrange(2)
                writer.detach(partition)
                writer.attach(partition, model.shards[partition].watermark)
            await asyncio.sleep(chance.random() * 0.01)
        for partition in (0, 1):
            writer.offer(model.commit(partition, {"a": ["end"]}))
        await settled(writer)
        await assert_equal(own, keys, model)
    await own.aclose()
