"""Rewrite a finished segment as an immutable DuckDB file with its HNSW index. Runs as a process of its own.

    python -m akasha_stream.hot.build SOURCE ARROW SEALED M EF_CONSTRUCTION WORKER_PID [KEPT]

SOURCE: the growing file, or a sealed one that is rewritten. KEPT: the Arrow file to write without the rows of forgotten
systems, which come as JSON on the standard input: {name: position that they lie before}.

The index costs 0.7 to 2.2 ms CPU a row, a hundred times what ingest spends on it. As a process with the
idle scheduling class it takes only what ingest and searches leave, and its memory goes when it ends. The file
gets its name when it is finished, so a half-built one is never opened: with an index in a file that is still
written, replay of the WAL after kill -9 failed.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from akasha_stream.hot.durable import write_whole
from akasha_stream.hot.forgotten_rows import kept_rows
from akasha_stream.hot.hnsw import load_vss
from akasha_stream.hot.schema import GROWING_TABLES, ROW_COLUMNS, connect_growing
from akasha_stream.hot.sealed import write_arrow
from akasha_stream.hot.segment import matrix

COPIED_TABLES = ("segment", "tombstones", "dropped", "forgets", "commits", "snapshot")
_FORGOTTEN = "WHERE NOT EXISTS (SELECT 1 FROM forgotten f WHERE f.name = t.{name} AND {condition})"
_KEPT = {
    "tombstones": _FORGOTTEN.format(name="source_system", condition="t.by_position < f.before"),
    "dropped": _FORGOTTEN.format(name="source_system", condition="t.position < f.before"),
    # How many digests were acknowledged is counted from the first one that the segment began with: none may go.
    "snapshot": _FORGOTTEN.format(name="key", condition="t.kind <> 'digest'"),
}


def build(
    source: Path,
    arrow: Path,
    sealed: Path,
    m: int,
    ef_construction: int,
    *,
    kept: Path | None = None,
    forgotten: Mapping[str, int] | None = None,
) -> None:
    """Write `sealed` from the rows in `arrow` and the other tables of `source`, a growing file or a sealed one.

    With `kept` what was `forgotten` (source system → position that it lies before) is left out, and the rows that stay
    go to `kept` too.
    """
    _fold_wal(source)
    forgotten = forgotten or {}
    table = _rows(arrow, kept, forgotten)
    dimensions = table.schema.field("embedding").type.byte_width // 4
    vectors = _as_lists(table["embedding"], dimensions)
    rows = (
        table.drop_columns(["embedding", "code", "inverse_norm"])
        .append_column("embedding", vectors)
        .append_column("row", pa.array(range(table.num_rows), pa.int32()))
    )

    def write(path: Path) -> None:
        with _new_file(path, source, forgotten) as con:
            load_vss(con)
            con.execute("SET hnsw_enable_experimental_persistence = true")
            for name in COPIED_TABLES:
                con.execute(f"CREATE TABLE {name} AS {_copy_of(name)}")
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


def build_without_index(source: Path, arrow: Path, growing: Path, *, kept: Path, forgotten: Mapping[str, int]) -> None:
    """As `build`, where no index is wanted: `growing` is a growing file, as `source` is."""
    _fold_wal(source)
    rows = _rows(arrow, kept, forgotten)

    def write(path: Path) -> None:
        with _new_file(path, source, forgotten) as con:
            con.execute(GROWING_TABLES)
            for name in COPIED_TABLES:
                con.execute(f"INSERT INTO {name} {_copy_of(name)}")
            con.register("incoming", rows)
            con.execute(f"INSERT INTO rows SELECT {ROW_COLUMNS} FROM incoming")  # noqa: S608
            con.unregister("incoming")
            con.execute("CHECKPOINT")

    write_whole(growing, write)


def _fold_wal(source: Path) -> None:
    if source.name.endswith(".growing.duckdb"):
        with connect_growing(source) as con:
            con.execute("CHECKPOINT")


def _rows(arrow: Path, kept: Path | None, forgotten: Mapping[str, int]) -> pa.Table:
    with pa.memory_map(str(arrow)) as file:
        table = pa.ipc.open_file(file).read_all()
    if kept is not None:
        table = table.filter(pa.array(kept_rows(table, forgotten)))
        dimensions = table.schema.field("embedding").type.byte_width // 4
        write_arrow(kept, table, dimensions=dimensions, end=int(table.schema.metadata[b"akasha.end"]))
    return table


@contextlib.contextmanager
def _new_file(path: Path, source: Path, forgotten: Mapping[str, int]) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to an empty file, with `source` attached and the table `forgotten` that _copy_of reads."""
    path.with_name(f"{path.name}.wal").unlink(missing_ok=True)
    with duckdb.connect(str(path), config={"threads": 1}) as con:
        con.execute(f"ATTACH '{str(source).replace("'", "''")}' AS source (READ_ONLY)")
        names, before = pa.array(list(forgotten), pa.string()), pa.array(list(forgotten.values()), pa.int64())
        con.register("forgotten", pa.table({"name": names, "before": before}))
        yield con


def _copy_of(table: str) -> str:
    """What comes into a new file of one of COPIED_TABLES, in the order that it was written in."""
    return f"FROM source.{table} t {_KEPT.get(table, '')} ORDER BY t.rowid"


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
    source, arrow, sealed, m, ef_construction, worker, *kept = arguments
    _end_with(int(worker))
    if hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    else:
        os.nice(19)
    build(
        Path(source),
        Path(arrow),
        Path(sealed),
        int(m),
        int(ef_construction),
        kept=Path(kept[0]) if kept else None,
        forgotten=json.load(sys.stdin) if kept else None,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
