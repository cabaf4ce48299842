"""The background work on closed segments: checkpoint, memory-mapped copy, rewrite with an index."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import structlog

from akasha_stream.errors import AkashaError, SegmentCorrupt, ShardError
from akasha_stream.hot.build import build_without_index
from akasha_stream.hot.durable import out_of_cache, passed, remove, sync_folder, write_bytes
from akasha_stream.hot.end_state import state_without, unpack_state
from akasha_stream.hot.forgotten_rows import forgets_after, forgotten_of
from akasha_stream.hot.growing import GrowingSegment
from akasha_stream.hot.hnsw import IndexReader
from akasha_stream.hot.schema import remove_growing
from akasha_stream.hot.sealed import SealedSegment, write_arrow
from akasha_stream.hot.segment_file import SegmentFile
from akasha_stream.hot.segment_tables import SegmentTables
from akasha_stream.hot.shard import AnySegment, ClosedSegment, Shard
from akasha_stream.search.segment import SystemCodes
from akasha_stream.settings import Settings

log = structlog.get_logger(__name__)

RETRY_S = 5.0
INDEX_QUIET_S = 1.0
INDEX_LATEST_S = 60.0


@dataclass(frozen=True, slots=True)
class SealBacklog:
    segments: int
    """closed segments that have no index yet"""
    rows: int
    error: str | None = None
    """Why the last try to finish one failed; None: it did not."""


class Sealer:
    """Finishes closed segments, oldest first. A search never waits for it.

    Two threads: one gives the memory of a closed segment back within a second or two, the other has its
    index built, which takes minutes. Until the index exists a segment is searched by its bit codes, so a
    backlog costs search time, never results; it is a figure of `backlog()`.
    """

    def __init__(self, settings: Settings, codes: SystemCodes, reader: IndexReader) -> None:
        self._settings = settings
        self._codes = codes
        self._reader = reader
        self._waiting: list[ClosedSegment] = []
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._building: Shard | None = None
        self._current: list[ClosedSegment] = []
        self._errors: dict[str, str] = {}
        """By segment; of those that are tried again."""
        self._index_from = 0.0
        """monotonic() before which no index is begun."""
        self._closing: queue.SimpleQueue[ClosedSegment | None] = queue.SimpleQueue()
        self._indexing: queue.SimpleQueue[ClosedSegment | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._run, args=(self._closing, self._map), name="sealer", daemon=True),
            threading.Thread(target=self._run, args=(self._indexing, self._index), name="indexer", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, closed: ClosedSegment) -> None:
        with self._changed:
            self._waiting.append(closed)
        (self._indexing if closed.file is None else self._closing).put(closed)

    def put_off_indexes(self) -> None:
        """Begin no index for a second; called again and again while ingest works off a backlog.

        Though the builder only has what nobody else wants of the cores (SCHED_IDLE), it shares their caches: ingest
        took in a tenth less beside it. A segment waits INDEX_LATEST_S at most, however long the backlog lasts.
        """
        self._index_from = time.monotonic() + INDEX_QUIET_S

    def backlog(self) -> SealBacklog:
        with self._changed:
            error = next(iter(self._errors.values()), None)
            return SealBacklog(len(self._waiting), sum(each.segment.rows for each in self._waiting), error)

    def has(self, segment: AnySegment) -> bool:
        """Whether a segment is waiting or worked on."""
        with self._changed:
            return any(
                each.segment.name == segment.name and each.shard.partition == segment.partition
                for each in self._waiting
            )

    def wait_idle(self, timeout_s: float) -> bool:
        """Wait until nothing is left to do; False when it takes longer."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting, timeout_s)

    def release(self, shard: Shard) -> None:
        """Drop the work of a closed shard and let go of its files; returns when that is done."""
        with self._changed:
            for closed in [each for each in self._waiting if each.shard is shard and each not in self._current]:
                self._waiting.remove(closed)
                closed.let_go()
            if self._building is shard and self._process is not None:
                self._process.kill()
            self._changed.notify_all()
            self._changed.wait_for(lambda: all(each.shard is not shard for each in self._waiting))

    def close(self) -> None:
        """Stop; what is unfinished is found again when the shard is opened."""
        with self._changed:
            self._stop.set()
            if self._process is not None:
                self._process.kill()
            self._changed.notify_all()
        for work in (self._closing, self._indexing):
            work.put(None)
        for thread in self._threads:
            thread.join()

    def _run(
        self,
        work: queue.SimpleQueue[ClosedSegment | None],
        finish: Callable[[ClosedSegment], ClosedSegment | None],
    ) -> None:
        """Do one of the two steps for each segment of a queue; what `finish` returns has the other step to go."""
        while (closed := work.get()) is not None:
            following: ClosedSegment | None = None
            with self._changed:
                if closed not in self._waiting:  # its shard was released meanwhile
                    continue
                self._current.append(closed)
            if not self._given_up(closed):
                try:
                    following = finish(closed)
                except Exception as exc:  # whatever it was, the segment stays searchable and is tried again
                    if self._retried(closed, exc):
                        with self._changed:
                            self._current.remove(closed)
                        work.put(closed)  # behind the others: one that can't be finished must not hold them up
                        del closed, following
                        continue
            closed.let_go()
            with self._changed:
                self._current.remove(closed)
                self._waiting.remove(closed)
                self._errors.pop(_label(closed), None)
                if following is not None:
                    self._waiting.append(following)
                    self._indexing.put(following)
                self._changed.notify_all()
            # Neither the name nor the frame may keep a growing segment's arrays until the next one comes.
            del closed, following

    def _given_up(self, closed: ClosedSegment) -> bool:
        return self._stop.is_set() or closed.shard.closed

    def _retried(self, closed: ClosedSegment, error: Exception) -> bool:
        """Wait before the next try; False where there is to be none."""
        if self._given_up(closed):
            return False
        log.warning(
            "segment not sealed, will try again",
            segment=str(closed.segment.name),
            error=str(error),
            exc_info=not isinstance(error, (AkashaError, OSError)),
        )
        with self._changed:
            self._errors[_label(closed)] = f"segment {_label(closed)} not sealed: {error}"
            return not self._changed.wait_for(lambda: self._given_up(closed), RETRY_S)

    def _map(self, closed: ClosedSegment) -> ClosedSegment | None:
        """Write the memory-mapped form, put it in the growing one's place, close the file."""
        shard, name, folder = closed.shard, closed.segment.name, closed.shard.folder
        assert closed.file is not None
        passed("sealing")
        segment = closed.segment
        if isinstance(segment, GrowingSegment):
            current = next((each for each in shard.segments if each.name == name), segment)
            if isinstance(current, SealedSegment):  # an earlier try came this far
                segment = current
            else:
                dimensions = self._settings.limits.dimensions
                write_arrow(name.arrow(folder), segment.table(), dimensions=dimensions, end=closed.end)
                passed("arrow written")
                tables = closed.file.tables()
                sealed = SealedSegment(
                    name,
                    shard.partition,
                    name.arrow(folder),
                    dimensions,
                    self._codes,
                    deletes=tables.deletes(),
                    incarnation=tables.incarnation(),
                )
                shard.replace_segment(segment, sealed)
                segment = sealed
        if not self._settings.hot.build_indexes:
            closed.file.checkpoint_and_close()
            passed("file closed")
            return replace(closed, segment=segment, file=None) if forgets_after(name, shard.forgets) else None
        # Its WAL is folded in by the process that builds the index: 8 µs a row that ingest need not spend. Until then
        # nobody reads it, and its pages are wanted for what is written next. On a virtual machine whose free memory
        # goes back to its host, each new page costs a fault there: an event stored at a million rows cost 28 µs, and
        # 24 since (benchmarks.ingest, cost_by_rows).
        closed.file.close()
        out_of_cache(closed.file.wal)
        passed("file closed")
        return replace(closed, segment=segment)

    def _index(self, closed: ClosedSegment) -> None:
        """Have the immutable file with its index built, open it, remove the growing file.

        Where a system was forgotten, the files are made without what they have of it, finished ones too.
        """
        shard, folder = closed.shard, closed.shard.folder
        # As it is now: it may have been rewritten since it was handed in.
        segment = next((each for each in shard.segments if each.name == closed.segment.name), None)
        if not isinstance(segment, SealedSegment):  # left to the object store meanwhile, and its files with it
            return
        started = time.monotonic()
        forgotten = {} if self._settings.tiers.enabled else self._forgotten(shard, segment)
        if forgotten:
            segment = self._rewrite(closed, segment, forgotten)
        elif closed.file is None:
            return
        elif segment.index is None:  # else an earlier try failed to remove the growing file
            self._wait_for_ingest(closed)
            self._build(closed, segment.name.growing(folder), segment.name.sealed(folder))
            passed("index built")
            index = self._reader.attach(segment.name.sealed(folder))
            with shard.lock:
                if shard.closed:
                    index.close()
                    return
                segment.index = index
        if segment.index is not None:
            remove_growing(folder, segment.name)
            passed("growing removed")
        log.info(
            "segment rewritten without forgotten rows" if forgotten else "segment sealed",
            partition=shard.partition,
            segment=str(segment.name),
            rows=segment.rows,
            seconds=round(time.monotonic() - started, 1),
        )

    def _wait_for_ingest(self, closed: ClosedSegment) -> None:
        latest = time.monotonic() + INDEX_LATEST_S
        with self._changed:
            while not self._given_up(closed) and (left := min(self._index_from, latest) - time.monotonic()) > 0:
                self._changed.wait(left)

    def _forgotten(self, shard: Shard, segment: SealedSegment) -> dict[str, int]:
        """Systems of which a finished segment's files have something that was forgotten → the position it is before."""
        if not forgets_after(segment.name, shard.forgets):
            return {}
        known = self._codes.names()
        names = {known[code] for code in np.unique(segment.systems).tolist()}
        if segment.index is not None:
            names |= segment.index.tables().systems()
        else:
            with self._tables(segment.name.growing(shard.folder)) as tables:
                names |= tables.systems()
        state = segment.name.state(shard.folder)
        if state.exists():
            names |= {row.key for row in unpack_state(state.read_bytes(), str(state)).snapshot}
        return forgotten_of(names, shard.forgets, segment.name)

    @contextlib.contextmanager
    def _tables(self, growing: Path) -> Iterator[SegmentTables]:
        """Of a growing file that is closed."""
        file = SegmentFile.open(growing, dimensions=self._settings.limits.dimensions)
        if file is None:
            raise SegmentCorrupt(f"{growing}: empty")
        try:
            yield file.tables()
        finally:
            file.close()

    def _rewrite(self, closed: ClosedSegment, segment: SealedSegment, forgotten: dict[str, int]) -> SealedSegment:
        """Put files without the rows of forgotten systems in the place of a finished segment's."""
        shard, folder, name = closed.shard, closed.shard.folder, segment.name
        growing, sealed, arrow = name.growing(folder), name.sealed(folder), name.arrow(folder)
        indexed = segment.index is not None or self._settings.hot.build_indexes
        source, target = growing if segment.index is None else sealed, sealed if indexed else growing
        new, new_arrow = folder / f"{name}.duckdb.tmp", folder / f"{name}.arrow.tmp"
        if indexed:
            self._build(closed, source, new, kept=new_arrow, forgotten=forgotten)
        else:
            build_without_index(source, arrow, new, kept=new_arrow, forgotten=forgotten)
        passed("rewritten")
        # Without its Arrow file a segment is whole: opening makes it again, from whichever file has its name.
        aside = folder / f"{name}.old-arrow.tmp"
        arrow.replace(aside)
        passed("old arrow aside")
        try:
            new.replace(target)
        except OSError:
            aside.replace(arrow)
            raise
        passed("file replaced")
        new_arrow.replace(arrow)
        remove(aside)
        sync_folder(folder)
        if segment.index is not None:
            segment.index.close()  # a search that still has it goes by the bit codes
        index = self._reader.attach(target) if indexed else None
        with contextlib.ExitStack() as opened:
            tables = index.tables() if index is not None else opened.enter_context(self._tables(target))
            rewritten = SealedSegment(
                name,
                shard.partition,
                arrow,
                self._settings.limits.dimensions,
                self._codes,
                deletes=tables.deletes(),
                incarnation=tables.incarnation(),
            )
        rewritten.index = index
        shard.replace_segment(segment, rewritten)
        state = name.state(folder)
        for system in forgotten if state.exists() else ():
            stripped = state_without(state.read_bytes(), system, str(state))
            if stripped is not None:
                write_bytes(state, stripped)
        return rewritten

    def _build(
        self,
        closed: ClosedSegment,
        source: Path,
        sealed: Path,
        *,
        kept: Path | None = None,
        forgotten: dict[str, int] | None = None,
    ) -> None:
        """Raises ShardError where the builder failed, or was not wanted any more."""
        name, folder, hot = closed.segment.name, closed.shard.folder, self._settings.hot
        command = [
            sys.executable,
            "-m",
            "akasha_stream.hot.build",
            str(source),
            str(name.arrow(folder)),
            str(sealed),
            str(hot.hnsw_m),
            str(hot.hnsw_ef_construction),
            str(os.getpid()),
            *([] if kept is None else [str(kept)]),
        ]
        with self._changed:  # so that release() and close() either see the process or prevent it
            if self._given_up(closed):
                raise ShardError(f"shard {closed.shard.partition} was closed")
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
            )
            self._process, self._building = process, closed.shard
        try:
            _, errors = process.communicate(json.dumps(forgotten or {}).encode())
            code = process.returncode
        finally:
            with self._changed:
                self._process = None
                self._building = None
        if code:
            tail = errors.decode(errors="replace").strip().splitlines()[-1:] or [f"exit code {code}"]
            raise ShardError(f"index of segment {name} was not built: {tail[0]}")


def _label(closed: ClosedSegment) -> str:
    return f"{closed.shard.partition}/{closed.segment.name}"
