"""Our adapters as Oneiric's resolver knows them. Needs Oneiric, whose import takes seconds: import this file late.

category               provider        what bridge.use(category) gives
storage-<backend>      the backend     the backend of that name in settings/akasha-storage.yml: storage-s3-hot
storage-<tier>         its backend     the backend that the tier is on: storage-hot, storage-warm, storage-cold
storage                its backend     the default backend
cache-redis-hot        redis-hot       the Redis cache

Oneiric keeps one live instance a category, whatever its provider: so each has a category of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from oneiric.adapters.metadata import AdapterMetadata, register_adapter_metadata
from oneiric.core.config import LayerSettings

from akasha_stream.configuration.show import redacted
from akasha_stream.errors import SettingsError, StorageUnavailable, UsageError
from akasha_stream.settings import Section
from akasha_stream.storage.create import open_adapter
from akasha_stream.storage.redis_cache import RedisCacheAdapter
from akasha_stream.storage.settings import CACHE_NAME, StorageSettings, TierName

PACKAGE = "akasha-stream"
CACHE_CATEGORY, CACHE_PROVIDER = "cache-redis-hot", "redis-hot"
# Above those of Oneiric's own adapters (up to 500), which are in `storage` too. Without one Oneiric guesses it from
# the folders in the path of the installed package.
_PRIORITY = 1000
_STACK_LEVELS: dict[TierName, int] = {"hot": 100, "warm": 50, "cold": 10}  # the guide's
# Oneiric gives up on a factory after 30 s, and leaves it running.
_OPEN_TIMEOUT_S = 25.0


def register_akasha_adapters(resolver: Any, settings: StorageSettings | None = None) -> None:
    """Register every backend, tier and the default. `settings`: else settings/akasha-storage.yml is read.

    Raises:
        SettingsError: the file is wrong.
        UsageError: the resolver has them already. Oneiric would go on with the first ones and say nothing.
    """
    _register(resolver, storage_metadata(settings or StorageSettings.load()))


def register_redis_adapter(resolver: Any, settings: StorageSettings | None = None) -> None:
    """As register_akasha_adapters, of the cache (the entry with `provider: redis`)."""
    _register(resolver, cache_metadata(settings or StorageSettings.load()))


def _register(resolver: Any, adapters: list[AdapterMetadata]) -> None:
    for adapter in adapters:
        # By provider Oneiric resolves to what was registered first, else to what was registered last.
        if resolver.resolve("adapter", adapter.category, provider=adapter.provider) is not None:
            raise UsageError(
                f"the resolver has {adapter.category} already (from an entry point, or an earlier call): "
                "register them once, with a Resolver for each settings file"
            )
    register_adapter_metadata(resolver, package_name=PACKAGE, package_path=__file__, adapters=adapters)


def storage_metadata(settings: StorageSettings) -> list[AdapterMetadata]:
    """Of every backend, tier and the default."""

    def of(category: str, name: str) -> AdapterMetadata:
        backend = settings.backends[name]
        return AdapterMetadata(
            category=category,
            provider=name,
            factory=_factory(lambda: open_adapter(backend)),
            description=f"{backend.tier} tier: {backend.bucket_name} on {backend.provider}",
            capabilities=["object-storage", backend.tier],
            priority=_PRIORITY,
            stack_level=_STACK_LEVELS[backend.tier],
            owner=PACKAGE,
        )

    found = [of(f"storage-{name}", name) for name in settings.backends]
    found += [of(f"storage-{tier}", name) for tier, name in settings.tiers.items()]
    if settings.default_backend is not None:
        found.append(of("storage", settings.default_backend))
    unusable = {name: lacks for name, lacks in settings.unusable.items() if name != CACHE_NAME}
    return found + [_unusable(f"storage-{name}", name, lacks) for name, lacks in unusable.items()]


def cache_metadata(settings: StorageSettings) -> list[AdapterMetadata]:
    """Of the cache; empty where the file has none."""
    cache = settings.cache
    if cache is None:
        lacks = settings.unusable.get(CACHE_NAME)
        return [] if lacks is None else [_unusable(CACHE_CATEGORY, CACHE_PROVIDER, lacks)]
    return [
        AdapterMetadata(
            category=CACHE_CATEGORY,
            provider=CACHE_PROVIDER,
            factory=_factory(lambda: RedisCacheAdapter.open(cache)),
            description=f"Redis cache for hot data: {cache.host}:{cache.port}/{cache.db}",
            capabilities=["cache", "hot"],
            priority=_PRIORITY,
            stack_level=_STACK_LEVELS["hot"],
            owner=PACKAGE,
        )
    ]


def _unusable(category: str, name: str, lacks: str) -> AdapterMetadata:
    """So that bridge.use() says which variable is missing, and not that there is no such adapter."""

    def refuse() -> None:
        raise SettingsError(lacks)

    return AdapterMetadata(
        category=category, provider=name, factory=refuse, priority=_PRIORITY, description=lacks, owner=PACKAGE
    )


def _factory[A](open_one: Callable[[], Coroutine[Any, Any, A]]) -> Callable[[], Awaitable[A]]:
    """What Oneiric calls for an instance: it calls no init(), so this returns one that is open.

    Callers that ask at the same time get the same instance: Oneiric would make one each, keep the last and forget
    the others open. (If two LifecycleManagers do, it opens again for the one when the other has closed it.)

    A function and not an object: Oneiric copies what it is given, deeply.
    """
    opening: asyncio.Task[A] | None = None

    async def in_time() -> A:
        try:
            async with asyncio.timeout(_OPEN_TIMEOUT_S):
                return await open_one()
        except TimeoutError:
            raise StorageUnavailable(f"not open within {_OPEN_TIMEOUT_S:g} s") from None

    async def factory() -> A:
        nonlocal opening
        if opening is None or opening.done():
            opening = asyncio.create_task(in_time())
            # Whoever asked may have been cancelled meanwhile: an error that nobody waits for is no news.
            opening.add_done_callback(lambda task: task.cancelled() or task.exception())
        return await asyncio.shield(opening)

    return factory


def layer_settings(settings: StorageSettings) -> LayerSettings:
    """For AdapterBridge: which backend each category has, and each provider's settings without their secrets.

    They end up in handle.settings; the adapters have theirs from the registration.
    """
    selections = {f"storage-{tier}": name for tier, name in settings.tiers.items()}
    if settings.default_backend is not None:
        selections["storage"] = settings.default_backend
    entries: dict[str, Section] = dict(settings.backends)
    if settings.cache is not None:
        entries[CACHE_PROVIDER] = settings.cache
    return LayerSettings(
        selections=selections, provider_settings={name: redacted(entry) for name, entry in entries.items()}
    )


def storage_entry_point() -> list[AdapterMetadata]:
    """What Oneiric's plugin discovery calls (group oneiric.adapters, akasha-storage)."""
    return storage_metadata(_load_for_discovery())


def cache_entry_point() -> list[AdapterMetadata]:
    """What Oneiric's plugin discovery calls (group oneiric.adapters, akasha-cache)."""
    return cache_metadata(_load_for_discovery())


def _load_for_discovery() -> StorageSettings:
    try:
        return StorageSettings.load()
    except SettingsError as error:
        # Of other errors than its few Oneiric's discovery dies, and takes everybody's plugins with it.
        raise ValueError(str(error)) from error
