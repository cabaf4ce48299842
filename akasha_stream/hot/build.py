"""Rewrite a finished segment as an immutable DuckDB file with its HNSW index. Runs as a process of its own.

    python -m akasha_stream.hot.build GROWING ARROW SEALED M EF_CONSTRUCTION WORKER_PID

The index costs 0.7 to 2.2 ms CPU a row, a hundred times what ingest spends on it. As a process with the
idle scheduling class it takes only what ingest and searches leave, and its memory goes when it ends. The file
gets its name when it is finished, so a half-built one is never opened: with an index in a file that is still
written, replay of the WAL after kill -9 failed.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from akasha_stream.hot.durable import write_whole
from akasha_stream.hot.hnsw import load_vss
from akasha_stream.hot.schema import connect_growing
from akasha_stream.hot.segment import matrix

COPIED_TABLES = ("segment", "tombstones", "dropped", "commits", "snapshot")


def build(growing: Path, arrow: Path, sealed: Path, m: int, ef_construction: int) -> None:
    """Write `sealed` from the rows in `arrow` and the other tables of `growing`, whose WAL is folded in first."""
    with connect_growing(growing) as con:
        con.execute("CHECKPOINT")
    with pa.memory_map(str(arrow)) as source:
        table = pa.ipc.open_file(source).read_all()
    dimensions = table.schema.field("embedding").type.byte_width // 4
    vectors = _as_lists(table["embedding"], dimensions)
    rows = (
        table.drop_columns(["embedding", "code", "inverse_norm"])
        .append_column("embedding", vectors)
        .append_column("row", pa.array(range(table.num_rows), pa.int32()))
    )

    def write(path: Path) -> None:
        wal = path.with_name(f"{path.name}.wal")
        wal.unlink(missing_ok=True)
        with duckdb.connect(str(path), config={"threads": 1}) as con:
            load_vss(con)
            con.execute("SET hnsw_enable_experimental_persistence = true")
            con.execute(f"ATTACH '{str(growing).replace("'", "''")}' AS growing (READ_ONLY)")
            for name in COPIED_TABLES:
                con.execute(f"CREATE TABLE {name} AS FROM growing.{name}")
            con.register("incoming", rows)
            fixed = f"embedding::FLOAT[{dimensions}] AS embedding"
            con.execute(f"CREATE TABLE rows AS SELECT * REPLACE ({fixed}) FROM incoming")  # noqa: S608
            con.unregister("incoming")
            con.execute(
                "CREATE INDEX rows_hnsw ON rows USING HNSW (embedding) "
                f"WITH (metric = 'cosine', M = {m}, ef_construction = {ef_construction})"
            )
            con.execute("CHECKPOINT")

    write_whole(sealed, write)


def _as_lists(column: pa.ChunkedArray[Any], dimensions: int) -> pa.Array[Any]:
    """A column of fixed_binary as lists of float32, without a copy."""
    flat = pa.array(matrix(column, np.dtype(np.float32), dimensions).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, dimensions)


def _end_with(worker: int) -> None:
    """Stop when the worker is gone: the next one needs the growing file, and builds the same again."""
    if sys.platform == "linux":
        import ctypes

        pr_set_pdeathsig = 1  # <linux/prctl.h>
        ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGKILL, 0, 0, 0)

    def watch() -> None:
        while os.getppid() == worker:
            time.sleep(0.3)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main(arguments: list[str]) -> None:
    *places, m, ef_construction, worker = arguments
    _end_with(int(worker))
    if hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    else:
        os.nice(19)
    growing, arrow, sealed = map(Path, places)
    build(growing, arrow, sealed, int(m), int(ef_construction))


if __name__ == "__main__":
    main(sys.argv[1:])
