"""What the commands about stored segments share: opening the tiers, and choosing segments."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from akasha_stream.cli.times import parse_time
from akasha_stream.errors import SettingsError, StorageUnavailable, UsageError
from akasha_stream.tiers.folder import footers_folder, tiers_folder

if TYPE_CHECKING:
    from akasha_stream.cli.context import Output
    from akasha_stream.settings import Settings
    from akasha_stream.tiers.access import AccessRecord
    from akasha_stream.tiers.catalog import Catalog
    from akasha_stream.tiers.segment_store import SegmentStore
    from akasha_stream.tiers.stored_segment import StoredSegment


@asynccontextmanager
async def tier_store(configured: Settings, *, topic: str | None, out: Output) -> AsyncIterator[SegmentStore]:
    """The tiers of settings/akasha-storage.yml with their catalog; what could not be read is noted on stderr.

    Raises:
        SettingsError: no tier has a backend.
        StorageUnavailable: none can be read.
    """
    from akasha_stream.storage import StorageSettings, StorageTiers
    from akasha_stream.tiers.segment_store import SegmentStore

    storage = StorageSettings.load(environment=configured.environment)
    if not storage.tiers:
        raise SettingsError("storage.tiers: no tier has a backend; name one in settings/akasha-storage.yml")
    async with StorageTiers(storage) as tiers:
        store = SegmentStore(tiers, cache_dir=footers_folder(configured))
        await store.load(topic)
        if len(store.unreachable) == len(store.configured):
            raise StorageUnavailable("; ".join(f"tier {tier}: {why}" for tier, why in store.unreachable.items()))
        for problem in problems(store):
            out.note(problem)
        yield store


def problems(store: SegmentStore) -> list[str]:
    """Why what is known of the segments is not all, in words; empty: it is."""
    found = [f"the list is partial: tier {tier} can't be read: {why}" for tier, why in store.unreachable.items()]
    found += [f"damaged, and left out: tier {tier}: {why}" for (tier, _), why in store.corrupt.items()]
    found += [
        f"left out: tier {tier}: {path} is archived and has no stub; `tiers restore --all` makes it readable"
        for tier, path in store.archived
    ]
    return found + [str(problem) for problem in store.catalog.problems]


def access_record(configured: Settings) -> AccessRecord:
    """What the worker on this machine has counted, as of its last write; empty where none did."""
    from akasha_stream.tiers.access import FILE, AccessRecord

    return AccessRecord(configured.tier_policy.keep_searches, tiers_folder(configured) / FILE)


def choose(
    catalog: Catalog,
    names: Sequence[str] | None = None,
    systems: Sequence[str] | None = None,
    since: str | None = None,
    until: str | None = None,
) -> list[StoredSegment]:
    """Current segments, each as the object that stays; by name, or by what is in them.

    A name is what `tiers list --by segment` prints (partition:start-end), or a path. Raises UsageError.
    """
    from akasha_stream.tiers.copies import segments_of

    every = segments_of(catalog)
    if names:
        return [_named(every, name) for name in names]
    bounds = [None if each is None else int(parse_time(each).timestamp() * 1e6) for each in (since, until)]
    keys = {segment.key for segment in catalog.prune(systems or None, *bounds)}
    return [segment for segment in every if segment.key in keys]


def _named(segments: Sequence[StoredSegment], name: str) -> StoredSegment:
    found = [each for each in segments if name in (each.path, each.key.path(), each.key.short)]
    match found:
        case [one]:
            return one
        case []:
            raise UsageError(f"no segment {name!r}; `akasha-stream tiers list --by segment` shows them")
        case _:
            paths = ", ".join(each.path for each in found)
            raise UsageError(f"{name!r} is a segment of several logs: give one of {paths}")
