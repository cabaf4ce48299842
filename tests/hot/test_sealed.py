"""Sealed segments: the index is used and good, masks come along, what is derived is made again."""

from __future__ import annotations

import ctypes
import mmap
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from akasha_stream.errors import SegmentCorrupt, ShardLocked
from akasha_stream.hot import durable, sealer
from akasha_stream.hot.store import ShardStore
from akasha_stream.incarnation import Incarnation
from tests.hot.log import (
    BUILT_S,
    Event,
    Log,
    Message,
    OneShard,
    counters,
    digests,
    live,
    settings_for,
    state,
    vector_of,
    windows,
)

REAL = Path(__file__).parents[1] / "data" / "real-events.parquet"
# A process for each index: slow.
WITH_AND_WITHOUT_INDEX = pytest.mark.parametrize("index", [pytest.param(True, marks=pytest.mark.slow), False])


@pytest.fixture(autouse=True)
def no_steps() -> Iterator[None]:
    yield
    durable.on_step = None


def small_log(n: int = 20, start: int = 0) -> Log:
    return Log.of(
        [Message((Event("s", str(i), f"text {i}", vector=3 * i, created_s=5 * i),)) for i in range(n)], start=start
    )


def more(system: str, *ids: str, content: str, at: int) -> Log:
    return Log.of([Message((Event(system, each, f"{content} {each}", vector=9),)) for each in ids], start=at)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[OneShard, NDArray[np.float32]]]:
    vectors = np.array(pq.read_table(REAL)["embedding"].to_pylist(), np.float32)
    n, d = vectors.shape
    log = Log.of([Message(tuple(Event("s", str(i), f"text {i}") for i in range(at, at + 8))) for at in range(0, n, 8)])
    batch = log.batch(dimensions=d)
    batch.embedding[:] = vectors
    with OneShard(settings_for(tmp_path_factory.mktemp("real"), dimensions=d, seal_rows=n, build_indexes=True)) as one:
        one.shard.apply(log.records(), batch)
        one.shard.seal()
        one.sealed()
        yield one, vectors


def test_duckdb_says_that_it_uses_the_index(real: tuple[OneShard, NDArray[np.float32]]) -> None:
    index = real[0].shard.segments[0].index
    assert index is not None
    plan = index.explain(real[1][0], 10)
    assert "HNSW_INDEX_SCAN" in plan
    assert "JOIN" not in plan, "late materialisation scans the whole table"


def test_index_finds_the_nearest_real_vectors(real: tuple[OneShard, NDArray[np.float32]]) -> None:
    one, vectors = real
    index = one.shard.segments[0].index
    assert index is not None
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    rng = np.random.default_rng(1)
    hits = 0
    for i in range(0, len(units), 8):
        query = (units[i] + rng.normal(size=units.shape[1]) * 0.02).astype(np.float32)
        exact = set(np.argsort(-(units @ query))[:10].tolist())
        hits += len(exact & set(index.nearest(query, 10, 128).tolist()))
    assert hits / (10 * len(range(0, len(units), 8))) >= 0.97


def test_sealing_keeps_every_byte(real: tuple[OneShard, NDArray[np.float32]]) -> None:
    one, vectors = real
    view = one.shard.segments[0].view()
    assert view.sealed
    assert (view.vectors(np.arange(len(vectors))) == vectors).all()
    assert view.texts([7])[0].content == "text 7"


@pytest.mark.parametrize("step", ["sealing", "arrow written", "file closed", "index built", "growing removed"])
def test_masks_made_while_sealing_come_along(tmp_path: Path, step: str) -> None:
    reached, go_on = threading.Event(), threading.Event()

    def on_step(name: str) -> None:
        if name == step and threading.current_thread().name in {"sealer", "indexer"} and not reached.is_set():
            reached.set()
            assert go_on.wait(20)

    with OneShard(settings_for(tmp_path, seal_rows=20, build_indexes=True)) as one:
        log = small_log()
        log.apply(one.shard)
        durable.on_step = on_step
        one.shard.seal()
        assert reached.wait(30)
        more("s", "3", "5", content="new", at=20).apply(one.shard)
        Log.of([Message((Event("s", "7", delete=True),))], start=22).apply(one.shard)
        found = live(one.shard)
        assert len(found) == 19
        assert found["s", "3"][1] == "new 3"
        go_on.set()
        one.sealed()
        assert live(one.shard) == found
        one.reopen()
        assert live(one.shard) == found


@WITH_AND_WITHOUT_INDEX
def test_a_deleted_arrow_file_is_made_again(tmp_path: Path, index: bool) -> None:
    with OneShard(settings_for(tmp_path, seal_rows=5, build_indexes=index)) as one:
        small_log().apply(one.shard)
        one.sealed()
        before = state(one.shard)
        one.shard.close()
        arrows = sorted(one.folder.glob("*.arrow"))
        assert len(arrows) == 3
        for each in arrows:
            each.unlink()
        one.reopen()
        assert sorted(one.folder.glob("*.arrow")) == arrows
        assert state(one.shard) == before


@pytest.fixture(scope="module")
def closed_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data of a worker that ended: three sealed segments with their indexes, a growing one. To be copied."""
    folder = tmp_path_factory.mktemp("closed")
    with OneShard(settings_for(folder, seal_rows=5, build_indexes=True)) as one:
        small_log().apply(one.shard)
        one.sealed()
        one.shard._file.checkpoint_and_close()  # type: ignore[union-attr]
    return folder


@pytest.mark.parametrize("kind", ["arrow", "sealed.duckdb", "growing.duckdb"])
@pytest.mark.parametrize("damage", ["garbage", "cut", "empty"])
def test_a_damaged_file_is_named(tmp_path: Path, closed_folder: Path, kind: str, damage: str) -> None:
    shutil.copytree(closed_folder, tmp_path, dirs_exist_ok=True)
    one = OneShard(settings_for(tmp_path, seal_rows=5, build_indexes=True))
    one.close()
    path = min(one.folder.glob(f"*.{kind}"))
    whole = path.read_bytes()
    path.write_bytes({"garbage": b"\xff" * len(whole), "cut": whole[: len(whole) // 2], "empty": b""}[damage])
    if (kind, damage) == ("growing.duckdb", "empty"):
        # As after a kill while it was created.
        one._open()
        assert one.shard.next_offset == 15
        one.close()
        return
    with pytest.raises(SegmentCorrupt, match=path.name.replace(".", r"\.")):
        one._open()
    one.sealer.close()
    path.write_bytes(whole)
    one._open()  # nothing that was opened by the failed try is in the way
    assert len(live(one.shard)) == 20
    one.close()


def test_other_dimensions_are_refused(tmp_path: Path) -> None:
    with OneShard(settings_for(tmp_path, seal_rows=5)) as one:
        small_log().apply(one.shard)
        one.sealed()
    with pytest.raises(SegmentCorrupt, match=r"holds vectors of 8 dimensions, limits\.dimensions is 16"):
        OneShard(settings_for(tmp_path, seal_rows=5, dimensions=16))


def test_a_second_process_is_kept_out(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    store = ShardStore(settings, "topic")
    try:
        code = (
            "import sys; from pathlib import Path; from akasha_stream.errors import ShardLocked\n"
            "from akasha_stream.hot.store import ShardStore; from tests.hot.log import settings_for\n"
            "try: ShardStore(settings_for(Path(sys.argv[1])), 'topic')\n"
            "except ShardLocked as exc: print(exc); sys.exit(7)"
        )
        root = Path(__file__).parents[2]
        done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, cwd=root, check=False)
        assert done.returncode == 7, done.stderr.decode()
        assert b"hot.data_dir" in done.stdout
        with pytest.raises(ShardLocked):
            ShardStore(settings, "topic")
    finally:
        store.close_all()
    ShardStore(settings, "topic").close_all()


@WITH_AND_WITHOUT_INDEX
def test_a_segment_without_rows_is_sealed(tmp_path: Path, index: bool) -> None:
    with OneShard(settings_for(tmp_path, seal_rows=20, build_indexes=index)) as one:
        log = small_log(10)
        log.apply(one.shard)
        one.shard.seal()
        again = Log.of(log.messages, start=10)
        again.apply(one.shard)
        one.shard.seal()
        one.sealed()
        assert [segment.rows for segment in one.shard.segments] == [10, 0, 0]
        before = state(one.shard)
        assert counters(one.shard) == {"s": [10, 0, 0, 10, 0, 0]}
        one.reopen()
        assert state(one.shard) == before


def test_an_idle_segment_is_sealed_when_it_is_old_enough(tmp_path: Path) -> None:
    with OneShard(settings_for(tmp_path, seal_age_s=10)) as one:
        assert not one.shard.seal_if_due(10**15, 0)
        log = small_log(3)
        log.apply(one.shard)
        first = log.records()[0].timestamp_ms
        end = one.shard.next_offset
        assert not one.shard.seal_if_due(first + 9_999, end)
        assert not one.shard.seal_if_due(first + 10_000, end + 1)  # there is more in the log
        assert one.shard.seal_if_due(first + 10_000, end)
        assert not one.shard.seal_if_due(first + 10_000, end)
        one.sealed()
        assert [str(s.name) for s in one.shard.segments] == ["00-00000000000000000000", "00-00000000000000000003"]


def test_a_recreated_topic_keeps_old_rows_and_takes_the_same_offsets_anew(tmp_path: Path) -> None:
    with OneShard(settings_for(tmp_path, seal_rows=5)) as one:
        small_log(7).apply(one.shard)
        assert one.shard.knows_other(more("s", "x", content="y", at=6).records()[0])
        new = Incarnation("cluster", "topic-2")
        assert one.shard.incarnation.differs_from(new)
        one.shard.begin_log(new)
        assert one.shard.next_offset == 0
        log = Log.of([Message((Event("s", "3", "other", vector=30),)), Message((Event("s", "n", "new", vector=60),))])
        assert len(log.apply(one.shard)) == 1
        found = live(one.shard)
        assert len(found) == 8
        assert found["s", "3"][1] == "other"
        one.sealed()
        before = state(one.shard)
        one.reopen()
        assert state(one.shard) == before
        assert one.shard.incarnation == new
        assert (one.shard.epoch, one.shard.next_offset) == (1, 2)


@pytest.mark.slow
def test_a_shard_that_lost_its_youngest_file_goes_on_after_the_one_before(tmp_path: Path) -> None:
    log = small_log(20)
    with OneShard(settings_for(tmp_path / "whole", seal_rows=5)) as whole:
        log.apply(whole.shard)
        expected = state(whole.shard)
    for index in (True, False):
        with OneShard(settings_for(tmp_path / str(index), seal_rows=5, build_indexes=index)) as one:
            log.apply(one.shard)
            one.sealed()
            known, table = one.shard.segments[-1].name, one.shard.table_id
            one.shard.close()
            for path in one.folder.glob(f"{known}*"):
                path.unlink()
            one.incarnation = Incarnation("cluster", "topic-2")
            one.reopen()
            assert one.shard.next_offset == known.start
            assert one.shard.incarnation == Incarnation("cluster", "topic-1")
            assert one.shard.table_id != table
            log.apply(one.shard)
            assert state(one.shard) == expected
            assert digests(one.shard)
            assert windows(one.shard)


def test_a_smaller_seal_rows_opens_what_was_written_with_a_larger(tmp_path: Path) -> None:
    with OneShard(settings_for(tmp_path, seal_rows=100)) as one:
        small_log(50).apply(one.shard)
        before = live(one.shard)
    with OneShard(settings_for(tmp_path, seal_rows=10)) as one:
        assert live(one.shard) == before
        small_log(60).apply(one.shard)
        assert len(live(one.shard)) == 60


def test_a_closed_shard_opens_again_in_the_same_store_while_a_search_holds_its_views(tmp_path: Path) -> None:
    store = ShardStore(settings_for(tmp_path, seal_rows=5, build_indexes=True), "topic")
    try:
        shard = store.open(0, Incarnation())
        small_log(12).apply(shard)
        assert store.wait_sealed(BUILT_S)
        held = store.views()
        expected = live(shard)
        store.close(0)
        assert store.views() == []
        assert [view.texts([0])[0].event_id for view in held] == ["0", "5", "10"]
        assert held[0].vectors(np.array([0]))[0].tolist() == vector_of(0).tolist()
        assert held[0].index is not None
        assert len(held[0].index.nearest(vector_of(0), 3, 64)) == 0  # the search then goes by the bit codes
        again = store.open(0, Incarnation())
        assert again is not shard
        assert live(again) == expected
        index = again.segments[0].index
        assert index is not None
        assert index.nearest(vector_of(0), 3, 64)[0] == 0
    finally:
        store.close_all()


@pytest.mark.slow
def test_an_index_waits_while_a_backlog_is_worked_off_but_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealer, "INDEX_QUIET_S", 3_600.0)
    monkeypatch.setattr(sealer, "INDEX_LATEST_S", 3_600.0)
    store = ShardStore(settings_for(tmp_path, seal_rows=5, build_indexes=True), "topic")
    store.put_off_indexes()
    mapped = threading.Event()
    durable.on_step = lambda step: mapped.set() if step == "file closed" else None
    shard = store.open(0, Incarnation())
    small_log(6).apply(shard)
    assert mapped.wait(BUILT_S)
    assert not store.wait_sealed(1.0)
    assert [view.sealed for view in store.views()] == [True, False]
    assert [view.index for view in store.views()] == [None, None]
    store.close_all()  # does not wait either

    monkeypatch.setattr(sealer, "INDEX_LATEST_S", 0.0)
    store = ShardStore(settings_for(tmp_path, seal_rows=5, build_indexes=True), "topic")
    try:
        store.put_off_indexes()
        store.open(0, Incarnation())
        assert store.wait_sealed(BUILT_S)
        assert store.views()[0].index is not None
    finally:
        store.close_all()


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux's page cache")
def test_the_log_of_a_closed_segment_leaves_the_page_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    probe = tmp_path / "probe"
    probe.write_bytes(bytes(1 << 20))
    durable.sync_file(probe)
    assert cached_pages(probe)
    durable.out_of_cache(probe)
    if cached_pages(probe):
        pytest.skip("this file system is in memory itself")

    monkeypatch.setattr(sealer, "INDEX_QUIET_S", 3_600.0)
    store = ShardStore(settings_for(tmp_path, seal_rows=5, build_indexes=True), "topic")
    store.put_off_indexes()
    mapped = threading.Event()
    durable.on_step = lambda step: mapped.set() if step == "file closed" else None
    try:
        shard = store.open(0, Incarnation())
        small_log(6).apply(shard)
        assert mapped.wait(BUILT_S)
        closed, growing = (each.name.growing(shard.folder).with_suffix(".duckdb.wal") for each in shard.segments)
        assert not cached_pages(closed)
        assert cached_pages(growing)
        assert closed.read_bytes()
    finally:
        store.close_all()


def cached_pages(path: Path) -> int:
    """How many pages of a file the page cache has: mincore(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as pages:
        found = (ctypes.c_ubyte * -(-len(pages) // mmap.PAGESIZE))()
        start = ctypes.c_char.from_buffer(pages)
        failed = libc.mincore(ctypes.byref(start), ctypes.c_size_t(len(pages)), found)
        del start  # or the map can't be closed
    assert not failed, os.strerror(ctypes.get_errno())
    return sum(each & 1 for each in found)


def test_closing_leaves_no_thread_and_no_open_file(tmp_path: Path) -> None:
    def open_files() -> list[str]:
        found = []
        for each in Path("/proc/self/fd").iterdir():
            try:
                found.append(str(each.readlink()))
            except OSError:
                continue
        return [name for name in found if name.startswith(str(tmp_path))]

    threads = set(threading.enumerate())
    store = ShardStore(settings_for(tmp_path, seal_rows=5, build_indexes=True), "topic")
    shard = store.open(3, Incarnation())
    small_log(12).apply(shard)
    assert store.wait_sealed(BUILT_S)
    assert open_files()
    store.close_all()
    assert open_files() == []
    assert set(threading.enumerate()) <= threads


async def test_waiting_for_an_offset(tmp_path: Path) -> None:
    store = ShardStore(settings_for(tmp_path), "topic")
    try:
        shard = store.open(0, Incarnation())
        assert not await store.wait_for(0, 0, 0.05)

        def later() -> None:
            small_log(3).apply(shard)
            store.advanced(shard)

        timer = threading.Timer(0.1, later)
        timer.start()
        assert await store.wait_for(0, 2, 10)
        assert await store.wait_for(0, 0, 0)
        assert not await store.wait_for(1, 0, 0.05)
        timer.join()
    finally:
        store.close_all()
