"""What every adapter does alike: paths checked, one client, retries, the circuit breaker, metrics.

A provider's file holds its requests alone (provider.py says which). Each is made through `_ask()`, which repeats it
where that can help.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing

import structlog

from akasha_stream.errors import (
    BucketNotFound,
    ObjectChanged,
    ObjectNotFound,
    SettingsError,
    StorageError,
    StorageUnavailable,
    UsageError,
)
from akasha_stream.storage.adapter import DOWNLOAD_CHUNK_BYTES, Data, LifecycleRule, ObjectInfo, RestoreState
from akasha_stream.storage.breaker import CircuitBreaker
from akasha_stream.storage.failures import PreconditionFailed, RangePastEnd
from akasha_stream.storage.metrics import StorageMetrics
from akasha_stream.storage.parts import in_parts
from akasha_stream.storage.paths import check_bucket, check_path, check_prefix
from akasha_stream.storage.provider import Piece, Requests, Span, Write
from akasha_stream.storage.retry import RetryPolicy

log = structlog.get_logger(__name__)

WHOLE_READ_BYTES = 16 << 20
"""download() asks for this much at a time, so that a failure late in a large object doesn't repeat all of it."""


class GuardedAdapter[Client](Requests[Client]):
    """Base of the adapters; a StorageAdapter."""

    def __init__(
        self, bucket_name: str, storage_class: str | None, tier: str, retry: RetryPolicy, breaker: CircuitBreaker | None
    ) -> None:
        if tier not in self.tier_classes:
            raise SettingsError(f"tier is {tier!r}; it is one of {', '.join(self.tier_classes)}")
        self.bucket_name = bucket_name
        self.tier = tier
        self.storage_class = self._known_class(storage_class or self.tier_classes[tier])
        self._retry = retry
        self._metrics = StorageMetrics(self.provider, tier, bucket_name)
        self._breaker = breaker or CircuitBreaker(self._where(bucket_name), on_change=self._metrics.breaker)
        self._metrics.breaker("closed")
        self._opening = asyncio.Lock()
        self._client: Client | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.bucket_name!r}, tier={self.tier!r}, storage_class={self.storage_class!r})"

    # The life of the client.

    async def init(self) -> None:
        if self._client is not None:
            return
        await self._opened()
        if not await self.health():
            log.warning("storage.bucket_not_reachable", provider=self.provider, bucket=self.bucket_name, tier=self.tier)

    async def _opened(self) -> Client:
        async with self._opening:
            if self._client is None:
                self._client = await self._open()
            return self._client

    async def health(self) -> bool:
        try:
            client = await self._opened()
            async with asyncio.timeout(self._retry.health_s):
                return await self._has_bucket(client, self.bucket_name)
        except Exception as error:
            log.info("storage.unhealthy", provider=self.provider, bucket=self.bucket_name, error=str(error))
            return False

    async def cleanup(self) -> None:
        async with self._opening:
            client, self._client = self._client, None
            if client is not None:
                await self._close(client)

    # Writing.

    async def upload(self, bucket: str, path: str, data: Data) -> None:
        check_bucket(bucket)
        check_path(path)
        with self._metrics.operation("upload"):
            await self._store(bucket, path, data, if_absent=False)

    async def put_if_absent(self, bucket: str, path: str, data: Data) -> bool:
        check_bucket(bucket)
        check_path(path)
        with self._metrics.operation("put_if_absent"):
            return await self._store(bucket, path, data, if_absent=True)

    async def _store(self, bucket: str, path: str, data: Data, *, if_absent: bool) -> bool:
        write = Write(uuid.uuid4().hex, if_absent)
        async with aclosing(in_parts(data)) as parts:
            first, is_last = await anext(parts)
            try:
                if is_last:
                    await self._ask(
                        "upload", self._where(bucket, path), lambda c: self._put(c, bucket, path, first, write)
                    )
                    self._metrics.written(len(first))
                else:
                    await self._put_parts(bucket, path, self._counted(first, parts), write)
            except PreconditionFailed:
                # Not only somebody else's object: the answer to our own request may have been lost, or the network
                # may have delivered the request twice. The mark tells.
                return await self._write_id(bucket, path) == write.id
        return True

    async def _counted(
        self, first: bytes, parts: AsyncGenerator[tuple[bytes, bool]]
    ) -> AsyncGenerator[tuple[bytes, bool]]:
        yield first, False
        self._metrics.written(len(first))
        async for part, is_last in parts:
            yield part, is_last
            self._metrics.written(len(part))

    async def delete(self, bucket: str, path: str) -> None:
        check_bucket(bucket)
        check_path(path)
        with self._metrics.operation("delete"):
            try:
                await self._ask("delete", self._where(bucket, path), lambda client: self._delete(client, bucket, path))
            except BucketNotFound:
                raise
            except ObjectNotFound:
                pass

    # Reading.

    async def download(self, bucket: str, path: str) -> bytes:
        check_bucket(bucket)
        check_path(path)
        with self._metrics.operation("download"):
            pieces = [piece async for piece in self._pieces(bucket, path, WHOLE_READ_BYTES)]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def download_stream(
        self, bucket: str, path: str, chunk_bytes: int = DOWNLOAD_CHUNK_BYTES
    ) -> AsyncIterator[bytes]:
        check_bucket(bucket)
        check_path(path)
        if chunk_bytes < 1:
            raise UsageError(f"chunk_bytes is {chunk_bytes}; it must be 1 or more")
        async with aclosing(self._pieces(bucket, path, chunk_bytes)) as pieces:
            async for piece in pieces:
                yield piece

    async def _pieces(self, bucket: str, path: str, size: int) -> AsyncGenerator[bytes]:
        where, span = self._where(bucket, path), Span(0, size)
        while True:
            try:
                piece = await self._ask(
                    "download",
                    where,
                    lambda c, span=span: self._whole(c, bucket, path, span),  # type: ignore[misc]
                )
            except RangePastEnd:  # an empty object has no range
                return
            except PreconditionFailed as error:
                raise ObjectChanged(f"{where} was replaced while it was read") from error
            self._metrics.read(len(piece.data))
            if piece.data:
                yield piece.data
            span = Span(span.start + len(piece.data), size, piece.etag)
            if span.start >= piece.size:
                return

    async def download_range(self, bucket: str, path: str, start: int, length: int) -> bytes:
        check_bucket(bucket)
        check_path(path)
        if start < 0 or length < 0:
            raise UsageError(f"a range starts at {start} and has {length} bytes; neither may be negative")
        with self._metrics.operation("download_range"):
            if length == 0:  # HTTP has no empty range
                if await self._head(bucket, path) is None:
                    raise ObjectNotFound(f"{self._where(bucket, path)}: there is no such object")
                return b""
            try:
                piece = await self._ask(
                    "download_range",
                    self._where(bucket, path),
                    lambda client: self._whole(client, bucket, path, Span(start, length)),
                )
            except RangePastEnd:
                return b""
            self._metrics.read(len(piece.data))
            return piece.data

    async def _whole(self, client: Client, bucket: str, path: str, span: Span) -> Piece:
        """Inside _ask(): an answer cut short, though it looks well-formed, is asked for again."""
        piece = await self._get(client, bucket, path, span)
        if len(piece.data) != max(min(span.length, piece.size - span.start), 0):
            raise StorageUnavailable(
                f"{self._where(bucket, path)}: {len(piece.data)} bytes came for {span.header} of {piece.size}"
            )
        return piece

    async def exists(self, bucket: str, path: str) -> bool:
        return await self.stat(bucket, path) is not None

    async def stat(self, bucket: str, path: str) -> ObjectInfo | None:
        check_bucket(bucket)
        check_path(path)
        with self._metrics.operation("stat"):
            return await self._head(bucket, path)

    async def _head(self, bucket: str, path: str) -> ObjectInfo | None:
        try:
            return await self._ask("stat", self._where(bucket, path), lambda client: self._stat(client, bucket, path))
        except ObjectNotFound:
            return None

    # Storage classes.

    async def set_storage_class(self, bucket: str, path: str, storage_class: str) -> None:
        check_bucket(bucket)
        check_path(path)
        self._known_class(storage_class)
        with self._metrics.operation("set_storage_class"):
            info = await self._head(bucket, path)
            if info is None:
                raise ObjectNotFound(f"{self._where(bucket, path)}: there is no such object")
            if info.storage_class != storage_class:
                await self._ask(
                    "set_storage_class",
                    self._where(bucket, path),
                    lambda client: self._change_class(client, bucket, path, storage_class),
                )

    async def restore(self, bucket: str, path: str, days: int) -> None:
        if days < 1:
            raise UsageError(f"days is {days}; it must be 1 or more")
        state = await self.restore_state(bucket, path)
        if state.status == "archived":
            with self._metrics.operation("restore"):
                await self._ask(
                    "restore", self._where(bucket, path), lambda client: self._restore(client, bucket, path, days)
                )

    async def restore_state(self, bucket: str, path: str) -> RestoreState:
        check_bucket(bucket)
        check_path(path)
        with self._metrics.operation("restore_state"):
            return await self._ask(
                "restore_state", self._where(bucket, path), lambda client: self._restore_state(client, bucket, path)
            )

    # Buckets.

    async def ensure_bucket(self, bucket: str) -> None:
        check_bucket(bucket)
        with self._metrics.operation("ensure_bucket"):
            await self._ask("ensure_bucket", self._where(bucket), lambda client: self._ensure(client, bucket))

    async def apply_lifecycle(self, bucket: str, rules: Sequence[LifecycleRule]) -> None:
        check_bucket(bucket)
        for rule in rules:
            check_prefix(rule.prefix)
            if rule.storage_class is not None:
                self._known_class(rule.storage_class)
        with self._metrics.operation("apply_lifecycle"):
            await self._ask(
                "apply_lifecycle", self._where(bucket), lambda client: self._apply_lifecycle(client, bucket, rules)
            )

    async def lifecycle(self, bucket: str) -> Sequence[LifecycleRule]:
        check_bucket(bucket)
        with self._metrics.operation("lifecycle"):
            return await self._ask("lifecycle", self._where(bucket), lambda client: self._lifecycle(client, bucket))

    # One request.

    async def _ask[Answer](self, operation: str, where: str, request: Callable[[Client], Awaitable[Answer]]) -> Answer:
        """Make a request, again where that can help. Raises a StorageError."""
        client = await self._opened()
        async for round_ in self._retry.rounds():
            with round_:
                if round_.num > 1:
                    self._metrics.retried(operation)
                with self._breaker.request():
                    try:
                        async with asyncio.timeout(self._retry.attempt_s):
                            return await request(client)
                    except (StorageError, SettingsError, UsageError):
                        raise
                    except Exception as error:
                        failure = self._failure(error, where)
                        if failure is None:
                            raise
                        raise failure from error
        raise AssertionError("unreachable")

    def _where(self, bucket: str, path: str = "") -> str:
        return f"{self.provider}://{bucket}/{path}"

    def _known_class(self, storage_class: str) -> str:
        if storage_class not in self.classes:
            raise SettingsError(
                f"{self.provider} has no storage class {storage_class!r}: it has {', '.join(sorted(self.classes))}"
            )
        return storage_class

    # Last: inside this class `list` means this method from here on.
    async def list(self, bucket: str, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        check_bucket(bucket)
        check_prefix(prefix)
        token: str | None = None
        while True:
            with self._metrics.operation("list"):
                page, token = await self._ask(
                    "list",
                    self._where(bucket, prefix),
                    lambda c, t=token: self._page(c, bucket, prefix, t),  # type: ignore[misc]
                )
            for info in page:
                if not info.path.endswith("/"):  # what consoles and some servers put for a folder
                    yield info
            if token is None:
                return
