"""Make archived segments readable again for a while, and say how far that is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from akasha_stream.errors import StorageError
from akasha_stream.storage.adapter import RestoreState
from akasha_stream.storage.settings import TierName
from akasha_stream.tiers.archive import is_archive, restore_takes
from akasha_stream.tiers.keys import SegmentKey
from akasha_stream.tiers.segment_store import SegmentStore

AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Archived:
    """An object in an archive class, or one that was rehydrated out of it. `key` None: not one of ours."""

    tier: TierName
    path: str
    key: SegmentKey | None
    size: int
    storage_class: str


@dataclass(frozen=True, slots=True)
class Restoring:
    """`state` None: it could not be asked, or not found out; `error` says why. `takes`: by the provider, in words."""

    archived: Archived
    state: RestoreState | None
    takes: str
    error: str = ""


async def archived_segments(store: SegmentStore) -> list[Archived]:
    """Those in store.catalog, and those whose footer nothing tells (store.archived); by tier and path."""
    found = [
        Archived(s.tier, s.path, s.key, s.size, s.storage_class) for s in store.catalog.segments if store.is_archived(s)
    ]
    for tier, path in store.archived:
        place = await store.place(tier)
        info = await place.adapter.stat(place.bucket, path)
        if info is not None:
            key = SegmentKey.parse(path, place.prefix)
            found.append(Archived(tier, path, key, info.size, info.storage_class))
    return sorted(found, key=lambda each: (each.tier, each.path))


async def restore(
    store: SegmentStore,
    segments: Sequence[Archived],
    days: int,
    *,
    only_ask: bool = False,
    on_each: Callable[[Restoring], None] | None = None,
) -> list[Restoring]:
    """Ask for each, and what became of it. Asked again, it stays as it is; S3 alone takes notice of `days`.

    `only_ask`: ask for the states alone. What fails is in the result.
    """
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(each: Archived) -> Restoring:
        async with slots:
            place = await store.place(each.tier)
            takes = restore_takes(place.adapter.provider, each.storage_class)
            try:
                if not only_ask and is_archive(place.adapter.provider, each.storage_class):
                    await place.adapter.restore(place.bucket, each.path, days)
                state = await place.adapter.restore_state(place.bucket, each.path)
                found = Restoring(each, state, takes)
            except StorageError as error:
                found = Restoring(each, None, takes, str(error))
        if on_each is not None:
            on_each(found)
        return found

    return list(await asyncio.gather(*(one(each) for each in segments)))
