"""The local cache of row groups: its limit, its order, restarts, damage."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from akasha_stream.errors import ShardLocked
from akasha_stream.tiers.body_cache import BodyCache


def batch(number: int, rows: int = 100) -> pa.RecordBatch:
    values = np.random.default_rng(number).bytes(8 * rows)
    return pa.RecordBatch.from_arrays(
        [pa.FixedSizeBinaryArray.from_buffers(pa.binary(8), rows, [None, pa.py_buffer(values)])], names=["vector"]
    )


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[BodyCache]:
    opened = BodyCache(tmp_path / "cache", 1 << 20)
    yield opened
    opened.close()


def on_disk(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def test_what_was_put_comes_back_and_outlives_the_process(cache: BodyCache) -> None:
    cache.put("a", batch(1))
    assert cache.get("a") == batch(1)
    assert cache.get("b") is None
    cache.close()
    again = BodyCache(cache.folder, 1 << 20)
    assert again.get("a") == batch(1)
    assert again.used_bytes == on_disk(cache.folder)
    again.close()


def test_a_smaller_limit_after_a_restart_drops_the_least_recently_used(cache: BodyCache) -> None:
    for number in range(4):
        cache.put(str(number), batch(number))
    for number, seconds in ((2, 1_000), (0, 2_000), (3, 3_000), (1, 4_000)):
        os.utime(cache.folder / f"{number}.body", (seconds, seconds))
    size = cache.used_bytes // 4
    cache.close()
    again = BodyCache(cache.folder, 2 * size)
    assert [number for number in range(4) if again.get(str(number)) is not None] == [1, 3]
    again.close()


@settings(deadline=None, max_examples=30)
@given(puts=st.lists(st.tuples(st.integers(0, 9), st.sampled_from([10, 200, 900, 3_000])), max_size=40))
def test_it_never_has_more_than_its_limit_and_keeps_what_was_used_last(
    puts: list[tuple[int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("cache")
    cache = BodyCache(folder, 20_000)
    used: OrderedDict[int, None] = OrderedDict()
    for number, rows in puts:
        cache.put(str(number), batch(number, rows))
        assert on_disk(folder) == cache.used_bytes <= 20_000
        if cache.get(str(number)) is not None:
            used[number] = None
            used.move_to_end(number)
    kept = [number for number in used if cache.get(str(number)) is not None]
    assert kept == list(used)[len(used) - len(kept) :]
    cache.close()


def test_side_by_side_it_stays_below_the_limit(tmp_path: Path) -> None:
    cache = BodyCache(tmp_path, 30_000)
    over: list[int] = []

    def put(first: int) -> None:
        for number in range(first, first + 30):
            cache.put(str(number), batch(number, 500))
            if cache.used_bytes > 30_000:
                over.append(number)

    threads = [threading.Thread(target=put, args=(first,)) for first in (0, 10, 20, 30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert over == []
    assert on_disk(tmp_path) == cache.used_bytes <= 30_000
    cache.close()


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "gone"])
def test_a_damaged_file_is_dropped(cache: BodyCache, damage: str) -> None:
    cache.put("a", batch(1))
    cache.close()
    path = cache.folder / "a.body"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes({"flipped": bytes(data), "cut": bytes(data[:-30]), "empty": b"", "gone": b""}[damage])
    again = BodyCache(cache.folder, 1 << 20)
    if damage == "gone":
        path.unlink()
    assert again.get("a") is None
    assert (again.used_bytes, path.exists()) == (0, False)
    again.put("a", batch(1))
    assert again.get("a") == batch(1)
    again.close()


def test_what_a_killed_process_was_writing_is_removed(tmp_path: Path) -> None:
    (tmp_path / "a.7.tmp").write_bytes(b"half")
    cache = BodyCache(tmp_path, 1 << 20)
    assert on_disk(tmp_path) == cache.used_bytes == 0
    cache.close()


def test_a_batch_that_was_given_out_outlives_its_file(cache: BodyCache) -> None:
    cache.put("a", batch(1))
    held = cache.get("a")
    for number in range(2_000):
        cache.put(str(number), batch(number))
    assert cache.get("a") is None
    assert held == batch(1)


def test_two_processes_do_not_share_a_folder(cache: BodyCache) -> None:
    with pytest.raises(ShardLocked, match="another process"):
        BodyCache(cache.folder, 1 << 20)
