"""What an ingest could reach at best: DuckDB without Kafka, and Kafka without DuckDB."""

from __future__ import annotations

import asyncio
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from aiokafka import AIOKafkaConsumer

from akasha_stream.hot.hashes import identity_hash, identity_key
from akasha_stream.hot.position import pack_many
from akasha_stream.hot.schema import ROW_COLUMNS, SegmentName, row_schema
from akasha_stream.hot.segment_file import Progress, SegmentFile
from akasha_stream.incarnation import Incarnation
from akasha_stream.settings import Settings
from benchmarks.data import BUNDLE, Corpus

TRANSACTION = 2_000
"""Rows a durable transaction."""

# The identities of what is in the file already are not inserted again.
_INSERT = (
    f"INSERT INTO rows SELECT {ROW_COLUMNS} FROM incoming "
    "WHERE NOT EXISTS (SELECT 1 FROM rows r WHERE r.identity_hash = incoming.identity_hash)"
)


@dataclass(slots=True)
class Spent:
    wall_s: float = 0.0
    cpu_s: float = 0.0


async def kafka_only(settings: Settings, bundles: int) -> Spent:
    """Read all bundles of the topic with bare aiokafka and drop them."""
    consumer = AIOKafkaConsumer(  # without a group it reads all partitions
        settings.topics.embeddings,
        bootstrap_servers=settings.broker.bootstrap_servers,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=settings.ingest.fetch_bytes,
    )
    await consumer.start()
    try:
        began, cpu = time.perf_counter(), time.process_time()
        seen = 0
        async with asyncio.timeout(600):
            while seen < bundles:
                fetched = await consumer.getmany(timeout_ms=1_000)
                seen += sum(len(records) for records in fetched.values())
        return Spent(time.perf_counter() - began, time.process_time() - cpu)
    finally:
        await consumer.stop()


def duckdb_only(settings: Settings, corpus: Corpus, events: int, systems: int, folder: Path) -> Spent:
    """Insert the rows into growing files: one thread, dedupe, rows and next offset in one durable transaction.

    A new file every hot.seal_rows. Making the rows, and the hashes that the dedupe compares, is not counted,
    nor is the checkpoint of a full file, which the product leaves to a thread of its own.
    """
    folder.mkdir()
    spent = Spent()
    file: SegmentFile | None = None
    in_file = offset = 0
    row = 0
    while row < events:
        batch = _rows(corpus, row, min(TRANSACTION, events - row), systems, offset)
        offset += -(-batch.num_rows // BUNDLE)
        row += batch.num_rows
        began, cpu = time.perf_counter(), time.process_time()
        if file is None or in_file + batch.num_rows > settings.hot.seal_rows:
            if file is not None:
                file.close()
            file, in_file = _create(folder, offset, settings, corpus.vectors.shape[1]), 0
        _insert(file, batch, Progress(next_offset=offset, events=row))
        in_file += batch.num_rows
        spent.wall_s += time.perf_counter() - began
        spent.cpu_s += time.process_time() - cpu
        for full in sorted(folder.iterdir()):
            if not full.name.startswith(file.path.name):
                full.unlink()
    if file is not None:
        counted = file._con.execute("SELECT count(*) FROM rows").fetchone()
        file.close()
        if counted is None or counted[0] != in_file:
            raise RuntimeError(f"DuckDB alone stored {counted} of {in_file} rows")
    shutil.rmtree(folder)
    return spent


def _create(folder: Path, offset: int, settings: Settings, dimensions: int) -> SegmentFile:
    return SegmentFile.create(
        folder,
        SegmentName(0, offset),
        topic=settings.topics.embeddings,
        partition=0,
        dimensions=dimensions,
        incarnation=Incarnation(),
        progress=Progress(next_offset=offset),
        snapshot=[],
    )


def _insert(file: SegmentFile, batch: pa.Table, progress: Progress) -> None:
    connection = file._con
    connection.register("incoming", batch)
    with file.transaction(batch.nbytes):
        connection.execute(_INSERT)
        file.insert_progress(progress)
    connection.unregister("incoming")


def _rows(corpus: Corpus, start: int, count: int, systems: int, offset: int) -> pa.Table:
    """Rows start … as the growing file takes them."""
    table = corpus.table(start, count, systems)
    dimensions = corpus.vectors.shape[1]
    vectors = np.ascontiguousarray(corpus.rows(start, count))
    embedding: Any = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(4 * dimensions), count, [None, pa.py_buffer(vectors)]
    )
    place = np.arange(count, dtype=np.int64)
    offsets, indexes = offset + place // BUNDLE, (place % BUNDLE).astype(np.int32)
    systems_of, ids = table["source_system"].to_pylist(), table["event_id"].to_pylist()
    identity = [identity_hash(identity_key(str(s), str(i))) for s, i in zip(systems_of, ids, strict=True)]
    hashes = np.random.default_rng([corpus.seed, start]).integers(0, 1 << 63, (2, count), np.uint64)
    created: Any = table["created_at"].combine_chunks().cast(pa.int64())
    columns: list[Any] = [
        pa.array(pack_many(0, offsets, indexes)),
        table["source_system"].combine_chunks(),
        table["event_id"].combine_chunks(),
        table["content"].combine_chunks(),
        embedding,
        pa.array(["all-MiniLM-L6-v2"] * count),
        table["metadata"].combine_chunks(),
        created,
        created,
        pa.array([False] * count),
        pa.array(identity, pa.uint64()),
        pa.array(hashes[0]),
        pa.array(hashes[1]),
    ]
    return pa.Table.from_arrays(columns, schema=row_schema(dimensions))
