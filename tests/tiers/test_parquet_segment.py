from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from akasha_stream.hot.schema import DELETE_SCHEMA, row_schema
from akasha_stream.hot.segment import binary_codes, fixed_binary
from akasha_stream.tiers.changelog import changelog_schema, embedding_matrix, in_order
from akasha_stream.tiers.keys import SegmentKey
from akasha_stream.tiers.live import LIVE_SQL, live
from akasha_stream.tiers.parquet_segment import write_changelog, write_segment
from akasha_stream.tiers.rounding import MANTISSA_BITS, PRECISIONS, Precision, rounded
from akasha_stream.tiers.segment_reader import read_whole
from tests.tiers.segments import DIMENSIONS, LOG, Change, histories, live_state, spilled

REAL = Path(__file__).parents[1] / "data" / "real-events.parquet"


@given(histories(), st.sampled_from(PRECISIONS))
def test_what_is_written_is_read(changes: list[Change], precision: Precision) -> None:
    _, table = read_whole(spilled(changes, 0, 1_000, precision).data, "x")
    ordered = sorted(changes, key=lambda c: (c.created_at, c.position))
    assert table.schema.equals(changelog_schema(DIMENSIONS))
    vectors = embedding_matrix(table, DIMENSIONS)
    for found, vector, change in zip(table.to_pylist(), vectors, ordered, strict=True):
        deleted = change.content is None
        assert found["position"] == change.position
        assert (found["partition"], found["offset"], found["index"]) == (3, change.offset, change.index)
        assert (found["source_system"], found["event_id"]) == (change.system, change.event_id)
        assert found["op"] == ("delete" if deleted else "upsert")
        assert found["content"] == change.content
        assert found["model"] == (None if deleted else change.model)
        assert found["metadata"] == (None if deleted else change.metadata)
        assert int(found["created_at"].timestamp() * 1_000_000 + 0.5) == change.created_at
        assert (found["appended_at"] - found["created_at"]).microseconds == 5
        assert found["payload_hash"] == (None if deleted else 2**64 - 1 - change.position)
        assert found["content_hash"] == (None if deleted else change.seed)
        expected = np.zeros(DIMENSIONS) if deleted else rounded(change.vector, precision)
        np.testing.assert_array_equal(vector, expected)
        assert found["code"] == (None if deleted else binary_codes(change.vector[None]).tobytes())


@settings(max_examples=30)
@given(histories())
def test_the_same_input_gives_the_same_bytes(changes: list[Change]) -> None:
    assert spilled(changes, 0, 1_000).data == spilled(list(changes), 0, 1_000).data


def test_writing_what_was_read_gives_the_same_bytes() -> None:
    changes = [Change(i, 0, f"s{i % 3}", str(i), None if i % 7 == 0 else "text", i, i) for i in range(50)]
    one = spilled(changes, 0, 50, "compact")
    _, table = read_whole(one.data, "x")
    assert write_changelog(one.footer.key, 0, in_order(table), DIMENSIONS, "compact").data == one.data


@settings(max_examples=30)
@given(histories(), st.lists(st.integers(1, 180), max_size=3))
def test_live_state_with_duckdb_and_with_pyarrow(
    tmp_path_factory: pytest.TempPathFactory, changes: list[Change], cuts: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("bucket")
    edges = [0, *sorted(set(cuts)), 1_000]
    for start, end in pairwise(edges):
        part = [c for c in changes if start <= c.offset < end]
        segment = spilled(part, start, end)
        path = folder / segment.footer.key.path("prefix")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(segment.data)
    expected = {identity: c.content for identity, c in live_state(changes).items()}

    with duckdb.connect() as con:
        rows = con.execute(f"SELECT source_system, event_id, content FROM ({LIVE_SQL})", [f"{folder}/**/*.parquet"])
        found = rows.fetchall()
    assert len(found) == len(expected)
    assert {(system, event_id): content for system, event_id, content in found} == expected

    changelogs = pa.concat_tables(pq.read_table(path) for path in sorted(folder.rglob("*.parquet")))
    kept = live(changelogs).to_pylist()
    assert {(row["source_system"], row["event_id"]): row["content"] for row in kept} == expected
    assert [row["position"] for row in kept] == sorted(c.position for c in live_state(changes).values())


def test_duckdb_and_pyarrow_see_the_columns_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "segment.parquet"
    path.write_bytes(spilled([Change(0, 0, "a", "1", "text", seed=7)], 0, 1, "compact").data)
    with duckdb.connect() as con:
        types = dict(con.execute(f"SELECT column_name, column_type FROM (DESCRIBE FROM '{path}')").fetchall())
        vector = con.execute(f"SELECT embedding FROM '{path}'").fetchall()[0][0]
    expected = rounded(Change(0, 0, "a", "1", "text", seed=7).vector, "compact")
    assert vector == expected.tolist()
    assert pq.read_table(path)["embedding"].to_pylist() == [expected.tolist()]
    assert (types["embedding"], types["created_at"], types["code"]) == ("FLOAT[]", "TIMESTAMP WITH TIME ZONE", "BLOB")
    assert (types["position"], types["payload_hash"]) == ("BIGINT", "UBIGINT")


def test_footer_describes_the_segment() -> None:
    changes = [
        Change(10, 0, "b", "1", "x", created_at=300),
        Change(10, 1, "a", "1", "x", created_at=200, model="n"),
        Change(12, 0, "a", "1", None, created_at=1),
    ]
    footer = spilled(changes, 10, 20).footer
    assert footer.key == SegmentKey(LOG, 10, 20)
    assert (footer.rows, footer.deletes) == (3, 1)
    assert (footer.first_created_at, footer.last_created_at) == (200, 300)
    assert {name: (c.upserts, c.deletes) for name, c in footer.systems.items()} == {"a": (1, 1), "b": (1, 0)}
    assert (footer.models, footer.dimensions, footer.precision) == (("m", "n"), DIMENSIONS, "float32")


def test_rows_of_other_offsets_are_refused() -> None:
    with pytest.raises(AssertionError, match="offsets"):
        spilled([Change(20, 0, "a", "1", "x")], 10, 20)


def test_encodings_and_row_groups(tmp_path: Path) -> None:
    changes = [replace(Change(0, 0, "a", "1", "x"), offset=i, created_at=10**9 - i) for i in range(8_200)]
    segment, _ = read_whole(spilled(changes, 0, 8_200).data, "x")
    assert segment.group_rows.tolist() == [8_192, 8]
    assert segment.created_at.tolist() == [[10**9 - 8_199, 10**9 - 8], [10**9 - 7, 10**9]]
    group = segment.metadata.row_group(0)
    columns: dict[str, Any] = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    assert "BYTE_STREAM_SPLIT" in columns["embedding.list.element"].encodings
    assert "RLE_DICTIONARY" in columns["source_system"].encodings
    assert {column.compression for column in columns.values()} == {"ZSTD"}
    assert columns["content"].statistics is None
    assert segment.groups_between(10**9 - 7, None) == [1]
    assert segment.groups_between(None, 10**9 - 7) == [0]
    assert segment.groups_between(0, 5) == []


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1), st.sampled_from(PRECISIONS))
def test_rounding(values: list[float], precision: Precision) -> None:
    vectors = np.array([values], np.float32)
    found = rounded(vectors, precision)
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(rounded(found, precision), found)
    normal = np.abs(vectors) > 1e-37
    error = np.abs(found.astype(np.float64) - vectors)[normal] / np.abs(vectors.astype(np.float64))[normal]
    assert (error <= 2.0 ** -MANTISSA_BITS[precision]).all()
    np.testing.assert_array_equal(np.signbit(found), np.signbit(vectors))


def test_bytes_a_row_on_real_vectors() -> None:
    """At most 750 with codes; the footer (6 KB) belongs to the segment, not to its 400 rows here."""
    real = pq.read_table(REAL)
    n = real.num_rows
    vectors = pc.list_flatten(real["embedding"]).to_numpy().reshape(n, 384).astype(np.float32)
    hashes = np.random.default_rng(1).integers(0, 2**64, (3, n), np.uint64)
    created = real["created_at"].cast(pa.timestamp("us", "UTC")).cast(pa.int64())
    columns: dict[str, Any] = {
        "position": pa.array(np.arange(n) // 64 << 16 | np.arange(n) % 64),
        "source_system": real["source_system"],
        "event_id": real["id"],
        "content": real["content"],
        "embedding": fixed_binary(vectors),
        "model": pa.array(["all-MiniLM-L6-v2"] * n),
        "metadata": real["metadata"],
        "created_at": created,
        "appended_at": created,
        "updated": pa.array([False] * n),
        "identity_hash": pa.array(hashes[0]),
        "payload_hash": pa.array(hashes[1]),
        "content_hash": pa.array(hashes[2]),
    }
    rows = pa.table(columns).cast(row_schema(384))
    sizes: dict[str, float] = {}
    for precision in PRECISIONS:
        segment = write_segment(
            SegmentKey(LOG, 0, n), 0, rows, DELETE_SCHEMA.empty_table(), dimensions=384, precision=precision
        )
        opened, table = read_whole(segment.data, "x")
        sizes[precision] = (len(segment.data) - opened.metadata.serialized_size) / n
        kept = embedding_matrix(table, 384).astype(np.float64)
        order = np.lexsort((rows["position"].to_numpy(), rows["created_at"].to_numpy()))
        cosines = np.einsum("ij,ij->i", kept, vectors[order]) / (
            np.linalg.norm(kept, axis=1) * np.linalg.norm(vectors[order], axis=1)
        )
        assert cosines.min() > 0.999999
    assert sizes["compact"] <= 750, sizes
    assert sizes["float16"] <= 840, sizes
