"""StorageTiers and open_tier: what the stream opens, through Oneiric, and closes."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr
from redis.exceptions import RedisError

from akasha_stream.embedded import SeaweedServer, ValkeyServer
from akasha_stream.embedded.ports import free_ports
from akasha_stream.errors import CacheUnavailable, SettingsError, StorageUnavailable
from akasha_stream.storage import StorageSettings, StorageTiers, open_tier
from akasha_stream.storage.settings import LocalBackend, RedisCacheSettings, S3Backend
from tests.servers.azurite import ACCOUNT, KEY, AzuriteServer
from tests.servers.gcs import FakeGcsServer


def local(root: Path, **more: object) -> StorageSettings:
    backend = LocalBackend(bucket_name="bucket", root=root, prefix="akasha/")
    return StorageSettings(backends={"a": backend}, tiers={"hot": "a"}, **more)


async def test_one_tier(tmp_path: Path) -> None:
    settings = local(tmp_path)
    place = settings.tier("hot")
    adapter = await open_tier(settings, "hot")
    await adapter.upload(place.bucket, f"{place.prefix}a", b"1")
    assert (tmp_path / "bucket" / "akasha" / "a").read_bytes() == b"1"
    await adapter.cleanup()


async def test_the_same_adapter_each_time_and_closed_together(tmp_path: Path) -> None:
    async with StorageTiers(local(tmp_path)) as tiers:
        found = await asyncio.gather(*(tiers.open("hot") for _ in range(20)))
        assert len({id(each) for each in found}) == 1
        by_name = await tiers.backend("a")
        assert by_name is not found[0]
    assert (found[0]._client, by_name._client) == (None, None)  # type: ignore[attr-defined]
    again = await tiers.open("hot")
    assert again is not found[0]
    await tiers.close()
    await tiers.close()


async def test_closing_waits_for_what_is_being_opened(tmp_path: Path) -> None:
    tiers = StorageTiers(local(tmp_path))
    opening = asyncio.create_task(tiers.open("hot"))
    await asyncio.sleep(0)
    while tiers._bridge is None:
        await asyncio.sleep(0.001)
    await tiers.close()
    adapter = await opening
    assert adapter._client is None  # type: ignore[attr-defined]


async def test_tiers_on_three_providers(
    seaweedfs: SeaweedServer, fake_gcs: FakeGcsServer, azurite: AzuriteServer, tmp_path: Path
) -> None:
    """Each tier is moved to another provider by the one name in `tiers`, and by nothing else."""
    azure = f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={azurite.account_url};"
    path = tmp_path / "akasha-storage.yml"
    path.write_text(f"""
storage:
  tiers: {{hot: s3-hot, warm: gcs-warm, cold: azure-cold}}
  s3-hot:
    provider: s3
    bucket_name: tiers-hot
    endpoint_url: {seaweedfs.endpoint_url}
    access_key_id: {seaweedfs.access_key_id}
    secret_access_key: {seaweedfs.secret_access_key}
    create_bucket: true
  local-hot: {{provider: local, bucket_name: tiers-hot, root: {tmp_path}}}
  gcs-warm:
    provider: gcs
    bucket_name: tiers-warm
    endpoint_url: {fake_gcs.endpoint_url}
    project: test
    tier: warm
    create_bucket: true
  azure-cold:
    provider: azure
    bucket_name: tiers-cold
    connection_string: {azure}
    tier: cold
    create_bucket: true
""")
    settings = StorageSettings.load(path, variables={})
    async with StorageTiers(settings) as tiers:
        hot, warm, cold = await asyncio.gather(tiers.open("hot"), tiers.open("warm"), tiers.open("cold"))
        assert (hot.provider, warm.provider, cold.provider) == ("s3", "gcs", "azure")
        assert (hot.storage_class, warm.storage_class, cold.storage_class) == ("STANDARD", "NEARLINE", "Archive")
        await hot.upload("tiers-hot", "segment", b"rows")
        assert await warm.put_if_absent("tiers-warm", "segment", await hot.download("tiers-hot", "segment"))
        assert await cold.put_if_absent("tiers-cold", "segment", await warm.download("tiers-warm", "segment"))
        assert (await cold.restore_state("tiers-cold", "segment")).status == "archived"
    path.write_text(path.read_text().replace("hot: s3-hot", "hot: local-hot"))
    adapter = await open_tier(StorageSettings.load(path, variables={}), "hot")
    assert adapter.provider == "local"
    await adapter.cleanup()


async def test_what_can_not_be_opened_says_why(tmp_path: Path) -> None:
    async with StorageTiers(local(tmp_path)) as tiers:
        with pytest.raises(SettingsError, match=r"storage\.tiers\.cold: is missing"):
            await tiers.open("cold")
        with pytest.raises(SettingsError, match="no backend 'b'; known: a"):
            await tiers.backend("b")
        with pytest.raises(SettingsError, match="redis-cache: is missing"):
            await tiers.cache()
    async with StorageTiers(local(tmp_path, cache=RedisCacheSettings(host="127.0.0.1", port=1))) as tiers:
        with pytest.raises(CacheUnavailable, match=r"the cache at 127\.0\.0\.1:1/0") as caught:
            await tiers.cache()
        assert isinstance(caught.value.__cause__, RedisError)


def on_s3(port: int, *, create_bucket: bool) -> StorageSettings:
    backend = S3Backend(
        bucket_name="bucket",
        endpoint_url=f"http://127.0.0.1:{port}",
        access_key_id=SecretStr("a"),
        secret_access_key=SecretStr("b"),
        create_bucket=create_bucket,
    )
    return StorageSettings(backends={"a": backend}, tiers={"hot": "a"})


async def test_a_server_that_is_not_there() -> None:
    async with StorageTiers(on_s3(free_ports(1)[0], create_bucket=False)) as tiers:
        with pytest.raises(StorageUnavailable, match=r"^a: bucket bucket can't be reached"):
            await tiers.open("hot")


async def test_a_server_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("akasha_stream.storage.registration._OPEN_TIMEOUT_S", 1.0)
    writers: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _reader, writer: writers.append(writer), "127.0.0.1", 0)
    async with server, StorageTiers(on_s3(server.sockets[0].getsockname()[1], create_bucket=True)) as tiers:
        with pytest.raises(StorageUnavailable, match=r"not open within 1 s"):
            await tiers.open("hot")
        for writer in writers:
            writer.close()


async def test_a_bucket_that_comes_later(tmp_path: Path) -> None:
    backend = LocalBackend(bucket_name="bucket", root=tmp_path, create_bucket=False)
    async with StorageTiers(StorageSettings(backends={"a": backend}, tiers={"hot": "a"})) as tiers:
        with pytest.raises(StorageUnavailable, match=r"^a: bucket bucket can't be reached: Health check failed"):
            await tiers.open("hot")
        (tmp_path / "bucket").mkdir()
        assert await (await tiers.open("hot")).health()


@pytest.mark.valkey
async def test_the_cache(tmp_path: Path, valkey: ValkeyServer) -> None:
    cached = local(tmp_path, cache=RedisCacheSettings(host="127.0.0.1", port=valkey.port))
    async with StorageTiers(cached) as tiers:
        cache = await tiers.cache()
        await cache.set("tiers:cache", b"\0")
        assert await cache.get("tiers:cache") == b"\0"
        assert await tiers.cache() is cache


def test_oneiric_is_imported_beside_the_loop(tmp_path: Path) -> None:
    """It takes seconds, and a worker that sends no heartbeat for that long loses its partitions."""
    code = f"""
import asyncio, sys, threading
from akasha_stream.storage import StorageSettings, StorageTiers
from akasha_stream.storage.settings import LocalBackend

threads = set()

class Imports:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "oneiric":
            threads.add(threading.get_ident())

async def main():
    settings = StorageSettings(
        backends={{"a": LocalBackend(bucket_name="bucket", root={str(tmp_path)!r})}}, tiers={{"hot": "a"}}
    )
    sys.meta_path.insert(0, Imports())
    async with StorageTiers(settings) as tiers:
        assert "oneiric" not in sys.modules
        await tiers.open("hot")
        assert "oneiric" in sys.modules
    assert threads, "not seen"
    assert threading.get_ident() not in threads, "the loop stood still meanwhile"

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_oneiric_is_quiet(tmp_path: Path) -> None:
    """It tells of every candidate and use, and prints a traceback for what is raised anyway."""
    code = f"""
import asyncio
from akasha_stream.embedded.ports import free_ports
from akasha_stream.errors import StorageUnavailable
from akasha_stream.logs import configure
from akasha_stream.settings import LoggingSettings
from akasha_stream.storage import StorageSettings, open_tier
from akasha_stream.storage.settings import LocalBackend

configure(LoggingSettings(format="json"))
backend = LocalBackend(bucket_name="bucket", root={str(tmp_path)!r}, create_bucket=False)
try:
    asyncio.run(open_tier(StorageSettings(backends={{"a": backend}}, tiers={{"hot": "a"}}), "hot"))
except StorageUnavailable as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("a: bucket bucket can't be reached: Health check failed")
    loggers = {json.loads(line)["logger"] for line in done.stderr.splitlines()}
    assert loggers <= {"akasha_stream.storage.guarded"}
