"""What may be deleted, decided from the catalog alone, and done beside others."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from akasha_stream.errors import StorageUnavailable
from akasha_stream.settings import TierPolicy
from akasha_stream.storage import StorageSettings, StorageTiers
from akasha_stream.storage.guarded import GuardedAdapter
from akasha_stream.storage.settings import TIERS, LocalBackend, TierName
from akasha_stream.tiers.access import AccessRecord
from akasha_stream.tiers.catalog import Catalog
from akasha_stream.tiers.clean import clean
from akasha_stream.tiers.copies import leftovers
from akasha_stream.tiers.migrate import move
from akasha_stream.tiers.run_policy import run_policy
from akasha_stream.tiers.segment_store import SegmentStore
from akasha_stream.tiers.stub import make_stub
from tests.servers.azurite import AzuriteServer
from tests.tiers.places import on_azurite, on_folders
from tests.tiers.segments import LOG, Change, spilled
from tests.tiers.stored import NOW, stored

OTHER_LOG = replace(LOG, partition=4)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from(TIERS), st.integers(0, 3)), max_size=12),
    st.data(),
)
def test_whatever_order_and_whoever_deletes_one_copy_of_each_stays(
    made: list[tuple[int, TierName, int]], data: st.DataObject
) -> None:
    """Three that clean up, each from a catalog of its own moment, delete leftovers one by one in any order."""
    catalog = Catalog(stored(start, start + 1, tier=tier, written_s=NOW + at) for start, tier, at in made)
    keys = {segment.key for segment in catalog.segments}
    seen = [catalog] * 3
    for _ in range(3 * len(made)):
        who = data.draw(st.integers(0, 2))
        found = leftovers(seen[who])
        if found:
            each = data.draw(st.sampled_from(found))
            if each.keeper.place in {s.place for s in catalog.segments}:  # it looks first
                catalog = catalog.with_changes(removed=[each.segment.place])
                seen[who] = seen[who].with_changes(removed=[each.segment.place])
        if data.draw(st.booleans()):
            seen[who] = catalog
    assert {segment.key for segment in catalog.segments} == keys


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SegmentStore]:
    async with StorageTiers(on_folders(tmp_path / "objects")) as tiers:
        yield SegmentStore(tiers)


async def test_a_dry_run_says_what_would_be_deleted(store: SegmentStore) -> None:
    for segment in (spilled([], 0, 10), spilled([], 10, 20)):
        await move(store, await store.put(segment), "warm")
    planned = await clean(store, grace_s=0, now=time.time() + 10, dry_run=True)
    assert len(store.catalog) == 4
    done = await clean(store, grace_s=0, now=time.time() + 10)
    assert [each.segment.place for each in done.deleted] == [each.segment.place for each in planned.deleted]
    assert (len(done.deleted), done.bytes) == (2, sum(each.segment.size for each in done.deleted))
    await store.load()
    assert [(s.key.short, s.tier) for s in store.catalog.segments] == [("3:0-10", "warm"), ("3:10-20", "warm")]


async def test_what_was_put_anew_meanwhile_stays(store: SegmentStore) -> None:
    """A worker that lost its partition spills again what was moved: its object is the newer one then."""
    segment = spilled([Change(0, 0, "a", "1", "one")], 0, 10)
    await move(store, await store.put(segment), "warm")
    hot = await store.place("hot")
    (path,) = {s.path for s in store.catalog.segments}
    await hot.adapter.delete(hot.bucket, path)
    time.sleep(1.1)
    await hot.adapter.upload(hot.bucket, path, segment.data)
    assert (await clean(store, grace_s=0, now=time.time() + 10)).deleted == [], "the catalog is of before"
    await store.load()
    assert [s.segment.tier for s in (await clean(store, grace_s=0, now=time.time() + 10)).deleted] == ["warm"]


async def test_two_settings_of_one_place_delete_nothing(tmp_path: Path) -> None:
    """As two addresses of one server do: every object looks like two copies."""
    (tmp_path / "objects" / "one").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "objects")
    roots = {"hot": tmp_path / "objects", "warm": tmp_path / "link"}
    backends = {t: LocalBackend(bucket_name="one", root=r, tier=t) for t, r in roots.items()}
    settings = StorageSettings(backends=backends, tiers={"hot": "hot", "warm": "warm"})
    async with StorageTiers(settings) as tiers:
        store = SegmentStore(tiers)
        segment = await store.put(spilled([Change(0, 0, "a", "1", "one")], 0, 10))
        await move(store, segment, "warm")
        await store.load()
        assert len(store.catalog) == 2
        done = await clean(store, grace_s=0, now=time.time() + 10)
        assert done.deleted == []
        assert "hot and warm are one place with two different settings" in done.failed[segment.path]
        assert (await store.read(segment)).num_rows == 1
        assert [path.suffix for path in (tmp_path / "objects" / "one").rglob("*") if path.is_file()] == [".parquet"]


async def test_an_object_listed_in_both_tiers_of_one_place_is_not_deleted(azurite: AzuriteServer) -> None:
    """Azure changes a class without a trace in etag and time, and may do so between the two listings."""
    async with StorageTiers(on_azurite(azurite, shared=True)) as tiers:
        store = SegmentStore(tiers)
        segment = await store.put(spilled([Change(0, 0, "a", "1", "one")], 0, 10))
        await move(store, segment, "warm")
        store.changed(added=[segment])
        done = await clean(store, grace_s=0, now=time.time() + 10)
        assert (len(store.catalog), done.deleted, done.waiting) == (2, [], [])
        assert [each.tier for each in store._once(store.catalog.segments)] == ["hot"]
        await store.load()
        assert [each.tier for each in store.catalog.segments] == ["warm"]
        assert (await store.read(store.catalog.segments[0])).num_rows == 1


async def test_lonely_stubs_go_after_the_grace_time(store: SegmentStore) -> None:
    segment = await store.put(spilled([Change(0, 0, "a", "1", "one")], 0, 10))
    await store.put_stub(make_stub(segment.footer, await store.read(segment)))
    assert (await clean(store, grace_s=100)).stubs == []
    done = await clean(store, [LOG], grace_s=100, now=time.time() + 200)
    assert done.stubs == [segment.key.stub_path("akasha/")]
    assert await store.stub(segment.key) is None


class TestPolicyRun:
    SETTINGS = TierPolicy(warm_after_s=1.0, grace_s=100.0)

    @property
    def access(self) -> AccessRecord:
        return AccessRecord(1)

    async def fill(self, store: SegmentStore) -> None:
        for log in (LOG, OTHER_LOG):
            await store.put(spilled([Change(0, 0, "a", "1", "one")], 0, 10, log=log))

    async def test_it_moves_and_cleans_the_logs_it_is_given(self, store: SegmentStore) -> None:
        await self.fill(store)
        report = await run_policy(store, [LOG], self.access, self.SETTINGS)
        assert [(each.segment.key.log, moved.tier) for each, moved in report.moved.done] == [(LOG, "warm")]
        assert report.moved.bytes > 0
        again = await run_policy(store, [LOG], self.access, self.SETTINGS)
        assert (again.planned, len(again.cleaned.waiting)) == ([], 1)
        last = await run_policy(store, [LOG], self.access, self.SETTINGS, time.time() + 200)
        assert len(last.cleaned.deleted) == 1
        assert {(s.key.log.partition, s.tier) for s in store.catalog.segments} == {(3, "warm"), (4, "hot")}
        off = self.SETTINGS.model_copy(update={"enabled": False})
        assert (await run_policy(store, [OTHER_LOG], self.access, off)).planned == []

    async def test_searches_are_written_and_those_of_others_forgotten(
        self, store: SegmentStore, tmp_path: Path
    ) -> None:
        await self.fill(store)
        path = tmp_path / "access.json"
        access = AccessRecord(1, path)
        keys = [segment.key for segment in store.catalog.segments]
        access.searched(keys)
        report = await run_policy(store, [LOG], access, self.SETTINGS.model_copy(update={"keep_searches": 1}))
        assert report.planned == [], "it is searched"
        assert [AccessRecord(1, path).total(key) for key in keys] == [1, 0]

    async def test_what_fails_is_told_and_the_rest_is_done(
        self, store: SegmentStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await self.fill(store)
        put = GuardedAdapter.put_if_absent

        async def failing(self: GuardedAdapter[Path], bucket: str, path: str, data: bytes) -> bool:
            if "/4/" in path:
                raise StorageUnavailable("not now")
            return await put(self, bucket, path, data)

        monkeypatch.setattr(GuardedAdapter, "put_if_absent", failing)
        report = await run_policy(store, [LOG, OTHER_LOG], self.access, self.SETTINGS)
        assert [(each.segment.key.log, why) for each, why in report.moved.failed] == [(OTHER_LOG, "not now")]
        assert len(report.moved.done) == 1
        monkeypatch.undo()
        again = await run_policy(store, [LOG, OTHER_LOG], self.access, self.SETTINGS)
        assert (len(again.moved.done), again.moved.failed) == (1, [])

    async def test_a_tier_that_is_away_takes_and_loses_nothing(self, store: SegmentStore, tmp_path: Path) -> None:
        await self.fill(store)
        warm = tmp_path / "objects" / "warm"
        warm.mkdir(exist_ok=True)
        await store.load()
        for each in sorted(warm.rglob("*"), reverse=True):
            each.rmdir()
        warm.rmdir()
        warm.write_text("no folder")
        report = await run_policy(store, [LOG], self.access, self.SETTINGS)
        assert (report.planned, report.cleaned.deleted) == ([], [])
        assert list(store.unreachable) == ["warm"]
