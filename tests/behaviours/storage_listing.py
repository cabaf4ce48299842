"""Listings: complete, in order, page by page."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, ClassVar

import pytest

from akasha_stream.errors import ObjectPathRefused
from akasha_stream.storage import ObjectInfo, StorageAdapter
from akasha_stream.storage.guarded import GuardedAdapter
from tests.behaviours.storage_fixtures import StorageFixtures, paths, sample


class ListingBehaviour(StorageFixtures):
    pages: ClassVar[int] = 3
    """Of a listing of 250 objects, at 100 a page."""

    async def test_a_listing_of_several_pages_is_ascending(
        self, store: GuardedAdapter[Any], bucket: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if self.pages > 1:
            monkeypatch.setattr(sys.modules[type(store).__module__], "_PAGE", 100)
        asked: list[object] = []
        really_page = store._page

        async def counted(*arguments: Any) -> tuple[Sequence[ObjectInfo], str | None]:
            asked.append(arguments)
            return await really_page(*arguments)

        monkeypatch.setattr(store, "_page", counted)
        wanted = [f"part={number % 7}/{number:05d}" for number in range(250)]
        gate = asyncio.Semaphore(24)

        async def put(path: str) -> None:
            async with gate:
                await store.upload(bucket, path, b"")

        await asyncio.gather(*map(put, wanted))
        assert await paths(store, bucket) == sorted(wanted)
        assert len(asked) == self.pages
        assert await paths(store, bucket, "part=3/") == sorted(each for each in wanted if each.startswith("part=3/"))

    async def test_prefixes_and_order(self, store: StorageAdapter, bucket: str) -> None:
        # "-" < "/" < "0": a folder's content lies between its neighbours of the same beginning.
        wanted = ["a-b", "a/b", "a/b-c/d", "a/bc", "a0", "b/a", "z", "é", "😀"]
        for path in reversed(wanted):
            await store.upload(bucket, path, b"x")
        assert await paths(store, bucket) == wanted
        for prefix in ("a", "a/", "a/b", "a/b-", "b", "b/a", "é", "nothing", "a/b/c/d", "z/"):
            assert await paths(store, bucket, prefix) == [each for each in wanted if each.startswith(prefix)]
        for prefix in ("../", "/", "a//b", "a/../b", "nul\0"):
            with pytest.raises(ObjectPathRefused):
                await paths(store, bucket, prefix)

    async def test_a_listing_tells_what_stat_tells(self, store: StorageAdapter, bucket: str) -> None:
        for number in range(3):
            await store.upload(bucket, f"object-{number}", sample(number))
        listed: list[ObjectInfo] = [info async for info in store.list(bucket)]
        assert [info.size for info in listed] == [0, 1, 2]
        for info in listed:
            stat = await store.stat(bucket, info.path)
            assert stat is not None
            # S3 rounds the time of a HEAD to seconds, and that of a listing to milliseconds.
            assert (stat.etag, stat.size, stat.storage_class) == (info.etag, info.size, info.storage_class)
            assert abs(stat.modified - info.modified) < timedelta(seconds=1)
