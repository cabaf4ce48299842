"""`akasha-stream forget`, on a broker, Valkey and object stores in folders."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from redis.asyncio import Redis

from akasha_stream.embedded import Broker, ValkeyServer
from akasha_stream.events.forget import decode_forget, is_forget
from akasha_stream.events.records import Record
from akasha_stream.lookups.tables import Keys
from akasha_stream.settings import BrokerSettings
from akasha_stream.storage import StorageSettings, StorageTiers
from akasha_stream.tiers.forgotten import load_forgotten, system_hash
from akasha_stream.tiers.keys import LogId
from akasha_stream.tiers.segment_store import SegmentStore
from akasha_stream.topics.incarnation import log_incarnation
from tests.cli.running import run
from tests.servers.topics import create_topic, unique_name
from tests.tiers.segments import Change, spilled

pytestmark = [pytest.mark.valkey]

STORAGE = """
storage:
  tiers: {hot: near, warm: far}
  near: {provider: local, bucket_name: near, root: objects, tier: hot}
  far: {provider: local, bucket_name: far, root: objects, tier: warm}
"""
SYSTEM = "session-buddy-007"


@pytest.fixture
def topic(broker: Broker, valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    name = unique_name("forget")
    asyncio.run(create_topic(broker.bootstrap_servers, name, partitions=2))
    (tmp_path / "storage.yml").write_text(STORAGE)
    for key, value in {
        "KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
        "REDIS_URL": valkey.url,
        "AKASHA_REDIS__PREFIX": name,
        "AKASHA_TIERS": "true",
        "AKASHA_TOPICS__EMBEDDINGS": name,
        "AKASHA_STORAGE_SETTINGS": str(tmp_path / "storage.yml"),
    }.items():
        monkeypatch.setenv(key, value)
    return name


async def fill(broker: Broker, valkey: ValkeyServer, topic: str) -> LogId:
    life = await log_incarnation(BrokerSettings(bootstrap_servers=broker.bootstrap_servers), topic)
    log = LogId(topic, life, 1)
    producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap_servers)
    await producer.start()
    for _ in range(9):
        await producer.send_and_wait(topic, b"an event", partition=1)
    await producer.stop()
    async with StorageTiers(StorageSettings.load()) as tiers:
        store = SegmentStore(tiers)
        await store.put(spilled([Change(0, 0, SYSTEM, "1", "x"), Change(1, 0, "b", "1", "y")], 0, 5, log=log), "warm")
        await store.put(spilled([Change(7, 0, SYSTEM, "2", "z")], 5, 9, log=log))
    redis, keys = Redis.from_url(valkey.url), Keys(topic, topic)
    await redis.sadd(keys.systems(1), SYSTEM)
    await redis.hset(keys.ids(1, SYSTEM), "1", "0")
    await redis.aclose()
    return log


async def messages(broker: Broker, topic: str) -> list[Record]:
    consumer = AIOKafkaConsumer(bootstrap_servers=broker.bootstrap_servers, auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, partition) for partition in range(2)])
        found: list[Record] = []
        async with asyncio.timeout(20):
            while len(found) < 11:
                for each in (await consumer.getmany(timeout_ms=200)).values():
                    found += [Record(r.partition, r.offset, r.timestamp, r.key, r.value, list(r.headers)) for r in each]
        return [record for record in found if is_forget(record)]
    finally:
        await consumer.stop()


def test_everywhere(
    capsys: pytest.CaptureFixture[str], broker: Broker, valkey: ValkeyServer, topic: str, tmp_path: Path
) -> None:
    log = asyncio.run(fill(broker, valkey, topic))
    asked = run(capsys, "forget", SYSTEM)
    assert (asked.code, "--yes" in asked.err) == (2, True)

    dry = run(capsys, "forget", SYSTEM, "--dry-run", "--json").json
    assert (dry["offsets"], dry["store"]["ledger"], dry["lookup_keys"]) == ({}, None, 0)
    assert [each["removed"] for each in dry["store"]["rewritten"]] == [1, 1]
    assert any(SYSTEM.encode() in path.read_bytes() for path in tmp_path.rglob("*.parquet"))

    ran = run(capsys, "forget", SYSTEM, "--yes", "--wait", "0", "--json")
    assert ran.code == 1, ran.err
    assert (ran.json["complete"], ran.json["lookup_keys"]) == (False, 2)
    # No worker runs that could have applied it.
    assert [(each["tier"], each["path"]) for each in ran.json["left"]] == [("local", f"partition {n}") for n in (0, 1)]
    assert [each["tier"] for each in ran.json["store"]["rewritten"]] == ["warm", "hot"]
    assert not any(SYSTEM.encode() in path.read_bytes() for path in tmp_path.rglob("*.parquet"))
    assert "until its retention" in ran.err

    told = asyncio.run(messages(broker, topic))
    assert {record.partition for record in told} == {0, 1}
    assert all(decode_forget(r).system_sha256 == system_hash(SYSTEM) for r in told)
    assert ran.json["offsets"] == {str(record.partition): record.offset for record in told}

    async def ends() -> dict[LogId, int]:
        async with StorageTiers(StorageSettings.load()) as tiers:
            return (await load_forgotten(SegmentStore(tiers))).ends(SYSTEM)

    assert asyncio.run(ends())[log] == 9

    people = run(capsys, "forget", SYSTEM, "--yes", "--no-broker")
    assert people.code == 0
    assert "0 rows removed from 0 segments" in people.out


def test_what_is_left_is_exit_code_1(
    capsys: pytest.CaptureFixture[str],
    broker: Broker,
    valkey: ValkeyServer,
    topic: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asyncio.run(fill(broker, valkey, topic))
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    ran = run(capsys, "forget", SYSTEM, "--yes", "--no-broker", "--json")
    assert ran.code == 1
    (left,) = ran.json["left"]
    assert (left["tier"], left["what_to_do"]) == ("redis", "forget again when Redis answers")


def test_no_object_storage_must_be_meant(
    capsys: pytest.CaptureFixture[str], topic: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "storage.yml").write_text("storage: {tiers: {}}\n")
    assert run(capsys, "forget", SYSTEM, "--yes", "--no-broker").code == 3
    ran = run(capsys, "forget", SYSTEM, "--yes", "--no-store", "--no-broker", "--json")
    assert (ran.code, ran.json["store"]) == (0, None)
    monkeypatch.setenv("AKASHA_TIERS", "false")
    ran = run(capsys, "forget", SYSTEM, "--dry-run")
    assert (ran.code, "the object stores are not looked at" in ran.err) == (0, True)
