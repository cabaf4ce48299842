"""RedisCacheAdapter on a real Valkey."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from akasha_stream.embedded import ValkeyServer
from akasha_stream.errors import CacheError, CacheUnavailable
from akasha_stream.storage.redis_cache import RedisCacheAdapter
from akasha_stream.storage.settings import RedisCacheSettings

pytestmark = pytest.mark.valkey


@pytest.fixture
async def cache(valkey: ValkeyServer) -> AsyncIterator[RedisCacheAdapter]:
    adapter = RedisCacheAdapter("127.0.0.1", valkey.port)
    yield adapter
    await adapter.cleanup()


@pytest.fixture
async def redis(valkey: ValkeyServer) -> AsyncIterator[Redis]:
    client = Redis.from_url(valkey.url, protocol=2)
    yield client
    await client.aclose()


async def test_the_guides_calls(cache: RedisCacheAdapter) -> None:
    await cache.init()
    assert await cache.health() is True
    found = [{"id": "conv_12345", "similarity": 0.99, "created_at": datetime.now(UTC), "metadata": {"a": 1}}]
    await cache.set(key="guide:search", value=found, ttl=3600)
    assert await cache.get("guide:search") == found
    assert await cache.exists("guide:search")
    await cache.delete("guide:search")
    assert not await cache.exists("guide:search")
    assert await cache.get("guide:search") is None


async def test_text_stays_text_and_bytes_stay_bytes(cache: RedisCacheAdapter) -> None:
    for value in ("123", "null", b"123", b"\x00\xff\r\n", b"", os.urandom(100_000), "ünï"):
        await cache.set("cache:types", value)
        assert await cache.get("cache:types") == value
    await cache.set("cache:types", None)
    assert await cache.get("cache:types") is None
    assert await cache.exists("cache:types")


@pytest.mark.parametrize(
    ("default", "asked", "wanted"),
    [(60, None, 60), (60, 5, 5), (60, 0, -1), (0, None, -1), (None, None, -1), (0, 7, 7)],
)
async def test_time_to_live(
    valkey: ValkeyServer, redis: Redis, default: int | None, asked: int | None, wanted: int
) -> None:
    """Seconds; None asks for the default, and 0 (or no default) for ever, which Redis calls -1."""
    cache = RedisCacheAdapter("127.0.0.1", valkey.port, ttl_seconds=default)
    await cache.set("cache:ttl", 1, ttl=asked)
    await cache.cleanup()
    assert await redis.ttl("cache:ttl") == wanted


async def test_a_value_goes_when_its_time_is_over(cache: RedisCacheAdapter) -> None:
    await cache.set("cache:short", 1, ttl=1)
    await asyncio.sleep(1.1)
    assert await cache.get("cache:short") is None


async def test_a_negative_time_to_live_is_refused(cache: RedisCacheAdapter) -> None:
    with pytest.raises(CacheError, match="found -1"):
        await cache.set("cache:negative", 1, ttl=-1)
    with pytest.raises(CacheError, match="found -5"):
        RedisCacheAdapter(ttl_seconds=-5)


async def test_what_can_not_come_back_is_not_stored(cache: RedisCacheAdapter) -> None:
    with pytest.raises(CacheError):
        await cache.set("cache:refused", {1, 2})
    assert not await cache.exists("cache:refused")


async def test_many_first_calls_open_one_client(valkey: ValkeyServer) -> None:
    cache = RedisCacheAdapter("127.0.0.1", valkey.port)
    await asyncio.gather(*(cache.init() for _ in range(50)))
    client = cache._client
    await asyncio.gather(*(cache.set(f"cache:many:{i}", i) for i in range(50)))
    assert cache._client is client
    await cache.cleanup()


async def test_it_opens_again_after_cleanup(cache: RedisCacheAdapter) -> None:
    await cache.set("cache:again", 1)
    await cache.cleanup()
    await cache.cleanup()
    assert await cache.get("cache:again") == 1


async def test_databases_are_apart(valkey: ValkeyServer, cache: RedisCacheAdapter) -> None:
    other = RedisCacheAdapter("127.0.0.1", valkey.port, db=3)
    await other.set("cache:db", 1)
    assert not await cache.exists("cache:db")
    await other.cleanup()


async def test_a_password_from_the_settings_is_used_and_never_shown() -> None:
    with ValkeyServer.start(password="p@ss:w/rd#") as server:
        settings = RedisCacheSettings(host="127.0.0.1", port=server.port, password=SecretStr("p@ss:w/rd#"))
        cache = RedisCacheAdapter.from_settings(settings)
        await cache.set("a", 1)
        assert await cache.get("a") == 1
        assert "p@ss" not in repr(settings) + repr(vars(cache))
        await cache.cleanup()
        wrong = RedisCacheAdapter("127.0.0.1", server.port, password="no")
        with pytest.raises(CacheUnavailable, match=r"(?i)password|auth"):
            await wrong.init()
        assert await wrong.health() is False
        await wrong.cleanup()


async def test_a_server_that_is_gone(valkey_killable: ValkeyServer) -> None:
    cache = RedisCacheAdapter("127.0.0.1", valkey_killable.port, timeout_s=0.3)
    await cache.set("a", 1)
    valkey_killable.kill()
    with pytest.raises(CacheUnavailable, match=f"the cache at 127.0.0.1:{valkey_killable.port}/0"):
        await cache.get("a")
    assert await cache.health() is False
    valkey_killable.restart()
    assert await cache.health() is True
    await cache.set("a", 2)
    assert await cache.get("a") == 2
    await cache.cleanup()


async def test_a_server_that_hangs_costs_the_timeout(valkey_killable: ValkeyServer) -> None:
    cache = RedisCacheAdapter("127.0.0.1", valkey_killable.port, timeout_s=0.2)
    await cache.init()
    valkey_killable.pause()
    try:
        async with asyncio.timeout(2):
            with pytest.raises(CacheUnavailable):
                await cache.get("a")
    finally:
        valkey_killable.resume()
    await cache.cleanup()
