"""Row groups of spilled segments on the local disk: record batches in files, the least recently used ones go first.

    <folder>/<key>.body     an Arrow file | xxh3-64 of it (8) | AKB1

Everything in it is derived, and may be deleted while the process runs. A file that is torn or changed is dropped.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import struct
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import structlog
from xxhash import xxh3_64_intdigest

from akasha_stream.errors import ShardLocked

log = structlog.get_logger(__name__)

_SUFFIX = ".body"
_END = struct.Struct("<Q4s")
_MAGIC = b"AKB1"
_TOUCH_S = 60.0
"""How often a file in use gets a new time, by which the order of use outlives the process."""
_MOST_OVERHEAD = 4_096
"""Of the Arrow file over its batch, checksum included, for the few columns that there are."""
_OPEN = 2_048
"""Files that stay mapped; a process may have 65,530 mappings."""


@dataclass(slots=True)
class _Entry:
    size: int
    touched: float
    """time.monotonic(); the time of the file is never older by more than _TOUCH_S"""


class BodyCache:
    """One process a folder; any of its threads."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        """`limit_bytes`: what all files together may have, at any time.

        Raises ShardLocked where another process uses the folder.
        """
        self.folder = folder
        self.limit_bytes = limit_bytes
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        """Least recently used first."""
        self._open: OrderedDict[str, pa.RecordBatch] = OrderedDict()
        self._used = 0
        folder.mkdir(parents=True, exist_ok=True)
        self._lock_file = _exclusive(folder)
        self._find()

    @property
    def used_bytes(self) -> int:
        """Of the files, those included that are being written."""
        return self._used

    def close(self) -> None:
        """Batches that were given out stay good."""
        with self._lock:
            self._open.clear()
            if self._lock_file >= 0:
                os.close(self._lock_file)
                self._lock_file = -1

    def get(self, key: str) -> pa.RecordBatch | None:
        """Memory-mapped; it stays good when the file is dropped."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            self._entries.move_to_end(key)
            now = time.monotonic()
            stale = now - entry.touched > _TOUCH_S
            if stale:
                entry.touched = now
            batch = self._open.get(key)
            if batch is not None:
                self._open.move_to_end(key)
        if stale:
            with contextlib.suppress(OSError):
                os.utime(self._path(key))
        return batch if batch is not None else self._read(key)

    def put(self, key: str, batch: pa.RecordBatch) -> None:
        """Keep a batch, at the expense of others. One larger than the limit, or that can't be written, is not kept."""
        temporary = self.folder / f"{key}.{threading.get_ident()}.tmp"
        # A few KB more than what is written: room has to be made before.
        size = batch.nbytes + _MOST_OVERHEAD
        with self._lock:
            if key in self._entries or size > self.limit_bytes or self._lock_file < 0:
                return
            while self._used + size > self.limit_bytes and self._entries:
                self._drop(next(iter(self._entries)))
            if self._used + size > self.limit_bytes:  # the rest is being written
                return
            self._used += size
        written = 0
        try:
            written = _write(temporary, batch)
            with self._lock:
                # No fsync: the checksum tells a torn file.
                temporary.replace(self._path(key))
                if key in self._entries:
                    self._used -= self._entries.pop(key).size
                self._entries[key] = _Entry(written, time.monotonic())
        except OSError as error:
            written = 0
            log.warning("not cached", folder=str(self.folder), error=str(error))
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
        with self._lock:
            self._used += written - size

    def _find(self) -> None:
        """Take in what an earlier process left, by its last use."""
        found: list[tuple[float, str, int]] = []
        for path in self.folder.iterdir():
            if path.suffix == ".tmp":
                path.unlink(missing_ok=True)
            elif path.suffix == _SUFFIX:
                stat = path.stat()
                found.append((stat.st_mtime, path.name.removesuffix(_SUFFIX), stat.st_size))
        now = time.monotonic()
        for _, key, size in sorted(found):
            self._entries[key] = _Entry(size, now)
            self._used += size
        while self._used > self.limit_bytes:
            self._drop(next(iter(self._entries)))

    def _read(self, key: str) -> pa.RecordBatch | None:
        try:
            with self._path(key).open("rb") as file:
                mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ, trackfd=False)
            batch = _from_bytes(memoryview(mapped))
        except (OSError, ValueError, pa.ArrowException) as error:
            log.warning("cached row group dropped", file=str(self._path(key)), error=str(error))
            with self._lock:
                if key in self._entries:
                    self._drop(key)
            return None
        with self._lock:
            if key in self._entries:
                self._open[key] = batch
                while len(self._open) > _OPEN:
                    self._open.popitem(last=False)
        return batch

    def _drop(self, key: str) -> None:
        """Under the lock."""
        self._used -= self._entries.pop(key).size
        self._open.pop(key, None)
        with contextlib.suppress(OSError):
            self._path(key).unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}{_SUFFIX}"


def _write(path: Path, batch: pa.RecordBatch) -> int:
    """Bytes written."""
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    # Read back rather than made in memory first: fresh pages cost more than the page cache's.
    with path.open("r+b") as file:
        with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as written:
            checksum = xxh3_64_intdigest(written)
            size = len(written)
        file.seek(size)
        file.write(_END.pack(checksum, _MAGIC))
    return size + _END.size


def _from_bytes(data: memoryview) -> pa.RecordBatch:
    """Raises ValueError, pa.ArrowException."""
    if len(data) < _END.size:
        raise ValueError("it is cut")
    checksum, magic = _END.unpack(data[-_END.size :])
    whole = data[: -_END.size]
    if magic != _MAGIC or xxh3_64_intdigest(whole) != checksum:
        raise ValueError("it is not what was written")
    batch: pa.RecordBatch = pa.ipc.open_file(pa.BufferReader(pa.py_buffer(whole))).get_batch(0)
    return batch


def _exclusive(folder: Path) -> int:
    descriptor = os.open(folder / "cache.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise ShardLocked(f"{folder} is used by another process; give this one its own hot.data_dir") from error
    return descriptor
