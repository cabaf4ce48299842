"""The segments of all tiers: which there are (the catalog), and reading, putting and deleting them."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import structlog

from akasha_stream.errors import (
    ObjectArchived,
    ObjectNotFound,
    SegmentCorrupt,
    SegmentTaken,
    SettingsError,
    StorageError,
)
from akasha_stream.storage.settings import TIERS, StorageSettings, TierName
from akasha_stream.storage.tiers import StorageTiers
from akasha_stream.tiers.archive import is_archive
from akasha_stream.tiers.catalog import Catalog
from akasha_stream.tiers.footer import SegmentFooter
from akasha_stream.tiers.footer_cache import FooterCache
from akasha_stream.tiers.keys import LogId, SegmentKey, state_path
from akasha_stream.tiers.rebuild import Footers, Rebuilt, rebuild
from akasha_stream.tiers.segment_reader import OpenSegment, read_footer, read_row_groups
from akasha_stream.tiers.stored_segment import StoredSegment
from akasha_stream.tiers.stub import Stub, read_stub, read_stub_footer, stub_bytes

if TYPE_CHECKING:
    from akasha_stream.storage.adapter import ObjectInfo, StorageAdapter
    from akasha_stream.tiers.parquet_segment import EncodedSegment

log = structlog.get_logger(__name__)

_STUB_START = 64 << 10
"""Holds the footer of a segment of some 800 systems."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tier's objects are: keys begin with `prefix`, in `bucket`."""

    tier: TierName
    adapter: StorageAdapter
    bucket: str
    prefix: str


@dataclass(frozen=True, slots=True)
class _Change:
    added: tuple[StoredSegment, ...]
    removed: tuple[tuple[TierName, str], ...]


@dataclass(slots=True)
class _Known:
    """rebuild.Footers out of a catalog."""

    segments: dict[tuple[TierName, str], StoredSegment]
    tier: TierName = "hot"

    def footer(self, found: ObjectInfo) -> SegmentFooter | None:
        known = self.segments.get((self.tier, found.path))
        return known.footer if known is not None and (known.size, known.etag) == (found.size, found.etag) else None

    def write(self, segments: tuple[StoredSegment, ...]) -> None:
        pass


class SegmentStore:
    """One instance belongs to one event loop. `catalog` is replaced as a whole: any thread may read it.

    Whatever is in `unreachable` or `corrupt` is missing from the catalog, and a search over it is partial.
    """

    def __init__(self, tiers: StorageTiers, *, cache_dir: Path | None = None) -> None:
        """`cache_dir`: where footers are kept between starts; they are derived and can be deleted."""
        self.tiers = tiers
        self.catalog = Catalog()
        self.unreachable: dict[TierName, str] = {}
        """Tier → why its listing could not be read."""
        self.corrupt: dict[tuple[TierName, str], str] = {}
        """(tier, path) → what is wrong with it."""
        self.archived: list[tuple[TierName, str]] = []
        """(tier, path) of segments that must be restored before even their footer can be read."""
        self.foreign: list[tuple[TierName, str]] = []
        """(tier, path) of objects among the segments that are none."""
        self._cache_dir = cache_dir
        self._apart: dict[frozenset[TierName], bool] = {}
        # Of each load() that is under way: what was put and deleted since it began.
        self._loading: list[list[_Change]] = []

    @property
    def configured(self) -> tuple[TierName, ...]:
        """The tiers that have a backend, hottest first."""
        return tuple(tier for tier in TIERS if tier in self.tiers.settings.tiers)

    async def place(self, tier: TierName) -> Place:
        """Raises SettingsError for a tier without a backend; StorageUnavailable."""
        place = self.tiers.settings.tier(tier)
        return Place(tier, await self.tiers.open(tier), place.bucket, place.prefix)

    async def load(self, topic: str | None = None) -> None:
        """Make the catalog from what the tiers hold, of one topic or of all.

        A tier that can't be read keeps the segments that were known of it, and is named in `unreachable`. An object
        that another worker is moving may be seen in two tiers; the hotter one counts (tiling.py).
        """
        meanwhile: list[_Change] = []
        self._loading.append(meanwhile)
        try:
            results = await asyncio.gather(*(self._load(tier, topic) for tier in self.configured))
        finally:
            self._loading.remove(meanwhile)
        segments: list[StoredSegment] = []
        self.corrupt, self.archived, self.foreign = {}, [], []
        for tier, found in zip(self.configured, results, strict=True):
            if isinstance(found, Rebuilt):
                self.unreachable.pop(tier, None)
                segments += found.catalog.segments
                self.corrupt |= {(tier, path): why for path, why in found.corrupt.items()}
                self.archived += [(tier, path) for path in found.archived]
                self.foreign += [(tier, path) for path in found.foreign]
            else:
                if self.unreachable.get(tier) != found:
                    log.warning("tier can't be read", tier=tier, error=found)
                self.unreachable[tier] = found
                segments += [segment for segment in self.catalog.segments if segment.tier == tier]
        for (tier, path), why in self.corrupt.items():
            log.error("segment left out: it is damaged", tier=tier, path=path, error=why)
        catalog = Catalog(self._once(segments), after=self.catalog)
        for change in meanwhile:  # the listing may have been made before it
            catalog = catalog.with_changes(change.added, change.removed)
        self.catalog = catalog

    def _once(self, segments: Sequence[StoredSegment]) -> list[StoredSegment]:
        """One whose class changed between the listings of two tiers in one place is in both; the colder counts."""
        first = {tier: self.sharing(tier)[0] for tier in self.configured}
        return list({(first[segment.tier], segment.path): segment for segment in segments}.values())

    def changed(self, added: Sequence[StoredSegment] = (), removed: Sequence[StoredSegment] = ()) -> None:
        """Take objects that were stored or deleted into the catalog."""
        change = _Change(tuple(added), tuple(segment.place for segment in removed))
        self.catalog = self.catalog.with_changes(change.added, change.removed)
        for meanwhile in self._loading:
            meanwhile.append(change)

    async def refresh(self, of: LogId) -> list[tuple[TierName, str]]:
        """Bring the catalog up to date for one log; footers that are known are not read again.

        Returns (tier, path) of the log's states.

        Raises:
            StorageError: a tier could not be listed; the catalog is as it was.
            SegmentCorrupt: a segment of the log is damaged.
        """
        known = _Known({segment.place: segment for segment in self.catalog.segments if segment.key.log == of})
        found: list[StoredSegment] = []
        states: list[tuple[TierName, str]] = []
        for tier in self.configured:
            known.tier = tier
            each = await self._rebuild(tier, log=of, cache=known)
            for path, why in each.corrupt.items():
                raise SegmentCorrupt(f"tier {tier}: {path}: {why}")
            found += each.catalog.segments
            states += [(tier, path) for path in each.states]
        self.changed(self._once(found), [segment for segment in self.catalog.segments if segment.key.log == of])
        return states

    async def _load(self, tier: TierName, topic: str | None) -> Rebuilt | str:
        try:
            place = await self.place(tier)
            cache = None
            if self._cache_dir is not None:
                name = f"{place.adapter.provider}:{place.bucket}/{place.prefix}"
                cache = FooterCache(self._cache_dir / f"footers-{tier}.json", name)
            return await self._rebuild(tier, topic=topic, cache=cache)
        except (StorageError, SettingsError) as error:
            return str(error)

    async def _rebuild(
        self, tier: TierName, *, topic: str | None = None, log: LogId | None = None, cache: Footers | None
    ) -> Rebuilt:
        place = await self.place(tier)
        sharing = {other: (await self.place(other)).adapter.storage_class for other in self.sharing(tier)}
        return await rebuild(
            place.adapter,
            place.bucket,
            place.prefix,
            tier=tier,
            topic=topic,
            log=log,
            cache=cache,
            belongs=lambda info: tier == _tier_of(info.storage_class, sharing),
            archived_footer=self._footer_in_stub,
        )

    def sharing(self, tier: TierName) -> tuple[TierName, ...]:
        """The tiers whose objects are in the same place as this one's (bucket and prefix), itself too, hottest first.

        There a segment's tier is told by its storage class.
        """
        place = _place_settings(self.tiers.settings, tier)
        return tuple(other for other in self.configured if _place_settings(self.tiers.settings, other) == place)

    async def apart(self, one: TierName, other: TierName) -> bool:
        """Whether two tiers are certainly in different places; found out by putting an object, once.

        Settings can't tell: two addresses, keys or links may lead to one bucket. There every object seems to be two
        copies, and deleting "the other" would delete the segment. Raises StorageError.
        """
        if other in self.sharing(one):
            return False
        pair = frozenset((one, other))
        if pair not in self._apart:
            # In the hotter tier: archives bill a least time of months.
            here, there = [await self.place(tier) for tier in sorted(pair, key=TIERS.index)]
            name = f"place-probe-{uuid.uuid4().hex}"
            await here.adapter.upload(here.bucket, f"{here.prefix}{name}", b"")
            try:
                self._apart[pair] = not await there.adapter.exists(there.bucket, f"{there.prefix}{name}")
            finally:
                await here.adapter.delete(here.bucket, f"{here.prefix}{name}")
        return self._apart[pair]

    def is_archived(self, segment: StoredSegment) -> bool:
        """Whether its class must be restored before a read; it may have been."""
        return is_archive(self.tiers.settings.tier(segment.tier).provider, segment.storage_class)

    async def put(self, segment: EncodedSegment, tier: TierName = "hot") -> StoredSegment:
        """Store a segment unless its key is taken, and take it into the catalog.

        Where another worker has stored the same rows under it, or an earlier try of ours whose answer was lost, that
        object is the segment.

        Raises:
            SegmentTaken: the object under the key holds other rows: another worker cut or rewrote the log otherwise.
            StorageError: whether it was stored is not known; the same call may be made again.
        """
        place = await self.place(tier)
        path = segment.footer.key.path(place.prefix)
        created = await place.adapter.put_if_absent(place.bucket, path, segment.data)
        info = await place.adapter.stat(place.bucket, path)
        if info is None:
            raise ObjectNotFound(f"{place.adapter.provider}://{place.bucket}/{path}: gone right after it was stored")
        footer = segment.footer
        if not created:
            other = await self._footer(place, path, info.size, segment.footer.key)
            # With another precision its rows are the same.
            if other.model_copy(update={"precision": segment.footer.precision}) != segment.footer:
                raise SegmentTaken(
                    f"{path}: another worker stored {other.rows} rows under this key, and this one has "
                    f"{segment.footer.rows}"
                )
            footer = other
        stored = StoredSegment(path, info.size, info.etag, footer.key, footer, tier, info.storage_class, info.modified)
        self.changed(added=[stored])
        return stored

    async def _footer(self, place: Place, path: str, size: int, key: SegmentKey) -> SegmentFooter:
        try:
            return (await read_footer(place.adapter, place.bucket, path, size)).footer
        except ObjectArchived:
            footer = await self._footer_in_stub(key)
            if footer is None:
                raise
            return footer

    async def delete(self, segments: Iterable[StoredSegment]) -> None:
        """Delete objects; those that are gone already are passed over. Raises StorageError; may be made again."""
        for segment in segments:
            place = await self.place(segment.tier)
            await place.adapter.delete(place.bucket, segment.path)
            self.changed(removed=[segment])

    async def open(self, segment: StoredSegment) -> OpenSegment:
        """Read a segment's footer. Raises SegmentCorrupt, StorageError (ObjectArchived …)."""
        place = await self.place(segment.tier)
        return await read_footer(place.adapter, place.bucket, segment.path, segment.size)

    async def read(
        self,
        segment: StoredSegment,
        columns: Sequence[str] | None = None,
        groups: Sequence[int] | None = None,
        *,
        opened: OpenSegment | None = None,
    ) -> pa.Table:
        """Columns (None: all) of row groups (None: all), in the segment's order.

        Raises:
            SegmentCorrupt: what was read is not what was written; names the path.
            StorageError: it could not be read (ObjectArchived, ObjectNotFound …).
        """
        opened = opened or await self.open(segment)
        place = await self.place(segment.tier)
        wanted = range(opened.row_groups) if groups is None else groups
        return await read_row_groups(place.adapter, place.bucket, opened, wanted, columns)

    async def put_stub(self, stub: Stub) -> None:
        """Keep what is known of a segment that can't be read (stub.py). Raises StorageError."""
        place = await self.place("hot")
        path = stub.footer.key.stub_path(place.prefix)
        data = await asyncio.to_thread(stub_bytes, stub)
        if not await place.adapter.put_if_absent(place.bucket, path, data):
            kept = await self.stub(stub.footer.key)
            if kept is None or kept.footer != stub.footer:
                await place.adapter.upload(place.bucket, path, data)

    async def stub(self, key: SegmentKey) -> Stub | None:
        """The stub of an archived segment; None where there is none. Raises SegmentCorrupt, StorageError."""
        place = await self.place("hot")
        path = key.stub_path(place.prefix)
        try:
            data = await place.adapter.download(place.bucket, path)
        except ObjectNotFound:
            return None
        return await asyncio.to_thread(read_stub, data, path)

    async def _footer_in_stub(self, key: SegmentKey) -> SegmentFooter | None:
        """From its first bytes: a stub has some 150 bytes a row."""
        try:
            place = await self.place("hot")
            path = key.stub_path(place.prefix)
            start = await place.adapter.download_range(place.bucket, path, 0, _STUB_START)
            footer = read_stub_footer(start, path)
            if footer is None and (stub := await self.stub(key)) is not None:
                return stub.footer
            return footer
        except ObjectNotFound:
            return None
        except (StorageError, SegmentCorrupt) as error:
            log.warning("stub of an archived segment can't be read", error=str(error))
            return None

    async def put_state(self, of: LogId, end: int, state: bytes, tier: TierName = "hot") -> None:
        """Keep what a shard knows beside its rows as of offset `end`. Whoever was first at this offset stays."""
        place = await self.place(tier)
        await place.adapter.put_if_absent(place.bucket, state_path(of, end, place.prefix), state)

    async def state(self, of: LogId, end: int, tier: TierName = "hot") -> bytes | None:
        """The reverse of put_state(); None where there is none."""
        place = await self.place(tier)
        try:
            return await place.adapter.download(place.bucket, state_path(of, end, place.prefix))
        except ObjectNotFound:
            return None

    async def delete_states(self, paths: Iterable[tuple[TierName, str]]) -> None:
        """(tier, path) as refresh() gives them. Raises StorageError."""
        for tier, path in paths:
            place = await self.place(tier)
            await place.adapter.delete(place.bucket, path)


def _place_settings(settings: StorageSettings, tier: TierName) -> dict[str, object]:
    backend = settings.backend(settings.tiers[tier])
    return backend.model_dump(exclude={"tier", "storage_class", "create_bucket"})


def _tier_of(storage_class: str, sharing: Mapping[TierName, str]) -> TierName:
    """Of tiers in one place (with the class of each, hottest first) the one that an object is in.

    Of a class that none has, as after a restore on Azure, it is the coldest: nothing is deleted or moved for it.
    """
    return next((tier for tier, its in sharing.items() if its == storage_class), tuple(sharing)[-1])
