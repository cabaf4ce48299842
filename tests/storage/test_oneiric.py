"""Our adapters through Oneiric's own API: categories, first use, swap, health, failures, shutdown, discovery."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from oneiric.adapters.bootstrap import register_builtin_adapters
from oneiric.adapters.bridge import AdapterBridge
from oneiric.core.config import LayerSettings, PluginsConfig
from oneiric.core.lifecycle import LifecycleError, LifecycleManager
from oneiric.core.resolution import Resolver
from oneiric.plugins import register_entrypoint_plugins
from pydantic import SecretStr

from akasha_stream.embedded import SeaweedServer, ValkeyServer
from akasha_stream.errors import CacheUnavailable, SettingsError, StorageError, UsageError
from akasha_stream.storage import (
    LocalStorageAdapter,
    StorageAdapter,
    StorageSettings,
    close_adapters,
    register_akasha_adapters,
    register_redis_adapter,
)
from akasha_stream.storage import registration as ours
from akasha_stream.storage.settings import LocalBackend, RedisCacheSettings, S3Backend, TierName

TIERS: tuple[TierName, ...] = ("hot", "warm", "cold")


@pytest.fixture
def settings(tmp_path: Path) -> StorageSettings:
    """Every tier in a folder."""
    return StorageSettings(
        backends={
            f"local-{tier}": LocalBackend(bucket_name=f"bucket-{tier}", root=tmp_path, tier=tier) for tier in TIERS
        },
        tiers={tier: f"local-{tier}" for tier in TIERS},
        default_backend="local-warm",
        cache=RedisCacheSettings(host="127.0.0.1", port=1, password=SecretStr("hunter2")),
        unusable={"azure-cold": "akasha-storage.yml:9: storage.azure-cold.connection_string: X is not set"},
    )


@pytest.fixture
async def bridge(settings: StorageSettings) -> AsyncIterator[AdapterBridge]:
    resolver = Resolver()
    register_akasha_adapters(resolver, settings)
    register_redis_adapter(resolver, settings)
    lifecycle = LifecycleManager(resolver)
    yield AdapterBridge(resolver=resolver, lifecycle=lifecycle, settings=ours.layer_settings(settings))
    await close_adapters(lifecycle)


@pytest.mark.parametrize(
    ("category", "backend"),
    [
        ("storage-local-hot", "local-hot"),
        ("storage-local-warm", "local-warm"),
        ("storage-local-cold", "local-cold"),
        ("storage-hot", "local-hot"),
        ("storage-warm", "local-warm"),
        ("storage-cold", "local-cold"),
        ("storage", "local-warm"),
    ],
)
async def test_every_category_has_its_adapter(bridge: AdapterBridge, category: str, backend: str) -> None:
    handle = await bridge.use(category)
    assert (handle.category, handle.provider) == (category, backend)
    storage = handle.instance
    assert isinstance(storage, LocalStorageAdapter)
    assert isinstance(storage, StorageAdapter)
    assert storage.bucket_name == f"bucket-{backend.removeprefix('local-')}"
    await storage.upload(storage.bucket_name, "a/b", b"data")
    assert await storage.download(storage.bucket_name, "a/b") == b"data"


async def test_tiers_live_side_by_side(bridge: AdapterBridge) -> None:
    """In the guide all three share the category `storage`, and Oneiric keeps one live instance a category."""
    hot = (await bridge.use("storage-local-hot")).instance
    warm = (await bridge.use("storage-local-warm")).instance
    assert hot is not warm
    assert (await bridge.use("storage-local-hot")).instance is hot


async def test_many_first_uses_at_once_get_one_instance(bridge: AdapterBridge, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[object] = []
    prepare = LocalStorageAdapter._prepare

    def counted(self: LocalStorageAdapter) -> Path:
        opened.append(self)
        return prepare(self)

    monkeypatch.setattr(LocalStorageAdapter, "_prepare", counted)
    handles = await asyncio.gather(*(bridge.use("storage-local-hot") for _ in range(50)))
    assert len({id(handle.instance) for handle in handles}) == 1
    assert len(opened) == 1
    assert (await bridge.use("storage-local-hot")).instance is handles[0].instance


async def test_a_swap_opens_a_new_one_and_closes_the_old(bridge: AdapterBridge) -> None:
    old = (await bridge.use("storage-local-hot")).instance
    new = (await bridge.use("storage-local-hot", force_reload=True)).instance
    assert new is not old
    assert old._client is None
    assert new._client is not None
    await new.upload("bucket-hot", "a", b"1")
    assert await old.download("bucket-hot", "a") == b"1"  # whoever still has it isn't stopped
    await old.cleanup()


async def test_health_through_the_lifecycle(bridge: AdapterBridge, tmp_path: Path) -> None:
    await bridge.use("storage-local-hot")
    lifecycle = bridge.lifecycle
    assert await lifecycle.probe_instance_health("adapter", "storage-local-hot") is True
    assert lifecycle.get_status("adapter", "storage-local-hot").state == "ready"
    (tmp_path / "bucket-hot").rename(tmp_path / "gone")
    assert await lifecycle.probe_instance_health("adapter", "storage-local-hot") is False


async def test_a_swap_to_what_is_not_healthy_keeps_the_old(tmp_path: Path) -> None:
    settings = StorageSettings(
        backends={"a": LocalBackend(bucket_name="bucket", root=tmp_path, create_bucket=False)}, tiers={"hot": "a"}
    )
    (tmp_path / "bucket").mkdir()
    resolver = Resolver()
    register_akasha_adapters(resolver, settings)
    lifecycle = LifecycleManager(resolver)
    bridge = AdapterBridge(resolver=resolver, lifecycle=lifecycle, settings=LayerSettings())
    old = (await bridge.use("storage-hot")).instance
    (tmp_path / "bucket").rmdir()
    with pytest.raises(LifecycleError, match="Health check failed"):
        await bridge.use("storage-hot", force_reload=True)
    assert (await bridge.use("storage-hot")).instance is old
    await close_adapters(lifecycle)


async def test_what_lacks_a_variable_says_which(bridge: AdapterBridge) -> None:
    with pytest.raises(LifecycleError) as caught:
        await bridge.use("storage-azure-cold")
    assert isinstance(caught.value.__cause__, SettingsError)
    assert "connection_string: X is not set" in str(caught.value.__cause__)


async def test_a_cache_that_is_gone(bridge: AdapterBridge) -> None:
    with pytest.raises(LifecycleError) as caught:
        await bridge.use("cache-redis-hot")
    assert isinstance(caught.value.__cause__, CacheUnavailable)
    assert bridge.lifecycle.get_instance("adapter", "cache-redis-hot") is None


async def test_a_failed_first_use_is_tried_again(settings: StorageSettings, tmp_path: Path) -> None:
    root = tmp_path / "file"
    root.write_text("no folder")
    settings = StorageSettings(backends={"a": LocalBackend(bucket_name="bucket", root=root)}, tiers={"hot": "a"})
    resolver = Resolver()
    register_akasha_adapters(resolver, settings)
    lifecycle = LifecycleManager(resolver)
    bridge = AdapterBridge(resolver=resolver, lifecycle=lifecycle, settings=LayerSettings())
    failed = await asyncio.gather(*(bridge.use("storage-hot") for _ in range(5)), return_exceptions=True)
    assert all(isinstance(each, LifecycleError) for each in failed)
    root.unlink()
    assert await (await bridge.use("storage-hot")).instance.health()
    await close_adapters(lifecycle)


async def test_close_adapters_closes_all_and_tells_of_failures(bridge: AdapterBridge) -> None:
    lifecycle = bridge.lifecycle
    instances = [(await bridge.use(f"storage-{tier}")).instance for tier in TIERS]
    broken = instances[0]
    cleanup = broken.cleanup

    async def fails() -> None:
        await cleanup()
        raise OSError("no more handles")

    broken.cleanup = fails
    with pytest.raises(StorageError, match=r"^not closed cleanly: storage-hot: no more handles$"):
        await close_adapters(lifecycle)
    assert [instance._client for instance in instances] == [None, None, None]
    del broken.cleanup
    await close_adapters(lifecycle)


def test_a_second_registration_is_refused(settings: StorageSettings) -> None:
    """By provider Oneiric resolves to the first candidate, and otherwise to the last."""
    resolver = Resolver()
    register_akasha_adapters(resolver, settings)
    with pytest.raises(UsageError, match="the resolver has storage-local-hot already"):
        register_akasha_adapters(resolver, settings)
    assert not resolver.list_shadowed("adapter")


def test_oneirics_own_adapters_do_not_win(settings: StorageSettings) -> None:
    for ours_first in (True, False):
        resolver = Resolver()
        if ours_first:
            register_akasha_adapters(resolver, settings)
        register_builtin_adapters(resolver)
        if not ours_first:
            register_akasha_adapters(resolver, settings)
        assert resolver.resolve("adapter", "storage").provider == "local-warm"
        assert resolver.resolve("adapter", "storage-hot").provider == "local-hot"


def test_the_priority_does_not_depend_on_where_we_are_installed(settings: StorageSettings) -> None:
    resolver = Resolver()
    register_akasha_adapters(resolver, settings)
    found = {candidate.key: candidate for candidate in resolver.list_active("adapter")}
    assert {candidate.priority for candidate in found.values()} == {1000}
    assert [found[f"storage-{tier}"].stack_level for tier in TIERS] == [100, 50, 10]


def test_a_wrong_file_fails_at_registration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AKASHA_STORAGE_SETTINGS", "nowhere.yml")
    with pytest.raises(SettingsError, match=r"nowhere\.yml"):
        register_akasha_adapters(Resolver())


async def test_the_bridges_settings_hold_no_secret(bridge: AdapterBridge, settings: StorageSettings) -> None:
    layer = ours.layer_settings(settings)
    assert layer.selections["storage-cold"] == "local-cold"
    assert layer.provider_settings["redis-hot"]["port"] == 1
    assert "hunter2" not in repr(layer)
    assert (await bridge.use("storage-hot")).settings["bucket_name"] == "bucket-hot"


class TestDiscovery:
    """The entry points of the installed package, found by Oneiric."""

    def discovered(self) -> tuple[Resolver, Any]:
        resolver = Resolver()
        report = register_entrypoint_plugins(
            resolver, PluginsConfig(auto_load=False, entry_points=["oneiric.adapters"])
        )
        return resolver, report

    async def test_all_are_found(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AKASHA_OBJECTS_DIR", str(tmp_path))
        resolver, report = self.discovered()
        assert {"akasha-storage", "akasha-cache"} <= {entry.entry_point for entry in report.entries}
        found = {candidate.key for candidate in resolver.list_active("adapter")}
        backends = {f"storage-{provider}-{tier}" for provider in ("s3", "gcs", "azure", "local") for tier in TIERS}
        assert backends | {"storage", "storage-hot", "storage-warm", "storage-cold", "cache-redis-hot"} <= found
        lifecycle = LifecycleManager(resolver)
        bridge = AdapterBridge(resolver=resolver, lifecycle=lifecycle, settings=LayerSettings())
        storage = (await bridge.use("storage-local-hot")).instance
        await storage.upload("hot", "a", b"1")
        assert (tmp_path / "hot" / "a").read_bytes() == b"1"
        await close_adapters(lifecycle)

    def test_a_wrong_file_is_ours_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of most errors Oneiric's discovery dies, and everybody's plugins with it."""
        monkeypatch.setenv("AKASHA_STORAGE_SETTINGS", "nowhere.yml")
        _, report = self.discovered()
        reasons = {error.entry_point: error.reason for error in report.errors}
        assert reasons["akasha-storage"] == "AKASHA_STORAGE_SETTINGS: nowhere.yml: no such file"


@pytest.mark.valkey
async def test_the_cache(valkey: ValkeyServer) -> None:
    resolver = Resolver()
    settings = StorageSettings(cache=RedisCacheSettings(host="127.0.0.1", port=valkey.port))
    register_redis_adapter(resolver, settings)
    lifecycle = LifecycleManager(resolver)
    bridge = AdapterBridge(resolver=resolver, lifecycle=lifecycle, settings=LayerSettings())
    handles = await asyncio.gather(*(bridge.use("cache-redis-hot") for _ in range(20)))
    assert len({id(handle.instance) for handle in handles}) == 1
    cache = handles[0].instance
    await cache.set("oneiric:cache", {"a": 1})
    assert await cache.get("oneiric:cache") == {"a": 1}
    assert await lifecycle.probe_instance_health("adapter", "cache-redis-hot") is True
    await close_adapters(lifecycle)
    assert cache._client is None


async def test_s3(seaweedfs: SeaweedServer) -> None:
    """On a real server: all three tiers, first uses at once, a bucket that is missing."""
    made = {
        f"s3-{tier}": S3Backend(
            bucket_name=f"oneiric-{tier}",
            tier=tier,
            endpoint_url=seaweedfs.endpoint_url,
            access_key_id=SecretStr(seaweedfs.access_key_id),
            secret_access_key=SecretStr(seaweedfs.secret_access_key),
            create_bucket=tier != "cold",
        )
        for tier in TIERS
    }
    resolver = Resolver()
    register_akasha_adapters(resolver, StorageSettings(backends=made, tiers={tier: f"s3-{tier}" for tier in TIERS}))
    lifecycle = LifecycleManager(resolver)
    bridge = AdapterBridge(resolver=resolver, lifecycle=lifecycle, settings=LayerSettings())
    handles = await asyncio.gather(*(bridge.use(f"storage-s3-{tier}") for tier in ("hot", "warm") for _ in range(10)))
    assert len({id(handle.instance) for handle in handles}) == 2
    hot, warm = handles[0].instance, handles[-1].instance
    assert (hot.storage_class, warm.storage_class) == ("STANDARD", "STANDARD_IA")
    await hot.upload("oneiric-hot", "a", b"hot")
    await warm.upload("oneiric-warm", "a", b"warm")
    assert await hot.download("oneiric-hot", "a") == b"hot"
    with pytest.raises(LifecycleError, match="Health check failed"):
        await bridge.use("storage-s3-cold")
    await hot.ensure_bucket("oneiric-cold")
    assert (await bridge.use("storage-s3-cold")).instance.storage_class == "GLACIER"
    await close_adapters(lifecycle)
