"""The guide's adapter classes and its other registrations, called as it calls them."""

from __future__ import annotations

from oneiric.adapters.bridge import AdapterBridge
from oneiric.core.lifecycle import LifecycleManager
from oneiric.core.resolution import Resolver

from akasha_stream.embedded import ValkeyServer
from akasha_stream.storage import S3StorageAdapter, close_adapters, register_akasha_adapters
from akasha_stream.storage import StorageSettings as Settings
from akasha_stream.storage.redis_cache import RedisCacheAdapter, register_redis_adapter


async def test_all_tiers_and_the_cache() -> None:
    resolver = Resolver()
    register_akasha_adapters(resolver)
    register_redis_adapter(resolver)
    lifecycle = LifecycleManager(resolver)
    bridge = AdapterBridge(
        resolver=resolver, lifecycle=lifecycle, settings=Settings.load_yaml("settings/akasha-storage.yml")
    )
    for tier, storage_class in {"hot": "STANDARD", "warm": "STANDARD_IA", "cold": "GLACIER"}.items():
        handle = await bridge.use(f"storage-s3-{tier}")
        storage = handle.instance
        assert (handle.provider, storage.tier, storage.storage_class) == (f"s3-{tier}", tier, storage_class)
        await storage.upload(bucket=f"akasha-{tier}-dev", path="guide/a", data=b"1")
        assert await storage.exists(bucket=f"akasha-{tier}-dev", path="guide/a")
    cache = await bridge.use("cache-redis-hot")
    await cache.instance.set(key="search:conv_12345", value=[{"id": "conv_12345"}], ttl=3600)
    assert len(await cache.instance.get("search:conv_12345")) == 1
    await close_adapters(lifecycle)


async def test_the_s3_class_without_init() -> None:
    """Arguments as in the guide; the server and its credentials are in the variables that boto reads."""
    storage = S3StorageAdapter(bucket_name="akasha-hot-dev", region="us-east-1", storage_class="STANDARD", tier="hot")
    await storage.ensure_bucket("akasha-hot-dev")
    await storage.upload("akasha-hot-dev", "guide/direct", b"1")
    assert await storage.download("akasha-hot-dev", "guide/direct") == b"1"
    await storage.cleanup()


async def test_the_redis_class_without_init(valkey: ValkeyServer) -> None:
    cache = RedisCacheAdapter(host="127.0.0.1", port=valkey.port, db=0, ttl_seconds=3600)
    await cache.set("guide:direct", {"a": 1})
    assert await cache.get("guide:direct") == {"a": 1}
    assert await cache.exists("guide:direct")
    await cache.delete("guide:direct")
    await cache.cleanup()
