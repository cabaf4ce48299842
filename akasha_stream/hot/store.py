"""All shards that this worker owns: opened and closed as partitions come and go, read by searches."""

from __future__ import annotations

import asyncio
import fcntl
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from akasha_stream.errors import ShardLocked
from akasha_stream.hot.hnsw import IndexReader
from akasha_stream.hot.recovery import open_shard
from akasha_stream.hot.sealer import SealBacklog, Sealer
from akasha_stream.hot.segment_tables import Incarnation
from akasha_stream.hot.shard import Shard
from akasha_stream.search.segment import SegmentView, SystemCodes
from akasha_stream.settings import Settings


@dataclass(slots=True, eq=False)
class _Waiter:
    partition: int
    offset: int
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[bool]

    def wake(self) -> None:
        self.loop.call_soon_threadsafe(lambda: None if self.future.done() else self.future.set_result(True))


class ShardStore:
    """search.segment.HotStore over DuckDB shards under `hot.data_dir`.

    A lock file keeps a second worker out of the same folder. `advanced` is called by the ingest threads,
    `wait_for` by the event loop; everything else from anywhere.
    """

    def __init__(self, settings: Settings, topic: str) -> None:
        self._settings = settings
        self._topic = topic
        self.codes = SystemCodes()
        self.folder = settings.hot.data_dir / topic
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock_file = _lock(self.folder / "worker.lock")
        self._reader = IndexReader()
        self._sealer = Sealer(settings, self.codes, self._reader)
        self._shards: dict[int, Shard] = {}
        self._partitions = 0
        self._lock = threading.Lock()
        self._waiters: list[_Waiter] = []

    # ── partitions ───────────────────────────────────────────────────────────────────────────────────────

    def open(self, partition: int, incarnation: Incarnation) -> Shard:
        """The shard of a partition that this worker now owns; opened once."""
        shard = self._shards.get(partition)
        if shard is not None and not shard.closed:
            return shard
        shard = open_shard(
            self.folder / f"{partition:05d}",
            topic=self._topic,
            partition=partition,
            settings=self._settings,
            codes=self.codes,
            reader=self._reader,
            on_closed=self._sealer.submit,
            incarnation=incarnation,
        )
        with self._lock:
            self._shards = {**self._shards, partition: shard}
        self.advanced(shard)
        return shard

    def close(self, partition: int) -> None:
        """Let go of a partition that another worker owns now."""
        with self._lock:
            shard = self._shards.get(partition)
            self._shards = {number: each for number, each in self._shards.items() if number != partition}
        if shard is not None:
            shard.close()
            self._sealer.release(shard)

    def shard(self, partition: int) -> Shard | None:
        return self._shards.get(partition)

    def shards(self) -> list[Shard]:
        return [self._shards[partition] for partition in self.owned()]

    def set_partitions(self, count: int) -> None:
        """How many partitions the topic has."""
        self._partitions = count

    def backlog(self) -> SealBacklog:
        return self._sealer.backlog()

    def wait_sealed(self, timeout_s: float) -> bool:
        """Wait until every closed segment has its index."""
        return self._sealer.wait_idle(timeout_s)

    def close_all(self) -> None:
        # First the sealer: what it has left is found again, and no shard must wait for an index being built.
        self._sealer.close()
        for partition in self.owned():
            self.close(partition)
        self._reader.close()
        os.close(self._lock_file)

    # ── search.segment.HotStore ──────────────────────────────────────────────────────────────────────────

    def views(self, partitions: Sequence[int] | None = None) -> list[SegmentView]:
        shards = self._shards
        wanted = sorted(shards) if partitions is None else [each for each in partitions if each in shards]
        return [view for partition in wanted for view in shards[partition].views() if view.rows]

    def owned(self) -> list[int]:
        return sorted(self._shards)

    def partitions(self) -> int:
        return max(self._partitions, max(self._shards, default=-1) + 1)

    def find(self, source_system: str, event_id: str) -> tuple[SegmentView, int] | None:
        # Not only in the partition that the partitioner names: the topic may have had fewer partitions
        # when the event came.
        for shard in self._shards.values():
            found = shard.find(source_system, event_id)
            if found is not None:
                return found
        return None

    def at(self, partition: int, position: int) -> tuple[SegmentView, int] | None:
        shard = self._shards.get(partition)
        return None if shard is None else shard.at(position)

    async def wait_for(self, partition: int, offset: int, timeout_s: float) -> bool:
        loop = asyncio.get_running_loop()
        waiter = _Waiter(partition, offset, loop, loop.create_future())
        with self._lock:
            self._waiters.append(waiter)
        try:
            shard = self._shards.get(partition)
            if shard is not None and shard.next_offset > offset:
                return True
            return await asyncio.wait_for(waiter.future, timeout_s)
        except TimeoutError:
            return False
        finally:
            with self._lock:
                self._waiters.remove(waiter)

    def advanced(self, shard: Shard) -> None:
        """A shard has taken records in: wake the searches that wait for them."""
        if not self._waiters:
            return
        with self._lock:
            ready = [w for w in self._waiters if w.partition == shard.partition and w.offset < shard.next_offset]
        for waiter in ready:
            waiter.wake()


def _lock(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        os.close(descriptor)
        raise ShardLocked(
            f"{path.parent} is used by another worker; stop it, or give this one its own hot.data_dir"
        ) from exc
    return descriptor
