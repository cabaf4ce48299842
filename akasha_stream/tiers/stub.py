"""A segment's stub: what a shard keeps of rows whose bodies are in an object store. Some 150 bytes a row.

It has what dedupe, masks, filters and the first step of a search need (identities, hashes, times, bit codes), not the
content, the metadata and the vectors. A stub is derived: it is made again from the segment at any time, so the local
file may be deleted. Only for a segment in an archive class, which can't be read, a copy is kept beside the hot tier's
segments.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from akasha_stream.errors import SegmentCorrupt
from akasha_stream.hot.durable import write_whole
from akasha_stream.hot.hashes import identity_hash, identity_key, strings
from akasha_stream.tiers.changelog import DELETE
from akasha_stream.tiers.footer import SegmentFooter, parse_footer

COLUMNS = (
    "position",
    "source_system",
    "event_id",
    "op",
    "code",
    "created_at",
    "appended_at",
    "payload_hash",
    "content_hash",
)
"""Of the changelog: what has to be read to make a stub."""

_FOOTER = b"akasha.segment"
_NO_HASH: Any = 0
_ARROW = b"ARROW1\0\0"
"""Arrow's file format begins with this; what follows is its stream format, the schema first."""


@dataclass(frozen=True, slots=True)
class Stub:
    """`rows`: stub_schema(), by position; `place` is a row's number in the segment, whose order is another."""

    footer: SegmentFooter
    rows: pa.Table


def stub_schema(dimensions: int) -> pa.Schema:
    """Times in microseconds since the epoch. A delete's code is 0, as are its hashes of payload and content."""
    fields: list[pa.Field[Any]] = [
        pa.field("position", pa.int64(), False),
        pa.field("source_system", pa.string(), False),
        pa.field("event_id", pa.string(), False),
        pa.field("deleted", pa.bool_(), False),
        pa.field("code", pa.binary(dimensions // 8), False),
        pa.field("created_at", pa.int64(), False),
        pa.field("appended_at", pa.int64(), False),
        pa.field("identity_hash", pa.uint64(), False),
        pa.field("payload_hash", pa.uint64(), False),
        pa.field("content_hash", pa.uint64(), False),
        pa.field("place", pa.int32(), False),
    ]
    return pa.schema(fields)


def make_stub(footer: SegmentFooter, changelog: pa.Table) -> Stub:
    """`changelog`: COLUMNS (or more) of all rows of a segment, in the segment's order."""
    schema = stub_schema(footer.dimensions)
    order = np.argsort(changelog["position"].to_numpy(), kind="stable")
    table = changelog.select(list(COLUMNS)).take(order).combine_chunks()
    systems, ids = strings(table["source_system"]), strings(table["event_id"])
    hashes = [identity_hash(identity_key(*identity)) for identity in zip(systems, ids, strict=True)]
    no_code: Any = bytes(footer.dimensions // 8)  # the stubs know of a scalar only
    columns: dict[str, Any] = {name: table[name] for name in ("position", "source_system", "event_id")}
    columns |= {name: table[name].cast(pa.int64()) for name in ("created_at", "appended_at")}
    columns |= {name: table[name].fill_null(_NO_HASH) for name in ("payload_hash", "content_hash")}
    columns["code"] = table["code"].fill_null(no_code)
    columns["deleted"] = pa.chunked_array([[op == DELETE for op in table["op"].to_pylist()]], pa.bool_())
    columns["identity_hash"] = pa.array(np.array(hashes, np.uint64))
    columns["place"] = pa.array(order.astype(np.int32))
    rows = pa.table([columns[name] for name in schema.names], schema=schema)
    return Stub(footer, rows.combine_chunks())


def write_stub(path: Path, stub: Stub) -> None:
    """Write the local file: it is there whole, or not at all. It is made to be memory-mapped."""

    def write(temporary: Path) -> None:
        with pa.OSFile(str(temporary), "wb") as sink:
            _write(sink, stub, pa.ipc.IpcWriteOptions())

    write_whole(path, write)


def stub_bytes(stub: Stub) -> bytes:
    """What is put beside an archived segment; compressed."""
    sink = pa.BufferOutputStream()
    _write(sink, stub, pa.ipc.IpcWriteOptions(compression="zstd"))
    return sink.getvalue().to_pybytes()


def open_stub(path: Path) -> Stub:
    """Memory-map a local file. Raises SegmentCorrupt, which names it; then delete it, it is derived."""
    return _open(lambda: pa.memory_map(str(path)), str(path))


def read_stub(data: bytes, path: str) -> Stub:
    """The reverse of stub_bytes(). Raises SegmentCorrupt, naming `path`."""
    return _open(lambda: pa.BufferReader(data), path)


def read_stub_footer(start: bytes, path: str) -> SegmentFooter | None:
    """The footer out of the first bytes of a stub; None: they are too few. Raises SegmentCorrupt, naming `path`."""
    if not start.startswith(_ARROW):
        raise SegmentCorrupt(f"{path}: is no stub of a segment")
    try:
        schema = pa.ipc.read_schema(pa.py_buffer(start[len(_ARROW) :]))
    except (pa.ArrowException, OSError):
        return None
    return parse_footer((schema.metadata or {}).get(_FOOTER, b""), path)


def _write(sink: Any, stub: Stub, options: pa.ipc.IpcWriteOptions) -> None:
    table = stub.rows.replace_schema_metadata({_FOOTER: stub.footer.model_dump_json().encode()}).combine_chunks()
    with pa.ipc.new_file(sink, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=max(table.num_rows, 1))


def _open(source: Callable[[], Any], name: str) -> Stub:
    try:
        with source() as opened:
            table = pa.ipc.open_file(opened).read_all()
        footer = parse_footer((table.schema.metadata or {})[_FOOTER], name)
        rows = table.replace_schema_metadata(None)
        if rows.schema != stub_schema(footer.dimensions) or rows.num_rows != footer.rows:
            raise SegmentCorrupt(f"{name}: its parts don't agree")
        return Stub(footer, rows)
    except (pa.ArrowException, KeyError, OSError, ValueError) as error:
        raise SegmentCorrupt(f"{name}: is no stub of a segment: {error}") from error
