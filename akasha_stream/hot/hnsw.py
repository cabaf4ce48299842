"""DuckDB's HNSW index: searching the finished files that have one."""

from __future__ import annotations

import importlib.util
import threading
from pathlib import Path

import duckdb
import numpy as np
from numpy.typing import NDArray


def load_vss(con: duckdb.DuckDBPyConnection) -> None:
    """Load the extension from its wheel: signed, of this very DuckDB version, without a network."""
    spec = importlib.util.find_spec("duckdb_extension_vss")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("duckdb-extension-vss is not installed")
    folder = Path(next(iter(spec.submodule_search_locations)))
    path = folder / "extensions" / f"v{duckdb.__version__}" / "vss.duckdb_extension"
    con.execute(f"LOAD '{path}'")


def vector_literal(vector: NDArray[np.float32]) -> str:
    """A vector as DuckDB reads it: bound as a string it costs 1 ms, as a list parameter 56 ms."""
    return "[" + ",".join(map(repr, vector.tolist())) + "]"


class IndexReader:
    """One in-memory DuckDB to which finished files are attached read-only; a cursor a thread."""

    def __init__(self) -> None:
        self._con = duckdb.connect(":memory:", config={"threads": 1})
        load_vss(self._con)
        # Late materialisation joins the index's rows back to the table and doubles the time of a top-k.
        self._con.execute("SET late_materialization_max_rows=0")
        self._lock = threading.Lock()
        self._attached = 0
        self._local = threading.local()

    def attach(self, path: Path) -> SegmentIndex:
        with self._lock:
            self._attached += 1
            alias = f"segment_{self._attached}"
            self._con.execute(f"ATTACH '{str(path).replace("'", "''")}' AS {alias} (READ_ONLY)")
        return SegmentIndex(self, alias)

    def detach(self, alias: str) -> None:
        with self._lock:
            self._con.execute(f"DETACH {alias}")

    def cursor(self, ef: int) -> duckdb.DuckDBPyConnection:
        cursor: duckdb.DuckDBPyConnection | None = getattr(self._local, "cursor", None)
        if cursor is None:
            cursor = self._local.cursor = self._con.cursor()
            self._local.ef = None
        if self._local.ef != ef:
            cursor.execute(f"SET hnsw_ef_search = {int(ef)}")
            self._local.ef = ef
        return cursor

    def close(self) -> None:
        with self._lock:
            self._con.close()


class SegmentIndex:
    """search.segment.NearestIndex over one attached file."""

    def __init__(self, reader: IndexReader, alias: str) -> None:
        self._reader = reader
        self.alias = alias

    def query(self, dimensions: int, n: int) -> str:
        """The one form that uses the index: ascending distance, and the distance not in the select list."""
        return (
            f"SELECT row FROM {self.alias}.rows "  # noqa: S608
            f"ORDER BY array_cosine_distance(embedding, ?::VARCHAR::FLOAT[{dimensions}]) LIMIT {int(n)}"
        )

    def nearest(self, query: NDArray[np.float32], n: int, ef: int) -> NDArray[np.int64]:
        cursor = self._reader.cursor(max(ef, n))
        found = cursor.execute(self.query(len(query), n), [vector_literal(query)]).fetchnumpy()["row"]
        return np.asarray(found, np.int64)

    def explain(self, query: NDArray[np.float32], n: int) -> str:
        """DuckDB's plan; names HNSW_INDEX_SCAN where the index is used."""
        cursor = self._reader.cursor(128)
        rows = cursor.execute("EXPLAIN " + self.query(len(query), n), [vector_literal(query)]).fetchall()
        return "\n".join(str(row[1]) for row in rows)

    def tombstones(self) -> list[tuple[int, int]]:
        """(masked position, position that masks it) of the file."""
        rows = self._reader.cursor(128).execute(f"SELECT position, by_position FROM {self.alias}.tombstones")  # noqa: S608
        return [(int(a), int(b)) for a, b in rows.fetchall()]

    def close(self) -> None:
        self._reader.detach(self.alias)
