"""Storage classes and restoring, where a store has an archive."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest

from akasha_stream.errors import ObjectArchived, UsageError
from akasha_stream.storage import StorageAdapter
from akasha_stream.storage.guarded import GuardedAdapter
from tests.behaviours.storage_fixtures import LARGE, Connect, StorageFixtures, sample


class ArchiveBehaviour(StorageFixtures):
    restore_expires: ClassVar[bool] = True
    """Whether an object goes back to the archive after its days."""

    @pytest.mark.parametrize("size", [100, pytest.param(LARGE, marks=pytest.mark.slow)])
    async def test_new_objects_get_the_class_of_the_tier(self, open_store: Connect, bucket: str, size: int) -> None:
        for tier in ("hot", "warm"):
            classes = open_store(bucket).tier_classes
            store = open_store(bucket, tier=tier, storage_class=classes[tier])
            for path, put in (("uploaded", store.upload), ("created", store.put_if_absent)):
                await put(bucket, f"{tier}/{path}", sample(size))
                info = await store.stat(bucket, f"{tier}/{path}")
                assert info is not None
                assert info.storage_class == classes[tier]
                assert await store.download(bucket, f"{tier}/{path}") == sample(size)

    async def test_an_object_changes_its_class_where_it_stands(self, store: GuardedAdapter[Any], bucket: str) -> None:
        await store.put_if_absent(bucket, "object", b"bytes")
        for tier in ("warm", "hot", "warm", "warm"):
            await store.set_storage_class(bucket, "object", store.tier_classes[tier])
            info = await store.stat(bucket, "object")
            assert info is not None
            assert info.storage_class == store.tier_classes[tier]
            assert await store.download(bucket, "object") == b"bytes"
        assert await store.put_if_absent(bucket, "object", b"bytes") is False

    async def test_an_archived_object_is_read_after_its_restore(self, store: GuardedAdapter[Any], bucket: str) -> None:
        await store.upload(bucket, "object", b"bytes")
        await store.set_storage_class(bucket, "object", store.tier_classes["cold"])
        assert (await store.restore_state(bucket, "object")).status == "archived"
        assert await store.exists(bucket, "object")
        for attempt in (
            store.download(bucket, "object"),
            store.download_range(bucket, "object", 0, 2),
            anext(store.download_stream(bucket, "object")),
        ):
            with pytest.raises(ObjectArchived, match="object"):
                await attempt
        for _ in range(2):
            await store.restore(bucket, "object", 3)
        state = await store.restore_state(bucket, "object")
        assert state.readable
        if self.restore_expires:
            assert state.status == "restored"
            assert state.expires is not None
            assert timedelta(days=2) < state.expires - datetime.now(UTC) < timedelta(days=5)
        assert await store.download(bucket, "object") == b"bytes"
        with pytest.raises(UsageError, match="days is 0"):
            await store.restore(bucket, "object", 0)

    async def test_an_object_born_in_the_archive(self, open_store: Connect, bucket: str) -> None:
        cold = open_store(bucket).tier_classes["cold"]
        store: StorageAdapter = open_store(bucket, tier="cold", storage_class=cold)
        assert await store.put_if_absent(bucket, "object", b"bytes") is True
        assert await store.put_if_absent(bucket, "object", b"other") is False
        assert (await store.restore_state(bucket, "object")).status == "archived"
        with pytest.raises(ObjectArchived):
            await store.download(bucket, "object")
