from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from akasha_stream.errors import ObjectArchived, ObjectNotFound, StorageUnavailable
from akasha_stream.storage.guarded import GuardedAdapter
from akasha_stream.storage.local_adapter import LocalStorageAdapter
from akasha_stream.storage.s3_adapter import S3StorageAdapter
from akasha_stream.tiers.footer_cache import FooterCache
from akasha_stream.tiers.keys import SegmentKey
from akasha_stream.tiers.rebuild import Rebuilt, rebuild
from akasha_stream.tiers.tiling import Gap
from tests.tiers.segments import LOG, Change, spilled

if TYPE_CHECKING:
    from akasha_stream.embedded import SeaweedServer

BUCKET = "catalog-segments"
PREFIX = "spilled"
OTHER = replace(LOG, partition=0, topic="a topic/with ~ all+sorts%2F…")


async def fill(adapter: GuardedAdapter[Any]) -> dict[str, bytes]:
    await adapter.ensure_bucket(BUCKET)
    stored = {}
    for log in (LOG, OTHER):
        for start in range(0, 50, 10):
            segment = spilled([Change(start, 0, "a", str(start), "x")], start, start + 10, log=log)
            stored[segment.footer.key.path(PREFIX)] = segment.data
    for path, data in stored.items():
        assert await adapter.put_if_absent(BUCKET, path, data)
    return stored


class RebuildBehaviour:
    """For any store."""

    async def test_rebuilt_from_listing_and_footers(self, adapter: GuardedAdapter[Any]) -> None:
        stored = await fill(adapter)
        found = await rebuild(adapter, BUCKET, PREFIX)
        assert {s.path for s in found.catalog.segments} == set(stored)
        assert (found.corrupt, found.foreign, found.archived, found.catalog.problems) == ({}, [], [], ())
        assert (found.catalog.end(LOG), found.catalog.end(OTHER), found.footers_read) == (50, 50, 10)
        assert {s.path: s.size for s in found.catalog.segments} == {path: len(data) for path, data in stored.items()}

    async def test_a_corrupt_object_is_named_and_the_rest_is_there(self, adapter: GuardedAdapter[Any]) -> None:
        await fill(adapter)
        cut, renamed = (SegmentKey(LOG, *r).path(PREFIX) for r in ((20, 30), (40, 60)))
        await adapter.upload(BUCKET, cut, b"PAR1 and no more")
        await adapter.upload(BUCKET, renamed, spilled([], 40, 50).data)
        await adapter.upload(BUCKET, f"{PREFIX}/notes.txt", b"not ours")
        try:
            found = await rebuild(adapter, BUCKET, PREFIX)
        finally:
            await adapter.delete(BUCKET, renamed)
            await adapter.delete(BUCKET, f"{PREFIX}/notes.txt")
            await adapter.delete(BUCKET, cut)
        assert set(found.corrupt) == {cut, renamed}
        assert all(path in why for path, why in found.corrupt.items())
        assert found.foreign == [f"{PREFIX}/notes.txt"]
        assert found.catalog.problems == (Gap(LOG, 20, 30),)
        assert len(found.catalog) == 9


class TestLocal(RebuildBehaviour):
    @pytest.fixture
    def adapter(self, tmp_path: Path) -> GuardedAdapter[Any]:
        return LocalStorageAdapter(BUCKET, tmp_path / "objects")


class TestSeaweedFS(RebuildBehaviour):
    @pytest.fixture
    async def adapter(self, seaweedfs: SeaweedServer) -> AsyncIterator[GuardedAdapter[Any]]:
        adapter = S3StorageAdapter(
            BUCKET,
            endpoint_url=seaweedfs.endpoint_url,
            access_key_id=SecretStr(seaweedfs.access_key_id),
            secret_access_key=SecretStr(seaweedfs.secret_access_key),
        )
        await adapter.ensure_bucket(BUCKET)
        yield adapter
        async for each in adapter.list(BUCKET):
            await adapter.delete(BUCKET, each.path)
        await adapter.cleanup()


class Troubled(LocalStorageAdapter):
    """Fails when one path is read."""

    def __init__(self, root: Path, error: Exception, path: str) -> None:
        super().__init__(BUCKET, root)
        self.error = error
        self.path = path

    async def download_range(self, bucket: str, path: str, start: int, length: int) -> bytes:
        if path == self.path:
            raise self.error
        return await super().download_range(bucket, path, start, length)


LAST = SegmentKey(LOG, 40, 50).path(PREFIX)


async def rebuilt_with(error: Exception, tmp_path: Path) -> Rebuilt:
    adapter = Troubled(tmp_path, error, LAST)
    await fill(adapter)
    return await rebuild(adapter, BUCKET, PREFIX, concurrency=2)


async def test_an_object_deleted_meanwhile_was_not_there(tmp_path: Path) -> None:
    found = await rebuilt_with(ObjectNotFound("gone"), tmp_path)
    assert (len(found.catalog), found.corrupt, found.catalog.end(LOG)) == (9, {}, 40)


async def test_an_archived_object_is_reported(tmp_path: Path) -> None:
    assert (await rebuilt_with(ObjectArchived("deep"), tmp_path)).archived == [LAST]


async def test_a_store_that_fails_gives_no_half_catalog(tmp_path: Path) -> None:
    with pytest.raises(StorageUnavailable, match="later"):
        await rebuilt_with(StorageUnavailable("later"), tmp_path)


class TestCache:
    async def test_what_has_not_changed_is_not_read_again(self, tmp_path: Path) -> None:
        adapter, file = LocalStorageAdapter(BUCKET, tmp_path / "objects"), tmp_path / "cache" / "footers.json"
        await fill(adapter)
        first = await rebuild(adapter, BUCKET, PREFIX, cache=FooterCache(file, "here"))
        again = await rebuild(adapter, BUCKET, PREFIX, cache=FooterCache(file, "here"))
        assert (first.footers_read, again.footers_read) == (10, 0)
        assert again.catalog.segments == first.catalog.segments
        await adapter.upload(BUCKET, LAST, spilled([Change(41, 0, "new", "1", "longer")], 40, 50).data)
        changed = await rebuild(adapter, BUCKET, PREFIX, cache=FooterCache(file, "here"))
        assert changed.footers_read == 1
        assert [s.path for s in changed.catalog.prune(["new"])] == [LAST]

    @pytest.mark.parametrize("damage", ["deleted", "cut", "other format", "other place"])
    async def test_it_is_only_a_cache(self, tmp_path: Path, damage: str) -> None:
        adapter, file = LocalStorageAdapter(BUCKET, tmp_path / "objects"), tmp_path / "footers.json"
        await fill(adapter)
        first = await rebuild(adapter, BUCKET, PREFIX, cache=FooterCache(file, "here"))
        text = file.read_text()
        match damage:
            case "deleted":
                file.unlink()
            case "cut":
                file.write_text(text[: len(text) // 2])
            case "other format":
                file.write_text(text.replace('"format":1', '"format":2', 1))
            case _:
                file.write_text(text.replace('"here"', '"there"', 1))
        again = await rebuild(adapter, BUCKET, PREFIX, cache=FooterCache(file, "here"))
        assert again.footers_read == 10
        assert again.catalog.segments == first.catalog.segments
        assert file.read_text() == text
