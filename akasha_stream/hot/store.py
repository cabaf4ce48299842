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
from akasha_stream.hot.durable import passed, remove, sync_folder
from akasha_stream.hot.hnsw import IndexReader
from akasha_stream.hot.recovery import open_shard
from akasha_stream.hot.sealer import SealBacklog, Sealer
from akasha_stream.hot.shard import AnySegment, Shard
from akasha_stream.incarnation import Incarnation
from akasha_stream.partitioner import partition_of
from akasha_stream.search.segment import Bodies, SegmentView, Span, SystemCodes
from akasha_stream.settings import Settings
from akasha_stream.tiers.forgotten import Forgotten

REPLAYS = "replays"
REPLACED = "replaced"


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

    def __init__(
        self, settings: Settings, topic: str, codes: SystemCodes | None = None, *, bodies: Bodies | None = None
    ) -> None:
        """`codes`: of another store that is searched together with this one. `bodies`: reads the rows that are in the
        object store only. Raises ShardLocked."""
        self._bodies = bodies
        self.forgotten: Forgotten | None = None
        """The ledger of forgotten systems, for shards that are opened."""
        self._settings = settings
        self._topic = topic
        self.codes = codes or SystemCodes()
        self.folder = settings.hot.data_dir / topic
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock_file = _lock(self.folder / "worker.lock")
        finish_replacing(self.folder)
        self._reader = IndexReader()
        self._sealer = Sealer(settings, self.codes, self._reader)
        self._shards: dict[int, Shard] = {}
        self._ahead: dict[int, Shard] = {}
        self._partitions = 0
        self._lock = threading.Lock()
        self._turns: dict[int, threading.Lock] = {}
        self._waiters: list[_Waiter] = []

    # ── partitions ───────────────────────────────────────────────────────────────────────────────────────

    def open(self, partition: int, incarnation: Incarnation, beginning: int = 0) -> Shard:
        """The shard of a partition that this worker now owns; opened once, whoever asks at the same time.

        `incarnation`, `beginning`: as open_shard has them.

        Two at once would each remove the file that the other is creating, and commit to one that has no name.
        """
        with self._turn(partition):
            shard = self._shards.get(partition)
            if shard is not None and not shard.closed:
                return shard
            shard = self._ahead.pop(partition, None) or self._open(partition, incarnation, beginning)
            with self._lock:
                self._shards = {**self._shards, partition: shard}
        self.advanced(shard)
        return shard

    def open_ahead(self, partition: int, incarnation: Incarnation) -> None:
        """Open the shard of a partition that this worker will probably own. Not owned, nor searched, before `open`."""
        with self._turn(partition):
            known = partition in self._shards or partition in self._ahead
            if not known and self.shard_folder(partition).is_dir():
                self._ahead[partition] = self._open(partition, incarnation)

    def _open(self, partition: int, incarnation: Incarnation, beginning: int = 0) -> Shard:
        return open_shard(
            self.shard_folder(partition),
            topic=self._topic,
            partition=partition,
            settings=self._settings,
            codes=self.codes,
            reader=self._reader,
            on_closed=self._sealer.submit,
            incarnation=incarnation,
            beginning=beginning,
            bodies=self._bodies,
            forgotten=self.forgotten,
        )

    def shard_folder(self, partition: int) -> Path:
        """Where a partition's files are."""
        return self.folder / f"{partition:05d}"

    def stored(self) -> list[int]:
        """Partitions that have a shard on disk, open or not."""
        return stored_partitions(self.folder)

    def replay_folder(self, partition: int) -> Path:
        """Where a partition's shard is made anew (replay/beside.py)."""
        return self.folder / REPLAYS / f"{partition:05d}"

    def beside(self, folder: Path) -> ShardStore:
        """A store of its own over shards that are being made anew: nothing searches it, so no index is built."""
        hot = self._settings.hot.model_copy(update={"data_dir": folder, "build_indexes": False})
        store = ShardStore(self._settings.model_copy(update={"hot": hot}), self._topic, bodies=self._bodies)
        store.forgotten = self.forgotten
        return store

    def replace(self, partition: int, incarnation: Incarnation) -> Shard:
        """Close a shard and open the one that was made anew, in its place; searches have either.

        Whoever has the old one must ask for this one: it may end at another offset.
        """
        with self._turn(partition):
            old = self._shards.get(partition)
            if old is not None:
                old.close()
                self._sealer.release(old)
            folder = self.replay_folder(partition)
            self.shard_folder(partition).rename(folder / REPLACED)
            passed("old shard set aside")
            finish_replacing(self.folder)
            shard = self._open(partition, incarnation)
            with self._lock:
                self._shards = {**self._shards, partition: shard}
        self.advanced(shard)
        return shard

    def close(self, partition: int) -> None:
        """Let go of a partition that another worker owns now."""
        with self._turn(partition):
            with self._lock:
                shard = self._shards.get(partition)
                self._shards = {number: each for number, each in self._shards.items() if number != partition}
            for each in (shard, self._ahead.pop(partition, None)):
                if each is not None:
                    each.close()
                    self._sealer.release(each)

    def _turn(self, partition: int) -> threading.Lock:
        """Held while a partition's shard is opened or closed; a thread that opens one outlives its cancelled task."""
        with self._lock:
            return self._turns.setdefault(partition, threading.Lock())

    def ahead(self) -> list[int]:
        """Partitions whose shard was opened ahead, and not taken since."""
        return sorted(self._ahead)

    def shard(self, partition: int) -> Shard | None:
        return self._shards.get(partition)

    def shards(self) -> list[Shard]:
        shards = self._shards  # replaced as a whole, in any thread
        return [shards[partition] for partition in sorted(shards)]

    def set_partitions(self, count: int) -> None:
        """How many partitions the topic has."""
        self._partitions = count

    def backlog(self) -> SealBacklog:
        return self._sealer.backlog()

    def is_sealing(self, segment: AnySegment) -> bool:
        """Whether its files are being rewritten, or wait for it."""
        return self._sealer.has(segment)

    def put_off_indexes(self) -> None:
        """Leave the cores to ingest, which works off a backlog; to be called again with each large batch."""
        self._sealer.put_off_indexes()

    def wait_sealed(self, timeout_s: float) -> bool:
        """Wait until every closed segment has its index."""
        return self._sealer.wait_idle(timeout_s)

    def close_all(self) -> None:
        # First the sealer: what it has left is found again, and no shard must wait for an index being built.
        self._sealer.close()
        for partition in {*self.owned(), *self.ahead()}:
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

    def spans(self) -> dict[int, Span]:
        return {partition: shard.span() for partition, shard in self._shards.items()}

    def forgets(self) -> dict[int, list[int]]:
        return {partition: [each.position for each in shard.forgets] for partition, shard in self._shards.items()}

    def find(self, source_system: str, event_id: str) -> tuple[SegmentView, int] | None:
        # Not only in the partition that the partitioner names: the topic may have had fewer partitions
        # when the event came. What that one has is the newest all the same.
        home = partition_of(source_system, max(1, self.partitions()))
        shards = self._shards
        if home in shards and (found := shards[home].find(source_system, event_id)) is not None:
            return found
        elsewhere = [
            found
            for partition, shard in shards.items()
            if partition != home and (found := shard.find(source_system, event_id)) is not None
        ]
        return max(elsewhere, key=lambda place: int(place[0].appended_at[place[1]]), default=None)

    def written_at(self, partition: int, source_system: str, event_id: str) -> int | None:
        shard = self._shards.get(partition)
        return None if shard is None else shard.written_at(source_system, event_id)

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


def stored_partitions(topic_folder: Path) -> list[int]:
    """Ascending partitions that have a shard in a topic's folder."""
    return sorted(int(path.name) for path in topic_folder.iterdir() if path.is_dir() and path.name.isdecimal())


def finish_replacing(topic_folder: Path) -> None:
    """Put shards that were made anew in their places, where the old ones were set aside already."""
    for replaced in sorted((topic_folder / REPLAYS).glob(f"*/{REPLACED}")):
        live = topic_folder / replaced.parent.name
        if not live.exists():
            (replaced.parent / topic_folder.name / live.name).rename(live)
            sync_folder(topic_folder)
            passed("new shard in place")
        remove(replaced.parent)


def _lock(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        os.close(descriptor)
        raise ShardLocked(
            f"{path.parent} is used by another worker, or by a VectorEmbeddingStorage that is open; "
            "stop it, or give this one its own hot.data_dir"
        ) from exc
    return descriptor
