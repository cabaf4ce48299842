"""Compaction of whole logs: on folders and on S3, crashed, doubled, and behind a network that spoils requests."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from akasha_stream.errors import AkashaError
from akasha_stream.settings import RetentionSettings
from akasha_stream.tiers.clean_up import clean_up
from akasha_stream.tiers.compact import GroupReport, compact_logs
from akasha_stream.tiers.compact_group import compact_group, merged_segment
from akasha_stream.tiers.forget import forget_system
from akasha_stream.tiers.forgotten import Forgotten, load_forgotten, note_forgotten, system_hash
from akasha_stream.tiers.merging import NOTHING, UNKNOWN, Leaving
from akasha_stream.tiers.segment_store import SegmentStore
from tests.servers.fault_proxy import Fault, FaultProxy, no_faults, seeded
from tests.tiers.rewriting import (
    Crash,
    assert_clean,
    copy_tier,
    counting,
    crash_at,
    expected,
    fill,
    local_store,
    recreated,
    settings_for,
    some_changes,
)
from tests.tiers.segments import LOG, Change, spilled
from tests.tiers.spoiled import spoiled

if TYPE_CHECKING:
    from akasha_stream.embedded import SeaweedServer

CHANGES = some_changes()
DAY_US = 86_400_000_000


@pytest.fixture
def store(tmp_path: Path) -> SegmentStore:
    return local_store(tmp_path / "objects")


async def compacted(store: SegmentStore, rounds: int = 6) -> None:
    """Until nothing is left to do."""
    for _ in range(rounds):
        report = await compact_logs(store, dry_run=False, settings=settings_for())
        if not report.groups:
            return
    raise AssertionError("compaction does not come to an end")


async def test_small_segments_are_merged_within_their_tier_and_the_old_ones_deleted(store: SegmentStore) -> None:
    await fill(store, CHANGES)
    seen: list[GroupReport] = []
    report = await compact_logs(store, dry_run=False, settings=settings_for(), on_progress=seen.append)
    assert report.groups == seen
    assert report.problems == []
    assert {group.tier for group in seen} == {"hot", "warm"}
    assert all(group.new is not None and group.rows_left <= group.rows for group in seen)
    await compacted(store)
    assert await counting(store) == expected(CHANGES)
    await assert_clean(store)
    current = store.catalog.current(LOG)
    assert len(current) < 7
    assert {s.tier for s in current if s.key.end <= 20} == {"warm"}
    assert {s.tier for s in current if s.key.start >= 20} == {"hot"}
    assert not [s for s in current if s.key.start < 20 < s.key.end]
    await compact_logs(store, dry_run=False, settings=settings_for(masked_share=1e-6))
    rows = sum(s.footer.rows - s.footer.deletes for s in store.catalog.current(LOG))
    assert rows == len(expected(CHANGES))  # no body of a replaced or deleted row is left


async def test_a_dry_run_says_what_would_be_done_and_changes_nothing(store: SegmentStore) -> None:
    await fill(store, CHANGES)
    before = {s.place for s in store.catalog.segments}
    dry = await compact_logs(store, dry_run=True, settings=settings_for())
    await store.load()
    assert {s.place for s in store.catalog.segments} == before
    assert all(group.new is None for group in dry.groups)
    real = await compact_logs(store, dry_run=False, settings=settings_for())
    assert [(g.old, g.reason) for g in dry.groups] == [(g.old, g.reason) for g in real.groups]
    assert [g.rows for g in dry.groups] == [g.rows for g in real.groups]


async def test_a_search_that_reads_finds_what_was_replaced_until_the_grace_time_is_over(store: SegmentStore) -> None:
    await fill(store, CHANGES)
    old = store.catalog.current(LOG)
    report = await compact_logs(store, dry_run=False, settings=settings_for(grace_s=3600))
    assert report.cleaned.segments == []
    assert report.cleaned.waiting == len(old)
    reader = SegmentStore(store.tiers)
    await reader.load()
    for segment in old:
        assert (await reader.read(segment)).num_rows == segment.footer.rows
    assert await counting(store) == expected(CHANGES)
    later = datetime.now(UTC) + timedelta(seconds=3601)
    cleaned = await clean_up(reader, None, 3600, later)
    assert len(cleaned.segments) == len(old)
    assert await counting(store) == expected(CHANGES)


async def test_crashed_at_any_step_the_rows_that_count_are_the_same_and_the_next_run_goes_on(tmp_path: Path) -> None:
    for number in range(100):
        store = local_store(tmp_path / str(number))
        await fill(store, CHANGES[:30], warm_below=10)
        crashed = False
        with crash_at(number) as steps:
            try:
                await compact_logs(store, dry_run=False, settings=settings_for())
            except Crash:
                crashed = True
        assert await counting(store) == expected(CHANGES[:30]), steps
        fresh = SegmentStore(store.tiers)
        await compacted(fresh)
        assert await counting(store) == expected(CHANGES[:30]), steps
        await assert_clean(store)
        if not crashed:
            assert set(steps) == {
                "compaction checked",
                "compaction stored",
                "superseded segment deleted",
                "state or stub deleted",
            }
            return
    raise AssertionError("too many steps")


async def test_a_worker_that_lost_its_partition_does_no_harm_whatever_it_still_puts(store: SegmentStore) -> None:
    """It has read its inputs and looked at the log; then the others compact everything, and it wakes up."""
    await fill(store, CHANGES, warm_below=0)
    zombie = SegmentStore(store.tiers)
    await zombie.load()
    stale = zombie.catalog.current(LOG)
    for window in [(0, 1), (1, 4), (3, 9), (5, 12)]:
        chosen = stale[slice(*window)]
        merged, _ = await merged_segment(zombie, chosen, Leaving(earlier=NOTHING if not window[0] else UNKNOWN))
        await compacted(SegmentStore(store.tiers))
        stored = await zombie.put(merged)
        assert await counting(store) == expected(CHANGES)
        await compacted(SegmentStore(store.tiers))
        assert await counting(store) == expected(CHANGES)
        await assert_clean(store)
        fresh = SegmentStore(store.tiers)
        await fresh.load()
        assert stored.place not in {s.place for s in fresh.catalog.current(LOG)}
        for segment in stale:  # the next window starts from what it was
            part = [c for c in CHANGES if segment.key.start <= c.offset < segment.key.end]
            await zombie.put(spilled(part, segment.key.start, segment.key.end))


async def test_two_that_merge_different_neighbours_at_once_are_mended_by_the_next_run(store: SegmentStore) -> None:
    await fill(store, CHANGES, warm_below=0)
    segments = store.catalog.current(LOG)
    first, _ = await merged_segment(store, segments[0:3], Leaving(earlier=NOTHING))
    second, _ = await merged_segment(store, segments[2:6], Leaving())
    await store.put(first)
    await store.put(second)
    assert [str(problem) for problem in store.catalog.problems]
    assert await counting(store) == expected(CHANGES)
    report = await compact_logs(store, dry_run=False, settings=settings_for(fan_in=64, masked_share=1))
    assert [group.reason for group in report.groups] == ["overlap"]
    assert await counting(store) == expected(CHANGES)
    await assert_clean(store)


async def test_two_compact_and_one_forgets_all_at_once(store: SegmentStore) -> None:
    for seed in range(4):
        log = replace(LOG, partition=seed)
        changes = some_changes(seed=seed)
        await fill(store, changes, log=log)
        runs = [
            compact_logs(SegmentStore(store.tiers), [log], dry_run=False, settings=settings_for(fan_in=fan_in))
            for fan_in in (2, 3)
        ]
        forget = forget_system(SegmentStore(store.tiers), "a", ends={log: 60})
        done = await asyncio.gather(*runs, forget, return_exceptions=True)
        # Whoever finds that another was faster may say so, and is made again.
        assert not [each for each in done if isinstance(each, BaseException) and not isinstance(each, AkashaError)]
        assert await counting(store, log) == expected(changes, {"a": 60})
        assert (await forget_system(SegmentStore(store.tiers), "a")).left == []
        await compacted(SegmentStore(store.tiers))
        assert await counting(store, log) == expected(changes, {"a": 60})
        await assert_clean(store, log)


async def test_an_input_that_disappears_is_given_up(store: SegmentStore) -> None:
    await fill(store, CHANGES, warm_below=0)
    segments = store.catalog.current(LOG)
    await SegmentStore(store.tiers).delete([segments[1]])
    done = await compact_group(store, segments[:2], forgotten=Forgotten())
    assert done.new is None
    assert "deleted meanwhile" in done.why


async def test_inputs_that_are_superseded_meanwhile_are_given_up(store: SegmentStore) -> None:
    await fill(store, CHANGES, warm_below=0)
    segments = store.catalog.current(LOG)
    other = SegmentStore(store.tiers)
    await other.load()
    assert (await compact_group(other, segments[:3], forgotten=Forgotten())).new is not None
    done = await compact_group(store, segments[:2], forgotten=Forgotten())
    assert done.new is None
    assert "another worker rewrote" in done.why


async def test_a_key_that_another_took_with_other_rows_is_given_up(
    store: SegmentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both looked at the log before either put."""
    await fill(store, CHANGES, warm_below=0)
    segments = store.catalog.current(LOG)
    merged, _ = await merged_segment(store, segments[:2], Leaving(masked=np.array([CHANGES[0].position])))

    def put_now(step: str) -> None:
        if step == "compaction checked":
            place = tmp_path_of(store) / merged.footer.key.path("akasha/")
            place.write_bytes(merged.data)

    monkeypatch.setattr("akasha_stream.hot.durable.on_step", put_now)
    done = await compact_group(store, segments[:2], forgotten=Forgotten())
    assert done.new is None
    assert "another worker stored" in done.why


def tmp_path_of(store: SegmentStore) -> Path:
    adapter = store.tiers._adapters["hot"]  # type: ignore[attr-defined]
    root: Path = adapter.root / "hot"
    return root


async def test_a_move_between_tiers_that_ended_half_way_is_not_taken_for_an_orphan(store: SegmentStore) -> None:
    await fill(store, CHANGES[:5], warm_below=0)
    await copy_tier(store, "hot", "warm")
    await store.load()
    assert len(store.catalog) == 2
    cleaned = await clean_up(store, None, 0, datetime.now(UTC))
    assert cleaned.segments == []
    assert await counting(store) == expected(CHANGES[:5])


async def test_a_delete_in_a_later_life_of_the_topic_masks_rows_of_an_earlier_one(store: SegmentStore) -> None:
    """It stays as long as rows of the earlier life are there, and their segment loses the row that it deleted."""
    await fill(store, CHANGES[:20], warm_below=0)
    again = recreated()
    rows = [Change(0, 0, "a", "new", "x"), Change(1, 0, "b", "5", None)]
    later = spilled(rows, 0, 2, log=again, epoch=1)
    await store.put(later)
    await compacted(store)
    (segment,) = store.catalog.current(again)
    assert segment.footer.deletes == 1
    assert ("b", "5") in expected(CHANGES[:20])
    assert ("b", "5") not in await counting(store)
    left = {k: v for k, v in expected(CHANGES[:20]).items() if k != ("b", "5")}
    assert await counting(store) == left | {("a", "new"): "x"}


async def test_masks_of_a_worker_are_taken_instead_of_reading_names(store: SegmentStore) -> None:
    await fill(store, CHANGES, warm_below=0)
    live = {change.position for change in CHANGES} & {
        change.position
        for change in CHANGES
        if expected(CHANGES).get((change.system, change.event_id)) == change.content
    }
    masked = np.array(sorted(c.position for c in CHANGES if c.content is not None and c.position not in live))
    report = await compact_logs(store, dry_run=False, settings=settings_for(fan_in=64), masked={LOG: masked})
    assert {group.reason for group in report.groups} == {"masked"}
    assert await counting(store) == expected(CHANGES)
    assert sum(s.footer.rows - s.footer.deletes for s in store.catalog.current(LOG)) < len(CHANGES) - len(masked)
    again = await compact_logs(store, dry_run=False, settings=settings_for(fan_in=64), masked={LOG: masked})
    assert again.groups == []  # what is gone is not counted again


async def test_expired_rows_go_once_they_are_overdue(store: SegmentStore) -> None:
    now = int(datetime.now(UTC).timestamp() * 1e6)
    old = [Change(at, 0, "a", str(at), "x", created_at=now - 12 * DAY_US) for at in range(2)]
    new = [Change(at, 0, "b", str(at), "x", created_at=now - 12 * DAY_US) for at in range(2, 20)]
    await store.put(spilled([*old, *new], 0, 20))
    settings = settings_for().model_copy(update={"retention": RetentionSettings(systems={"a": 11.5})})
    assert (await compact_logs(store, dry_run=True, settings=settings)).groups == []
    settings = settings_for().model_copy(update={"retention": RetentionSettings(days=10, systems={"b": None})})
    report = await compact_logs(store, dry_run=False, settings=settings)
    assert [(g.reason, g.rows, g.rows_left) for g in report.groups] == [("overdue", 20, 18)]
    assert set(await counting(store)) == {("b", str(at)) for at in range(2, 20)}


async def test_rows_of_a_forgotten_system_that_a_zombie_brings_back_are_dropped_by_the_next_run(
    store: SegmentStore,
) -> None:
    await note_forgotten(store, system_hash("a"), {LOG: 30})
    await fill(store, CHANGES)
    assert await counting(store) == expected(CHANGES, {"a": 30})
    report = await compact_logs(store, dry_run=False, settings=settings_for(fan_in=64, masked_share=1))
    assert {group.reason for group in report.groups} == {"forgotten"}
    forgotten = await load_forgotten(store)
    for segment in store.catalog.current(LOG):
        names = await store.read(segment, ["source_system", "position"])
        assert not forgotten.masks(LOG, names["source_system"], names["position"].to_numpy()).any()
    assert await counting(store) == expected(CHANGES, {"a": 30})


# ── behind a network that spoils requests ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("seed", range(4))
async def test_errors_timeouts_torn_and_doubled_answers_change_nothing(seaweedfs: SeaweedServer, seed: int) -> None:
    """Every request may fail, be torn, lost or doubled; runs end with an error now and then and are made again."""
    chance = random.Random(seed)
    async with (
        FaultProxy(seaweedfs.endpoint_url, slow_s=0.02, hang_s=0.3) as proxy,
        spoiled(proxy, seaweedfs) as tiers,
    ):
        store = SegmentStore(tiers)
        changes = some_changes(40, seed)
        await fill(store, changes, warm_below=15)
        for number in range(6):
            await tiers.be_impatient(0.2)
            proxy.schedule = seeded(seed * 100 + number, rate=0.3, faults=tuple(Fault))
            run = SegmentStore(store.tiers)
            with suppress(AkashaError):
                await compact_logs(run, dry_run=False, settings=settings_for(fan_in=chance.choice([2, 3])))
            proxy.schedule = no_faults
            await tiers.be_patient()
            assert await counting(store) == expected(changes)
        await tiers.be_impatient(0.2)
        proxy.schedule = seeded(seed, rate=0.3, faults=tuple(Fault))
        with suppress(AkashaError):
            await forget_system(SegmentStore(store.tiers), "a")
        proxy.schedule = no_faults
        await tiers.be_patient()
        assert (await forget_system(SegmentStore(store.tiers), "a")).complete
        assert await counting(store) == expected(changes, {"a": 40})
        await compacted(SegmentStore(store.tiers))
        assert await counting(store) == expected(changes, {"a": 40})
        await assert_clean(store)
