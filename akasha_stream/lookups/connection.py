"""Connections to Redis: short time-outs, no hidden retries, commands packed in C."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

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
    pass


class _Unix(_PackedInC, UnixDomainSocketConnection):
    pass


_PACKED: dict[type[AbstractConnection], type[AbstractConnection]] = {
    Connection: _Tcp,
    SSLConnection: _Tls,
    UnixDomainSocketConnection: _Unix,
}


def connect(settings: RedisSettings) -> Redis:
    """A client; opens nothing yet. Close it with `aclose()`. Raises SettingsError for a URL that is none."""
    try:
        # RESP2: with RESP3 the client asks every new connection for maintenance notifications, which Valkey has not.
        pool = ConnectionPool.from_url(
            settings.url.get_secret_value(),
            protocol=2,
            socket_timeout=settings.timeout_s,
            socket_connect_timeout=settings.timeout_s,
            retry=Retry(NoBackoff(), 0),
        )
    except ValueError as error:
        raise SettingsError(f"redis.url: {error}; write redis://[:password@]host:port/db") from error
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
        raise LookupUnavailable(f"the Redis tables can't be reached: {error or type(error).__name__}") from error
