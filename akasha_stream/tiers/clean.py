"""Delete what moves have left behind: the older copies of segments, and stubs of what is archived nowhere.

The one place that deletes for a move, and it trusts nobody: the copy that stays is looked at again right before the
other one goes, and must have been there for the grace time. Anyone may do it beside anyone (copies.py says why two
can't delete each other's). What wider or later segments stand for is deleted by clean_up.py.

What it takes for granted: a process is not stopped between that look and its delete for longer than the grace time.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, field

import structlog

from akasha_stream.errors import SegmentCorrupt, StorageError, StorageRefused
from akasha_stream.hot.durable import passed
from akasha_stream.storage.settings import TierName
from akasha_stream.tiers.copies import Leftover, leftovers
from akasha_stream.tiers.keys import LogId, SegmentKey
from akasha_stream.tiers.segment_store import SegmentStore
from akasha_stream.tiers.stored_segment import StoredSegment
from akasha_stream.tiers.stub import COLUMNS, make_stub

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Cleaned:
    """`deleted` and `stubs`: with dry_run, what would be."""

    deleted: list[Leftover] = field(default_factory=list)
    stubs: list[str] = field(default_factory=list)
    """Paths in the hot tier."""
    waiting: list[Leftover] = field(default_factory=list)
    """Their grace time is not over."""
    conflicts: list[Leftover] = field(default_factory=list)
    """Two objects of one key with different rows: neither is deleted."""
    failed: dict[str, str] = field(default_factory=dict)
    """Path → why it could not be looked at or deleted; the next run tries again."""

    @property
    def bytes(self) -> int:
        return sum(each.segment.size for each in self.deleted)


async def clean(
    store: SegmentStore,
    logs: Collection[LogId] | None = None,
    *,
    grace_s: float,
    now: float | None = None,
    dry_run: bool = False,
) -> Cleaned:
    """Clean up the segments of these logs (None: all) as store.catalog has them; load() it shortly before.

    `now`: seconds since the epoch. What fails is in the result, and the rest is done.
    """
    done = Cleaned()
    before = (time.time() if now is None else now) - grace_s
    for each in leftovers(store.catalog, logs):
        if each.keeper.tier in store.sharing(each.segment.tier):
            continue  # one object that changed its class while the tiers were listed
        if each.conflict:
            done.conflicts.append(each)
        elif each.keeper.modified.timestamp() > before:
            done.waiting.append(each)
        elif dry_run:
            done.deleted.append(each)
        else:
            try:
                await _check_apart(store, each)
                if await _is_as_known(store, each.keeper) and await _is_as_known(store, each.segment):
                    if store.is_archived(each.keeper):
                        await _keep_stub(store, each)
                    await store.delete([each.segment])
                    done.deleted.append(each)
                    passed("leftover deleted")
            except (StorageError, SegmentCorrupt) as error:
                done.failed[each.segment.path] = str(error)
    await _clean_stubs(store, logs, before, done, dry_run=dry_run)
    for path, why in done.failed.items():
        log.warning("not cleaned up", path=path, error=why)
    for each in done.conflicts:
        log.error("two objects of one segment differ", path=each.segment.path, tiers=_tiers(each))
    return done


async def _check_apart(store: SegmentStore, each: Leftover) -> None:
    one, other = each.segment.tier, each.keeper.tier
    if not await store.apart(one, other):
        raise StorageRefused(
            f"nothing is deleted: the tiers {one} and {other} are one place with two different settings; in "
            "settings/akasha-storage.yml make all but storage_class equal, or give each a prefix or bucket of its own"
        )


async def _is_as_known(store: SegmentStore, segment: StoredSegment) -> bool:
    """Whether the object is the one that the catalog knows."""
    place = await store.place(segment.tier)
    info = await place.adapter.stat(place.bucket, segment.path)
    # Whole seconds: a HEAD has no more, though a listing may.
    known = (segment.etag, int(segment.modified.timestamp()))
    return info is not None and (info.etag, int(info.modified.timestamp())) == known


async def _keep_stub(store: SegmentStore, moved: Leftover) -> None:
    """The archived copy's stub must be there; a clean-up that began before the move may have taken it."""
    if await store.stub(moved.keeper.key) is None:
        await store.put_stub(make_stub(moved.segment.footer, await store.read(moved.segment, COLUMNS)))


async def _clean_stubs(
    store: SegmentStore, logs: Collection[LogId] | None, before: float, done: Cleaned, *, dry_run: bool
) -> None:
    """Stubs of segments that are archived nowhere: of a move that got no further, or back; of what was rewritten."""
    if set(store.unreachable) or not store.configured:
        return  # what can't be read may be what a stub is of
    needed = {segment.key for segment in store.catalog.segments if store.is_archived(segment)}
    needed |= {key for tier, path in store.archived if (key := await _key(store, tier, path)) is not None}
    hot = await store.place("hot")
    for of in store.catalog.logs if logs is None else logs:
        try:
            async for each in hot.adapter.list(hot.bucket, of.folder(hot.prefix)):
                key = SegmentKey.parse_stub(each.path, hot.prefix)
                if key is None or key in needed or each.modified.timestamp() > before:
                    continue
                if not dry_run:
                    await hot.adapter.delete(hot.bucket, each.path)
                done.stubs.append(each.path)
                passed("stub deleted")
        except StorageError as error:
            done.failed[of.folder(hot.prefix)] = str(error)


async def _key(store: SegmentStore, tier: TierName, path: str) -> SegmentKey | None:
    return SegmentKey.parse(path, (await store.place(tier)).prefix)


def _tiers(each: Leftover) -> str:
    return f"{each.segment.tier}, {each.keeper.tier}"
