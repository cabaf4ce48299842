"""Moves between tiers, on real stores; broken off at every step, and made by two at once."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pytest

from akasha_stream.errors import (
    ObjectArchived,
    ObjectNotFound,
    SegmentCorrupt,
    SegmentTaken,
    StorageRefused,
    UsageError,
)
from akasha_stream.hot import durable
from akasha_stream.storage import StorageSettings, StorageTiers
from akasha_stream.storage.settings import TIERS, TierName
from akasha_stream.tiers.clean import clean
from akasha_stream.tiers.migrate import move
from akasha_stream.tiers.parquet_segment import EncodedSegment
from akasha_stream.tiers.restore import archived_segments, restore
from akasha_stream.tiers.segment_store import SegmentStore
from tests.tiers.places import on_azurite, on_folders, on_gcs, on_moto, on_seaweedfs
from tests.tiers.segments import LOG, Change, spilled

if TYPE_CHECKING:
    from akasha_stream.embedded import SeaweedServer
    from tests.servers.azurite import AzuriteServer
    from tests.servers.gcs import FakeGcsServer
    from tests.servers.moto import MotoServer

FIRST = spilled([Change(o, 0, f"s{o % 3}", str(o), f"text {o}", seed=o) for o in range(9)], 0, 10)
SECOND = spilled([Change(o, 0, "a", str(o), None if o % 2 else "two") for o in range(10, 20)], 10, 20)
STEPS = ("stub put", "copy put", "copy verified", "leftover deleted", "stub deleted")
QUICK = ("copy put", "leftover deleted")
LATER = 1_000.0
"""Past the grace time of the tests."""
GRACE = 500.0


WAY: tuple[TierName, ...] = ("warm", "cold", "hot")


async def next_second(tier: TierName) -> None:
    """Of copies written in one second the colder stays, so a move up within a second of the one down is undone."""
    if tier == "hot":
        await asyncio.sleep(1.1)


class KilledError(BaseException):
    pass


@pytest.fixture
def kill_at() -> Iterator[list[str]]:
    """The steps at which to die, each once."""
    steps: list[str] = []

    def on_step(name: str) -> None:
        if name in steps:
            steps.remove(name)
            raise KilledError(name)

    durable.on_step = on_step
    yield steps
    durable.on_step = None


async def objects(store: SegmentStore) -> set[tuple[TierName, str]]:
    """(tier, last part of the path); a place that tiers share is listed once."""
    found: set[tuple[TierName, str]] = set()
    for tier in TIERS:
        if store.sharing(tier)[0] == tier:
            place = await store.place(tier)
            found |= {(tier, info.path.rpartition("/")[2]) async for info in place.adapter.list(place.bucket)}
    return found


async def cleaned(store: SegmentStore, *, later: float = LATER) -> int:
    """How many objects were deleted."""
    done = await clean(store, grace_s=GRACE, now=time.time() + later)
    assert (done.failed, done.conflicts) == ({}, [])
    return len(done.deleted) + len(done.stubs)


class MigrateBehaviour:
    """For any store. Inherit, and give the fixture `settings`."""

    cold_is_archive: ClassVar[bool] = False
    shared: ClassVar[bool] = False

    @pytest.fixture
    async def store(self, settings: StorageSettings) -> AsyncIterator[SegmentStore]:
        async with StorageTiers(settings) as tiers:
            yield SegmentStore(tiers)

    async def expect(self, store: SegmentStore, segment: EncodedSegment, tier: TierName) -> None:
        """The segment is in this tier, once and whole, and nothing else is there."""
        await store.load()
        assert (store.unreachable, store.corrupt, store.archived, store.catalog.problems) == ({}, {}, [], ())
        (found,) = store.catalog.segments
        assert (found.tier, found.footer, found.size) == (tier, segment.footer, len(segment.data))
        names = {(store.sharing(tier)[0], f"{segment.footer.key.file}.parquet")}
        if store.is_archived(found):
            names.add(("hot", f"{segment.footer.key.file}.stub"))
            stub = await store.stub(found.key)
            assert stub is not None
            assert stub.footer == segment.footer
            await restore(store, await archived_segments(store), 3)
        assert await objects(store) == names
        place = await store.place(tier)
        assert await place.adapter.download(place.bucket, found.path) == segment.data

    async def test_down_and_up_again(self, store: SegmentStore) -> None:
        segment = await store.put(FIRST)
        for tier in WAY:
            await next_second(tier)
            moved = await move(store, segment, tier)
            assert moved.tier == tier
            current = store.catalog.current(LOG)
            assert len(current) == 1, "both copies are there, and one counts"
            await store.load()
            assert await cleaned(store) == (0 if self.shared else 1) + (tier == "hot" and self.cold_is_archive)
            await self.expect(store, FIRST, tier)
            (segment,) = store.catalog.segments

    @pytest.mark.parametrize(
        "step", [pytest.param(step, marks=[] if step in QUICK else [pytest.mark.slow]) for step in STEPS]
    )
    async def test_broken_off_at_any_step_it_is_whole_when_someone_goes_on(
        self, store: SegmentStore, settings: StorageSettings, kill_at: list[str], step: str
    ) -> None:
        """Each move of the way down and up is killed at this step, if it has it; then another process goes on."""
        await store.put(FIRST)
        for tier in WAY:
            await next_second(tier)
            kill_at[:] = [step]
            killed = False
            for _ in range(3):
                async with StorageTiers(settings) as tiers:
                    other = SegmentStore(tiers)
                    await other.load()
                    assert other.catalog.end(LOG) == 10, "it is found at any time"
                    try:
                        for segment in other.catalog.segments:
                            if segment.tier != tier and not any(s.tier == tier for s in other.catalog.segments):
                                await move(other, segment, tier)
                        await other.load()
                        await cleaned(other)
                    except KilledError:
                        killed = True
            has_step = step not in ("stub put", "stub deleted") or self.cold_is_archive
            assert killed or not has_step or tier == "warm" or self.shared or step.startswith("stub")
            await self.expect(store, FIRST, tier)

    async def test_by_two_at_once_it_is_one_move(self, store: SegmentStore, settings: StorageSettings) -> None:
        segment = await store.put(FIRST)
        async with StorageTiers(settings) as tiers:
            other = SegmentStore(tiers)
            await asyncio.gather(*(move(each, segment, "warm") for each in (store, other, store, other)))
            await asyncio.gather(store.load(), other.load())
            await asyncio.gather(*(cleaned(each) for each in (store, other, store)))
        await self.expect(store, FIRST, "warm")

    async def test_a_copy_that_is_young_keeps_its_source(self, store: SegmentStore) -> None:
        if self.shared:
            pytest.skip("one object: there is no copy")
        await move(store, await store.put(FIRST), "warm")
        done = await clean(store, grace_s=GRACE)
        assert (done.deleted, len(done.waiting)) == ([], 1)
        (current,) = store.catalog.current(LOG)
        assert current.tier == "hot", "searches read the hotter one until it is gone"

    async def test_what_is_gone_is_said_to_be(self, store: SegmentStore) -> None:
        segment = await store.put(FIRST)
        await store.delete([segment])
        with pytest.raises(ObjectNotFound, match=r"\.parquet"):
            await move(store, segment, "warm")
        assert await objects(store) == set()

    async def test_a_tier_it_is_in_already(self, store: SegmentStore) -> None:
        with pytest.raises(UsageError, match="it is there already"):
            await move(store, await store.put(FIRST), "hot")


class ArchiveBehaviour(MigrateBehaviour):
    cold_is_archive = True

    async def test_an_archived_segment_is_restored_before_it_moves(
        self, store: SegmentStore, settings: StorageSettings
    ) -> None:
        cold = await move(store, await store.put(SECOND), "cold")
        await store.load()
        await cleaned(store)
        with pytest.raises(ObjectArchived, match=r"restore it first .*tiers restore 3:10-20; "):
            await move(store, cold, "warm")
        await next_second("hot")
        async with StorageTiers(settings) as tiers:
            other = SegmentStore(tiers)  # knows it by its stub alone
            await other.load()
            assert other.catalog.current(LOG)[0].footer == SECOND.footer
            (archived,) = await archived_segments(other)
            (before,) = await restore(other, [archived], 3, only_ask=True)
            (after,) = await restore(other, [archived], 3)
            assert before.state is not None
            assert after.state is not None
            assert (before.state.status, after.state.readable) == ("archived", True)
            assert "hours" in before.takes
            await move(other, other.catalog.current(LOG)[0], "warm")
            await other.load()
            await cleaned(other)
        await self.expect(store, SECOND, "warm")

    async def test_without_its_stub_a_segment_is_named_and_can_be_restored(self, store: SegmentStore) -> None:
        await move(store, await store.put(SECOND), "cold")
        await store.load()
        await cleaned(store)
        hot = await store.place("hot")
        await hot.adapter.delete(hot.bucket, SECOND.footer.key.stub_path(hot.prefix))
        await store.load()
        assert [path.rpartition("/")[2] for _, path in store.archived] == [f"{SECOND.footer.key.file}.parquet"]
        assert store.catalog.current(LOG) == ()
        (archived,) = await archived_segments(store)
        assert archived.key == SECOND.footer.key
        await restore(store, [archived], 3)
        await store.load()
        assert store.catalog.end(LOG) == 20

    async def test_a_stub_that_a_slow_clean_up_took_is_made_again(self, store: SegmentStore) -> None:
        if self.shared:
            pytest.skip("one object: nothing waits for a clean-up")
        await move(store, await store.put(SECOND), "cold")
        hot = await store.place("hot")
        await hot.adapter.delete(hot.bucket, SECOND.footer.key.stub_path(hot.prefix))
        await cleaned(store)
        await self.expect(store, SECOND, "cold")


class TestFolders(MigrateBehaviour):
    @pytest.fixture
    def settings(self, tmp_path: Path) -> StorageSettings:
        return on_folders(tmp_path)


class TestSeaweedFS(MigrateBehaviour):
    @pytest.fixture
    def settings(self, seaweedfs: SeaweedServer) -> StorageSettings:
        return on_seaweedfs(seaweedfs)


class TestFakeGcs(MigrateBehaviour):
    @pytest.fixture
    def settings(self, fake_gcs: FakeGcsServer) -> StorageSettings:
        return on_gcs(fake_gcs)


class TestMoto(ArchiveBehaviour):
    @pytest.fixture
    def settings(self, moto: MotoServer) -> StorageSettings:
        return on_moto(moto)


class TestSeaweedFSOneBucket(MigrateBehaviour):
    shared = True

    @pytest.fixture
    def settings(self, seaweedfs: SeaweedServer) -> StorageSettings:
        return on_seaweedfs(seaweedfs, shared=True)


@pytest.mark.long
class TestMotoOneBucket(ArchiveBehaviour):
    shared = True

    @pytest.fixture
    def settings(self, moto: MotoServer) -> StorageSettings:
        return on_moto(moto, shared=True)


class TestAzurite(ArchiveBehaviour):
    @pytest.fixture
    def settings(self, azurite: AzuriteServer) -> StorageSettings:
        return on_azurite(azurite)


class TestAzuriteOneContainer(ArchiveBehaviour):
    shared = True

    @pytest.fixture
    def settings(self, azurite: AzuriteServer) -> StorageSettings:
        return on_azurite(azurite, shared=True)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SegmentStore]:
    async with StorageTiers(on_folders(tmp_path / "objects")) as tiers:
        yield SegmentStore(tiers)


async def test_what_the_catalog_says_of_a_place_that_tiers_share(moto: MotoServer) -> None:
    """The tier is told by the class, so what a restored or foreign class says nothing of is in the coldest."""
    async with StorageTiers(on_moto(moto, shared=True)) as tiers:
        store = SegmentStore(tiers)
        await store.put(FIRST)
        second = await store.put(SECOND, "warm")
        await store.load()
        assert [(s.key.start, s.tier) for s in store.catalog.current(LOG)] == [(0, "hot"), (10, "warm")]
        place = await store.place("warm")
        await place.adapter.set_storage_class(place.bucket, second.path, "ONEZONE_IA")
        await store.load()
        assert [(s.key.start, s.tier) for s in store.catalog.current(LOG)] == [(0, "hot"), (10, "cold")]
        await clean(store, grace_s=0, now=time.time() + LATER)
        assert len(await objects(store)) == 2


async def test_a_server_without_classes_is_found_out(fake_gcs: FakeGcsServer, tmp_path: Path) -> None:
    folder = on_folders(tmp_path)
    same = folder.model_copy(
        update={"backends": {t: b.model_copy(update={"bucket_name": "one"}) for t, b in folder.backends.items()}}
    )
    async with StorageTiers(same) as tiers:
        store = SegmentStore(tiers)
        with pytest.raises(UsageError, match="both tiers are in local://one/ with one class, STANDARD"):
            await move(store, await store.put(FIRST), "warm")
    async with StorageTiers(on_gcs(fake_gcs, shared=True)) as tiers:
        store = SegmentStore(tiers)
        with pytest.raises(StorageRefused, match="keeps no classes"):
            await move(store, await store.put(FIRST), "warm")


def test_a_kill_of_the_process_is_no_different(tmp_path: Path) -> None:
    """kill -9 between the copy and its check, and again in the clean-up."""
    for step in ("copy put", "leftover deleted"):
        command = [sys.executable, "-m", "tests.tiers.move_and_die", str(tmp_path), step]
        done = subprocess.run(command, capture_output=True, cwd=Path(__file__).parents[2], timeout=120, check=False)
        assert done.returncode == -signal.SIGKILL, done.stderr.decode()

    async def look() -> None:
        async with StorageTiers(on_folders(tmp_path)) as tiers:
            store = SegmentStore(tiers)
            await store.load()
            await cleaned(store)
            await store.load()
            assert [(s.tier, s.footer) for s in store.catalog.segments] == [("warm", FIRST.footer)]

    asyncio.run(look())


@pytest.mark.parametrize("at", [10, 400, -300, -5])
async def test_a_damaged_segment_is_named_and_stays_where_it_is(store: SegmentStore, tmp_path: Path, at: int) -> None:
    segment = await store.put(FIRST)
    file = tmp_path / "objects" / "hot" / segment.path
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    file.write_bytes(data)
    with pytest.raises(SegmentCorrupt, match=segment.path):
        await move(store, segment, "warm")
    assert [tier for tier, _ in await objects(store)] == ["hot"]


async def test_a_target_that_holds_something_else_is_left_alone(store: SegmentStore) -> None:
    segment = await store.put(FIRST)
    warm = await store.place("warm")
    path = segment.key.path(warm.prefix)
    await warm.adapter.upload(warm.bucket, path, b"something else")
    with pytest.raises(SegmentTaken, match="has 14 bytes and the segment has"):
        await move(store, segment, "warm")
    damaged = bytearray(FIRST.data)
    damaged[400] ^= 1
    await warm.adapter.upload(warm.bucket, path, bytes(damaged))
    with pytest.raises(SegmentCorrupt, match=path):
        await move(store, segment, "warm")
    other = spilled([Change(3, 0, "a", "1", "other rows")], 0, 10)
    await warm.adapter.upload(warm.bucket, path, other.data)
    await store.load()
    done = await clean(store, grace_s=0, now=time.time() + LATER)
    assert (done.deleted, [each.keeper.tier for each in done.conflicts]) == ([], ["warm"])
    assert len(await objects(store)) == 2
