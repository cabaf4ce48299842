"""A shard made anew beside itself, from a part of its log on, and put in its place when it has caught up.

What an event becomes depends on all before it, so a part of a shard can't be made anew without what follows. The new
shard shares the finished segments before that part with the old one (hard links: they never change), and takes the
log from there on through the same decoder and the same transactions as any shard. The old one is searched, and goes
on taking records in, until the new one is as far.

    <data_dir>/<topic>/replays/<partition>/<topic>/<partition>/    the new shard
    <data_dir>/<topic>/replays/<partition>/replaced/               the old one, from the first rename to the end

Killed before the first rename: the old shard as it was, and the new one goes on where it was. Killed after it: whoever
opens the folder next finishes (hot/store.py, finish_replacing).
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from akasha_stream.errors import UsageError
from akasha_stream.hot.durable import passed, remove, sync_folder
from akasha_stream.hot.schema import SegmentName
from akasha_stream.hot.sealed import SealedSegment
from akasha_stream.hot.shard import AnySegment, Shard
from akasha_stream.hot.store import ShardStore
from akasha_stream.tiers.spilled import SpilledSegment

MADE = "whole"
"""A file beside the new shard: its history is complete."""


def segment_of(shard: Shard, offset: int) -> AnySegment:
    """The segment of the shard's current log that an offset falls into."""
    inside = [s for s in shard.segments if s.name.epoch == shard.epoch and s.name.start <= offset]
    if not inside:
        raise UsageError(f"partition {shard.partition}: nothing of offset {offset} is stored")
    return inside[-1]


class Beside:
    """The new shard of one partition. Not for two threads at once."""

    def __init__(self, store: ShardStore, live: Shard, offset: int) -> None:
        """Make or open it: the live shard up to the segment that `offset` falls into, which is made anew.

        The finished segments before it must not be in the sealer's hands (ShardStore.is_sealing).

        Raises UsageError where that segment is in the object store; ShardLocked, SegmentCorrupt.
        """
        self._store = store
        self._live = live
        first = segment_of(live, offset)
        for segment in live.segments[live.segments.index(first) :]:
            _must_be_local(segment, live.partition)
        self.start: int = first.name.start
        """Offset that the log is taken from."""
        folder = store.replay_folder(live.partition)
        shard_folder = folder / live.topic / live.folder.name
        if not (folder / MADE).exists():
            remove(folder)
            shard_folder.mkdir(parents=True)
            _share(live, shard_folder, before=first)
            passed("history shared")
            (folder / MADE).write_text(str(first.name), "utf-8")
            sync_folder(folder)
        self.store = store.beside(folder)
        try:
            self.shard = self.store.open(live.partition, live.incarnation, self.start)
        except BaseException:
            self.store.close_all()
            raise

    def close(self) -> None:
        """Its files stay."""
        self.store.close_all()

    def discard(self) -> None:
        self.close()
        remove(self._store.replay_folder(self._live.partition))

    def replace(self) -> Shard:
        """Put it in the live shard's place; that one is closed. The reading of the partition has to start anew."""
        self.close()
        return self._store.replace(self._live.partition, self._live.incarnation)


def _must_be_local(segment: AnySegment, partition: int) -> None:
    if isinstance(segment, SpilledSegment) or (isinstance(segment, SealedSegment) and segment.spilled):
        raise UsageError(
            f"partition {partition}: the segment of offsets [{segment.name.start}, {segment.end}) is in the object "
            "store, which counts for every worker: it is not made anew in place. Replay into a directory of its own "
            "with --into, or see docs/replay.md, Segments in the object store"
        )


def _share(live: Shard, folder: Path, *, before: AnySegment) -> None:
    """Give the new shard the segments before one. Immutable files are linked, a growing file is copied."""
    names = {s.name for s in live.segments if s.name < before.name}
    for path in sorted(live.folder.iterdir()):
        parsed = SegmentName.parse(path.name)
        if parsed is None or parsed[0] not in names:
            continue
        if parsed[1] == "growing.duckdb":
            wal = path.with_name(f"{path.name}.wal")
            if wal.exists():
                shutil.copy2(wal, folder / wal.name)
            shutil.copy2(path, folder / path.name)
        else:
            os.link(path, folder / path.name)
    sync_folder(folder)
