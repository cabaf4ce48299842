"""Each check on the real thing: what is right is ok, and each fault is found with what to do about it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from redis.asyncio import Redis

from akasha_stream.auth.caller import Scope
from akasha_stream.auth.keys import KeysFile, NewKey
from akasha_stream.doctor import storage as storage_checks
from akasha_stream.doctor.broker import check_broker
from akasha_stream.doctor.clock import check_clock, synchronised
from akasha_stream.doctor.configuration import check_settings
from akasha_stream.doctor.disk import check_disk, check_disks, filesystem
from akasha_stream.doctor.examine import run_checks
from akasha_stream.doctor.extensions import check_extensions
from akasha_stream.doctor.finding import Finding, Findings
from akasha_stream.doctor.redis import check_redis
from akasha_stream.doctor.storage import check_storage
from akasha_stream.doctor.workers import check_workers
from akasha_stream.embedded import Broker, SeaweedServer, TansuServer, ValkeyServer
from akasha_stream.errors import UsageError
from akasha_stream.lookups.connection import connect
from akasha_stream.lookups.tables import Keys
from akasha_stream.lookups.workers import Worker, WorkerRegistry
from akasha_stream.settings import Settings
from akasha_stream.storage.local_adapter import LocalStorageAdapter
from akasha_stream.topics.admin import ensure_topics
from tests.servers.topics import create_topic, unique_name


async def found_by(check: Callable[[Findings], Awaitable[None]]) -> dict[str, Finding]:
    """check → the worst that it found; every fault says what to do."""
    found = Findings("area")
    await check(found)
    assert all(finding.advice for finding in found.found if finding.outcome != "ok")
    order = ("ok", "warn", "fail")
    return {each.check: each for each in sorted(found.found, key=lambda each: order.index(each.outcome))}


def outcomes(found: dict[str, Finding]) -> dict[str, str]:
    return {check: finding.outcome for check, finding in found.items()}


def settings_for(broker: Broker, **overrides: object) -> Settings:
    stem = unique_name("doctor")
    names = {f"topics.{role}": f"{stem}.{role}" for role in ("embeddings", "dead_letters", "digests")}
    given = {name.replace("__", "."): value for name, value in overrides.items()}
    return Settings.load(
        overrides={"broker.bootstrap_servers": broker.bootstrap_servers, "redis.enabled": False, **names, **given}
    )


class TestBroker:
    @pytest.mark.kafka
    async def test_all_is_well(self, kafka: Broker) -> None:
        settings = settings_for(kafka)
        await ensure_topics(settings)
        found = await found_by(lambda found: check_broker(found, settings))
        assert outcomes(found) == dict.fromkeys(("reachable", "versions", "topics", "replicas", "retention"), "ok")
        assert "168.0 h" in found["retention"].detail

    @pytest.mark.kafka
    async def test_missing_topics_and_other_configs(self, kafka: Broker) -> None:
        settings = settings_for(kafka)
        found = await found_by(lambda found: check_broker(found, settings))
        assert found["topics"].outcome == "fail"
        assert found["topics"].advice == "akasha-stream topics apply"
        await create_topic(kafka.bootstrap_servers, settings.topics.embeddings, config={"cleanup.policy": "compact"})
        found = await found_by(lambda found: check_broker(found, settings))
        assert found["retention"].outcome == "fail"
        assert "compaction keeps one bundle" in found["retention"].detail

    @pytest.mark.kafka
    @pytest.mark.parametrize(("retention_ms", "outcome"), [(3_000_000, "fail"), (5_000_000, "warn"), (-1, "ok")])
    async def test_retention_against_the_spill_interval(self, kafka: Broker, retention_ms: int, outcome: str) -> None:
        settings = settings_for(kafka, hot__seal_age_s=3_600.0)
        config = {"retention.ms": str(retention_ms)}
        await create_topic(kafka.bootstrap_servers, settings.topics.embeddings, config=config)
        found = await found_by(lambda found: check_broker(found, settings))
        assert found["retention"].outcome == outcome

    async def test_the_embedded_broker_is_told_apart(self, tansu: TansuServer) -> None:
        settings = settings_for(tansu)
        found = await found_by(lambda found: check_broker(found, settings))
        assert found["versions"].outcome == "warn"
        assert "in memory" in found["versions"].detail

    async def test_nobody_there(self) -> None:
        settings = Settings.load(overrides={"broker.bootstrap_servers": "127.0.0.1:1"})
        found = await found_by(lambda found: check_broker(found, settings))
        assert outcomes(found) == {"reachable": "fail"}
        assert "KAFKA_BOOTSTRAP_SERVERS" in found["reachable"].advice


@pytest.mark.valkey
class TestRedis:
    async def test_all_is_well(self, valkey: ValkeyServer) -> None:
        settings = Settings.load(overrides={"redis.url": valkey.url})
        found = await found_by(lambda found: check_redis(found, settings))
        assert outcomes(found) == dict.fromkeys(("writable", "reachable", "eviction", "memory"), "ok")
        assert "Valkey" in found["reachable"].detail

    async def test_eviction_a_full_memory_and_nobody_there(self, valkey_killable: ValkeyServer) -> None:
        settings = Settings.load(overrides={"redis.url": valkey_killable.url})
        client = Redis.from_url(valkey_killable.url, protocol=2)
        await client.config_set("maxmemory-policy", "allkeys-lru")
        await client.config_set("maxmemory", 1_000_000)
        await client.aclose()
        found = await found_by(lambda found: check_redis(found, settings))
        assert found["eviction"].outcome == "fail"
        assert found["writable"].outcome == "fail", "OOM"
        assert found["memory"].outcome == "warn"
        valkey_killable.kill()
        found = await found_by(lambda found: check_redis(found, settings))
        assert outcomes(found) == {"reachable": "fail"}

    async def test_the_clock_is_compared(self, valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
        settings = Settings.load(overrides={"redis.url": valkey.url, "broker.bootstrap_servers": "127.0.0.1:1"})
        assert (await found_by(lambda found: check_clock(found, settings)))["against Redis"].outcome == "ok"
        monkeypatch.setattr("akasha_stream.doctor.clock.MOST_S", -1.0)
        assert (await found_by(lambda found: check_clock(found, settings)))["against Redis"].outcome == "fail"


@pytest.mark.kafka
async def test_a_record_of_the_future_is_noticed(kafka: Broker) -> None:
    from aiokafka import AIOKafkaProducer

    settings = settings_for(kafka)
    await create_topic(kafka.bootstrap_servers, settings.topics.embeddings)
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers)
    await producer.start()
    await producer.send_and_wait(settings.topics.embeddings, b"x")
    found = await found_by(lambda found: check_clock(found, settings))
    assert found["against Kafka"].outcome == "ok"
    import time

    ahead_ms = int(time.time() * 1000) + 60_000
    await producer.send_and_wait(settings.topics.embeddings, b"x", timestamp_ms=ahead_ms)
    await producer.stop()
    found = await found_by(lambda found: check_clock(found, settings))
    assert found["against Kafka"].outcome == "fail"


def test_the_kernel_is_asked() -> None:
    assert synchronised() in {True, False, None}


class TestDisk:
    def test_room_and_right_to_write(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("akasha_stream.doctor.disk.FEW_SHARE", 0.0)
        folder = tmp_path / "not" / "yet"
        found = Findings("disk")
        check_disk(found, folder)
        by_check = {each.check: each for each in found.found}
        assert by_check["writable"].outcome == "ok"
        assert list(tmp_path.iterdir()) == [], "nothing is left behind"
        monkeypatch.setattr("akasha_stream.doctor.disk.LEAST_BYTES", 1 << 60)
        found = Findings("disk")
        check_disk(found, folder)
        assert {each.check: each.outcome for each in found.found}["room"] == "fail"

    def test_not_writable(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        found = Findings("disk")
        check_disk(found, tmp_path / "file" / "data")
        assert [each.outcome for each in found.found] == ["fail"]
        assert "no folder" in found.found[0].advice

    @pytest.mark.valkey
    async def test_of_the_workers_that_run_here(self, valkey: ValkeyServer, tmp_path: Path) -> None:
        """They need not have the settings of whoever asks: `up` has a folder of its own."""
        settings = Settings.load(
            overrides={
                "hot.data_dir": str(tmp_path / "ours"),
                "redis.url": valkey.url,
                "redis.prefix": unique_name("p"),
            }
        )
        assert (await found_by(lambda found: check_disks(found, settings)))["writable"].detail.startswith(
            str(tmp_path / "ours")
        )
        client = connect(settings.redis)
        keys = Keys(settings.redis.prefix, settings.topics.embeddings)
        now = datetime.now(UTC)
        for name, host in (("here", socket.gethostname()), ("elsewhere", "another")):
            (tmp_path / name).mkdir()
            entry = Worker(name, host, "http://w", 1, "1", now, now, data_dir=str(tmp_path / name))
            await WorkerRegistry(client, keys, 60.0, entry).beat()
        await client.aclose()
        found = Findings("disk")
        await check_disks(found, settings)
        assert [each.detail for each in found.found if each.check == "writable"] == [str(tmp_path / "here")]

    def test_which_file_system(self) -> None:
        mounts = "/dev/a / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\nserver:/x /tmp/a\\040b nfs4 rw 0 0\nbad\n"
        assert filesystem(Path("/opt/data"), mounts) == "ext4"
        assert filesystem(Path("/tmp/data"), mounts) == "tmpfs"
        assert filesystem(Path("/tmp/a b/data"), mounts) == "nfs4"
        assert filesystem(Path("/opt"), "") is None


class TestStorage:
    @pytest.fixture
    def configure(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
        def configure(**backend: object) -> None:
            file = tmp_path / "akasha-storage.yml"
            file.write_text(yaml.safe_dump({"storage": {"one": {"tier": "hot", **backend}}}))
            monkeypatch.setenv("AKASHA_STORAGE_SETTINGS", str(file))

        return configure

    async def check(self) -> dict[str, Finding]:
        return await found_by(lambda found: check_storage(found, "dev"))

    async def test_a_folder(self, tmp_path: Path, configure: Callable[..., None]) -> None:
        configure(provider="local", root=str(tmp_path / "objects"), bucket_name="hot", prefix="akasha/")
        assert outcomes(await self.check()) == {"hot once": "ok", "hot use": "ok"}
        left = [path for path in (tmp_path / "objects").rglob("*") if path.is_file() and "_doctor" in str(path)]
        assert left == [], "the object is removed again"

    async def test_s3(self, seaweedfs: SeaweedServer, configure: Callable[..., None]) -> None:
        backend = {
            "provider": "s3",
            "bucket_name": unique_name("doctor")[:40].lower(),
            "endpoint_url": seaweedfs.endpoint_url,
            "access_key_id": seaweedfs.access_key_id,
            "secret_access_key": seaweedfs.secret_access_key,
        }
        configure(**backend)
        missing = await self.check()
        assert outcomes(missing) == {"hot put": "fail"}
        assert "create the bucket" in missing["hot put"].advice
        configure(**backend, create_bucket=True)
        assert outcomes(await self.check()) == {"hot once": "ok", "hot use": "ok"}
        configure(**{**backend, "secret_access_key": "wrong"})
        denied = await self.check()
        assert outcomes(denied) == {"hot put": "fail"}
        assert "the right to get, put, list and delete" in denied["hot put"].advice

    async def test_a_store_without_conditional_puts(
        self, tmp_path: Path, configure: Callable[..., None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Careless(LocalStorageAdapter):
            async def put_if_absent(self, bucket: str, path: str, data: Any) -> bool:
                await self.upload(bucket, path, data)
                return True

        async def careless(_backend: object) -> Careless:
            adapter = Careless("hot", root=tmp_path / "objects")
            await adapter.ensure_bucket("hot")
            return adapter

        monkeypatch.setattr(storage_checks, "open_adapter", careless)
        configure(provider="local", root=str(tmp_path / "objects"), bucket_name="hot")
        found = await self.check()
        assert found["hot once"].outcome == "fail"
        assert "If-None-Match" in found["hot once"].advice

    async def test_settings_that_are_wrong(self, configure: Callable[..., None]) -> None:
        configure(provider="floppy", bucket_name="hot")
        assert outcomes(await self.check()) == {"settings": "fail"}


async def test_extensions() -> None:
    settings = Settings.load(overrides={"embedder.kind": "none"})
    assert outcomes(await found_by(lambda found: check_extensions(found, settings))) == {"vss": "ok", "embedder": "ok"}
    wrong = Settings.load(overrides={"embedder.kind": "python", "embedder.factory": "nowhere:make"})
    assert (await found_by(lambda found: check_extensions(found, wrong)))["embedder"].outcome == "fail"


async def test_no_worker_is_a_warning() -> None:
    settings = Settings.load(
        overrides={"redis.enabled": False, "http.port": 9, "broker.bootstrap_servers": "127.0.0.1:1"}
    )
    assert outcomes(await found_by(lambda found: check_workers(found, settings))) == {"running": "warn"}


def test_settings_that_do_not_load_and_a_port_for_everyone(tmp_path: Path) -> None:
    file = tmp_path / "akasha-stream.yml"
    file.write_text("hot:\n  seal_rows: many\n")
    found = Findings("settings")
    assert check_settings(found, file, None) is None
    assert [each.outcome for each in found.found] == ["fail"]
    keys = KeysFile(tmp_path / "keys.yml")
    keys.add(NewKey.make("k", [Scope.READ], ["*"]))
    secret = f"node_secret: {'s' * 40}"
    for text, outcome in (
        ("", "fail"),
        ("auth: {open: true}\n", "warn"),
        (f"auth: {{keys_file: {keys.path}}}\n", "fail"),
        (f"auth: {{keys_file: {keys.path}, {secret}}}\n", "ok"),
        (f"auth: {{keys_file: {tmp_path / 'none.yml'}, {secret}}}\n", "fail"),
    ):
        file.write_text(f"http:\n  host: 0.0.0.0\n{text}")
        found = Findings("settings")
        assert check_settings(found, file, None) is not None
        assert {each.check: each.outcome for each in found.found} == {"settings": "ok", "topics": "ok", "http": outcome}


async def test_a_check_that_hangs_or_breaks_does_not_take_the_others_with_it() -> None:
    async def hangs(_found: Findings) -> None:
        await asyncio.sleep(3_600)

    async def breaks(found: Findings) -> None:
        found.ok("before", "seen")
        raise ZeroDivisionError("bug")

    async def refuses(_found: Findings) -> None:
        raise UsageError("no")

    async def works(found: Findings) -> None:
        found.ok("works", "yes")

    checks = [("hangs", hangs), ("breaks", breaks), ("refuses", refuses), ("works", works)]
    found = await run_checks(checks, longest_s=0.05)
    assert [(each.area, each.check, each.outcome) for each in found] == [
        ("hangs", "time", "fail"),
        ("breaks", "before", "ok"),
        ("breaks", "error", "fail"),
        ("refuses", "error", "fail"),
        ("works", "works", "ok"),
    ]
