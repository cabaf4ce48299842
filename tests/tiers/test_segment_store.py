"""All tiers together, on folders."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from akasha_stream.errors import SegmentTaken
from akasha_stream.storage import StorageSettings, StorageTiers
from akasha_stream.storage.settings import TIERS, LocalBackend
from akasha_stream.tiers.rebuild import Rebuilt, rebuild
from akasha_stream.tiers.segment_store import SegmentStore
from tests.tiers.segments import LOG, Change, spilled


def local_settings(root: Path) -> StorageSettings:
    backends = {tier: LocalBackend(bucket_name=tier, root=root, tier=tier, prefix="akasha/") for tier in TIERS}
    return StorageSettings(backends=backends, tiers={tier: tier for tier in TIERS})


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SegmentStore]:
    async with StorageTiers(local_settings(tmp_path / "objects")) as tiers:
        yield SegmentStore(tiers, cache_dir=tmp_path / "cache")


FIRST = spilled([Change(0, 0, "a", "1", "one")], 0, 10)
SECOND = spilled([Change(10, 0, "a", "2", "two")], 10, 20)


async def test_what_was_put_is_in_the_catalog_and_found_again(store: SegmentStore) -> None:
    stored = [await store.put(FIRST), await store.put(SECOND, "warm")]
    assert store.catalog.current(LOG) == tuple(stored)
    again = SegmentStore(store.tiers, cache_dir=store._cache_dir)
    await again.load(LOG.topic)
    assert again.catalog.current(LOG) == tuple(stored)
    assert (await again.read(stored[1], ["content"])).to_pydict() == {"content": ["two"]}
    await again.load("another topic")
    assert again.catalog.current(LOG) == ()


async def test_a_put_made_twice_is_one_segment(store: SegmentStore) -> None:
    first = await store.put(FIRST)
    assert await store.put(FIRST) == first


async def test_a_key_that_another_has_with_other_rows_is_refused(store: SegmentStore) -> None:
    await store.put(FIRST)
    other = spilled([Change(0, 0, "a", "1", "one"), Change(1, 0, "b", "1", "x")], 0, 10)
    with pytest.raises(SegmentTaken, match="stored 1 rows under this key, and this one has 2"):
        await store.put(other)


async def test_a_tier_that_cannot_be_read_keeps_what_was_known_and_is_named(
    store: SegmentStore, tmp_path: Path
) -> None:
    stored = [await store.put(FIRST), await store.put(SECOND, "warm")]
    warm = tmp_path / "objects" / "warm"
    shutil.move(warm, tmp_path / "away")
    warm.write_text("no folder")
    await store.load()
    assert store.catalog.current(LOG) == tuple(stored)
    assert list(store.unreachable) == ["warm"]
    warm.unlink()
    shutil.move(tmp_path / "away", warm)
    await store.load()
    assert store.unreachable == {}


async def test_a_damaged_segment_is_named_and_the_rest_is_there(store: SegmentStore, tmp_path: Path) -> None:
    first, second = await store.put(FIRST), await store.put(SECOND)
    path = tmp_path / "objects" / "hot" / second.path
    path.write_bytes(path.read_bytes()[:-20])
    await store.load()
    assert store.catalog.current(LOG) == (first,)
    assert list(store.corrupt) == [second.place]
    assert second.path in store.corrupt[second.place]


async def test_deleted_twice(store: SegmentStore) -> None:
    first = await store.put(FIRST)
    await store.delete([first])
    await store.delete([first])
    await store.load()
    assert len(store.catalog) == 0


async def test_a_state_stays_as_the_first_one_put_it(store: SegmentStore) -> None:
    assert await store.state(LOG, 10) is None
    await store.put_state(LOG, 10, b"first")
    await store.put_state(LOG, 10, b"second")
    assert await store.state(LOG, 10) == b"first"
    assert await store.state(replace(LOG, partition=9), 10) is None
    await store.delete_states(await store.refresh(LOG))
    assert await store.state(LOG, 10) is None


async def test_what_is_put_and_deleted_while_it_loads_is_not_lost(
    store: SegmentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The listing is of before; a spill and a clean-up go on meanwhile."""
    first = await store.put(FIRST)

    async def rebuild_slowly(*given: Any, **more: Any) -> Rebuilt:
        found = await rebuild(*given, **more)
        if more["tier"] == "hot":
            await store.put(SECOND)
            await store.delete([first])
        return found

    monkeypatch.setattr("akasha_stream.tiers.segment_store.rebuild", rebuild_slowly)
    await store.load()
    assert [segment.footer for segment in store.catalog.segments] == [SECOND.footer]
