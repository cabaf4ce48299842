"""Segments on their way to the object store and back: nothing lost, doubled or orphaned, whoever dies when."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from akasha_stream.hot.sealed import SealedSegment
from akasha_stream.incarnation import Incarnation
from akasha_stream.storage import StorageSettings
from akasha_stream.tiers.adopt import segments_of
from akasha_stream.tiers.keys import LogId
from akasha_stream.tiers.segment_store import SegmentStore
from akasha_stream.tiers.spilled import SpilledSegment
from akasha_stream.tiers.tiling import tile
from tests.hot.kill import kill_log
from tests.hot.log import Log, OneShard, counters, digests, settings_for, windows
from tests.hot.model import Model
from tests.tiers.tiered import LOG, TOPIC, Tiered, positions, tiered_settings

STEPS = (
    "state written",
    "spill encoded",
    "state put",
    "segment put",
    "stub written",
    "older states removed",
    "left to the store",
    "sealed removed",
)


@pytest.fixture
def storage(tmp_path: Path) -> StorageSettings:
    return StorageSettings.local(tmp_path / "objects")


def expected(log: Log) -> dict[tuple[str, str], int]:
    model = Model(settings_for(Path()).dedupe).run(log)
    return {identity: position for identity, (position, *_) in model.expected().items()}


def undisturbed(folder: Path, log: Log) -> tuple[object, ...]:
    with OneShard(settings_for(folder, seal_rows=20), seal=False) as one:
        log.apply(one.shard)
        return counters(one.shard), digests(one.shard), windows(one.shard)


async def tiles(worker: Tiered) -> None:
    """The store's segments cover the log from its beginning, and there is nothing else."""
    await worker.tiering.segments.load()
    store = worker.tiering.segments
    assert store.catalog.problems == ()
    assert store.catalog.superseded == ()
    current = store.catalog.current(LOG)
    assert current
    assert current[0].key.start == 0
    place = await store.place("hot")
    states = [each.path async for each in place.adapter.list(place.bucket) if each.path.endswith(".state")]
    assert len(states) == 1
    assert f"{current[-1].key.end:020d}.state" in states[0]


async def test_spilled_and_left_to_the_store_it_is_the_same_shard(tmp_path: Path, storage: StorageSettings) -> None:
    log = kill_log()
    async with Tiered(tiered_settings(tmp_path / "a"), storage) as worker:
        await worker.take_in(log)
        kinds = [type(segment) for segment in worker.shard.segments]
        assert kinds.count(SpilledSegment) == len(kinds) - 1 > 2
        assert positions(worker.shard) == expected(log)
        state = counters(worker.shard), digests(worker.shard), windows(worker.shard)
        assert state == undisturbed(tmp_path / "whole", log)
        await worker.reopen()
        assert positions(worker.shard) == expected(log)
        assert log.apply(worker.shard) == []
        assert (counters(worker.shard), digests(worker.shard), windows(worker.shard)) == state
        await tiles(worker)
        names = {path.name.partition(".")[2] for path in worker.store.shard_folder(0).iterdir()}
        assert {"sealed.duckdb", "arrow"} & names == set()


async def test_what_is_kept_here_is_searched_here(tmp_path: Path, storage: StorageSettings) -> None:
    settings = tiered_settings(tmp_path / "a", keep_rows=40, keep_s=1e9)
    async with Tiered(settings, storage) as worker:
        await worker.take_in(kill_log())
        local = [s for s in worker.shard.segments if isinstance(s, SealedSegment)]
        assert 0 < sum(s.rows for s in local) <= 40
        assert all(s.spilled for s in local)
        left = [isinstance(s, SpilledSegment) for s in worker.shard.segments]
        assert left == sorted(left, reverse=True)  # the oldest
        assert positions(worker.shard) == expected(kill_log())
        await worker.reopen()
        assert [type(s) for s in worker.shard.segments if isinstance(s, SealedSegment)] == [SealedSegment] * len(local)
        assert await worker.spill() == 0


async def test_a_worker_that_has_nothing_takes_the_shard_from_the_store(
    tmp_path: Path, storage: StorageSettings
) -> None:
    log = kill_log()
    async with Tiered(tiered_settings(tmp_path / "a"), storage) as worker:
        await worker.take_in(log)
        spilled = worker.ranges()[-1][1]
    async with Tiered(tiered_settings(tmp_path / "b"), storage) as worker:
        assert worker.shard.next_offset == spilled
        assert worker.shard.epoch == 0
        log.apply(worker.shard)
        assert positions(worker.shard) == expected(log)
        assert (counters(worker.shard), digests(worker.shard), windows(worker.shard)) == undisturbed(
            tmp_path / "whole", log
        )
        await worker.spill()
        await tiles(worker)


async def test_a_former_owner_that_comes_back_takes_what_the_other_spilled(
    tmp_path: Path, storage: StorageSettings
) -> None:
    log = kill_log()
    async with Tiered(tiered_settings(tmp_path / "a", keep_rows=10_000, keep_s=1e9), storage) as worker:
        log.apply(worker.shard, 0, 25)
        await worker.spill()
        log.apply(worker.shard, 25, 33)  # not spilled
    async with Tiered(tiered_settings(tmp_path / "b"), storage) as worker:
        log.apply(worker.shard)
        await worker.spill()
    async with Tiered(tiered_settings(tmp_path / "a"), storage) as worker:
        log.apply(worker.shard)
        assert positions(worker.shard) == expected(log)
        assert counters(worker.shard) == undisturbed(tmp_path / "whole", log)[0]
        await worker.spill()
        await tiles(worker)


async def test_the_owner_before_goes_on_spilling_while_the_next_one_takes_the_shard(
    tmp_path: Path, storage: StorageSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the next one saw as the last segment's state is removed by a later segment's spill before it is read."""
    log = kill_log()
    fetch = SegmentStore.state
    async with Tiered(tiered_settings(tmp_path / "a"), storage) as before:
        log.apply(before.shard, 0, 30)
        await before.spill()
        seen = before.ranges()[-1][1]
        asked: list[int] = []

        async def spilled_meanwhile(self: SegmentStore, of: LogId, end: int) -> bytes | None:
            asked.append(end)
            if asked == [seen]:
                await before.take_in(log)
            return await fetch(self, of, end)

        monkeypatch.setattr(SegmentStore, "state", spilled_meanwhile)
        async with Tiered(tiered_settings(tmp_path / "b"), storage) as worker:
            last = before.ranges()[-1][1]
            assert asked == [seen, last]
            assert worker.shard.next_offset == last > seen
            log.apply(worker.shard)
            assert positions(worker.shard) == expected(log)
            assert (counters(worker.shard), digests(worker.shard), windows(worker.shard)) == undisturbed(
                tmp_path / "whole", log
            )


async def test_every_local_file_lost_gives_the_same(tmp_path: Path, storage: StorageSettings) -> None:
    log = kill_log()
    async with Tiered(tiered_settings(tmp_path / "a"), storage) as worker:
        await worker.take_in(log)
    shutil.rmtree(tmp_path / "a")
    async with Tiered(tiered_settings(tmp_path / "a"), storage) as worker:
        log.apply(worker.shard)
        assert positions(worker.shard) == expected(log)


async def test_two_workers_that_spill_the_same_range_store_it_once(tmp_path: Path, storage: StorageSettings) -> None:
    """A zombie: it lost its partition and does not know."""
    log = kill_log()
    async with (
        Tiered(tiered_settings(tmp_path / "a"), storage) as owner,
        Tiered(tiered_settings(tmp_path / "b"), storage) as zombie,
    ):
        log.apply(owner.shard)
        log.apply(zombie.shard)
        first = await owner.spill()
        assert await zombie.spill() == first
        assert zombie.taken == []
        await tiles(owner)
        assert positions(zombie.shard) == positions(owner.shard) == expected(log)


async def test_a_zombie_that_cut_otherwise_notices_and_takes_what_is_there(
    tmp_path: Path, storage: StorageSettings
) -> None:
    log = kill_log()
    async with (
        Tiered(tiered_settings(tmp_path / "a"), storage) as owner,
        Tiered(tiered_settings(tmp_path / "b", seal_rows=27), storage) as zombie,
    ):
        log.apply(owner.shard)
        log.apply(zombie.shard)
        await owner.spill()
        assert await zombie.spill() == 0
        assert zombie.taken == [0]
        await zombie.reopen()
        log.apply(zombie.shard)
        assert positions(zombie.shard) == expected(log)
        await zombie.spill()
        await tiles(owner)


async def test_a_recreated_topic_keeps_what_was_spilled_of_the_old_one(
    tmp_path: Path, storage: StorageSettings
) -> None:
    log = kill_log()
    async with Tiered(tiered_settings(tmp_path / "a"), storage) as worker:
        await worker.take_in(log)
        before = positions(worker.shard)
        worker.shard.begin_log(Incarnation("cluster", "topic-2"))
        await worker.spill()
        assert positions(worker.shard) == before
        log.apply(worker.shard)  # the same events under new offsets: exact duplicates, but for deletes and updates
        await worker.spill()
        after = positions(worker.shard)
        assert set(after) == set(before)
        logs = {each.key.log.incarnation.topic_id for _, each in segments_of(worker.tiering.segments, TOPIC, 0)}
        assert logs == {"topic-1", "topic-2"}
    async with Tiered(tiered_settings(tmp_path / "b"), storage) as worker:
        assert worker.shard.epoch == 1
        log.apply(worker.shard)
        assert positions(worker.shard) == after


async def test_an_object_store_that_is_away_delays_the_spill_and_not_the_ingest(
    tmp_path: Path, storage: StorageSettings
) -> None:
    log = kill_log()
    async with Tiered(tiered_settings(tmp_path / "a"), storage) as worker:
        log.apply(worker.shard, 0, 30)
        hot, away = tmp_path / "objects" / "hot", tmp_path / "away"
        shutil.move(hot, away)
        hot.write_text("no folder")
        assert worker.store.wait_sealed(60)
        with pytest.raises(Exception, match="hot"):
            await worker.tiering.spiller.spill()
        waiting = worker.tiering.spiller.backlog()
        assert waiting.segments > 0
        assert waiting.rows > 0
        log.apply(worker.shard)
        assert positions(worker.shard) == expected(log)
        hot.unlink()
        shutil.move(away, hot)
        assert await worker.spill() > waiting.segments
        assert worker.tiering.spiller.backlog().segments == 0
        await tiles(worker)


async def test_a_damaged_segment_is_named_and_the_rest_answers(tmp_path: Path, storage: StorageSettings) -> None:
    log = kill_log()
    async with Tiered(tiered_settings(tmp_path / "a"), storage) as worker:
        await worker.take_in(log)
        broken = segments_of(worker.tiering.segments, TOPIC, 0)[1][1]
    path = tmp_path / "objects" / "hot" / broken.path
    path.write_bytes(path.read_bytes()[:-30])
    async with Tiered(tiered_settings(tmp_path / "b"), storage) as worker:
        (missing,) = worker.tiering.missing()
        assert (missing.reason, missing.path, missing.partition) == ("segment_corrupt", broken.path, 0)
        assert broken.path in missing.detail
        assert len(positions(worker.shard)) > 0
    async with Tiered(tiered_settings(tmp_path / "a"), storage) as worker:  # its stub is here: a search names it
        assert worker.tiering.missing() == []
        log.apply(worker.shard)
        assert positions(worker.shard) == expected(log)


async def test_a_worker_with_nothing_waits_for_the_store_and_one_with_something_does_not(
    tmp_path: Path, storage: StorageSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("akasha_stream.tiers.tiering.RETRY_S", (0.05, 0.05))
    log = kill_log()
    async with Tiered(tiered_settings(tmp_path / "a"), storage) as worker:
        log.apply(worker.shard)
        await worker.spill()
    hot, away = tmp_path / "objects" / "hot", tmp_path / "away"
    shutil.move(hot, away)
    hot.write_text("no folder")
    async with Tiered(tiered_settings(tmp_path / "a"), storage) as worker:
        assert positions(worker.shard) == expected(log)
        assert any("hot" in each for each in worker.tiering.problems)

    new = Tiered(tiered_settings(tmp_path / "b"), storage)

    async def back() -> None:
        while not (hasattr(new, "tiering") and new.tiering.waiting):
            await asyncio.sleep(0.01)
        hot.unlink()
        shutil.move(away, hot)

    coming = asyncio.create_task(back())
    async with new:
        await coming
        assert new.tiering.waiting == {}
        log.apply(new.shard)
        assert positions(new.shard) == expected(log)


@pytest.mark.parametrize(
    "step", [pytest.param(step, marks=[] if step == "segment put" else [pytest.mark.slow]) for step in STEPS]
)
async def test_killed_at_a_step_of_the_spill(tmp_path: Path, storage: StorageSettings, step: str) -> None:
    command = [sys.executable, "-m", "tests.tiers.spill_kill", str(tmp_path), step, "2"]
    done = subprocess.run(command, capture_output=True, timeout=120, cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    log = kill_log()
    whole = undisturbed(tmp_path / "whole", log)
    for folder in ("killed", "new"):  # the same worker again, and then another one
        async with Tiered(tiered_settings(tmp_path / folder), storage) as worker:
            log.apply(worker.shard)
            assert positions(worker.shard) == expected(log)
            assert (counters(worker.shard), digests(worker.shard), windows(worker.shard)) == whole
            await worker.spill()
            await tiles(worker)
            names = sorted(path.name for path in worker.store.shard_folder(0).iterdir())
            assert not [name for name in names if ".tmp" in name]
            ranges = [segment for _, segment in segments_of(worker.tiering.segments, TOPIC, 0)]
            assert tile(ranges).problems == ()
