"""Connections to Redis: short time-outs, no hidden retries, commands packed in C."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import hiredis
from redis.asyncio import Redis
from redis.asyncio.connection import (
    AbstractConnection,
    Connection,
    ConnectionPool,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from akasha_stream.connections.tls import client_context, tls_failure, untrusted
from akasha_stream.errors import LookupUnavailable, SettingsError
from akasha_stream.settings import RedisSettings


class _PackedInC(AbstractConnection):
    """redis-py's asyncio connection packs in Python (1.2 µs a field of HSET) even where hiredis is there (0.2 µs)."""

    def pack_command(self, *args: object) -> list[bytes]:
        name = args[0]
        if isinstance(name, str) and " " in name:
            args = (*name.split(), *args[1:])
        try:
            return [hiredis.pack_command(args)]  # type: ignore[arg-type]
        except TypeError:
            packed: list[bytes] = super().pack_command(*args)  # type: ignore[arg-type]
            return packed


class _Tcp(_PackedInC, Connection):
    pass


class _Tls(_PackedInC, SSLConnection):
    def __init__(self, *, context: ssl.SSLContext | None = None, **options: Any) -> None:
        """`context`: instead of what redis-py makes of the URL's options."""
        super().__init__(**options)
        self._context = context

    def _connection_arguments(self) -> dict[str, Any]:
        arguments: dict[str, Any] = dict(super()._connection_arguments())
        return arguments if self._context is None else {**arguments, "ssl": self._context}


class _Unix(_PackedInC, UnixDomainSocketConnection):
    pass


_PACKED: dict[type[AbstractConnection], type[AbstractConnection]] = {
    Connection: _Tcp,
    SSLConnection: _Tls,
    UnixDomainSocketConnection: _Unix,
}


def connect(settings: RedisSettings, section: str = "redis") -> Redis:
    """A client; opens nothing yet. Close it with `aclose()`. `section`: where the settings stand.

    Raises SettingsError for a URL that is none, and for files that can't be used.
    """
    url = settings.url.get_secret_value()
    own = url.startswith("rediss:") and (settings.tls_ca is not None or settings.tls_certificate is not None)
    tls = {"context": client_context(settings, section)} if own else {}
    try:
        # RESP2: with RESP3 the client asks every new connection for maintenance notifications, which Valkey has not.
        pool = ConnectionPool.from_url(
            url,
            protocol=2,
            socket_timeout=settings.timeout_s,
            socket_connect_timeout=settings.timeout_s,
            retry=Retry(NoBackoff(), 0),
            **tls,
        )
    except ValueError as error:
        raise SettingsError(
            f"redis.url: {error}; write redis://[:password@]host:port/db, with TLS rediss://…"
        ) from error
    pool.connection_class = _PACKED.get(pool.connection_class, pool.connection_class)
    return Redis.from_pool(pool)


# What a Redis that is gone, paused, full or still loading raises.
UNAVAILABLE = (RedisError, OSError, TimeoutError)


@contextmanager
def unavailable_as_lookup_error() -> Iterator[None]:
    """Raises LookupUnavailable for whatever a missing Redis raises."""
    try:
        yield
    except UNAVAILABLE as error:
        if wrong := untrusted(error):
            raise LookupUnavailable(f"Redis shows a certificate that is not trusted: {wrong} (redis.tls_ca)") from error
        if why := tls_failure(error):
            raise LookupUnavailable(f"Redis does not agree to TLS: {why} (redis.url, redis.tls_certificate)") from error
        raise LookupUnavailable(f"the Redis tables can't be reached: {error or type(error).__name__}") from error
