"""What every object store does. For a fifth: inherit, and give the fixture `connect`."""

from __future__ import annotations

import asyncio
import itertools
import tracemalloc
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest

from akasha_stream.errors import ObjectChanged, ObjectNotFound, ObjectPathRefused, SettingsError, UsageError
from akasha_stream.storage import LifecycleRule, StorageAdapter
from akasha_stream.storage.guarded import GuardedAdapter
from akasha_stream.storage.parts import PART_BYTES
from tests.behaviours.storage_fixtures import (
    LARGE,
    ODD_PATHS,
    REFUSED_PATHS,
    Connect,
    paths,
    sample,
    unique_bucket,
)
from tests.behaviours.storage_listing import ListingBehaviour


class StorageBehaviour(ListingBehaviour):
    racers: ClassVar[int] = 16

    def test_it_is_a_storage_adapter(self, store: GuardedAdapter[Any]) -> None:
        checked: StorageAdapter = store
        assert isinstance(store, StorageAdapter)
        assert checked.provider
        assert checked.storage_class in store.classes

    # One object.

    @pytest.mark.parametrize("size", [0, 1, 1_000, PART_BYTES, PART_BYTES + 1, LARGE])
    async def test_bytes_come_back_as_they_were(self, store: StorageAdapter, bucket: str, size: int) -> None:
        data = sample(size)
        await store.upload(bucket, "a/object", data)
        assert await store.download(bucket, "a/object") == data
        assert b"".join([chunk async for chunk in store.download_stream(bucket, "a/object")]) == data
        info = await store.stat(bucket, "a/object")
        assert info is not None
        assert (info.path, info.size, info.storage_class) == ("a/object", size, store.storage_class)
        assert abs(datetime.now(UTC) - info.modified) < timedelta(minutes=2)
        assert [info] == [each async for each in store.list(bucket)]

    async def test_a_file_and_a_stream_of_uneven_chunks(
        self, store: StorageAdapter, bucket: str, tmp_path: Path
    ) -> None:
        data = sample(LARGE)
        (tmp_path / "file").write_bytes(data)

        async def chunks() -> AsyncIterator[bytes]:
            at = 0
            for size in itertools.cycle((1, 70_000, 0, 9_000_000)):
                if at >= len(data):
                    return
                yield data[at : at + size]
                at += size

        await store.upload(bucket, "from-file", tmp_path / "file")
        await store.upload(bucket, "from-stream", chunks())
        assert await store.put_if_absent(bucket, "if-absent", tmp_path / "file")
        for path in ("from-file", "from-stream", "if-absent"):
            assert await store.download(bucket, path) == data

    @pytest.mark.slow
    async def test_a_large_object_passes_in_bounded_memory(self, store: StorageAdapter, bucket: str) -> None:
        block = sample(1 << 20)

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(128):
                yield block

        tracemalloc.start()
        try:
            await store.upload(bucket, "large", chunks())
            size = 0
            async for chunk in store.download_stream(bucket, "large"):
                assert chunk[:8] == block[:8]
                size += len(chunk)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert size == 128 << 20
        assert peak < 8 * PART_BYTES, f"{peak / PART_BYTES:.1f} parts"

    async def test_an_upload_replaces(self, store: StorageAdapter, bucket: str) -> None:
        await store.upload(bucket, "object", b"old and longer")
        before = await store.stat(bucket, "object")
        await store.upload(bucket, "object", b"new")
        after = await store.stat(bucket, "object")
        assert await store.download(bucket, "object") == b"new"
        assert before is not None
        assert after is not None
        assert before.etag != after.etag

    async def test_ranges(self, store: StorageAdapter, bucket: str) -> None:
        data = sample(1_000)
        await store.upload(bucket, "object", data)
        for start, length in ((0, 1), (0, 1_000), (10, 90), (999, 1), (990, 500), (0, 5_000)):
            assert await store.download_range(bucket, "object", start, length) == data[start : start + length]
        for start, length in ((1_000, 1), (5_000, 10), (0, 0), (500, 0), (5_000, 0)):
            assert await store.download_range(bucket, "object", start, length) == b""
        for start, length in ((-1, 5), (0, -1)):
            with pytest.raises(UsageError, match="neither may be negative"):
                await store.download_range(bucket, "object", start, length)

    async def test_an_empty_object_has_no_range(self, store: StorageAdapter, bucket: str) -> None:
        await store.upload(bucket, "empty", b"")
        assert await store.exists(bucket, "empty")
        assert await store.download_range(bucket, "empty", 0, 10) == b""

    async def test_a_stream_comes_in_chunks(self, store: StorageAdapter, bucket: str) -> None:
        data = sample(10_500)
        await store.upload(bucket, "object", data)
        chunks = [chunk async for chunk in store.download_stream(bucket, "object", 1_000)]
        assert [len(chunk) for chunk in chunks] == [1_000] * 10 + [500]
        assert b"".join(chunks) == data

    async def test_an_object_replaced_while_it_is_read_is_an_error(self, store: StorageAdapter, bucket: str) -> None:
        await store.upload(bucket, "object", sample(3_000))
        chunks = store.download_stream(bucket, "object", 1_000)
        await anext(chunks)
        await store.upload(bucket, "object", sample(4_000)[1:])
        with pytest.raises(ObjectChanged, match="object"):
            await anext(chunks)

    async def test_what_is_not_there(self, store: StorageAdapter, bucket: str) -> None:
        assert not await store.exists(bucket, "no/such")
        assert await store.stat(bucket, "no/such") is None
        for length in (0, 1):
            with pytest.raises(ObjectNotFound, match="no/such"):
                await store.download_range(bucket, "no/such", 0, length)
        with pytest.raises(ObjectNotFound, match="no/such"):
            await store.download(bucket, "no/such")
        with pytest.raises(ObjectNotFound, match="no/such"):
            await anext(store.download_stream(bucket, "no/such"))
        with pytest.raises(ObjectNotFound, match="no/such"):
            await store.restore_state(bucket, "no/such")
        assert await paths(store, bucket) == []

    async def test_a_bucket_that_is_not_there(self, store: StorageAdapter) -> None:
        missing = unique_bucket()
        assert not await store.exists(missing, "object")
        for attempt in (
            store.upload(missing, "object", b"x"),
            store.put_if_absent(missing, "object", b"x"),
            store.download(missing, "object"),
            paths(store, missing),
        ):
            with pytest.raises(ObjectNotFound, match=missing):
                await attempt

    async def test_delete(self, store: StorageAdapter, bucket: str) -> None:
        await store.upload(bucket, "a/object", b"x")
        await store.upload(bucket, "a/other", b"x")
        for _ in range(2):
            await store.delete(bucket, "a/object")
        assert not await store.exists(bucket, "a/object")
        assert await paths(store, bucket) == ["a/other"]
        await store.delete(bucket, "a")  # a "folder" is no object
        assert await store.exists(bucket, "a/other")

    # Paths.

    async def test_odd_paths_come_back_as_they_were(self, store: StorageAdapter, bucket: str) -> None:
        for path in ODD_PATHS:
            await store.upload(bucket, path, path.encode())
        assert await paths(store, bucket) == sorted(ODD_PATHS, key=str.encode)
        for path in ODD_PATHS:
            assert await store.download(bucket, path) == path.encode()
            assert await paths(store, bucket, path) == [path]
            await store.delete(bucket, path)
        assert await paths(store, bucket) == []

    @pytest.mark.parametrize("path", REFUSED_PATHS, ids=range(len(REFUSED_PATHS)))
    async def test_other_paths_are_refused(self, store: StorageAdapter, bucket: str, path: str) -> None:
        for attempt in (
            store.upload(bucket, path, b"x"),
            store.put_if_absent(bucket, path, b"x"),
            store.download(bucket, path),
            store.download_range(bucket, path, 0, 1),
            store.delete(bucket, path),
            store.exists(bucket, path),
            store.restore_state(bucket, path),
        ):
            with pytest.raises(ObjectPathRefused):
                await attempt
        assert await paths(store, bucket) == []

    @pytest.mark.parametrize(
        "name", ["", "ab", "Upper", "under_score", "../x", "a/b", ".incoming", "1.2.3.4", "x" * 64]
    )
    async def test_other_bucket_names_are_refused(self, store: StorageAdapter, name: str) -> None:
        for attempt in (store.ensure_bucket(name), store.upload(name, "object", b"x"), paths(store, name)):
            with pytest.raises(ObjectPathRefused, match="bucket"):
                await attempt

    # Create if absent.

    async def test_put_if_absent(self, store: StorageAdapter, bucket: str) -> None:
        assert await store.put_if_absent(bucket, "object", b"first") is True
        assert await store.put_if_absent(bucket, "object", b"second") is False
        assert await store.put_if_absent(bucket, "object", b"first") is False  # the same bytes are another's too
        assert await store.download(bucket, "object") == b"first"
        await store.delete(bucket, "object")
        assert await store.put_if_absent(bucket, "object", b"third") is True
        assert await store.download(bucket, "object") == b"third"

    async def test_put_if_absent_of_a_large_object(self, store: StorageAdapter, bucket: str) -> None:
        data = sample(LARGE)
        assert await store.put_if_absent(bucket, "object", data) is True
        assert await store.put_if_absent(bucket, "object", data[1:]) is False
        assert await store.download(bucket, "object") == data

    async def test_of_several_at_once_one_creates(self, open_store: Connect, bucket: str) -> None:
        stores = [open_store(bucket) for _ in range(4)]
        for turn in range(2):
            told = await asyncio.gather(
                *(stores[n % 4].put_if_absent(bucket, f"race-{turn}", b"writer %d" % n) for n in range(self.racers))
            )
            assert sum(told) == 1
            assert await stores[0].download(bucket, f"race-{turn}") == b"writer %d" % told.index(True)

    async def test_of_several_large_ones_at_once_one_creates(self, open_store: Connect, bucket: str) -> None:
        bodies = [bytes([n]) * (PART_BYTES + 10) for n in range(4)]
        stores = [open_store(bucket) for _ in bodies]
        told = await asyncio.gather(
            *(store.put_if_absent(bucket, "race", body) for store, body in zip(stores, bodies, strict=True))
        )
        assert sum(told) == 1
        assert await stores[0].download(bucket, "race") == bodies[told.index(True)]

    # Cancellation.

    @pytest.mark.parametrize("conditional", [False, True])
    async def test_a_cancelled_upload_leaves_nothing(
        self, store: StorageAdapter, bucket: str, conditional: bool
    ) -> None:
        going_on = asyncio.Event()

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(3):
                yield bytes(PART_BYTES)
            going_on.set()
            await asyncio.sleep(60)

        put = store.put_if_absent if conditional else store.upload
        uploading = asyncio.ensure_future(put(bucket, "object", chunks()))
        await going_on.wait()
        uploading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await uploading
        assert await paths(store, bucket) == []
        assert not await store.exists(bucket, "object")

    async def test_a_source_that_fails_leaves_nothing(self, store: StorageAdapter, bucket: str) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            yield bytes(PART_BYTES * 2 + 1)
            raise ValueError("the source broke")

        await store.upload(bucket, "object", b"old")
        with pytest.raises(ValueError, match="the source broke"):
            await store.upload(bucket, "object", chunks())
        assert await store.download(bucket, "object") == b"old"

    # The adapter itself.

    async def test_several_inits_at_once_open_one_client(
        self, store: GuardedAdapter[Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        opened, really_open = [], store._open

        async def counted() -> object:
            opened.append(1)
            await asyncio.sleep(0.01)
            return await really_open()

        monkeypatch.setattr(store, "_open", counted)
        await asyncio.gather(*(store.init() for _ in range(8)), store.health())
        await store.init()
        assert len(opened) == 1

    async def test_after_cleanup_it_opens_again(self, store: StorageAdapter, bucket: str) -> None:
        await store.cleanup()
        await store.upload(bucket, "object", b"x")
        for _ in range(2):
            await store.cleanup()
        assert await store.download(bucket, "object") == b"x"

    async def test_health(self, open_store: Connect, store: StorageAdapter, bucket: str) -> None:
        assert await store.health() is True
        assert await open_store(unique_bucket()).health() is False

    async def test_init_where_there_is_no_bucket_yet(self, open_store: Connect) -> None:
        name = unique_bucket()
        store = open_store(name)
        await store.init()
        await asyncio.gather(*(store.ensure_bucket(name) for _ in range(4)))
        await store.ensure_bucket(name)
        assert await store.health() is True

    def test_an_unknown_class_or_tier_is_a_wrong_setting(self, connect: Connect) -> None:
        with pytest.raises(SettingsError, match="no storage class 'LUKEWARM': it has"):
            connect("bucket", storage_class="LUKEWARM")
        with pytest.raises(SettingsError, match="tier is 'tepid'"):
            connect("bucket", tier="tepid")

    # Storage classes: what holds also where there is one class only. The rest: storage_archive.py.

    async def test_an_object_of_the_hot_tier_is_available(self, store: StorageAdapter, bucket: str) -> None:
        await store.upload(bucket, "object", b"x")
        state = await store.restore_state(bucket, "object")
        assert state.status == "available"
        assert state.readable
        await store.restore(bucket, "object", 3)
        assert await store.restore_state(bucket, "object") == state
        await store.set_storage_class(bucket, "object", store.storage_class)
        assert await store.download(bucket, "object") == b"x"
        with pytest.raises(ObjectNotFound):
            await store.set_storage_class(bucket, "no/such", store.storage_class)
        with pytest.raises(SettingsError, match="no storage class 'LUKEWARM'"):
            await store.set_storage_class(bucket, "object", "LUKEWARM")

    async def test_lifecycle_rules_where_there_are_none_to_set(self, store: StorageAdapter, bucket: str) -> None:
        if store.lifecycle_supported:
            return
        with pytest.raises(UsageError, match="tier policy"):
            await store.apply_lifecycle(bucket, [LifecycleRule("a/", 3, expire=True)])
        with pytest.raises(UsageError, match="tier policy"):
            await store.lifecycle(bucket)
