"""DuckDB's HNSW index: searching the finished files that have one."""

from __future__ import annotations

import importlib.util
import threading
from pathlib import Path

import duckdb
import numpy as np
from numpy.typing import NDArray

from akasha_stream.errors import SegmentCorrupt
from akasha_stream.hot.segment_tables import SegmentTables


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
        self._lock = threading.Lock()
        self._attached = 0
        self._local = threading.local()
        self._cursors: list[duckdb.DuckDBPyConnection] = []

    def attach(self, path: Path) -> SegmentIndex:
        """Raises SegmentCorrupt where DuckDB can't open it."""
        with self._lock:
            self._attached += 1
            alias = f"segment_{self._attached}"
            try:
                self._con.execute(f"ATTACH '{str(path).replace("'", "''")}' AS {alias} (READ_ONLY)")
                size = self._con.execute(
                    "SELECT total_blocks * block_size FROM pragma_database_size() WHERE database_name = ?", [alias]
                ).fetchone()
            except duckdb.Error as exc:
                raise SegmentCorrupt(f"{path}: {exc}") from exc
            if size is not None and size[0] > path.stat().st_size:  # the index is read when it is first used
                self._con.execute(f"DETACH {alias}")
                raise SegmentCorrupt(f"{path}: cut off: {path.stat().st_size} bytes of {size[0]}")
        return SegmentIndex(self, alias, path)

    def detach(self, alias: str) -> None:
        with self._lock:
            self._con.execute(f"DETACH {alias}")

    def cursor(self, ef: int) -> duckdb.DuckDBPyConnection:
        """This thread's; a cursor may be used by one thread at a time."""
        cursor: duckdb.DuckDBPyConnection | None = getattr(self._local, "cursor", None)
        if cursor is None:
            with self._lock:
                cursor = self._con.cursor()
                self._cursors.append(cursor)
            # Late materialisation joins the index's rows to a scan of the whole table: 5 ms instead of 2. A setting
            # of the session: a cursor does not have that of its connection.
            cursor.execute("SET late_materialization_max_rows = 0")
            self._local.cursor, self._local.ef = cursor, None
        if self._local.ef != ef:
            cursor.execute(f"SET hnsw_ef_search = {int(ef)}")
            self._local.ef = ef
        return cursor

    def cursor_for(self, query: NDArray[np.float32], ef: int) -> duckdb.DuckDBPyConnection:
        """This thread's, with its variable `query` set: a search asks many indexes, and parsing costs 1.1 ms."""
        cursor = self.cursor(ef)
        if getattr(self._local, "query", None) is not query:
            cursor.execute(f"SET VARIABLE query = ?::VARCHAR::FLOAT[{len(query)}]", [vector_literal(query)])
            self._local.query = query
        return cursor

    def close(self) -> None:
        """When no index is used any more. Each open cursor would keep DuckDB and its files alive."""
        with self._lock:
            for cursor in self._cursors:
                cursor.close()
            self._con.close()


class SegmentIndex:
    """search.segment.NearestIndex over one attached file."""

    def __init__(self, reader: IndexReader, alias: str, path: Path) -> None:
        self._reader = reader
        self._alias = alias
        self._path = path
        self._used = threading.Condition()
        self._users = 0
        self._closed = False

    def query(self, n: int) -> str:
        """The one form that uses the index: ascending distance, and the distance not in the select list."""
        return (
            f"SELECT row FROM {self._alias}.rows "  # noqa: S608
            f"ORDER BY array_cosine_distance(embedding, getvariable('query')) LIMIT {int(n)}"
        )

    def nearest(self, query: NDArray[np.float32], n: int, ef: int) -> NDArray[np.int64]:
        """None are found once the index is closed: the search that still holds it goes by the bit codes."""
        with self._used:
            if self._closed:
                return np.empty(0, np.int64)
            self._users += 1
        try:
            found = self._reader.cursor_for(query, max(ef, n)).execute(self.query(n)).fetchnumpy()["row"]
            return np.asarray(found, np.int64)
        finally:
            with self._used:
                self._users -= 1
                self._used.notify_all()

    def explain(self, query: NDArray[np.float32], n: int) -> str:
        """DuckDB's plan; names HNSW_INDEX_SCAN where the index is used."""
        rows = self._reader.cursor_for(query, 128).execute("EXPLAIN " + self.query(n)).fetchall()
        return "\n".join(str(row[1]) for row in rows)

    def tables(self) -> SegmentTables:
        """The file's other tables."""
        return SegmentTables(self._reader.cursor(128), self._path, self._alias)

    def close(self) -> None:
        """Let go of the file, after the searches that are in it."""
        with self._used:
            if self._closed:
                return
            self._closed = True
            self._used.wait_for(lambda: not self._users)
        self._reader.detach(self._alias)
