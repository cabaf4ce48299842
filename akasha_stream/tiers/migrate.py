"""Move one segment to another tier: copy it, and let clean.py delete what counts no longer.

    1  the stub is put beside the hot tier's segments, where the target's class is an archive   `stub put`
    2  the object is put in the target tier, unless it is there: checked while it passes        `copy put`
    3  size and footer of the copy are compared                                                 `copy verified`
    …  after a grace time clean.py deletes the older copy                                       `leftover deleted`

The names are those of hot.durable.passed, where the tests kill the process. Each step can be done again by anyone, and
by two at once: a put is conditional, and a store shows an object whole or not at all. After any of them the segment is
readable in at least one tier; searches read the hotter one (tiling.py).

Two tiers in one place (bucket and prefix) differ by storage class alone: there step 2 changes the object's class.
"""

from __future__ import annotations

from akasha_stream.errors import (
    ObjectArchived,
    ObjectNotFound,
    SegmentCorrupt,
    SegmentTaken,
    StorageRefused,
    UsageError,
)
from akasha_stream.hot.durable import passed
from akasha_stream.storage.adapter import ObjectInfo
from akasha_stream.storage.settings import TierName
from akasha_stream.tiers.archive import is_archive, restore_takes
from akasha_stream.tiers.checked import checked_stream
from akasha_stream.tiers.segment_reader import OpenSegment, read_footer
from akasha_stream.tiers.segment_store import Place, SegmentStore
from akasha_stream.tiers.stored_segment import StoredSegment
from akasha_stream.tiers.stub import COLUMNS, make_stub


async def move(store: SegmentStore, segment: StoredSegment, to: TierName) -> StoredSegment:
    """Put a segment into another tier, or into its own tier's class again; the catalog then has both copies.

    Raises:
        UsageError: it is there already, or the two tiers are in one place and of one class.
        ObjectArchived: it must be restored first; says how.
        ObjectNotFound: it is gone: someone else moved or rewrote it. Load the catalog anew.
        SegmentCorrupt: it is not what was written, so it is not moved; names the path.
        SegmentTaken: the target has other rows under its key.
        StorageError: not known how far it came; the same call may be made again.
    """
    source, target = await store.place(segment.tier), await store.place(to)
    shared = to in store.sharing(segment.tier)
    into = target.adapter.storage_class
    if shared and segment.storage_class == into:
        why = (
            "it is there already"
            if to == segment.tier
            else f"both tiers are in {_where(target)} with one class, {into}"
        )
        raise UsageError(f"{segment.path} can't move from {segment.tier} to {to}: {why}")
    opened = await _open(store, source, segment)
    if opened.footer != segment.footer:
        raise SegmentCorrupt(f"{segment.path}: is another segment than the catalog knows")
    if is_archive(target.adapter.provider, into):
        await store.put_stub(make_stub(segment.footer, await store.read(segment, COLUMNS, opened=opened)))
        passed("stub put")
    if shared:
        info = await _change_class(target, segment, into)
    else:
        info = await _copy(source, target, segment, opened)
    moved = StoredSegment(
        info.path, info.size, info.etag, segment.key, segment.footer, to, info.storage_class, info.modified
    )
    store.changed(added=[moved], removed=[segment] if shared and to != segment.tier else [])
    return moved


async def _open(store: SegmentStore, source: Place, segment: StoredSegment) -> OpenSegment:
    try:
        return await store.open(segment)
    except ObjectArchived as error:
        state = await source.adapter.restore_state(source.bucket, segment.path)
        takes = restore_takes(source.adapter.provider, segment.storage_class)
        first = "it is being restored" if state.status == "restoring" else "restore it first"
        raise ObjectArchived(
            f"{segment.path} is in {segment.storage_class} and can't be read: {first} "
            f"(akasha-stream tiers restore {segment.key.short}; {takes})"
        ) from error


async def _change_class(place: Place, segment: StoredSegment, into: str) -> ObjectInfo:
    await place.adapter.set_storage_class(place.bucket, segment.path, into)
    passed("copy put")
    info = await _found(place, segment.path)
    if info.storage_class != into:
        raise StorageRefused(
            f"{_where(place)}{segment.path}: is of class {info.storage_class} after it was made {into}: this server "
            "keeps no classes, so give each tier a bucket or prefix of its own"
        )
    passed("copy verified")
    return info


async def _copy(source: Place, target: Place, segment: StoredSegment, opened: OpenSegment) -> ObjectInfo:
    path = segment.key.path(target.prefix)
    created = await target.adapter.put_if_absent(
        target.bucket, path, checked_stream(source.adapter, source.bucket, opened)
    )
    passed("copy put")
    info = await _found(target, path)
    if info.size != segment.size:
        raise SegmentTaken(
            f"{_where(target)}{path}: has {info.size} bytes and the segment has {segment.size}: it holds something "
            "else, so the segment stays where it is; look at it and delete it by hand"
        )
    if not is_archive(target.adapter.provider, info.storage_class):
        copy = await read_footer(target.adapter, target.bucket, path, info.size)
        if copy.footer != segment.footer:
            raise SegmentTaken(f"{_where(target)}{path}: another worker stored other rows under this key")
        if not created:  # by whom is not known; what this call created was checked on its way
            async for _ in checked_stream(target.adapter, target.bucket, copy):
                pass
    passed("copy verified")
    return info


async def _found(place: Place, path: str) -> ObjectInfo:
    info = await place.adapter.stat(place.bucket, path)
    if info is None:
        raise ObjectNotFound(f"{_where(place)}{path}: gone right after it was stored")
    return info


def _where(place: Place) -> str:
    return f"{place.adapter.provider}://{place.bucket}/"
