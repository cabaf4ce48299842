"""What an object store is to us: StorageAdapter, and the small types it speaks in.

Every method takes the bucket first, as a tier's settings name it. Paths are object keys: relative, `/` between
segments (paths.py says which are accepted, the same ones on every provider). Every error is a StorageError of
akasha_stream/errors.py; retries, the circuit breaker and metrics are inside (guarded.py).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import ClassVar, Literal, Protocol, runtime_checkable

Data = bytes | Path | AsyncIterator[bytes]
"""What can be uploaded. An iterator is read once, in parts; its chunks may have any size."""

DOWNLOAD_CHUNK_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object as the store describes it.

    `etag` changes whenever the content does, and compares with nothing but itself (its form differs by provider).
    `modified` has a time zone. `storage_class` is the provider's own word.
    """

    path: str
    size: int
    etag: str
    modified: datetime
    storage_class: str


@dataclass(frozen=True, slots=True)
class RestoreState:
    """Whether an object can be read now.

    available: it always could. archived: restore() it first. restoring: asked for, takes minutes to days.
    restored: readable until `expires` (None: it stays so).
    """

    status: Literal["available", "archived", "restoring", "restored"]
    expires: datetime | None = None

    @property
    def readable(self) -> bool:
        return self.status in ("available", "restored")


@dataclass(frozen=True, slots=True)
class LifecycleRule:
    """What a bucket does by itself with objects under `prefix`, `after_days` days after their creation.

    One of `storage_class` (move them there), `expire` (delete them) and `abort_uploads` (remove the parts of multipart
    uploads that nobody completed).
    """

    prefix: str
    after_days: int
    storage_class: str | None = None
    expire: bool = False
    abort_uploads: bool = False

    def __post_init__(self) -> None:
        if (self.storage_class is not None) + self.expire + self.abort_uploads != 1:
            raise ValueError("a lifecycle rule needs one of storage_class, expire=True and abort_uploads=True")
        if self.after_days < 1:
            raise ValueError("a lifecycle rule's after_days must be 1 or more")


@runtime_checkable
class StorageAdapter(Protocol):
    """S3StorageAdapter, GCSStorageAdapter, AzureStorageAdapter, LocalStorageAdapter.

    One instance belongs to one event loop, and may be used by any number of its tasks at once. It needs no init():
    the first call does it. After cleanup() the next call opens it again.
    """

    provider: ClassVar[str]
    """s3, gcs, azure or local."""
    lifecycle_supported: ClassVar[bool]
    """Whether apply_lifecycle() and lifecycle() can do anything here."""
    bucket_name: str
    """The tier's bucket, for callers to pass as `bucket`; health() asks for it."""
    storage_class: str
    """The class that new objects get."""
    tier: str
    """hot, warm or cold: a label of metrics."""

    async def init(self) -> None:
        """Open the client. Called twice, or by several tasks at once: one client.

        A missing bucket or a server that doesn't answer is logged, not raised: it may come later.

        Raises:
            SettingsError: the provider's extra is not installed, or a setting is wrong.
        """
        ...

    async def health(self) -> bool:
        """One cheap request finds the bucket. Never raises; no retries, and an open breaker does not hold it up."""
        ...

    async def cleanup(self) -> None:
        """Close the client. May be called twice."""
        ...

    async def upload(self, bucket: str, path: str, data: Data) -> None:
        """Store an object, over the one that is there. Readers see the old or the new one, never a part.

        Larger than a part (8 MiB), it goes up in parts, with a few parts in memory. When it fails or is cancelled,
        no object is left.
        """
        ...

    async def put_if_absent(self, bucket: str, path: str, data: Data) -> bool:
        """Store an object unless there is one: True, it was created by this call; False, there was one.

        Of several callers at once exactly one gets True. Each call marks its object with an id of its own, so a
        request whose answer was lost, or that the network delivered twice, is recognised as ours and gives True.
        When it raises StorageUnavailable, the object may or may not be there.
        """
        ...

    async def download(self, bucket: str, path: str) -> bytes:
        """Raises ObjectNotFound; ObjectArchived when it must be restored first."""
        ...

    def download_stream(self, bucket: str, path: str, chunk_bytes: int = DOWNLOAD_CHUNK_BYTES) -> AsyncIterator[bytes]:
        """The object in chunks of `chunk_bytes` (the last may be shorter), one in memory at a time.

        Each chunk is a request of its own, so a failure repeats one chunk. Raises ObjectChanged when the object is
        replaced meanwhile.
        """
        ...

    async def download_range(self, bucket: str, path: str, start: int, length: int) -> bytes:
        """Bytes [start, start + length), as far as there are any: b"" past the end. Raises ObjectNotFound."""
        ...

    async def delete(self, bucket: str, path: str) -> None:
        """Remove an object; nothing happens when there is none."""
        ...

    async def exists(self, bucket: str, path: str) -> bool: ...

    async def stat(self, bucket: str, path: str) -> ObjectInfo | None: ...

    async def set_storage_class(self, bucket: str, path: str, storage_class: str) -> None:
        """Move an object to another class where it stands. Raises ObjectArchived when it must be restored first."""
        ...

    async def restore(self, bucket: str, path: str, days: int) -> None:
        """Ask for an archived object to become readable for `days` days; returns at once. Asked twice, it stays so.

        S3 keeps the restored copy that long. Azure has no such time: rehydrating moves the blob to Hot.
        """
        ...

    async def restore_state(self, bucket: str, path: str) -> RestoreState:
        """Raises ObjectNotFound."""
        ...

    async def ensure_bucket(self, bucket: str) -> None:
        """Create the bucket unless it is there."""
        ...

    async def apply_lifecycle(self, bucket: str, rules: Sequence[LifecycleRule]) -> None:
        """Make `rules` the bucket's rules, in place of those that an earlier call made; others' rules stay.

        Raises:
            UsageError: the provider has no way to do it (`lifecycle_supported` is False); says what to do instead.
        """
        ...

    async def lifecycle(self, bucket: str) -> Sequence[LifecycleRule]:
        """The rules that apply_lifecycle() made."""
        ...

    # Last: inside this class `list` means this method from here on.
    def list(self, bucket: str, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        """The objects whose path starts with `prefix`, ascending by path (as UTF-8 bytes), page by page."""
        ...
