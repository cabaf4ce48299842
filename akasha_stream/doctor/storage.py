"""The object stores: what a worker does with a segment, done with a small object that is removed again."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import TYPE_CHECKING

from akasha_stream.doctor.finding import Findings
from akasha_stream.errors import (
    AkashaError,
    BucketNotFound,
    ObjectArchived,
    SettingsError,
    StorageDenied,
    StorageError,
    StorageUnavailable,
)
from akasha_stream.storage.create import open_adapter
from akasha_stream.storage.settings import StorageSettings, TierName, TierPlace

if TYPE_CHECKING:
    from akasha_stream.storage.adapter import StorageAdapter

FOLDER = "_doctor/"
"""No segment's key begins so."""
TIER_S = 45.0


async def check_storage(found: Findings, environment: str) -> None:
    try:
        settings = StorageSettings.load(environment=environment)
    except SettingsError as error:
        found.fail(
            "settings", str(error), "correct akasha-storage.yml; akasha-stream config check tells when it is right"
        )
        return
    if not settings.tiers:
        found.fail("settings", "no tier has a backend", "name one for storage.tiers.hot in akasha-storage.yml")
        return
    parts = [Findings(found.area) for _ in settings.tiers]
    await asyncio.gather(*(_tier(part, settings, tier) for part, tier in zip(parts, settings.tiers, strict=True)))
    for part in parts:
        found.found.extend(part.found)


async def _tier(found: Findings, settings: StorageSettings, tier: TierName) -> None:
    try:
        place = settings.tier(tier)
        # Not through Oneiric, whose bridge says that a health check failed, and not why.
        adapter = await open_adapter(settings.backend(place.backend))
    except (SettingsError, StorageError) as error:
        backend = settings.tiers[tier]
        found.fail(f"{tier} open", str(error), f"correct {backend} in akasha-storage.yml, or what it needs")
        return
    try:
        async with asyncio.timeout(TIER_S):
            await _exercise(found, adapter, place)
    except TimeoutError:
        where = f"{place.provider}://{place.bucket}"
        found.fail(
            f"{tier} time", f"{where}: not done after {TIER_S:g} s", "see whether its address is right, and it runs"
        )
    finally:
        await adapter.cleanup()


async def _exercise(found: Findings, adapter: StorageAdapter, place: TierPlace) -> None:
    """put, conditional put, read, read a range, list, delete. Raises what fails."""
    where = f"{place.provider}://{place.bucket}/{place.prefix}"
    path = f"{place.prefix}{FOLDER}{uuid.uuid4().hex}"
    data, other = b"akasha-stream doctor", b"somebody else's"
    step = "put"
    started = time.perf_counter()
    try:
        created = await adapter.put_if_absent(place.bucket, path, data)
        try:
            step = "conditional put"
            again = await adapter.put_if_absent(place.bucket, path, other)
            if not created or again:
                found.fail(
                    f"{place.tier} once",
                    f"{where}: a conditional put replaced an object that was there",
                    "two workers could overwrite each other: use a store that has conditional writes (If-None-Match)",
                )
            else:
                found.ok(f"{place.tier} once", "a second conditional put is refused, as it must be")
            step = "get"
            archived = await _read(adapter, place, path, data)
            step = "list"
            listed = [each.path async for each in adapter.list(place.bucket, f"{place.prefix}{FOLDER}")]
            if path not in listed:
                found.warn(
                    f"{place.tier} list",
                    f"{where}: an object that was just put is not listed",
                    "the catalog is rebuilt by listing: use a store that lists what it has",
                )
        finally:
            step = "delete" if step == "list" else step
            await adapter.delete(place.bucket, path)
    except AkashaError as error:
        found.fail(f"{place.tier} {step}", str(error), _advice(error, place))
        return
    took_ms = (time.perf_counter() - started) * 1e3
    reading = "put, list and delete (an archive class: reading waits for a restore)" if archived else (
        "put, get, range, list and delete"
    )  # fmt: skip
    found.ok(f"{place.tier} use", f"{where}: {reading} work, {took_ms:.0f} ms in all")


async def _read(adapter: StorageAdapter, place: TierPlace, path: str, data: bytes) -> bool:
    """Whether the object is archived, and so can't be read at once. Raises StorageError."""
    try:
        whole = await adapter.download(place.bucket, path)
        part = await adapter.download_range(place.bucket, path, 7, 6)
    except ObjectArchived:
        return True
    if whole != data or part != data[7:13]:
        raise StorageError(f"{place.bucket}/{path}: what was read is not what was written")
    return False


def _advice(error: AkashaError, place: TierPlace) -> str:
    match error:
        case BucketNotFound():
            return f"create the bucket {place.bucket}, or set create_bucket: true of {place.backend}"
        case StorageDenied():
            return f"give the credentials of {place.backend} the right to get, put, list and delete in {place.bucket}"
        case StorageUnavailable():
            return f"see whether the store of {place.backend} runs, and its address and region are right"
        case SettingsError():
            return f"correct {place.backend} in akasha-storage.yml"
        case _:
            return f"see what the message says of {place.backend}"
