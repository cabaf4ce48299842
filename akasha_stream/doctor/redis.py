"""Redis or Valkey: reachable, and set so that it keeps our tables."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from akasha_stream.configuration.secrets import mask_urls
from akasha_stream.doctor.finding import Findings
from akasha_stream.errors import LookupUnavailable
from akasha_stream.lookups.connection import connect, unavailable_as_lookup_error
from akasha_stream.settings import Settings

if TYPE_CHECKING:
    from redis.asyncio import Redis

SLOW_MS = 20.0
PINGS = 5
"""The quickest counts: the other checks run at the same time."""


async def check_redis(found: Findings, settings: Settings) -> None:
    if not settings.redis.enabled:
        found.ok("enabled", "redis.enabled is false: lookups are answered from DuckDB, workers are not listed")
        return
    url = mask_urls(settings.redis.url.get_secret_value())
    client = connect(settings.redis)
    try:
        await _with(found, client, url, f"{settings.redis.prefix}:doctor")
    finally:
        await client.aclose()


async def _with(found: Findings, client: Redis, url: str, key: str) -> None:
    try:
        with unavailable_as_lookup_error():
            await client.ping()
            took_ms = min([await _round_trip_ms(client) for _ in range(PINGS)])
            info = await client.info()
    except LookupUnavailable as error:
        found.fail(
            "reachable",
            f"{url}: {error}",
            "start it, or set redis.url (REDIS_URL); redis.enabled: false runs without, with slower lookups",
        )
        return
    name = f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {info.get('redis_version', '?')}"
    if took_ms > SLOW_MS:
        found.warn("reachable", f"{url}: {name}, {took_ms:.0f} ms a command", "run it near the workers")
    else:
        found.ok("reachable", f"{url}: {name}, {took_ms:.1f} ms")
    if info.get("cluster_enabled"):
        found.fail(
            "mode", "this is Redis Cluster, which the tables can't use", "use a single server, or one with replicas"
        )
    await _write(found, client, key)
    _memory(found, info)


async def _write(found: Findings, client: Redis, key: str) -> None:
    try:
        with unavailable_as_lookup_error():
            await client.set(key, b"1", px=1_000)
            await client.delete(key)
    except LookupUnavailable as error:
        found.fail(
            "writable",
            str(error),
            "OOM: raise maxmemory; READONLY: set redis.url to the primary; NOPERM: give the user the right to write",
        )
    else:
        found.ok("writable", "a key was set and deleted")


async def _round_trip_ms(client: Redis) -> float:
    started = time.perf_counter()
    await client.ping()
    return (time.perf_counter() - started) * 1e3


def _memory(found: Findings, info: dict[str, object]) -> None:
    policy = str(info.get("maxmemory_policy", "noeviction"))
    limit, used = _number(info, "maxmemory"), _number(info, "used_memory")
    if policy.startswith("allkeys"):
        found.fail(
            "eviction",
            f"maxmemory-policy is {policy}: keys of our tables can vanish, and nobody notices",
            "CONFIG SET maxmemory-policy noeviction, or a volatile-* policy",
        )
    else:
        found.ok("eviction", f"maxmemory-policy {policy}")
    if limit and used > 0.9 * limit:
        found.warn(
            "memory", f"{used / 1e6:,.0f} of {limit / 1e6:,.0f} MB are used", "raise maxmemory: 120 bytes an event"
        )
    else:
        found.ok("memory", f"{used / 1e6:,.0f} MB used" + (f" of {limit / 1e6:,.0f} MB" if limit else ", no limit"))


def _number(info: dict[str, object], name: str) -> int:
    value = info.get(name, 0)
    return value if isinstance(value, int) else 0
