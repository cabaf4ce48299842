"""Write a segment as one Parquet object that describes itself, the same bytes for the same input.

Row groups of 8,192 rows, by created_at; columns as changelog.py has them; `akasha.segment` (footer.py) in the footer;
checksums (seal.py). pyarrow, DuckDB and anything else that reads Parquet opens it as it is. The live state of a bucket:

    SELECT * EXCLUDE (newest) FROM (
        SELECT *, row_number() OVER (PARTITION BY source_system, event_id ORDER BY position DESC) AS newest
        FROM read_parquet('s3://bucket/prefix/topic/**/*.parquet'))
    WHERE newest = 1 AND op = 'upsert'

(live.py has it as LIVE_SQL, and the same for pyarrow.) "The same bytes" holds for one release of pyarrow: its name is
in the file. Which worker's object stays is decided by the conditional put, not by comparing bytes.
"""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from akasha_stream.hot.position import unpack
from akasha_stream.tiers.changelog import DELETE, changelog, changelog_schema
from akasha_stream.tiers.footer import FOOTER_KEY, FORMAT, Counts, SegmentFooter
from akasha_stream.tiers.keys import SegmentKey
from akasha_stream.tiers.rounding import Precision
from akasha_stream.tiers.seal import sealed

ROW_GROUP = 8_192

_EMBEDDING = "embedding.list.element"
_DICTIONARIES: Any = ["source_system", "model", "op"]  # the stubs know of a bool only
_SORTED = ["position", "offset", "created_at", "appended_at"]
_ENCODINGS = {
    _EMBEDDING: "BYTE_STREAM_SPLIT",
    "partition": "DELTA_BINARY_PACKED",
    "index": "DELTA_BINARY_PACKED",
    **dict.fromkeys(_SORTED, "DELTA_BINARY_PACKED"),
}


@dataclass(frozen=True, slots=True)
class EncodedSegment:
    """A segment, ready to be put under `footer.key.path(prefix)`."""

    footer: SegmentFooter
    data: bytes


def write_segment(
    key: SegmentKey,
    epoch: int,
    rows: pa.Table,
    deletes: pa.Table,
    *,
    dimensions: int,
    precision: Precision = "compact",
) -> EncodedSegment:
    """Rows (hot schema.row_schema) and deletes (changelog.DELETE_SCHEMA) of the offsets [key.start, key.end)."""
    return write_changelog(
        key, epoch, changelog(rows, deletes, key.log.partition, dimensions, precision), dimensions, precision
    )


def write_changelog(
    key: SegmentKey, epoch: int, table: pa.Table, dimensions: int, precision: Precision
) -> EncodedSegment:
    """`table`: changelog_schema, in_order(), its embeddings rounded() already."""
    writer = SegmentWriter(key, epoch, dimensions, precision)
    for start in range(0, table.num_rows, ROW_GROUP):
        writer.write(table.slice(start, ROW_GROUP))
    return writer.finish()


class SegmentWriter:
    """Writes a segment row group by row group: what is in memory is the Parquet bytes so far."""

    def __init__(self, key: SegmentKey, epoch: int, dimensions: int, precision: Precision) -> None:
        self._key = key
        self._epoch = epoch
        self._dimensions = dimensions
        self._precision = precision
        self._schema = changelog_schema(dimensions)
        self._sink = io.BytesIO()
        self._written: Any = []
        self._upserts: Counter[str] = Counter()
        self._deletes: Counter[str] = Counter()
        self._models: set[str] = set()
        self._times: list[int] = []
        self._writer = pq.ParquetWriter(
            self._sink,
            self._schema,
            compression="zstd",
            # Level 1 makes the split bytes of rounded numbers 5 % smaller than 3 to 9 do (676 B a row against 700).
            compression_level={_EMBEDDING: 1, **dict.fromkeys(set(self._schema.names) - {"embedding"}, 3)},
            use_dictionary=_DICTIONARIES,
            column_encoding=_ENCODINGS,
            # Of content and metadata they would be texts of up to 64 KiB in the footer.
            write_statistics=[*_SORTED, "source_system", "op"],
            store_schema=False,
            metadata_collector=self._written,
        )

    def write(self, table: pa.Table) -> None:
        """One row group: the next 1 … ROW_GROUP rows, of which only the last group may have fewer than that."""
        self._check(table)
        deleted = pc.equal(table["op"], pa.scalar(DELETE))
        upserts = table.filter(pc.invert(deleted))
        self._upserts.update(_counted(upserts["source_system"]))
        self._deletes.update(_counted(table.filter(deleted)["source_system"]))
        self._models.update(_counted(upserts["model"]))
        if upserts.num_rows:
            limits: Any = pc.min_max(upserts["created_at"].cast(pa.int64())).as_py()
            self._times += [limits["min"], limits["max"]]
        self._writer.write_table(table.cast(self._schema), row_group_size=ROW_GROUP)

    def finish(self) -> EncodedSegment:
        """The whole object. The writer is of no use afterwards."""
        footer = self._footer()
        self._writer.add_key_value_metadata({FOOTER_KEY: footer.model_dump_json()})
        self._writer.close()
        return EncodedSegment(footer, sealed(self._sink, self._written[0]))

    def _check(self, table: pa.Table) -> None:
        key, epoch = self._key, self._epoch
        limits: Any = pc.min_max(table["position"]).as_py()
        first, last = unpack(limits["min"]), unpack(limits["max"])
        if (first.epoch, last.epoch) != (epoch, epoch) or first.offset < key.start or last.offset >= key.end:
            msg = f"rows of {first} to {last} are not of epoch {epoch}, offsets [{key.start}, {key.end})"
            raise AssertionError(msg)

    def _footer(self) -> SegmentFooter:
        key, upserts, deletes = self._key, self._upserts, self._deletes
        return SegmentFooter(
            format=FORMAT,
            topic=key.log.topic,
            partition=key.log.partition,
            cluster_id=key.log.incarnation.cluster_id,
            topic_id=key.log.incarnation.topic_id,
            epoch=self._epoch,
            start=key.start,
            end=key.end,
            generation=key.generation,
            rows=upserts.total() + deletes.total(),
            deletes=deletes.total(),
            first_created_at=min(self._times, default=None),
            last_created_at=max(self._times, default=None),
            systems={
                system: Counts(upserts=upserts[system], deletes=deletes[system])
                for system in sorted(upserts.keys() | deletes.keys())
            },
            models=tuple(sorted(self._models)),
            dimensions=self._dimensions,
            precision=self._precision,
        )


def _counted(column: Any) -> dict[str, int]:
    return {each["values"]: each["counts"] for each in pc.value_counts(column).to_pylist()}
