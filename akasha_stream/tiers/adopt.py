"""What a shard's folder must hold before it is opened, according to the object store.

A worker that gets a partition may have nothing of it, or what it had before another worker owned it. What the store
has counts; a local copy is kept where it is the same segment, or later than all of them. Everything here may stop at
any instant and be made again. From the first change to the last a file says so: opened in between, a shard would lack
rows, and begin its windows and counters anew for good.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import structlog

from akasha_stream.errors import ObjectNotFound, SegmentCorrupt
from akasha_stream.hot.durable import passed, remove, write_bytes
from akasha_stream.hot.schema import ADOPTING, SegmentName, remove_growing
from akasha_stream.tiers.keys import SegmentKey
from akasha_stream.tiers.segment_store import SegmentStore
from akasha_stream.tiers.stored_segment import StoredSegment
from akasha_stream.tiers.stub import COLUMNS, Stub, make_stub, open_stub, read_stub, write_stub

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Adopted:
    """What was changed in a folder."""

    fetched: list[str]
    """Paths of the segments whose stubs were fetched."""
    removed: list[str]
    """Names of local segments that were thrown away."""


async def adopt(folder: Path, topic: str, partition: int, store: SegmentStore, *, only_stored: bool = False) -> Adopted:
    """Make the folder of a shard, which is closed, agree with `store.catalog`, which must be of all tiers.

    `only_stored`: what is here and not in the store goes too; the log has it. A segment that is damaged in the store
    keeps what is here of it.

    Raises:
        StorageError: the store can't be read, or another worker has spilled more since the catalog was made; with the
            catalog and the ledger as they are now the same call may be made again.
        SegmentCorrupt: a segment of the shard is damaged in the store.
    """
    wanted = segments_of(store, topic, partition)
    local = await asyncio.to_thread(_local, folder)
    damaged = _damaged(store, topic, partition)
    removed = await asyncio.to_thread(_remove_others, folder, local, wanted, damaged, only_stored=only_stored)
    fetched: list[str] = []
    whole = True
    # From the end: what is left to the store is always the beginning of a shard.
    for name, segment in reversed(wanted):
        kinds = local.get(name, set()) if str(name) not in removed else set()
        whole = whole and bool({"sealed.duckdb", "growing.duckdb"} & kinds)
        if whole:
            continue
        if not await asyncio.to_thread(_has_stub, folder, name, segment):
            await _fetch_stub(folder, name, segment, store)
            fetched.append(segment.path)
        # A local copy before one that is not: its masks would lack what the other says.
        await asyncio.to_thread(_remove_bodies, folder, name)
    if wanted and not any(name > wanted[-1][0] for name in local if str(name) not in removed):
        await _fetch_state(folder, *wanted[-1], store)
    await asyncio.to_thread(remove, folder / ADOPTING)
    if fetched or removed:
        log.info("shard adopted from the store", partition=partition, fetched=len(fetched), removed=removed)
    return Adopted(fetched, removed)


def segments_of(store: SegmentStore, topic: str, partition: int) -> list[tuple[SegmentName, StoredSegment]]:
    """The current segments of a partition in all lives of its topic, oldest first."""
    logs = [each for each in store.catalog.logs if (each.topic, each.partition) == (topic, partition)]
    found = [segment for each in logs for segment in store.catalog.current(each)]
    return sorted(((SegmentName(s.footer.epoch, s.key.start), s) for s in found), key=lambda each: each[0])


def _damaged(store: SegmentStore, topic: str, partition: int) -> set[int]:
    """Where segments begin that are in the store and can't be read."""
    keys = (SegmentKey.parse(path, store.tiers.settings.tier(tier).prefix) for tier, path in store.corrupt)
    return {key.start for key in keys if key is not None and (key.log.topic, key.log.partition) == (topic, partition)}


def _local(folder: Path) -> dict[SegmentName, set[str]]:
    found: dict[SegmentName, set[str]] = {}
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        parsed = SegmentName.parse(path.name)
        if parsed is not None:
            found.setdefault(parsed[0], set()).add(parsed[1])
    return found


def _remove_others(
    folder: Path,
    local: dict[SegmentName, set[str]],
    wanted: list[tuple[SegmentName, StoredSegment]],
    damaged: set[int],
    *,
    only_stored: bool,
) -> list[str]:
    """Remove local segments that the store has otherwise: cut at other offsets, or by a worker that went further."""
    names = sorted(local)
    following_of = {name: after for name, after in pairwise(names) if after.epoch == name.epoch}
    known = dict(wanted)
    last: dict[int, int] = {}
    for name, segment in wanted:
        last[name.epoch] = max(last.get(name.epoch, 0), segment.key.end)
    removed = []
    gap = _gap_after(names, last)
    for name in names:
        stored = known.get(name)
        if stored is None:
            # Later than all that the store has of this log, and of the logs before: not spilled yet.
            later = name.start >= last.get(name.epoch, 0) and name.epoch >= max(last, default=0)
            keep = (later and not only_stored and name.epoch != gap) or name.start in damaged
        else:
            following = following_of.get(name)
            growing_alone = following is None and local[name] == {"growing.duckdb"}
            same_end = following is None or following.start == stored.key.end
            keep = same_end and not growing_alone and stored.key.generation == 0
            keep = keep or local[name] == {"stub"}
        if not keep:
            removed.append(str(name))
            _begin(folder)
            _remove_bodies(folder, name)
            remove(name.stub(folder))
            remove(name.state(folder))
            passed("stale segment removed")
    return removed


def _gap_after(names: list[SegmentName], last: dict[int, int]) -> int | None:
    """The epoch in which what is here begins after the end of what is stored: it was cut otherwise.

    It is read again, with what lies between: the log would not be asked for that. Never an epoch before the present
    one, whose log is gone.
    """
    epoch = names[-1].epoch if names else None
    if epoch is None or epoch not in last:
        return None
    beyond = [name.start for name in names if name.epoch == epoch and name.start >= last[epoch]]
    return epoch if beyond and beyond[0] > last[epoch] else None


def _begin(folder: Path) -> None:
    if not (folder / ADOPTING).exists():
        write_bytes(folder / ADOPTING, b"")


def _remove_bodies(folder: Path, name: SegmentName) -> None:
    remove(name.sealed(folder))
    remove_growing(folder, name)
    remove(name.arrow(folder))


def _has_stub(folder: Path, name: SegmentName, segment: StoredSegment) -> bool:
    path = name.stub(folder)
    try:
        return path.exists() and open_stub(path).footer == segment.footer
    except SegmentCorrupt as error:
        log.warning("stub made again", error=str(error))
        return False


async def _fetch_stub(folder: Path, name: SegmentName, segment: StoredSegment, store: SegmentStore) -> None:
    stub = await fetch_stub(segment, store)
    await asyncio.to_thread(_begin, folder)
    await asyncio.to_thread(write_stub, name.stub(folder), stub)
    passed("stub fetched")


async def fetch_stub(segment: StoredSegment, store: SegmentStore) -> Stub:
    """Make the stub of a segment from the store: of its columns, or, where it is archived, the copy in the hot tier.

    Raises StorageError, SegmentCorrupt.
    """
    hot = await store.place("hot")
    kept = segment.key.stub_path(hot.prefix)
    if segment.tier != "hot" and await hot.adapter.exists(hot.bucket, kept):
        return await asyncio.to_thread(read_stub, await hot.adapter.download(hot.bucket, kept), kept)
    table = await store.read(segment, COLUMNS)
    return await asyncio.to_thread(make_stub, segment.footer, table)


async def _fetch_state(folder: Path, name: SegmentName, segment: StoredSegment, store: SegmentStore) -> None:
    path = name.state(folder)
    state = await store.state(segment.key.log, segment.key.end)
    if state is None:
        # The owner of before may spill on, and with a later segment's state it removes this one.
        await store.refresh(segment.key.log)
        if store.catalog.end(segment.key.log) != segment.key.end:
            raise ObjectNotFound(f"{segment.path}: another worker has spilled more since it was listed; try again")
        log.warning("the store has no windows and counters as of the end of its segments", segment=segment.path)
        remove(path)
        return
    await asyncio.to_thread(write_bytes, path, state)
    passed("state fetched")
