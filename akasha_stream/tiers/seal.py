"""Checksums of every part of a segment, in a block that stands between its last page and its Parquet footer.

    PAR1 | pages | seal | footer | footer's length (4) | PAR1
    seal = xxh3-64 of each column chunk, row group by row group (8 each)
         | their number (4) | xxh3-64 of these and the footer (8) | AKS1

Parquet readers find pages by the footer and pass over what lies between, so the object is as readable as without.
Parquet's own page checksums leave the footer and the page headers open: a flipped bit there can change an offset, a
length or a minimum without anyone noticing.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from akasha_stream.errors import SegmentCorrupt

PARQUET = b"PAR1"
_MAGIC = b"AKS1"
_LENGTH = struct.Struct("<I")
_MARK = struct.Struct("<IQ4s")
END_BYTES = _LENGTH.size + len(PARQUET)
SHORTEST = len(PARQUET) + _MARK.size + END_BYTES


def chunk_ranges(metadata: Any) -> Iterator[tuple[int, int, int, str]]:
    """(row group, first byte, bytes, top-level column) of every column chunk of a pyarrow FileMetaData, in order."""
    for group in range(metadata.num_row_groups):
        for column in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(column)
            start = chunk.data_page_offset
            if chunk.has_dictionary_page:
                start = min(start, chunk.dictionary_page_offset)
            yield group, start, chunk.total_compressed_size, chunk.path_in_schema.split(".")[0]


def sealed(parquet: io.BytesIO, metadata: Any) -> bytes:
    """A Parquet file with its seal. It is put into `parquet` itself: a second copy of a merged segment is 100 MB."""
    view = parquet.getbuffer()
    at = len(view) - END_BYTES - _LENGTH.unpack_from(view, len(view) - END_BYTES)[0]
    hashes = [xxh3_64_intdigest(view[start : start + length]) for _, start, length, _ in chunk_ranges(metadata)]
    packed = struct.pack(f"<{len(hashes)}Q", *hashes)
    footer = bytes(view[at:])
    view.release()
    parquet.seek(at)
    parquet.write(packed + _MARK.pack(len(hashes), xxh3_64_intdigest(packed + footer), _MAGIC) + footer)
    return parquet.getvalue()


def tail_bytes(tail: bytes, path: str) -> int:
    """How many of the object's last bytes hold footer and seal, or at least seal's mark, told by what is here.

    Asked again with that many, it says the final number. Raises SegmentCorrupt.
    """
    if len(tail) < SHORTEST or tail[-len(PARQUET) :] != PARQUET:
        raise SegmentCorrupt(f"{path}: is not a whole Parquet object")
    marked: int = _LENGTH.unpack_from(tail, len(tail) - END_BYTES)[0] + END_BYTES + _MARK.size
    if marked > len(tail):
        return marked
    count, _, magic = _MARK.unpack_from(tail, len(tail) - marked)
    if magic != _MAGIC:
        raise SegmentCorrupt(f"{path}: has no seal: it is damaged, or was not written by akasha-stream")
    return int(marked + 8 * count)


def open_seal(tail: bytes, path: str) -> tuple[bytes, NDArray[np.uint64]]:
    """(footer with its length and PAR1, checksum of each column chunk); `tail` has tail_bytes() or more.

    Raises SegmentCorrupt where a bit of either differs from what was written.
    """
    footer_at = len(tail) - END_BYTES - _LENGTH.unpack_from(tail, len(tail) - END_BYTES)[0]
    count, whole, _ = _MARK.unpack_from(tail, footer_at - _MARK.size)
    packed_at = footer_at - _MARK.size - 8 * count
    packed = tail[packed_at : footer_at - _MARK.size]
    footer = tail[footer_at:]
    if packed_at < 0 or xxh3_64_intdigest(packed + footer) != whole:
        raise SegmentCorrupt(f"{path}: its footer was changed after it was written")
    return footer, np.frombuffer(packed, np.dtype("<u8"))
