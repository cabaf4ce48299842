from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from akasha_stream.errors import ObjectNotFound, SegmentCorrupt
from akasha_stream.storage.local_adapter import LocalStorageAdapter
from akasha_stream.tiers.changelog import embedding_matrix
from akasha_stream.tiers.parquet_segment import EncodedSegment
from akasha_stream.tiers.ranges import coalesced
from akasha_stream.tiers.segment_reader import OpenSegment, read_columns, read_footer, read_row_groups, read_whole
from tests.tiers.segments import DIMENSIONS, Change, spilled

BUCKET = "segments"


class CountingAdapter(LocalStorageAdapter):
    """Remembers the ranges that were asked for."""

    def __init__(self, root: Path) -> None:
        super().__init__(BUCKET, root)
        self.ranges: list[tuple[int, int]] = []

    async def download_range(self, bucket: str, path: str, start: int, length: int) -> bytes:
        self.ranges.append((start, length))
        return await super().download_range(bucket, path, start, length)


@pytest.fixture
async def adapter(tmp_path: Path) -> CountingAdapter:
    adapter = CountingAdapter(tmp_path)
    await adapter.ensure_bucket(BUCKET)
    return adapter


@pytest.fixture(scope="module")
def large() -> EncodedSegment:
    """Three row groups."""
    return spilled([Change(i, 0, f"s{i % 5}", str(i), f"text {i}", i, i) for i in range(20_000)], 0, 20_000)


async def stored(adapter: CountingAdapter, segment: EncodedSegment, **how: int) -> OpenSegment:
    path = segment.footer.key.path()
    await adapter.upload(BUCKET, path, segment.data)
    adapter.ranges.clear()
    return await read_footer(adapter, BUCKET, path, len(segment.data), **how)


async def test_footer_takes_one_request(adapter: CountingAdapter, large: EncodedSegment) -> None:
    opened = await stored(adapter, large)
    assert adapter.ranges == [(len(large.data) - 65_536, 65_536)]
    assert opened.footer == large.footer
    assert opened.group_rows.tolist() == [8_192, 8_192, 3_616]


async def test_a_long_footer_takes_two(adapter: CountingAdapter, large: EncodedSegment) -> None:
    opened = await stored(adapter, large, tail=1_000)
    assert len(adapter.ranges) == 2
    assert opened.footer == large.footer


async def test_only_the_wanted_row_groups_and_columns_are_read(adapter: CountingAdapter, large: EncodedSegment) -> None:
    opened = await stored(adapter, large)
    adapter.ranges.clear()
    table = await read_row_groups(adapter, BUCKET, opened, [1], ["position", "code"])
    assert table.column_names == ["position", "code"]
    assert table["position"].to_numpy().tolist() == [i << 16 for i in range(8_192, 16_384)]
    wanted = sum(c.length for c in opened.chunks if c.group == 1 and c.column in ("position", "code"))
    assert sum(length for _, length in adapter.ranges) <= wanted + 128 * 1024 * (len(adapter.ranges) + 1)
    assert sum(length for _, length in adapter.ranges) < len(large.data) / 4


async def test_row_groups_come_in_the_order_asked_for(adapter: CountingAdapter, large: EncodedSegment) -> None:
    opened = await stored(adapter, large)
    table = await read_row_groups(adapter, BUCKET, opened, [2, 0], ["offset"])
    assert table["offset"].to_numpy()[[0, -1]].tolist() == [16_384, 8_191]
    assert (await read_row_groups(adapter, BUCKET, opened, [], ["offset"])).num_rows == 0


async def test_all_columns_are_what_pyarrow_reads(adapter: CountingAdapter, large: EncodedSegment) -> None:
    opened = await stored(adapter, large)
    table = await read_row_groups(adapter, BUCKET, opened, range(3))
    assert table.equals(pq.read_table(pa.BufferReader(large.data)).cast(table.schema))
    assert table.equals(read_whole(large.data, "x")[1])
    vectors = await read_columns(adapter, BUCKET, opened, ["embedding"])
    assert embedding_matrix(vectors, DIMENSIONS).shape == (20_000, DIMENSIONS)


async def test_an_empty_segment(adapter: CountingAdapter) -> None:
    opened = await stored(adapter, spilled([], 5, 9))
    assert (opened.footer.rows, opened.row_groups, opened.footer.first_created_at) == (0, 0, None)
    assert (await read_columns(adapter, BUCKET, opened, ["content"])).num_rows == 0


SMALL = spilled([Change(i, 0, "a", str(i), f"text {i}" if i % 3 else None, i, i) for i in range(30)], 0, 30)


async def read_all(adapter: CountingAdapter, data: bytes, path: str) -> pa.Table:
    await adapter.upload(BUCKET, path, data)
    opened = await read_footer(adapter, BUCKET, path, len(data))
    return await read_row_groups(adapter, BUCKET, opened, range(opened.row_groups))


def cuts() -> Iterator[int]:
    yield from (0, 1, 4, 11, 12, 27, 28, 29)
    yield from np.random.default_rng(5).integers(30, len(SMALL.data), 40).tolist()
    yield len(SMALL.data) - 1


@pytest.mark.parametrize("length", list(cuts()))
async def test_a_truncated_object_is_named(adapter: CountingAdapter, length: int) -> None:
    with pytest.raises(SegmentCorrupt, match="some/object"):
        await read_all(adapter, SMALL.data[:length], "some/object")


async def test_every_flipped_bit_is_noticed_or_harmless(adapter: CountingAdapter) -> None:
    """One bit of every byte; only the magic number at the start is never read."""
    whole = read_whole(SMALL.data, "x")
    for at in range(4, len(SMALL.data)):
        data = bytearray(SMALL.data)
        data[at] ^= 1 << at % 8
        with pytest.raises(SegmentCorrupt, match="some/object"):
            read_whole(bytes(data), "some/object")
    assert whole[0].footer == SMALL.footer
    data = bytearray(SMALL.data)
    data[len(data) // 3] ^= 16
    with pytest.raises(SegmentCorrupt, match="some/object"):
        await read_all(adapter, bytes(data), "some/object")


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1PAR1" * 8, b"x" * 100_000, b"PAR1" + b"\xff" * 200 + b"PAR1"])
async def test_what_is_no_segment_is_named(adapter: CountingAdapter, data: bytes) -> None:
    with pytest.raises(SegmentCorrupt, match="some/object"):
        await read_all(adapter, data, "some/object")


async def test_another_parquet_file_is_named(adapter: CountingAdapter) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"x": [1]}), sink)
    with pytest.raises(SegmentCorrupt, match="some/object: has no seal"):
        await read_all(adapter, sink.getvalue().to_pybytes(), "some/object")


async def test_a_missing_object_is_not_a_corrupt_one(adapter: CountingAdapter) -> None:
    with pytest.raises(ObjectNotFound):
        await read_footer(adapter, BUCKET, "none", 1_000)


async def test_an_object_shorter_than_it_was_listed(adapter: CountingAdapter) -> None:
    await adapter.upload(BUCKET, "some/object", SMALL.data)
    with pytest.raises(SegmentCorrupt, match="some/object"):
        await read_footer(adapter, BUCKET, "some/object", len(SMALL.data) + 10)


def test_neighbouring_ranges_are_one_request() -> None:
    assert coalesced([(100, 10), (0, 10), (10, 5)], gap=10) == [(0, 15), (100, 10)]
    assert coalesced([(0, 10), (20, 10), (5, 2)], gap=10) == [(0, 30)]
    assert coalesced([]) == []
