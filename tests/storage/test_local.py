"""The behaviours, on a folder."""

from __future__ import annotations

import asyncio
import errno
import os
import time
from pathlib import Path
from typing import Any

import pytest

from akasha_stream.errors import (
    SettingsError,
    StorageCircuitOpen,
    StorageDenied,
    StorageError,
    StorageFull,
    StorageRefused,
    StorageUnavailable,
)
from akasha_stream.storage.breaker import CircuitBreaker
from akasha_stream.storage.guarded import GuardedAdapter
from akasha_stream.storage.local_adapter import LocalStorageAdapter
from tests.behaviours.storage import StorageBehaviour
from tests.behaviours.storage_fixtures import Connect, paths


class TestLocal(StorageBehaviour):
    pages = 1

    @pytest.fixture
    def connect(self, tmp_path: Path) -> Connect:
        def connect(bucket: str, **options: Any) -> GuardedAdapter[Any]:
            return LocalStorageAdapter(bucket, tmp_path / "objects", **options)

        return connect

    async def test_an_object_is_a_file_and_nothing_else_stays(
        self, store: LocalStorageAdapter, bucket: str, tmp_path: Path
    ) -> None:
        await store.upload(bucket, "a/b/object", b"bytes")
        assert (tmp_path / "objects" / bucket / "a/b/object").read_bytes() == b"bytes"
        assert not await store.put_if_absent(bucket, "a/b/object", b"other")
        assert list((tmp_path / "objects/.incoming").iterdir()) == []
        await store.delete(bucket, "a/b/object")
        assert list((tmp_path / "objects" / bucket).iterdir()) == []

    async def test_it_opens_while_another_process_writes(
        self, open_store: Connect, bucket: str, tmp_path: Path
    ) -> None:
        """A file that was listed is gone when it is looked at: so is what a link to nothing leads to."""
        incoming = tmp_path / "objects/.incoming"
        incoming.mkdir(parents=True, exist_ok=True)
        (incoming / "gone").symlink_to(incoming / "nothing")
        store = open_store(bucket)
        await store.upload(bucket, "object", b"bytes")
        assert await store.download(bucket, "object") == b"bytes"

    async def test_a_path_can_not_be_the_start_of_another(self, store: LocalStorageAdapter, bucket: str) -> None:
        await store.upload(bucket, "a/b", b"x")
        for attempt in (
            store.upload(bucket, "a", b"y"),
            store.put_if_absent(bucket, "a", b"y"),
            store.upload(bucket, "a/b/c", b"y"),
            store.put_if_absent(bucket, "a/b/c", b"y"),
        ):
            with pytest.raises(StorageRefused, match="can't be the start of another's"):
                await attempt
        assert not await store.exists(bucket, "a/b/c")
        await store.delete(bucket, "a/b/c")
        assert await paths(store, bucket) == ["a/b"]

    async def test_a_link_does_not_lead_out_of_the_bucket(
        self, store: LocalStorageAdapter, bucket: str, tmp_path: Path
    ) -> None:
        (tmp_path / "outside").mkdir()
        (tmp_path / "outside/secret").write_text("secret")
        folder = tmp_path / "objects" / bucket
        (folder / "link").symlink_to(tmp_path / "outside")
        (folder / "file").symlink_to(tmp_path / "outside/secret")
        for path in ("link/secret", "file"):
            for attempt in (store.download(bucket, path), store.upload(bucket, path, b"x"), store.delete(bucket, path)):
                with pytest.raises(StorageDenied, match="leads out of the bucket"):
                    await attempt
        assert await paths(store, bucket) == []
        assert (tmp_path / "outside/secret").read_text() == "secret"

    @pytest.mark.parametrize(
        ("number", "kind"),
        [
            (errno.ENOSPC, StorageFull),
            (errno.EDQUOT, StorageFull),
            (errno.EROFS, StorageDenied),
            (errno.EIO, StorageUnavailable),
        ],
    )
    async def test_what_a_disk_says(
        self,
        store: LocalStorageAdapter,
        bucket: str,
        monkeypatch: pytest.MonkeyPatch,
        number: int,
        kind: type[StorageError],
    ) -> None:
        def fail(descriptor: int) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(kind, match=os.strerror(number)) as caught:
            await store.upload(bucket, "object", b"x")
        assert caught.value.retriable is (kind is not StorageDenied)
        monkeypatch.undo()
        assert await paths(store, bucket) == []

    async def test_a_broken_disk_is_left_alone_for_a_while(
        self, open_store: Connect, bucket: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = open_store(bucket, breaker=CircuitBreaker("the disk", failures=2))
        await store.upload(bucket, "object", b"x")

        def fail(descriptor: int) -> None:
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(StorageCircuitOpen, match="Input/output error"):
            await store.upload(bucket, "object", b"y")

    async def test_what_a_killed_process_left_is_removed(self, connect: Connect, bucket: str, tmp_path: Path) -> None:
        left, fresh = tmp_path / "objects/.incoming/left", tmp_path / "objects/.incoming/fresh"
        left.write_bytes(b"half")
        fresh.write_bytes(b"being written by another process")
        os.utime(left, (time.time() - 90_000,) * 2)
        await connect(bucket).init()
        assert not left.exists()
        assert fresh.exists()

    async def test_puts_and_deletes_in_one_folder_do_not_disturb_each_other(
        self, store: LocalStorageAdapter, bucket: str
    ) -> None:
        async def churn(number: int) -> None:
            for _ in range(30):
                await store.upload(bucket, f"folder/deep/{number}", b"x")
                await store.delete(bucket, f"folder/deep/{number}")

        await asyncio.gather(*map(churn, range(4)))
        assert await paths(store, bucket) == []


async def test_a_root_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="can't hold objects"):
        await LocalStorageAdapter("bucket", tmp_path / "file").init()
