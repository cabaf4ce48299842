"""Commits that fail, commits that only seem to, and a full disk: the same call works later, exactly once."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from akasha_stream.errors import ShardError, ShardWriteError
from akasha_stream.hot import durable
from akasha_stream.hot.segment_file import SegmentFile
from tests.hot.kill import kill_log
from tests.hot.log import Event, Log, Message, OneShard, live, settings_for, state
from tests.hot.model import Model


@pytest.fixture(autouse=True)
def no_steps() -> Iterator[None]:
    yield
    durable.on_step = None


class Interrupting:
    """A connection whose n-th COMMIT raises, before or after it happened."""

    def __init__(self, con: duckdb.DuckDBPyConnection, *, happens: bool) -> None:
        self._con = con
        self._happens = happens

    def execute(self, query: str, *rest: Any) -> Any:
        if query == "COMMIT":
            if self._happens:
                self._con.execute(query)
            raise duckdb.IOException("the disk is gone")
        return self._con.execute(query, *rest)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._con, name)


def halves() -> tuple[Log, int]:
    return kill_log(forgets=False), 24


@pytest.mark.parametrize("table", ["rows", "tombstones", "dropped"])
def test_a_failed_insert_changes_nothing_and_a_retry_stores_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    log, half = halves()
    with OneShard(settings_for(tmp_path), seal=False) as one:
        log.apply(one.shard, 0, half)
        before = state(one.shard)
        real = SegmentFile.insert

        def failing(self: SegmentFile, name: str, rows: Any) -> None:
            if name == table:
                raise duckdb.IOException("No space left on device")
            real(self, name, rows)

        with monkeypatch.context() as patch:
            patch.setattr(SegmentFile, "insert", failing)
            for _ in range(2):
                with pytest.raises(ShardWriteError, match="No space left"):
                    log.apply(one.shard, half)
                assert state(one.shard) == before
        assert len(log.apply(one.shard, half)) == 1
        assert live(one.shard) == Model(one.settings.dedupe).run(log).expected()
        after = state(one.shard)
        one.reopen()
        assert state(one.shard) == after


@pytest.mark.parametrize("happens", [True, False])
@pytest.mark.parametrize("opens", [True, False])
def test_a_commit_in_doubt_is_settled_by_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, happens: bool, opens: bool
) -> None:
    log, half = halves()
    with OneShard(settings_for(tmp_path), seal=False) as one:
        log.apply(one.shard, 0, half)
        file = one.shard._file
        assert file is not None
        file._con = Interrupting(file._con, happens=happens)  # type: ignore[assignment]
        with pytest.raises(ShardWriteError):
            log.apply(one.shard, half)
        if not opens:  # nor can the file be read yet
            with monkeypatch.context() as patch:
                patch.setattr(SegmentFile, "progress", lambda _: (_ for _ in ()).throw(ShardWriteError("not yet")))
                with pytest.raises(ShardWriteError, match="not yet"):
                    log.apply(one.shard, half)
        applied = log.apply(one.shard, half)
        assert [each.next_offset for each in applied] == [log.end]
        assert live(one.shard) == Model(one.settings.dedupe).run(log).expected()
        after = state(one.shard)
        one.reopen()
        assert state(one.shard) == after


def test_a_failed_roll_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, _ = halves()
    with OneShard(settings_for(tmp_path, seal_rows=20), seal=False) as one:
        real = SegmentFile.insert_progress

        def failing(self: SegmentFile, progress: Any) -> None:
            if not progress.events:
                raise duckdb.IOException("No space left on device")
            real(self, progress)

        with monkeypatch.context() as patch:
            patch.setattr(SegmentFile, "insert_progress", failing)
            with pytest.raises(ShardWriteError):
                log.apply(one.shard)
        stored = one.shard.next_offset
        assert 0 < stored < log.end  # what came before the roll
        applied = log.apply(one.shard)
        assert applied[0].previous_offset == 0  # told with the retry: the lookups need it
        assert live(one.shard) == Model(one.settings.dedupe).run(log).expected()


def test_a_closed_shard_takes_nothing(tmp_path: Path) -> None:
    log, half = halves()
    with OneShard(settings_for(tmp_path), seal=False) as one:
        log.apply(one.shard, 0, half)
        one.shard.close()
        with pytest.raises(ShardError, match="closed"):
            log.apply(one.shard, half)
        assert not one.shard.seal()


def test_records_that_are_stored_already_are_skipped(tmp_path: Path) -> None:
    log, half = halves()
    with OneShard(settings_for(tmp_path), seal=False) as one:
        log.apply(one.shard, 0, half)
        assert log.apply(one.shard, 0, half) == []
        log.apply(one.shard)
        assert live(one.shard) == Model(one.settings.dedupe).run(log).expected()


def test_a_transaction_larger_than_the_memory_limit_is_stored(tmp_path: Path) -> None:
    d = 384
    log = Log.of(
        [Message(tuple(Event("s", f"{i}-{j}", f"{i}-{j}" * 200, vector=i) for j in range(8))) for i in range(5_000)]
    )
    settings = settings_for(tmp_path, dimensions=d, seal_rows=100_000)
    with OneShard(settings, seal=False) as one:
        batch = log.batch(dimensions=8)
        wide = np.random.default_rng(1).normal(size=(len(batch), d)).astype(np.float32)
        object.__setattr__(batch, "embedding", wide)
        one.shard.apply(log.records(), batch)
        assert one.shard.segments[0].rows == len(batch)


def test_a_full_disk_stops_and_free_space_goes_on(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"can't mount a tmpfs: {mounted.stderr.decode().strip()}")
    try:
        ballast = disk / "ballast"
        ballast.write_bytes(b"\0" * 2_500_000)
        log = Log.of(
            [Message(tuple(Event("s", f"{i}-{j}", f"{i} {j} " + "x" * 5_000) for j in range(4))) for i in range(200)]
        )
        with OneShard(settings_for(disk / "data", seal_rows=10_000), seal=False) as one:
            low, failed = 0, False
            while low < len(log):
                try:
                    log.apply(one.shard, low, low + 10)
                    low += 10
                except ShardWriteError:
                    assert not failed
                    failed = True
                    before = state(one.shard)
                    assert live(one.shard) == Model(one.settings.dedupe).run(_first(log, low)).expected()
                    with pytest.raises(ShardWriteError):
                        log.apply(one.shard, low, low + 10)
                    assert state(one.shard) == before
                    ballast.unlink()
                    subprocess.run(["mount", "-o", "remount,size=40m", str(disk)], check=True)
            assert failed
            assert live(one.shard) == Model(one.settings.dedupe).run(log).expected()
            after = state(one.shard)
            one.reopen()
            assert state(one.shard) == after
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def _first(log: Log, count: int) -> Log:
    return Log(log.messages[:count], log.offsets[:count])
