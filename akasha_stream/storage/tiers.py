"""The adapters that this product itself uses, through Oneiric: opened at first use, closed together."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

from akasha_stream.errors import AkashaError, StorageError, StorageUnavailable
from akasha_stream.storage.settings import StorageSettings, TierName

if TYPE_CHECKING:
    from akasha_stream.storage.adapter import StorageAdapter
    from akasha_stream.storage.redis_cache import RedisCacheAdapter


class StorageTiers:
    """One instance belongs to one event loop; any number of its tasks may use it at once.

    async with StorageTiers(settings) as tiers:
        warm = await tiers.open("warm")
        place = settings.tier("warm")
        await warm.upload(place.bucket, place.prefix + "…", data)
    """

    def __init__(self, settings: StorageSettings, resolver: Any = None) -> None:
        """`resolver`: an Oneiric one, which may have the adapters already; else one is made."""
        self.settings = settings
        self._resolver = resolver
        self._bridge: Any = None
        self._importing = asyncio.Lock()
        # Oneiric opens an instance for each of several first uses at once.
        self._opening: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def open(self, tier: TierName) -> StorageAdapter:
        """The adapter of the backend that the tier is on; the same one each time.

        Raises:
            SettingsError: the tier has no backend, or its package is not installed.
            StorageUnavailable: its bucket can't be reached now; the next call tries again.
        """
        place = self.settings.tier(tier)
        return cast("StorageAdapter", await self._use(f"storage-{tier}", f"{place.backend}: bucket {place.bucket}"))

    async def backend(self, name: str) -> StorageAdapter:
        """As open(), of any backend by its name in the file."""
        bucket = self.settings.backend(name).bucket_name
        return cast("StorageAdapter", await self._use(f"storage-{name}", f"{name}: bucket {bucket}"))

    async def cache(self) -> RedisCacheAdapter:
        """Raises CacheUnavailable, SettingsError; StorageUnavailable where Oneiric gave up waiting for it."""
        self.settings.redis_cache()
        return cast("RedisCacheAdapter", await self._use("cache-redis-hot", "the cache"))

    async def close(self) -> None:
        """Close whatever was opened. May be called twice; open() opens anew."""
        async with self._importing:
            bridge, self._bridge = self._bridge, None
        for lock in tuple(self._opening.values()):
            async with lock:
                pass  # what is being opened with that bridge is closed with it
        if bridge is not None:
            await close_adapters(bridge.lifecycle)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def _use(self, category: str, what: str) -> Any:
        async with self._opening[category]:
            bridge = await self._bridged()
            from oneiric.core.lifecycle import LifecycleError

            try:
                return (await bridge.use(category)).instance
            except LifecycleError as error:
                failure = error
        if isinstance(failure.__cause__, AkashaError):
            raise failure.__cause__  # outside of the except: it keeps what it was caused by
        raise StorageUnavailable(f"{what} can't be reached: {failure}") from failure

    async def _bridged(self) -> Any:
        async with self._importing:
            if self._bridge is None:
                # In a thread: for the seconds that the import takes, a worker must go on sending heartbeats.
                self._bridge = await asyncio.to_thread(_make_bridge, self.settings, self._resolver)
            return self._bridge


def _make_bridge(settings: StorageSettings, resolver: Any) -> Any:
    from oneiric.adapters.bridge import AdapterBridge
    from oneiric.core.lifecycle import LifecycleManager
    from oneiric.core.resolution import Resolver

    from akasha_stream.storage.registration import layer_settings, register_akasha_adapters, register_redis_adapter

    resolver = resolver or Resolver()
    if not any(resolver.resolve("adapter", f"storage-{tier}") for tier in settings.tiers):
        register_akasha_adapters(resolver, settings)
    if resolver.resolve("adapter", "cache-redis-hot") is None:
        register_redis_adapter(resolver, settings)
    return AdapterBridge(resolver=resolver, lifecycle=LifecycleManager(resolver), settings=layer_settings(settings))


async def open_tier(settings: StorageSettings, tier: TierName) -> StorageAdapter:
    """One tier's adapter, which the caller closes with cleanup(). Raises as StorageTiers.open()."""
    return await StorageTiers(settings).open(tier)


async def close_adapters(lifecycle: Any) -> None:
    """Clean up every live instance of an Oneiric LifecycleManager; Oneiric has no shutdown of its own.

    All are tried; then StorageError tells of those that failed. Ours open again when they are used after this.
    """
    live: dict[int, tuple[str, Any]] = {}
    for status in lifecycle.all_statuses():
        instance = lifecycle.get_instance(status.domain, status.key)
        if instance is not None:
            live[id(instance)] = (status.key, instance)  # it may be live under two categories
    results = await asyncio.gather(*(_clean_up(instance) for _, instance in live.values()), return_exceptions=True)
    failed = [f"{key}: {error}" for (key, _), error in zip(live.values(), results, strict=True) if error is not None]
    if failed:
        raise StorageError(f"not closed cleanly: {'; '.join(failed)}")


async def _clean_up(instance: Any) -> None:
    for name in ("cleanup", "close", "shutdown"):  # the first it has, as Oneiric does
        if method := getattr(instance, name, None):
            done = method()
            if asyncio.iscoroutine(done):
                await done
            return
