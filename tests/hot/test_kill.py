"""kill -9 at every named step, then the next process: nothing lost, nothing twice, offset = rows."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.hot.kill import kill_log, take_in
from tests.hot.log import BUILT_S, OneShard, counters, live, settings_for, state
from tests.hot.model import Model

STEPS = {
    "before commit": (1, 2, 9),
    "committed": (1, 2, 9),
    "state written": (1, 2),
    "next segment created": (1, 3),
    "sealing": (1, 2),
    "arrow written": (1, 2),
    "file closed": (1, 2),
    "index built": (1,),
    "growing removed": (1,),
    "rewritten": (1, 3),
    "old arrow aside": (1, 2),
    "file replaced": (1, 3),
}


INDEXED = {"index built", "growing removed"}
"""Steps that come only where indexes are built: a process for each segment."""


def run_until_killed(folder: Path, step: str, passing: int, *, build: bool) -> None:
    command = [sys.executable, "-m", "tests.hot.kill", str(folder), step, str(passing), "yes" if build else "no"]
    done = subprocess.run(command, capture_output=True, timeout=120, cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[object, ...]:
    with OneShard(settings_for(tmp_path_factory.mktemp("whole"), seal_rows=20), seal=False) as one:
        take_in(one, kill_log())
        return state(one.shard)


@pytest.mark.parametrize(
    ("step", "passing"),
    [
        pytest.param(step, n, marks=[pytest.mark.slow] if n != times[-1] or step in INDEXED else [])
        for step, times in STEPS.items()
        for n in times
    ],
)
def test_killed_at_a_step_loses_nothing_and_stores_nothing_twice(
    tmp_path: Path, undisturbed: tuple[object, ...], step: str, passing: int
) -> None:
    build = step in INDEXED
    run_until_killed(tmp_path / "killed", step, passing, build=build)
    log = kill_log()
    settings = settings_for(tmp_path / "killed", seal_rows=20, build_indexes=build)
    model = Model(settings.dedupe).run(log)
    with OneShard(settings) as one:
        reached = one.shard.next_offset
        so_far = Model(settings.dedupe)
        for offset, message in zip(log.offsets, log.messages, strict=True):
            if offset < reached:
                if message.forgets:
                    so_far.forget(message.forgets)
                for index, event in enumerate(message.events):
                    so_far.event(event, offset << 16 | index)
        assert live(one.shard) == so_far.expected()
        assert counters(one.shard) == dict(sorted(so_far.counters.items()))
        log.apply(one.shard)
        assert live(one.shard) == model.expected()
        assert one.shard.next_offset == log.end
        assert state(one.shard) == undisturbed
        one.sealed()
        one.reopen()
        assert live(one.shard) == model.expected()
        one.sealed()
        names = sorted(path.name for path in one.folder.iterdir())
    assert not [name for name in names if ".tmp" in name]


def test_killed_again_and_again(tmp_path: Path, undisturbed: tuple[object, ...]) -> None:
    for step, passing in (("before commit", 4), ("next segment created", 1), ("arrow written", 1), ("committed", 3)):
        run_until_killed(tmp_path / "killed", step, passing, build=False)
    with OneShard(settings_for(tmp_path / "killed", seal_rows=20)) as one:
        kill_log().apply(one.shard)
        assert state(one.shard) == undisturbed


def test_builder_killed_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("akasha_stream.hot.sealer.RETRY_S", 0.2)
    log = kill_log()
    with OneShard(settings_for(tmp_path, seal_rows=1_000, build_indexes=True)) as one:
        log.apply(one.shard)
        one.shard.seal()
        deadline = time.monotonic() + 30
        while (process := one.sealer._process) is None:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
        one.sealed()
        assert one.sealer.backlog().error is None
        assert one.shard.segments[0].index is not None
        assert live(one.shard) == Model(one.settings.dedupe).run(log).expected()


def test_builder_ends_with_its_worker(tmp_path: Path) -> None:
    """Or the next worker would find the growing file locked."""
    run_until_killed(tmp_path, "file closed", 1, build=True)
    with OneShard(settings_for(tmp_path, seal_rows=20, build_indexes=True)) as one:
        one.sealed()


@pytest.mark.slow
def test_builder_that_fails_leaves_the_segment_searchable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("akasha_stream.hot.sealer.RETRY_S", 0.05)
    log = kill_log()
    # A folder of the sealed file's name: no builder can rename its file over it.
    with OneShard(settings_for(tmp_path, seal_rows=20, build_indexes=True)) as one:
        one.folder.joinpath("00-00000000000000000000.sealed.duckdb").mkdir()
        log.apply(one.shard)
        deadline = time.monotonic() + BUILT_S
        while one.sealer.backlog().segments > 1:  # the others are not held up by it
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert one.shard.segments[0].index is None
        assert "0/00-00000000000000000000 not sealed" in (one.sealer.backlog().error or "")
        assert live(one.shard) == Model(one.settings.dedupe).run(log).expected()
        one.folder.joinpath("00-00000000000000000000.sealed.duckdb").rmdir()
        one.sealed()
        assert one.shard.segments[0].index is not None
