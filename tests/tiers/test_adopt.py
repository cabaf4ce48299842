"""A worker dies while it takes a shard over from the object store; whoever is next takes it over as it is there."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from akasha_stream.errors import SegmentCorrupt
from akasha_stream.hot import durable
from akasha_stream.hot.store import ShardStore
from akasha_stream.storage import StorageSettings
from tests.hot.kill import kill_log
from tests.hot.log import Log, counters, digests, windows
from tests.tiers.test_spill import expected, tiles, undisturbed
from tests.tiers.tiered import INCARNATION, TOPIC, Tiered, positions, tiered_settings

STEPS = {"stale segment removed": 3, "stub fetched": 4, "state fetched": 1}
"""How often each comes when `killed` takes the shard back."""
CASES = [(step, passing) for step, times in STEPS.items() for passing in range(1, times + 1)]
QUICK = {(step, (times + 1) // 2) for step, times in STEPS.items()}


@pytest.fixture
def storage(tmp_path: Path) -> StorageSettings:
    return StorageSettings.local(tmp_path / "objects")


async def change_owners(folder: Path, storage: StorageSettings, log: Log, high: int | None = None) -> int:
    """From `killed` to another one; the offset up to which that one has spilled.

    What `killed` has is partly in the store, with its local copy, and partly what the other one cut otherwise.
    `high`: messages that the other one gets.
    """
    async with Tiered(tiered_settings(folder / "killed", keep_rows=10_000, keep_s=1e9), storage) as worker:
        log.apply(worker.shard, 0, 18)
        await worker.spill()
        log.apply(worker.shard, 18, 50)
    async with Tiered(tiered_settings(folder / "other", seal_rows=27), storage) as worker:
        log.apply(worker.shard, 0, high)
        await worker.spill()
        return worker.ranges()[-1][1]


def die_taking_over(folder: Path, step: str, passing: int) -> None:
    command = [sys.executable, "-m", "tests.tiers.adopt_kill", str(folder), step, str(passing)]
    done = subprocess.run(command, capture_output=True, timeout=120, cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


def before(log: Log, offset: int) -> Log:
    n = sum(each < offset for each in log.offsets)
    return Log(log.messages[:n], log.offsets[:n])


def state(worker: Tiered) -> tuple[object, ...]:
    return counters(worker.shard), digests(worker.shard), windows(worker.shard)


async def is_as_the_log_says(folder: Path, worker: Tiered, log: Log, spilled: int) -> None:
    """A shard that was just taken over: as it is in the store, and after the rest of the log."""
    assert worker.shard.next_offset == spilled < log.end
    assert positions(worker.shard) == expected(before(log, spilled))
    assert state(worker) == undisturbed(folder / "spilled", before(log, spilled))
    log.apply(worker.shard)
    assert worker.shard.next_offset == log.end
    assert positions(worker.shard) == expected(log)
    assert state(worker) == undisturbed(folder / "whole", log)
    await worker.spill()
    await tiles(worker)
    await worker.reopen()
    assert positions(worker.shard) == expected(log)
    assert state(worker) == undisturbed(folder / "again", log)
    assert not [path for path in worker.store.shard_folder(0).iterdir() if ".tmp" in path.name]


async def test_the_cases_are_all_that_there_are(
    tmp_path: Path, storage: StorageSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = kill_log()
    spilled = await change_owners(tmp_path, storage, log)
    passed: list[str] = []
    monkeypatch.setattr(durable, "on_step", passed.append)
    async with Tiered(tiered_settings(tmp_path / "killed"), storage) as worker:
        assert Counter(passed) == STEPS
        monkeypatch.setattr(durable, "on_step", None)
        await is_as_the_log_says(tmp_path, worker, log, spilled)


@pytest.mark.parametrize(
    ("step", "passing"),
    [pytest.param(*case, marks=[] if case in QUICK else [pytest.mark.slow]) for case in CASES],
)
async def test_killed_while_it_takes_a_shard_over(
    tmp_path: Path, storage: StorageSettings, step: str, passing: int
) -> None:
    log = kill_log()
    spilled = await change_owners(tmp_path, storage, log)
    die_taking_over(tmp_path, step, passing)
    async with Tiered(tiered_settings(tmp_path / "killed"), storage) as worker:
        await is_as_the_log_says(tmp_path, worker, log, spilled)


async def test_killed_again_and_again_while_it_takes_a_shard_over_with_an_empty_disk(
    tmp_path: Path, storage: StorageSettings
) -> None:
    log = kill_log()
    spilled = await change_owners(tmp_path, storage, log)
    shutil.rmtree(tmp_path / "killed")
    for step, passing in (("stub fetched", 2), ("stub fetched", 1), ("state fetched", 1)):
        die_taking_over(tmp_path, step, passing)
    async with Tiered(tiered_settings(tmp_path / "killed"), storage) as worker:
        await is_as_the_log_says(tmp_path, worker, log, spilled)


@pytest.mark.parametrize("step", STEPS)
async def test_what_was_taken_over_in_part_waits_for_the_store(
    tmp_path: Path, storage: StorageSettings, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """A worker killed on the way left something here, which nobody opens as it is, though the store is away."""
    monkeypatch.setattr("akasha_stream.tiers.tiering.RETRY_S", (0.05, 0.05))
    log = kill_log()
    spilled = await change_owners(tmp_path, storage, log)
    if step != "stale segment removed":  # with nothing else here, windows and counters would begin anew for good
        shutil.rmtree(tmp_path / "killed")
    die_taking_over(tmp_path, step, 1)
    without_worker = ShardStore(tiered_settings(tmp_path / "killed"), TOPIC)
    with pytest.raises(SegmentCorrupt, match="a worker died while it took this shard"):
        without_worker.open(0, INCARNATION)
    without_worker.close_all()
    hot, away = tmp_path / "objects" / "hot", tmp_path / "away"
    shutil.move(hot, away)
    hot.write_text("no folder")
    worker = Tiered(tiered_settings(tmp_path / "killed"), storage)

    async def back() -> None:
        while not (hasattr(worker, "tiering") and worker.tiering.waiting):
            await asyncio.sleep(0.01)
        hot.unlink()
        shutil.move(away, hot)

    coming = asyncio.create_task(back())
    try:
        async with worker:
            assert coming.done()
            await is_as_the_log_says(tmp_path, worker, log, spilled)
    finally:
        coming.cancel()


async def test_what_comes_after_a_gap_is_read_again(tmp_path: Path, storage: StorageSettings) -> None:
    """The other one's last segment ends within one that was cut otherwise here."""
    log = kill_log()
    spilled = await change_owners(tmp_path, storage, log, high=42)
    starts = {int(path.name[3:23]) for path in (tmp_path / "killed" / TOPIC / "00000").glob("*.growing.duckdb")}
    assert max(starts) > spilled
    assert spilled not in starts
    async with Tiered(tiered_settings(tmp_path / "killed"), storage) as worker:
        await is_as_the_log_says(tmp_path, worker, log, spilled)
