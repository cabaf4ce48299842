"""A folder as an object store: root/bucket/path is the object, a file that any program can read.

What is stored survives a power cut once the call has returned: the file and every folder on its way are synced. A file
is written beside the buckets, under root/.incoming, and moved into place, so it is whole or not there.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import time
import uuid
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

from akasha_stream.errors import (
    BucketNotFound,
    ObjectNotFound,
    ObjectPathRefused,
    SettingsError,
    StorageDenied,
    StorageError,
    StorageFull,
    StorageRefused,
    StorageUnavailable,
    UsageError,
)
from akasha_stream.hot.durable import sync_folder
from akasha_stream.storage.adapter import LifecycleRule, ObjectInfo, RestoreState
from akasha_stream.storage.breaker import CircuitBreaker
from akasha_stream.storage.failures import PreconditionFailed, RangePastEnd
from akasha_stream.storage.guarded import GuardedAdapter
from akasha_stream.storage.provider import Piece, Span, Write
from akasha_stream.storage.retry import RetryPolicy

_INCOMING = ".incoming"  # no bucket's name begins with a dot
_ABANDONED_S = 86_400.0
_TRIES = 10
_NO_LIFECYCLE = "a folder does nothing by itself: let the workers' tier policy move and expire the segments"
_NO_RETRIES = RetryPolicy(attempts=1)  # what a disk refuses now, it refuses in a second

_BY_ERRNO: dict[int, type[StorageError]] = {
    errno.ENOSPC: StorageFull,
    errno.EDQUOT: StorageFull,
    errno.EACCES: StorageDenied,
    errno.EPERM: StorageDenied,
    errno.EROFS: StorageDenied,
    errno.ENAMETOOLONG: ObjectPathRefused,
    errno.EIO: StorageUnavailable,
    errno.ESTALE: StorageUnavailable,
    errno.ETIMEDOUT: StorageUnavailable,
    errno.EMFILE: StorageUnavailable,
    errno.ENFILE: StorageUnavailable,
}


class LocalStorageAdapter(GuardedAdapter[Path]):
    """`root` holds the buckets. It needs hard links (every Linux file system for disks has them).

    Unlike in an object store, `a` and `a/b` can't both be objects: the second is refused (StorageRefused).
    """

    provider: ClassVar[str] = "local"
    lifecycle_supported: ClassVar[bool] = False
    tier_classes: ClassVar[Mapping[str, str]] = {"hot": "STANDARD", "warm": "STANDARD", "cold": "STANDARD"}
    classes: ClassVar[frozenset[str]] = frozenset({"STANDARD"})

    def __init__(
        self,
        bucket_name: str,
        root: Path | str = "data/objects",
        storage_class: str | None = None,
        tier: str = "hot",
        *,
        retry: RetryPolicy | None = None,
        breaker: CircuitBreaker | None = None,
    ) -> None:
        super().__init__(bucket_name, storage_class, tier, retry or _NO_RETRIES, breaker)
        self.root = Path(root).expanduser().absolute()

    async def _open(self) -> Path:
        return await asyncio.to_thread(self._prepare)

    def _prepare(self) -> Path:
        incoming = self.root / _INCOMING
        try:
            incoming.mkdir(parents=True, exist_ok=True)
            for left in incoming.iterdir():  # by a process that was killed while it wrote
                with contextlib.suppress(FileNotFoundError):  # by one that writes, and is done with it now
                    if left.stat().st_mtime < time.time() - _ABANDONED_S:
                        left.unlink()
        except OSError as error:
            raise SettingsError(f"the folder {self.root} can't hold objects: {error}") from error
        return self.root

    async def _close(self, client: Path) -> None:
        pass

    def _failure(self, error: Exception, where: str) -> StorageError | None:
        if isinstance(error, TimeoutError) and error.errno is None:
            return StorageUnavailable(f"{where}: the file system doesn't answer")
        if isinstance(error, NotADirectoryError | IsADirectoryError | FileExistsError):
            return StorageRefused(f"{where}: in a folder, one object's path can't be the start of another's")
        if isinstance(error, FileNotFoundError):
            return ObjectNotFound(f"{where}: there is no such object")
        if isinstance(error, OSError):
            return _BY_ERRNO.get(error.errno or 0, StorageRefused)(f"{where}: {error.strerror or error}")
        return None

    def _file(self, bucket: str, path: str) -> Path:
        """paths.py has refused `..`; this refuses the symbolic links that lead out of the bucket."""
        folder = self.root / bucket
        if not folder.is_dir():
            raise BucketNotFound(f"{self._where(bucket)}: there is no such bucket")
        file = folder / path
        if not file.resolve().is_relative_to(folder.resolve()):
            raise StorageDenied(f"{self._where(bucket, path)}: a symbolic link leads out of the bucket")
        return file

    async def _has_bucket(self, client: Path, bucket: str) -> bool:
        return await asyncio.to_thread(os.access, client / bucket, os.R_OK | os.W_OK | os.X_OK)

    async def _put(self, client: Path, bucket: str, path: str, data: bytes, write: Write) -> None:
        await asyncio.to_thread(self._put_whole, bucket, path, data, write)

    def _put_whole(self, bucket: str, path: str, data: bytes, write: Write) -> None:
        temporary = self._temporary()
        try:
            with temporary.open("xb") as file:
                file.write(data)
            self._settle(temporary, bucket, path, write)
        finally:
            temporary.unlink(missing_ok=True)

    def _temporary(self) -> Path:
        return self.root / _INCOMING / uuid.uuid4().hex

    async def _put_parts(self, bucket: str, path: str, parts: AsyncGenerator[tuple[bytes, bool]], write: Write) -> None:
        where, temporary = self._where(bucket, path), self._temporary()

        def append(part: bytes) -> None:
            with temporary.open("ab") as file:
                file.write(part)

        try:
            async for part, _ in parts:
                await self._ask("upload_part", where, lambda c, part=part: asyncio.to_thread(append, part))  # type: ignore[misc]
            await self._ask(
                "complete_upload", where, lambda c: asyncio.to_thread(self._settle, temporary, bucket, path, write)
            )
        finally:
            temporary.unlink(missing_ok=True)

    def _settle(self, temporary: Path, bucket: str, path: str, write: Write) -> None:
        """Move a written file to its place, for good."""
        target = self._file(bucket, path)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        for _ in range(_TRIES):
            made = [folder for folder in target.parents if not folder.exists()]
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                self._place(temporary, target, write)
            except FileNotFoundError:  # a delete of the last object in the folder took it away in between
                continue
            except FileExistsError:
                if not target.parent.exists():  # likewise, while mkdir looked at it
                    continue
                raise
            for folder in [target.parent, *(each.parent for each in made)]:
                _sync(folder)
            return
        raise StorageUnavailable(f"{self._where(bucket, path)}: its folder disappears again and again")

    def _place(self, temporary: Path, target: Path, write: Write) -> None:
        if target.is_dir():
            raise IsADirectoryError(target)
        if write.if_absent:
            try:
                target.hardlink_to(temporary)  # unlike a rename, it fails when there is a file
            except FileExistsError:
                raise PreconditionFailed(f"{target}: there is an object") from None
        else:
            temporary.replace(target)

    async def _write_id(self, bucket: str, path: str) -> str | None:
        return None  # a file system's answers don't get lost: an object that is there is another's

    async def _get(self, client: Path, bucket: str, path: str, span: Span) -> Piece:
        return await asyncio.to_thread(self._read, bucket, path, span)

    def _read(self, bucket: str, path: str, span: Span) -> Piece:
        try:
            opened = self._file(bucket, path).open("rb")
        except (NotADirectoryError, IsADirectoryError):
            raise ObjectNotFound(f"{self._where(bucket, path)}: there is no such object") from None
        with opened as file:
            status = os.fstat(file.fileno())
            if span.etag is not None and span.etag != _etag(status):
                raise PreconditionFailed(f"{self._where(bucket, path)}: it is another object now")
            if span.start >= status.st_size:
                raise RangePastEnd(f"{self._where(bucket, path)}: it has {status.st_size} bytes")
            file.seek(span.start)
            return Piece(file.read(span.length), status.st_size, _etag(status))

    async def _delete(self, client: Path, bucket: str, path: str) -> None:
        await asyncio.to_thread(self._remove, bucket, path)

    def _remove(self, bucket: str, path: str) -> None:
        file = self._file(bucket, path)
        if file.is_dir():
            return  # the start of other objects' paths, no object
        try:
            file.unlink()
        except NotADirectoryError:  # `a` is an object, so `a/b` is none
            return
        _sync(file.parent)
        for folder in file.parents:  # the folders that it was the last in: object stores have none
            if folder == self.root / bucket:
                break
            try:
                folder.rmdir()
            except OSError:
                break

    async def _stat(self, client: Path, bucket: str, path: str) -> ObjectInfo:
        return await asyncio.to_thread(self._look, bucket, path)

    def _look(self, bucket: str, path: str) -> ObjectInfo:
        file = self._file(bucket, path)
        if not file.is_file():
            raise ObjectNotFound(f"{self._where(bucket, path)}: there is no such object")
        return _info(path, file.stat())

    async def _change_class(self, client: Path, bucket: str, path: str, storage_class: str) -> None:
        """Nothing to do: there is one class."""

    async def _restore(self, client: Path, bucket: str, path: str, days: int) -> None:
        """Nothing to do: files are always readable."""

    async def _restore_state(self, client: Path, bucket: str, path: str) -> RestoreState:
        await self._stat(client, bucket, path)
        return RestoreState("available")

    async def _ensure(self, client: Path, bucket: str) -> None:
        def make() -> None:
            (client / bucket).mkdir(exist_ok=True)
            sync_folder(client)

        await asyncio.to_thread(make)

    async def _apply_lifecycle(self, client: Path, bucket: str, rules: Sequence[LifecycleRule]) -> None:
        raise UsageError(_NO_LIFECYCLE)

    async def _lifecycle(self, client: Path, bucket: str) -> Sequence[LifecycleRule]:
        raise UsageError(_NO_LIFECYCLE)

    async def _page(
        self, client: Path, bucket: str, prefix: str, token: str | None
    ) -> tuple[Sequence[ObjectInfo], str | None]:
        """All in one page: 100,000 entries are some 20 MB."""
        return await asyncio.to_thread(self._found, bucket, prefix), None

    def _found(self, bucket: str, prefix: str) -> Sequence[ObjectInfo]:
        folder = self.root / bucket
        if not folder.is_dir():
            raise BucketNotFound(f"{self._where(bucket)}: there is no such bucket")
        above, _, _ = prefix.rpartition("/")
        start = self._file(bucket, above) if above else folder
        if not start.is_dir():
            return []
        return [info for info in _walk(start, f"{above}/" if above else "") if info.path.startswith(prefix)]


def _sync(folder: Path) -> None:
    try:
        sync_folder(folder)
    except FileNotFoundError:
        pass  # a delete at the same time emptied and removed it


def _walk(folder: Path, above: str) -> Iterator[ObjectInfo]:
    """Ascending by the whole path: a folder sorts as if its name ended with a slash ("a-b" < "a/b" < "a0")."""
    with os.scandir(folder) as found:
        entries = [(f"{each.name}/" if each.is_dir(follow_symlinks=False) else each.name, each) for each in found]
    for name, entry in sorted(entries, key=lambda each: each[0].encode(errors="surrogateescape")):
        try:
            if name.endswith("/"):
                yield from _walk(Path(entry.path), above + name)
            elif entry.is_file(follow_symlinks=False):
                yield _info(above + name, entry.stat())
        except FileNotFoundError:
            continue  # deleted while we looked


def _info(path: str, status: os.stat_result) -> ObjectInfo:
    modified = datetime.fromtimestamp(status.st_mtime, UTC)
    return ObjectInfo(path, status.st_size, _etag(status), modified, "STANDARD")


def _etag(status: os.stat_result) -> str:
    # A replaced object is another file: another inode, or at least another time.
    return f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"
