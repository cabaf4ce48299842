"""Forgetting a source system in the store: nothing of it stays, everything else does, wherever it ends."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from akasha_stream.errors import ObjectArchived, SegmentCorrupt
from akasha_stream.hot.end_state import EndState, pack_state, state_without, unpack_state
from akasha_stream.hot.segment_tables import Progress, SnapshotRow
from akasha_stream.tiers.clean_up import clean_up
from akasha_stream.tiers.forget import forget_system
from akasha_stream.tiers.forgotten import is_entry, load_forgotten, note_forgotten, system_hash
from akasha_stream.tiers.rebuild import rebuild
from akasha_stream.tiers.segment_store import SegmentStore
from akasha_stream.tiers.stub import COLUMNS, make_stub, stub_bytes
from tests.tiers.rewriting import (
    Crash,
    a_state,
    assert_clean,
    counting,
    crash_at,
    expected,
    fill,
    local_store,
    some_changes,
)
from tests.tiers.segments import LOG, Change, spilled

if TYPE_CHECKING:
    from akasha_stream.tiers.stored_segment import StoredSegment

CHANGES = [replace(change, system=f"secret-{change.system}") for change in some_changes(30)]
SYSTEM = "secret-a"


@pytest.fixture
def store(tmp_path: Path) -> SegmentStore:
    return local_store(tmp_path / "objects")


def traces(root: Path) -> list[Path]:
    """Objects with the system's name in them."""
    return [path for path in root.rglob("*") if path.is_file() and SYSTEM.encode() in path.read_bytes()]


async def test_nothing_of_it_stays_in_any_tier_and_everything_else_does(store: SegmentStore, tmp_path: Path) -> None:
    await fill(store, CHANGES, warm_below=10)
    assert traces(tmp_path)
    old = {s.path for s in store.catalog.segments}
    dry = await forget_system(store, SYSTEM, dry_run=True)
    assert {s.path for s in store.catalog.segments} == old
    report = await forget_system(store, SYSTEM)
    assert report.complete
    assert report.rows == dry.rows == sum(change.system == SYSTEM for change in CHANGES)
    assert [each.old for each in report.rewritten] == [each.old for each in dry.rewritten]
    assert {path for _, path in report.deleted} == {each.old for each in report.rewritten}
    assert {each.tier for each in report.rewritten} == {"hot", "warm"}
    assert report.checked == len(store.catalog)
    assert traces(tmp_path) == []
    assert await counting(store) == expected(CHANGES, {SYSTEM: 30})
    assert set(expected(CHANGES, {SYSTEM: 30})) == {key for key in expected(CHANGES) if key[0] != SYSTEM}


async def test_forgotten_again_it_has_nothing_to_do(store: SegmentStore) -> None:
    await fill(store, CHANGES)
    await forget_system(store, SYSTEM)
    again = await forget_system(store, SYSTEM)
    assert (again.complete, again.rewritten, again.deleted, again.states) == (True, [], [], [])
    place = await store.place("hot")
    entries = [each.path async for each in place.adapter.list(place.bucket, f"{place.prefix}_forgotten/")]
    assert len(entries) == 1
    assert is_entry(entries[0])
    assert (await rebuild(place.adapter, place.bucket, place.prefix)).foreign == []


async def test_events_that_come_afterwards_are_new_ones(store: SegmentStore) -> None:
    await fill(store, CHANGES)
    report = await forget_system(store, SYSTEM, ends={LOG: 33})
    assert report.ends[LOG] == 33
    late = [Change(31, 0, SYSTEM, "x", "too early"), Change(33, 0, SYSTEM, "x", "new"), Change(34, 0, "b", "y", "z")]
    await store.put(spilled(late, 30, 40))
    everything = [*CHANGES, *late]
    assert await counting(store) == expected(everything, {SYSTEM: 33})
    again = await forget_system(store, SYSTEM, ends={LOG: 33})
    assert (again.ends[LOG], again.rows, again.left) == (33, 1, [])
    assert await counting(store) == expected(everything, {SYSTEM: 33})
    again = await forget_system(store, SYSTEM)  # without an offset: all that is stored by now
    assert again.ends[LOG] == 40
    assert await counting(store) == expected(everything, {SYSTEM: 40})


async def test_a_segment_that_has_only_new_rows_of_it_is_left_alone(store: SegmentStore) -> None:
    await note_forgotten(store, system_hash(SYSTEM), {LOG: 5})
    await store.put(spilled([Change(1, 0, "b", "y", "z"), Change(7, 0, SYSTEM, "x", "new")], 0, 10))
    forgotten = await load_forgotten(store)
    assert forgotten.may_touch(LOG, [SYSTEM], 0)
    assert not forgotten.may_touch(LOG, [SYSTEM], 5)
    assert set(await counting(store)) == {("b", "y"), (SYSTEM, "x")}


async def test_crashed_at_any_step_its_rows_are_masked_and_the_next_run_goes_on(tmp_path: Path) -> None:
    for number in range(100):
        root = tmp_path / str(number)
        store = local_store(root)
        await fill(store, CHANGES[:20], warm_below=5)
        crashed = False
        with crash_at(number) as steps:
            try:
                await forget_system(store, SYSTEM)
            except Crash:
                crashed = True
        assert await counting(store) == expected(CHANGES[:20], {SYSTEM: 20}), steps
        assert (await forget_system(SegmentStore(store.tiers), SYSTEM)).complete
        assert await counting(store) == expected(CHANGES[:20], {SYSTEM: 20}), steps
        assert traces(root) == []
        reader = SegmentStore(store.tiers)
        await reader.load()
        await clean_up(reader, None, 0, datetime.now(UTC))
        await assert_clean(store)
        if not crashed:
            wanted = {"forgotten noted", "compaction checked", "compaction stored", "forgotten deleted"}
            assert set(steps) == wanted | {"state stripped"}
            return
    raise AssertionError("too many steps")


async def test_what_a_zombie_puts_back_is_masked_and_goes_with_the_next_run(store: SegmentStore) -> None:
    await fill(store, CHANGES, warm_below=0)
    zombie = SegmentStore(store.tiers)
    await zombie.load()
    await forget_system(store, SYSTEM)
    await zombie.put(spilled([c for c in CHANGES if c.offset < 10], 0, 10))  # merged before, put afterwards
    assert await counting(store) == expected(CHANGES, {SYSTEM: 30})
    report = await forget_system(store, SYSTEM)
    assert report.complete
    assert report.rows > 0
    assert await counting(store) == expected(CHANGES, {SYSTEM: 30})


async def test_a_superseded_segment_goes_too(store: SegmentStore, tmp_path: Path) -> None:
    await fill(store, CHANGES[:10], warm_below=0)
    await store.put(spilled(CHANGES[:10], 0, 10))
    assert len(store.catalog.superseded) == 2
    report = await forget_system(store, SYSTEM)
    assert report.complete
    assert len(report.deleted) == 3
    assert len(report.rewritten) == 1
    assert traces(tmp_path) == []


async def test_what_is_archived_stays_masked_and_is_reported(
    store: SegmentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(store, CHANGES, warm_below=0)
    first = store.catalog.current(LOG)[0]
    hot = await store.place("hot")
    stub = make_stub(first.footer, await store.read(first, COLUMNS))
    await hot.adapter.upload(hot.bucket, first.key.stub_path(hot.prefix), stub_bytes(stub))
    open_ = SegmentStore.open

    async def archived(self: SegmentStore, segment: StoredSegment) -> object:
        if segment.key == first.key:
            raise ObjectArchived(f"{segment.path} is archived")
        return await open_(self, segment)

    with monkeypatch.context() as patch:
        patch.setattr(SegmentStore, "open", archived)
        report = await forget_system(store, SYSTEM)
    (left,) = report.left
    assert (left.path, left.rows) == (first.path, stub.footer.systems[SYSTEM].upserts)
    assert "restore the object" in left.what_to_do
    assert not report.complete
    assert await counting(store) == expected(CHANGES, {SYSTEM: 30})
    done = await forget_system(store, SYSTEM)
    assert done.complete
    assert [each.old for each in done.rewritten] == [first.path]
    assert await hot.adapter.stat(hot.bucket, first.key.stub_path(hot.prefix)) is None


async def test_what_is_damaged_or_out_of_reach_is_reported(store: SegmentStore, tmp_path: Path) -> None:
    await fill(store, CHANGES, warm_below=10)
    segment = store.catalog.current(LOG)[-1]
    path = tmp_path / "objects" / "hot" / segment.path
    path.write_bytes(path.read_bytes()[:-20])
    (tmp_path / "objects" / "warm").rename(tmp_path / "away")
    report = await forget_system(SegmentStore(store.tiers), SYSTEM)
    assert {(each.tier, each.path) for each in report.left} == {("warm", ""), ("hot", segment.path)}


async def test_a_state_that_is_none_is_reported(store: SegmentStore) -> None:
    await fill(store, CHANGES[:5])
    await store.put_state(LOG, 99, b"something else")
    report = await forget_system(store, SYSTEM)
    assert [each.path.rpartition("/")[2] for each in report.left] == ["00000000000000000099.state"]
    with pytest.raises(SegmentCorrupt, match="is no state"):
        state_without(b"something else", SYSTEM, "x")


def test_a_state_loses_the_rows_of_the_system_only() -> None:
    rows = [
        SnapshotRow("counters", "a", 0, b"x"),
        SnapshotRow("window", "b", 7, b"y"),
        SnapshotRow("digest", "a", 1, b""),
    ]
    real = EndState(Progress(next_offset=7, last_offset=6), rows)
    left = state_without(pack_state(real), "a", "x")
    assert left is not None
    assert unpack_state(left, "x") == EndState(real.progress, rows[1:2])
    assert state_without(a_state("a", "b"), "c", "x") is None
    stripped = state_without(a_state("a", "b"), "a", "x")
    assert stripped is not None
    assert state_without(stripped, "a", "x") is None
    assert state_without(stripped, "b", "x") is not None


async def test_the_furthest_of_several_entries_counts_and_the_name_is_not_in_it(
    store: SegmentStore, tmp_path: Path
) -> None:
    other = replace(LOG, partition=9)
    for ends in ({LOG: 10}, {LOG: 7, other: 3}, {LOG: 10}):
        await note_forgotten(store, system_hash(SYSTEM), ends)
    forgotten = await load_forgotten(store)
    assert (forgotten.end(LOG, SYSTEM), forgotten.end(other, SYSTEM), forgotten.end(LOG, "other")) == (10, 3, 0)
    assert forgotten.ends(SYSTEM) == {LOG: 10, other: 3}
    assert not forgotten.only("other")
    assert traces(tmp_path) == []
    files = list(tmp_path.rglob("*.json"))
    assert len(files) == 2
    assert {path.parent.name for path in files} == {system_hash(SYSTEM)}
    files[0].write_text(re.sub(r'"format":1', '"format":2', files[0].read_text()))
    with pytest.raises(SegmentCorrupt, match="format 2"):
        await load_forgotten(store)
