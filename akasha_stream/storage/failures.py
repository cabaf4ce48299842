"""From what a client library raises to the errors of errors.py: the part that is alike over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from time import time

from akasha_stream.errors import (
    ObjectNotFound,
    StorageDenied,
    StorageError,
    StorageFull,
    StorageRefused,
    StorageUnavailable,
)


class PreconditionFailed(StorageError):
    """An object is there although it must not be, or it is another than expected. Never leaves the package."""


class RangePastEnd(StorageError):
    """The object ends before the range that was asked for. Never leaves the package."""


_SAID_LONGEST = 500


def by_status(status: int, said: str, where: str, headers: Mapping[str, str] | None = None) -> StorageError:
    """The error for an HTTP status of 400 or more. `said`: the store's own words. `where`: s3://bucket/path."""
    message = f"{where}: {' '.join(said[:_SAID_LONGEST].split())} (HTTP {status})"
    match status:
        case HTTPStatus.NOT_FOUND:
            return ObjectNotFound(message)
        case HTTPStatus.PRECONDITION_FAILED | HTTPStatus.NOT_MODIFIED:
            return PreconditionFailed(message)
        case HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return RangePastEnd(message)
        case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN | HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
            return StorageDenied(message)
        case HTTPStatus.INSUFFICIENT_STORAGE:
            return StorageFull(message)
        case HTTPStatus.REQUEST_TIMEOUT | HTTPStatus.TOO_MANY_REQUESTS:
            return StorageUnavailable(message, retry_after(headers))
        case HTTPStatus.NOT_IMPLEMENTED:
            return StorageRefused(message)
        case _ if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return StorageUnavailable(message, retry_after(headers))
        case _:
            return StorageRefused(message)


def retry_after(headers: Mapping[str, str] | None) -> float | None:
    """Seconds that a Retry-After header asks for: a number or an HTTP date."""
    value = next((v for k, v in (headers or {}).items() if k.lower() == "retry-after"), None)
    if value is None:
        return None
    try:
        return max(float(value), 0.0)
    except ValueError:
        pass
    try:
        return max(parsedate_to_datetime(value).timestamp() - time(), 0.0)
    except ValueError:
        return None


def network_failure(error: Exception, where: str) -> StorageUnavailable | None:
    """For an error of the connection, below any provider's protocol: a time-out, a reset, a body that ends early."""
    import aiohttp

    if isinstance(error, TimeoutError):
        return StorageUnavailable(f"{where}: no answer in time")
    if isinstance(error, aiohttp.ClientError | OSError | EOFError):
        return StorageUnavailable(f"{where}: {str(error) or type(error).__name__}")
    return None
