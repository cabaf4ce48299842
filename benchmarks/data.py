"""What the benchmarks publish and search for: real embeddings, and perturbed, renormalised copies of them."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from akasha_stream.publish.tables import encode_rows, group, runs, to_wire

_REPOSITORY = Path(__file__).resolve().parents[1]
_SHARED = _REPOSITORY.parent / "shared" / "data"
_SAMPLE = _REPOSITORY / "tests" / "data" / "real-events.parquet"
BUNDLE = 64
PERTURBATION = 0.3
"""Length of the noise added to a unit vector: a copy's cosine to its original is some .96."""
SAMPLE_QUERIES = 100


@dataclass(frozen=True, eq=False)
class Corpus:
    """n real vectors of d dimensions with their texts, and q query vectors that are not among them."""

    name: str
    contents: list[str]
    metadata: list[str]
    vectors: NDArray[np.float32]
    """(n, d), of length 1"""
    queries: NDArray[np.float32]
    """(q, d), of length 1"""
    seed: int
    began_us: int

    def rows(self, start: int, count: int) -> NDArray[np.float32]:
        """(count, d) vectors of rows start …: the real ones first, then their copies, endlessly."""
        n = len(self.vectors)
        parts = []
        row, end = start, start + count
        while row < end:
            copy, base = divmod(row, n)
            take = min(end - row, n - base)
            parts.append(_copy(self, copy)[base : base + take])
            row += take
        return np.concatenate(parts) if parts else self.vectors[:0]

    def table(self, start: int, count: int, systems: int) -> pa.Table:
        """Rows start … as EventPublisher.publish_table takes them; row r is event e<r>."""
        n = len(self.vectors)
        rows = range(start, start + count)
        vectors = np.ascontiguousarray(self.rows(start, count))
        embedding: Any = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
        created = self.began_us + np.arange(start, start + count, dtype=np.int64)
        columns: dict[str, Any] = {
            "event_id": pa.array([event_id(r) for r in rows]),
            "source_system": pa.array([system_of(r, systems) for r in rows]),
            # Some of the real texts are equal; with the number content dedupe leaves every event alone.
            "content": pa.array([f"{self.contents[r % n]} [{r}]" for r in rows]),
            "embedding": embedding,
            "metadata": pa.array([self.metadata[r % n] for r in rows]),
            "created_at": pa.array(created).cast(pa.timestamp("us", "UTC")),
        }
        return pa.table(columns)

    def tables(self, count: int, systems: int) -> Iterator[pa.Table]:
        """Rows 0 … count in tables that make one full bundle a system."""
        step = BUNDLE * systems
        for start in range(0, count, step):
            yield self.table(start, min(step, count - start), systems)


def event_id(row: int) -> str:
    return f"e{row:09d}"


def row_of(identity: str) -> int:
    return int(identity[1:])


def system_of(row: int, systems: int) -> str:
    return f"session-buddy-{row % systems:03d}"


def bundles(table: pa.Table) -> list[tuple[str, bytes, int]]:
    """(source system, value of the record, events) of the bundles that a table makes, with the product's encoder."""
    dimensions = table.schema.field("embedding").type.list_size
    rows, _ = group(to_wire(table, dimensions).rows)
    return [
        (run.system, encode_rows(rows.slice(run.start, run.stop - run.start), "arrow"), run.stop - run.start)
        for run in runs(rows, BUNDLE, 1 << 23, 4 * dimensions + 160)
    ]


def load(seed: int, vectors: Path | None = None, queries: Path | None = None) -> Corpus:
    """The 20,000 real embeddings of ../shared/data; says so on stderr where only the sample of the tests is there.

    `vectors`, `queries`: Parquet files with a column `embedding` (and `content`, `metadata`) instead.
    """
    file = vectors or _SHARED / "events-20k.parquet"
    if vectors is None and not file.exists():
        print(f"note: {file} is missing; using {_SAMPLE.name}, figures are not comparable", file=sys.stderr)
        file = _SAMPLE
    table = pq.read_table(file)
    found = _unit(table)
    contents = _texts(table, "content", "")
    metadata = _texts(table, "metadata", "{}")
    asked = queries or (_SHARED / "queries-200.parquet" if vectors is None and file is not _SAMPLE else None)
    if asked is not None and asked.exists():
        query_vectors = _unit(pq.read_table(asked))
    else:
        # Held out: a query that is stored would make its own best hit.
        held = min(SAMPLE_QUERIES, len(found) // 4)
        found, query_vectors = found[held:], found[:held]
        contents, metadata = contents[held:], metadata[held:]
    began_us = time.time_ns() // 1_000 - 30_000_000
    return Corpus(file.name, contents, metadata, found, query_vectors, seed, began_us)


def _unit(table: pa.Table) -> NDArray[np.float32]:
    """(n, d) of the column embedding, each of length 1."""
    column: Any = table.column("embedding").combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks)
    values: NDArray[np.float32] = np.asarray(column.flatten().to_numpy(zero_copy_only=False), np.float32)
    return normalised(values.reshape(len(column), -1))


def normalised(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def _texts(table: pa.Table, name: str, default: str) -> list[str]:
    if name not in table.column_names:
        return [default] * table.num_rows
    return [default if value is None else str(value) for value in table.column(name).to_pylist()]


@functools.lru_cache(maxsize=2)
def _copy(corpus: Corpus, number: int) -> NDArray[np.float32]:
    """(n, d) the real vectors for 0, else their copy of that number; the same for the same seed."""
    if number == 0:
        return corpus.vectors
    noise = np.random.default_rng([corpus.seed, number]).standard_normal(corpus.vectors.shape, np.float32)
    noise *= PERTURBATION / np.sqrt(noise.shape[1])
    return normalised(corpus.vectors + noise)
