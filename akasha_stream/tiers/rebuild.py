"""The catalog out of the store itself: a listing, and the footer of each object."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from akasha_stream.errors import ObjectArchived, ObjectNotFound, SegmentCorrupt
from akasha_stream.storage.adapter import ObjectInfo, StorageAdapter
from akasha_stream.storage.settings import TierName
from akasha_stream.tiers.catalog import Catalog
from akasha_stream.tiers.footer import SegmentFooter
from akasha_stream.tiers.forgotten import is_entry
from akasha_stream.tiers.keys import LogId, SegmentKey, escape, is_backup, is_state
from akasha_stream.tiers.segment_reader import read_footer
from akasha_stream.tiers.stored_segment import StoredSegment

CONCURRENCY = 32
"""Footers asked for at once: 1,000 of them on a store 20 ms away take 0.6 s of waiting."""


class Footers(Protocol):
    """Footers that were read before."""

    def footer(self, found: ObjectInfo) -> SegmentFooter | None:
        """None where it is not known, or the object has changed."""
        ...

    def write(self, segments: tuple[StoredSegment, ...]) -> None:
        """What was found, for the next time."""
        ...


@dataclass(slots=True)
class Rebuilt:
    """A catalog, and what could not become part of it."""

    catalog: Catalog = field(default_factory=Catalog)
    corrupt: dict[str, str] = field(default_factory=dict)
    """Path → what is wrong with it, the path named."""
    archived: list[str] = field(default_factory=list)
    """Must be restored before their footers can be read, and are in no cache and have no stub."""
    foreign: list[str] = field(default_factory=list)
    """Objects under the prefix that are no segments by their path."""
    states: list[str] = field(default_factory=list)
    """Objects with what shards know beside their rows (keys.state_path)."""
    footers_read: int = 0
    """From the store; the others came out of the cache."""


async def rebuild(
    adapter: StorageAdapter,
    bucket: str,
    prefix: str = "",
    *,
    tier: TierName = "hot",
    topic: str | None = None,
    log: LogId | None = None,
    cache: Footers | None = None,
    concurrency: int = CONCURRENCY,
    belongs: Callable[[ObjectInfo], bool] = lambda _: True,
    archived_footer: Callable[[SegmentKey], Awaitable[SegmentFooter | None]] | None = None,
) -> Rebuilt:
    """Read what is there, of one topic, one log, or all. An object that disappears meanwhile was not there.

    `belongs`: whether an object is of this tier, where another one shares its place. `archived_footer`: finds the
    footer of a segment whose object can't be read.

    Raises:
        StorageError: the store could not be listed or read; half a catalog is never returned.
    """
    folder = f"{prefix.rstrip('/')}/" if prefix.strip("/") else ""
    if log is not None:
        folder = log.folder(prefix)
    elif topic is not None:
        folder = f"{folder}{escape(topic)}/"
    found = Rebuilt()
    segments: list[StoredSegment] = []
    listing = adapter.list(bucket, folder)
    # Several readers of one listing: footers are read while the next page is fetched.
    turn = asyncio.Lock()

    async def footer_of(each: ObjectInfo, key: SegmentKey) -> SegmentFooter:
        try:
            return (await read_footer(adapter, bucket, each.path, each.size)).footer
        except ObjectArchived:
            footer = None if archived_footer is None else await archived_footer(key)
            if footer is None:
                raise
            return footer

    async def read_some() -> None:
        while (each := await _next(listing, turn)) is not None:
            if not belongs(each):
                continue
            key = SegmentKey.parse(each.path, prefix)
            if key is None:
                if is_state(each.path):
                    found.states.append(each.path)
                elif not _is_ours(each.path, prefix):
                    found.foreign.append(each.path)
                continue
            try:
                footer = None if cache is None else cache.footer(each)
                if footer is None:
                    footer = await footer_of(each, key)
                    found.footers_read += 1
                _check(each.path, key, footer)
            except SegmentCorrupt as error:
                found.corrupt[each.path] = str(error)
            except ObjectArchived:
                found.archived.append(each.path)
            except ObjectNotFound:
                continue
            else:
                segments.append(
                    StoredSegment(each.path, each.size, each.etag, key, footer, tier, each.storage_class, each.modified)
                )

    readers = [asyncio.ensure_future(read_some()) for _ in range(concurrency)]
    try:
        await asyncio.gather(*readers)
    finally:
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
        if isinstance(listing, AsyncGenerator):
            await listing.aclose()
    found.catalog = Catalog(sorted(segments, key=lambda segment: segment.path))
    if cache is not None:
        await asyncio.to_thread(cache.write, found.catalog.segments)
    return found


async def _next(listing: AsyncIterator[ObjectInfo], turn: asyncio.Lock) -> ObjectInfo | None:
    async with turn:
        return await anext(listing, None)


def _is_ours(path: str, prefix: str) -> bool:
    """No segment, and no stranger either."""
    return is_entry(path) or is_backup(path) or SegmentKey.parse_stub(path, prefix) is not None


def _check(path: str, key: SegmentKey, footer: SegmentFooter) -> None:
    if footer.key != key:
        raise SegmentCorrupt(f"{path}: says that it is {footer.key.path()}")
