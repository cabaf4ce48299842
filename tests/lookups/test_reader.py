"""Questions to the tables, with the tables in every state."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from akasha_stream.embedded import ValkeyServer
from akasha_stream.errors import LookupUnavailable, SettingsError
from akasha_stream.lookups.connection import connect
from akasha_stream.lookups.reader import LookupReader, Lookups, NoLookupReader
from akasha_stream.lookups.tables import Keys, Watermark
from akasha_stream.lookups.updates import LookupSink, NoLookups
from akasha_stream.partitioner import partition_of
from akasha_stream.settings import RedisSettings
from tests.lookups.model import Model, client_of, new_keys, running, settled

PARTITIONS = 4


@pytest.fixture
async def filled(client: Redis) -> tuple[Keys, Model]:
    keys, model = new_keys(), Model(PARTITIONS)
    async with running(client, keys, model) as writer:
        writer.offer(model.commit(partition_of("a", PARTITIONS), {"a": ["x", "y", "z"]}, {"a": ["z"]}))
        writer.offer(model.commit(partition_of("b", PARTITIONS), {"b": ["x"]}))
        # A producer with a partitioner of its own.
        writer.offer(model.commit((partition_of("a", PARTITIONS) + 1) % PARTITIONS, {"a": ["elsewhere"]}))
        await settled(writer)
    return keys, model


@pytest.mark.valkey
async def test_an_identity_is_found_in_its_partition(client: Redis, filled: tuple[Keys, Model]) -> None:
    keys, model = filled
    lookups: LookupReader = Lookups(client, keys, lambda: PARTITIONS)
    home = partition_of("a", PARTITIONS)
    assert await lookups.position("a", "y") == (home, model.shards[home].live["a", "y"])
    assert await lookups.position("a", "z") is None
    assert await lookups.position("never", "x") is None
    away = (home + 1) % PARTITIONS
    assert await lookups.position("a", "elsewhere") == (away, model.shards[away].live["a", "elsewhere"])


@pytest.mark.valkey
async def test_counters_add_up_over_partitions(client: Redis, filled: tuple[Keys, Model]) -> None:
    keys, model = filled
    lookups = Lookups(client, keys, lambda: PARTITIONS)
    found = [shard.counters["a"] for shard in model.shards.values() if "a" in shard.counters]
    assert len(found) == 2
    assert await lookups.counters("a") == {
        "stored": 4,
        "deleted": 1,
        "last_seen": max(values["last_seen"] for values in found),
    }
    assert await lookups.counters("never") == {}
    assert await lookups.systems() == ["a", "b"]


@pytest.mark.valkey
@pytest.mark.parametrize("upto", [None, "rebuilding:12"])
async def test_a_miss_in_an_incomplete_table_is_no_answer(
    client: Redis, filled: tuple[Keys, Model], upto: str | None
) -> None:
    keys, model = filled
    home = partition_of("a", PARTITIONS)
    lookups = Lookups(client, keys, lambda: PARTITIONS)
    if upto is None:
        await client.delete(keys.upto(home))
    else:
        await client.set(keys.upto(home), upto)
    assert await lookups.position("a", "y") == (home, model.shards[home].live["a", "y"])
    with pytest.raises(LookupUnavailable, match=f"partitions {home} "):
        await lookups.position("a", "missing")
    with pytest.raises(LookupUnavailable):
        await lookups.counters("a")
    with pytest.raises(LookupUnavailable):
        await lookups.systems()


@pytest.mark.valkey
async def test_a_killed_redis_is_a_lookup_error_within_the_timeout(valkey_killable: ValkeyServer) -> None:
    client = client_of(valkey_killable)
    lookups = Lookups(client, new_keys(), lambda: PARTITIONS)
    valkey_killable.kill()
    for asked in (lookups.position("a", "x"), lookups.counters("a"), lookups.systems()):
        with pytest.raises(LookupUnavailable) as raised:
            await asked
        assert raised.value.retriable
    await client.aclose()


async def test_switched_off() -> None:
    reader: LookupReader = NoLookupReader()
    for asked in (reader.position("a", "x"), reader.counters("a"), reader.systems()):
        with pytest.raises(LookupUnavailable, match="switched off"):
            await asked
    sink: LookupSink = NoLookups()
    sink.attach(0, Watermark("t", 0))
    sink.offer(Model(1).commit(0, {"a": ["x"]}))
    sink.detach(0)
    assert not sink.health().enabled
    await NoLookups().run()


def test_a_url_that_is_none() -> None:
    with pytest.raises(SettingsError, match=r"redis\.url"):
        connect(RedisSettings.model_validate({"url": "localhost:6379"}))


@pytest.mark.parametrize("text", [None, b"", b"1", b"a/", b"a/-1", b"a/1.5", "a/²".encode(), b"\xff", "a/1"])
def test_what_is_no_watermark(text: object) -> None:
    assert Watermark.parse(text) is None


def test_watermarks_come_back() -> None:
    assert Watermark.parse(str(Watermark("3f", 2**60)).encode()) == Watermark("3f", 2**60)
