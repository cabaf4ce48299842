"""What a growing file's DuckDB keeps in memory beside the rows' searchable copy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from akasha_stream.hot.schema import MEMORY_LIMIT_MB, SegmentName, memory_limit_mb, row_schema
from akasha_stream.hot.segment_file import Progress, SegmentFile
from akasha_stream.incarnation import Incarnation

D, ROWS, AT_ONCE = 384, 30_000, 400
NAME = SegmentName(0, 0)


def create(folder: Path) -> SegmentFile:
    progress = Progress(next_offset=0)
    return SegmentFile.create(
        folder,
        NAME,
        topic="topic",
        partition=0,
        dimensions=D,
        incarnation=Incarnation(),
        progress=progress,
        snapshot=[],
    )


def fill(file: SegmentFile) -> None:
    for start, rows in _batches():
        with file.transaction(rows.nbytes):
            file.insert("rows", rows)
            file.insert_progress(Progress(next_offset=start + AT_ONCE, events=start + AT_ONCE))


def _batches() -> Iterator[tuple[int, pa.Table]]:
    rng = np.random.default_rng(1)
    for start in range(0, ROWS, AT_ONCE):
        numbers = np.arange(start, start + AT_ONCE)
        columns: dict[str, pa.Array[Any]] = {
            field.name: pa.array(["x" * 40] * AT_ONCE) if field.type == pa.string() else pa.array(numbers)
            for field in row_schema(D)
        }
        columns["embedding"] = pa.array([rng.bytes(4 * D) for _ in range(AT_ONCE)], pa.binary(4 * D))
        columns["updated"] = pa.array([False] * AT_ONCE)
        yield start, pa.table(columns).cast(row_schema(D))


def kept_mb(file: SegmentFile) -> float:
    kept = file._con.execute("SELECT sum(memory_usage_bytes) FROM duckdb_memory()").fetchone()
    assert kept is not None
    return float(kept[0]) / 1e6


def test_it_keeps_no_more_than_its_limit_however_many_rows(tmp_path: Path) -> None:
    file = create(tmp_path)
    fill(file)
    assert ROWS * 4 * D > 2e6 * MEMORY_LIMIT_MB  # they would not fit
    assert kept_mb(file) <= MEMORY_LIMIT_MB
    file.close()


def test_the_limit_grows_with_the_transaction_and_the_index() -> None:
    assert memory_limit_mb(0, 1_000_000) == MEMORY_LIMIT_MB
    assert memory_limit_mb(0, 8_000_000) == 32
    assert memory_limit_mb(0, 20_000_000) == 56
    assert memory_limit_mb(300_000, 1_000) == MEMORY_LIMIT_MB + 10
