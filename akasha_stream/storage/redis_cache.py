"""RedisCacheAdapter: values that may be lost, in Redis or Valkey, for a time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

import structlog
from pydantic import SecretStr

from akasha_stream.errors import CacheError, CacheUnavailable
from akasha_stream.storage import cache_values
from akasha_stream.storage.settings import RedisCacheSettings

if TYPE_CHECKING:
    from redis.asyncio import Redis

log = structlog.get_logger(__name__)


class RedisCacheAdapter:
    """A cache for Oneiric (category cache-redis-hot) and for use by itself.

    One instance belongs to one event loop, and may be used by any number of its tasks at once. It needs no init():
    the first call does it. After cleanup() the next call opens it again. Every call raises CacheUnavailable when
    Redis doesn't answer within `timeout_s`; nothing is retried.

    `ttl_seconds`: how long a value stays by default, in seconds; 0 or None: until it is deleted.
    """

    def __init__(
        self,
        host: str = "localhost",
        port: int = 6379,
        db: int = 0,
        ttl_seconds: int | None = 3600,
        *,
        username: str | None = None,
        password: SecretStr | str | None = None,
        tls: bool = False,
        tls_ca: Path | None = None,
        tls_certificate: Path | None = None,
        tls_key: Path | None = None,
        timeout_s: float = 2.0,
    ) -> None:
        self.host = host
        self.port = port
        self.db = db
        self.ttl_seconds = _checked(ttl_seconds)
        self._username = username
        self._password = SecretStr(password) if isinstance(password, str) else password
        self._tls = tls
        self._files = {"tls_ca": tls_ca, "tls_certificate": tls_certificate, "tls_key": tls_key}
        self._timeout_s = timeout_s
        self._client: Redis | None = None
        self._opening = asyncio.Lock()

    @classmethod
    def from_settings(cls, settings: RedisCacheSettings) -> Self:
        """Opens nothing yet."""
        return cls(**{name: value for name, value in settings if name != "provider"})

    @classmethod
    async def open(cls, settings: RedisCacheSettings) -> Self:
        """One that is connected. Raises CacheUnavailable."""
        cache = cls.from_settings(settings)
        await cache.init()
        return cache

    async def init(self) -> None:
        """Connect. Called twice, or by several tasks at once: one client. Raises CacheUnavailable."""
        await self._connected()

    async def health(self) -> bool:
        """Redis answers a ping. Never raises."""
        try:
            client = await self._connected()
            with self._unavailable():
                return bool(await client.ping())
        except CacheUnavailable as error:
            log.warning("the cache does not answer", host=self.host, port=self.port, error=str(error))
            return False

    async def cleanup(self) -> None:
        """Close the connections. May be called twice."""
        async with self._opening:
            client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def get(self, key: str) -> Any | None:
        """The value as it was set, of the same type; None when there is none.

        None can be cached, and then can't be told from a miss: exists() tells.
        """
        client = await self._connected()
        with self._unavailable():
            stored: bytes | None = await client.get(key)  # type: ignore[assignment]  # no decode_responses
        return None if stored is None else cache_values.decode(stored)

    async def set(self, key: str, value: Any, ttl: int | None = None) -> None:
        """`value`: None, bool, int, float, str, bytes, datetime, and lists, tuples and dicts of these.

        `ttl` in seconds; None: the default, 0: until it is deleted. Raises CacheError for a value that would not
        come back the same, or a negative ttl.
        """
        stored = cache_values.encode(value)
        seconds = self.ttl_seconds if ttl is None else _checked(ttl)
        client = await self._connected()
        with self._unavailable():
            await client.set(key, stored, ex=seconds)

    async def delete(self, key: str) -> None:
        """Remove a value; nothing happens when there is none."""
        client = await self._connected()
        with self._unavailable():
            await client.delete(key)

    async def exists(self, key: str) -> bool:
        client = await self._connected()
        with self._unavailable():
            return bool(await client.exists(key))

    async def _connected(self) -> Redis:
        if self._client is not None:
            return self._client
        async with self._opening:
            if self._client is None:
                client = self._new_client()
                try:
                    with self._unavailable():
                        await client.ping()
                except BaseException:
                    await client.aclose()
                    raise
                self._client = client
                log.info("cache connected", host=self.host, port=self.port, db=self.db)
            return self._client

    def _new_client(self) -> Redis:
        from akasha_stream.lookups.connection import connect
        from akasha_stream.settings import RedisSettings

        host = f"[{self.host}]" if ":" in self.host else self.host
        secret = self._password.get_secret_value() if self._password else ""
        login = f"{quote(self._username or '', safe='')}:{quote(secret, safe='')}@" if secret else ""
        url = f"{'rediss' if self._tls else 'redis'}://{login}{host}:{self.port}/{self.db}"
        return connect(RedisSettings(url=SecretStr(url), timeout_s=self._timeout_s, **self._files), "redis-cache")

    @contextmanager
    def _unavailable(self) -> Iterator[None]:
        from akasha_stream.lookups.connection import UNAVAILABLE

        try:
            yield
        except UNAVAILABLE as error:
            reason = str(error) or type(error).__name__
            raise CacheUnavailable(f"the cache at {self.host}:{self.port}/{self.db}: {reason}") from error


def _checked(ttl: int | None) -> int | None:
    """Seconds as Redis takes them: None for ever. The guide's `ttl or default` made 0 the default."""
    if ttl is not None and ttl < 0:
        raise CacheError(f"ttl: found {ttl}; allowed: seconds ≥ 0, where 0 keeps the value until it is deleted")
    return ttl or None


def __getattr__(name: str) -> Any:
    """The guide imports register_redis_adapter from here; it needs Oneiric, whose import takes seconds."""
    if name == "register_redis_adapter":
        from akasha_stream.storage.registration import register_redis_adapter

        return register_redis_adapter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
