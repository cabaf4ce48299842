"""What an object store's provider gives: one method a request, without any guard."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from akasha_stream.errors import StorageError
from akasha_stream.storage.adapter import LifecycleRule, ObjectInfo, RestoreState


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes [start, start + length) of an object; `length` is 1 or more. `etag`: of no other than that one."""

    start: int
    length: int
    etag: str | None = None

    @property
    def header(self) -> str:
        """For the HTTP header Range."""
        return f"bytes={self.start}-{self.start + self.length - 1}"


@dataclass(frozen=True, slots=True)
class Piece:
    """What was read of a span: its bytes, the whole object's size and etag."""

    data: bytes
    size: int
    etag: str


@dataclass(frozen=True, slots=True)
class Write:
    """How an object is written. `id` marks it, so that this write is recognised when its answer was lost."""

    id: str
    if_absent: bool


class Requests[Client](ABC):
    """`Client`: what the provider's library offers. Where not said otherwise, a method is called by `_ask()` and may
    raise what the library raises.
    """

    provider: ClassVar[str]
    lifecycle_supported: ClassVar[bool] = True
    tier_classes: ClassVar[Mapping[str, str]]
    """hot, warm, cold → the class that is meant by it."""
    classes: ClassVar[frozenset[str]]
    """Every storage class that the provider has."""

    @abstractmethod
    async def _ask[Answer](self, operation: str, where: str, request: Callable[[Client], Awaitable[Answer]]) -> Answer:
        """Guarded (guarded.py): make a request, again where that can help. Raises a StorageError."""

    @abstractmethod
    def _where(self, bucket: str, path: str = "") -> str:
        """s3://bucket/path, for messages."""

    @abstractmethod
    async def _open(self) -> Client:
        """Make the client; no request yet. Not through _ask(). Raises SettingsError."""

    @abstractmethod
    async def _close(self, client: Client) -> None: ...

    @abstractmethod
    def _failure(self, error: Exception, where: str) -> StorageError | None:
        """What an error of the library means; None: it is a fault of ours."""

    @abstractmethod
    async def _has_bucket(self, client: Client, bucket: str) -> bool:
        """Not through _ask()."""

    @abstractmethod
    async def _put(self, client: Client, bucket: str, path: str, data: bytes, write: Write) -> None:
        """In one request. Raises PreconditionFailed when `write.if_absent` and an object is there."""

    @abstractmethod
    async def _put_parts(self, bucket: str, path: str, parts: AsyncGenerator[tuple[bytes, bool]], write: Write) -> None:
        """In several requests, each through _ask(). Leaves nothing that can be seen when it fails or is cancelled."""

    @abstractmethod
    async def _write_id(self, bucket: str, path: str) -> str | None:
        """The mark of the write that made the object; through _ask()."""

    @abstractmethod
    async def _get(self, client: Client, bucket: str, path: str, span: Span) -> Piece:
        """Raises RangePastEnd; PreconditionFailed when the object has another etag."""

    @abstractmethod
    async def _delete(self, client: Client, bucket: str, path: str) -> None: ...

    @abstractmethod
    async def _stat(self, client: Client, bucket: str, path: str) -> ObjectInfo: ...

    @abstractmethod
    async def _change_class(self, client: Client, bucket: str, path: str, storage_class: str) -> None: ...

    @abstractmethod
    async def _restore(self, client: Client, bucket: str, path: str, days: int) -> None: ...

    @abstractmethod
    async def _restore_state(self, client: Client, bucket: str, path: str) -> RestoreState: ...

    @abstractmethod
    async def _ensure(self, client: Client, bucket: str) -> None: ...

    @abstractmethod
    async def _apply_lifecycle(self, client: Client, bucket: str, rules: Sequence[LifecycleRule]) -> None: ...

    @abstractmethod
    async def _lifecycle(self, client: Client, bucket: str) -> Sequence[LifecycleRule]: ...

    @abstractmethod
    async def _page(
        self, client: Client, bucket: str, prefix: str, token: str | None
    ) -> tuple[Sequence[ObjectInfo], str | None]:
        """A page of a listing, ascending, and the token of the next."""
