"""The background work on closed segments: checkpoint, memory-mapped copy, rewrite with an index."""

from __future__ import annotations

import queue
import subprocess
import sys
import threading
import time
from dataclasses import dataclass

import structlog

from akasha_stream.errors import AkashaError, ShardError
from akasha_stream.hot.durable import passed
from akasha_stream.hot.growing import GrowingSegment
from akasha_stream.hot.hnsw import IndexReader
from akasha_stream.hot.recovery import remove_growing
from akasha_stream.hot.sealed import SealedSegment, write_arrow
from akasha_stream.hot.shard import ClosedSegment, Shard
from akasha_stream.search.segment import SystemCodes
from akasha_stream.settings import Settings

log = structlog.get_logger(__name__)

RETRY_S = 5.0


@dataclass(frozen=True, slots=True)
class SealBacklog:
    segments: int
    """closed segments that have no index yet"""
    rows: int


class Sealer:
    """One thread that finishes closed segments, oldest first. A search never waits for it.

    Until its index exists a segment is searched by its bit codes, so a backlog costs search time, never
    results; it is a figure of `backlog()`.
    """

    def __init__(self, settings: Settings, codes: SystemCodes, reader: IndexReader) -> None:
        self._settings = settings
        self._codes = codes
        self._reader = reader
        self._queue: queue.SimpleQueue[ClosedSegment | None] = queue.SimpleQueue()
        self._waiting: dict[int, ClosedSegment] = {}
        self._stop = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._current: ClosedSegment | None = None
        self._idle = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="sealer", daemon=True)
        self._thread.start()

    def submit(self, closed: ClosedSegment) -> None:
        with self._idle:
            self._waiting[id(closed)] = closed
        self._queue.put(closed)

    def backlog(self) -> SealBacklog:
        with self._idle:
            return SealBacklog(len(self._waiting), sum(each.segment.rows for each in self._waiting.values()))

    def wait_idle(self, timeout_s: float) -> bool:
        """Wait until nothing is left to do; False when it takes longer."""
        with self._idle:
            return self._idle.wait_for(lambda: not self._waiting, timeout_s)

    def release(self, shard: Shard) -> None:
        """Drop the work of a closed shard and let go of its files; returns when that is done."""
        with self._idle:
            if self._current is not None and self._current.shard is shard and self._process is not None:
                self._process.kill()
            self._idle.wait_for(lambda: all(each.shard is not shard for each in self._waiting.values()))

    def close(self) -> None:
        """Stop; what is unfinished is found again when the shard is opened."""
        self._stop.set()
        process = self._process
        if process is not None:
            process.kill()
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (closed := self._queue.get()) is not None:
            with self._idle:
                self._current = closed
            while not (self._stop.is_set() or closed.shard.closed):
                try:
                    self._finish(closed)
                    break
                except Exception as exc:  # whatever it was, the segment stays searchable and is tried again
                    if closed.shard.closed or self._stop.is_set():
                        break
                    log.warning(
                        "segment not sealed, will try again",
                        segment=str(closed.segment.name),
                        error=str(exc),
                        exc_info=not isinstance(exc, (AkashaError, OSError)),
                    )
                    self._stop.wait(RETRY_S)
            closed.file.close()
            with self._idle:
                self._current = None
                self._waiting.pop(id(closed), None)
                self._idle.notify_all()

    def _finish(self, closed: ClosedSegment) -> None:
        shard, name, folder = closed.shard, closed.segment.name, closed.shard.folder
        dimensions = self._settings.limits.dimensions
        passed("sealing")
        segment = closed.segment
        started = time.monotonic()
        if isinstance(segment, GrowingSegment):
            current = next((each for each in shard.segments if each.name == name), segment)
            if isinstance(current, SealedSegment):  # an earlier try came this far
                segment = current
            else:
                write_arrow(name.arrow(folder), segment.table(), dimensions=dimensions, end=closed.end)
                passed("arrow written")
                sealed = SealedSegment(name, shard.partition, name.arrow(folder), dimensions, self._codes)
                shard.replace_segment(segment, sealed)
                segment = sealed
        closed.file.checkpoint_and_close()
        passed("checkpointed")
        if not self._settings.hot.build_indexes:
            return
        self._build(closed)
        passed("index built")
        segment.index = self._reader.attach(name.sealed(folder))
        remove_growing(folder, name)
        passed("growing removed")
        log.info(
            "segment sealed",
            partition=shard.partition,
            segment=str(name),
            rows=segment.rows,
            seconds=round(time.monotonic() - started, 1),
        )

    def _build(self, closed: ClosedSegment) -> None:
        name, folder, hot = closed.segment.name, closed.shard.folder, self._settings.hot
        command = [
            sys.executable,
            "-m",
            "akasha_stream.hot.build",
            str(name.growing(folder)),
            str(name.arrow(folder)),
            str(name.sealed(folder)),
            str(hot.hnsw_m),
            str(hot.hnsw_ef_construction),
        ]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        try:
            _, errors = self._process.communicate()
            code = self._process.returncode
        finally:
            self._process = None
        if code:
            tail = errors.decode(errors="replace").strip().splitlines()[-1:] or [f"exit code {code}"]
            raise ShardError(f"index of segment {name} was not built: {tail[0]}")
