"""Kafka records that are wrong in every way that was thought of; integration tests feed them among good ones."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

import numpy as np
import orjson
import pyarrow as pa

from akasha_stream.events.bundles import encode_bundle, headers, wire_schema
from akasha_stream.events.model import Event

type Headers = list[tuple[str, bytes]]
type Malformed = tuple[str, bytes | None, bytes | None, Headers]
"""(kind, key, value, headers)"""

DIMENSIONS = 384
SYSTEM = "malformed-system"
KEY = SYSTEM.encode()
BIG_BYTES = 8_400_000
"""Over limits.bundle_bytes."""
RARE: Final = frozenset({"body_of_8_mb_json", "body_of_8_mb_arrow", "nothing_but_brackets"})
"""Kinds of large records: one in two hundred."""


def malformed_records(seed: int, n: int) -> Iterator[Malformed]:
    """n records, none of which holds an acceptable event. The same seed gives the same kinds."""
    rng = random.Random(seed)
    common = [kind for kind in KINDS if kind not in RARE]
    for number in range(n):
        # Every common kind once before chance decides, so that a small n has them all.
        kind = common[number] if number < len(common) else rng.choice(common)
        if number >= len(common) and rng.random() < 0.005:
            kind = rng.choice(sorted(RARE))
        yield malformed(kind, rng)


def malformed(kind: str, rng: random.Random) -> Malformed:
    """One record of a kind of `KINDS`."""
    key, value, record_headers = KINDS[kind](rng)
    return kind, key, value, record_headers


def reasons(kind: str) -> frozenset[str]:
    """The reasons that a record of this kind can be refused for."""
    return _REASONS[kind]


# What a good event is, to be spoilt


def document(rng: random.Random, **changes: Any) -> dict[str, Any]:
    event: dict[str, Any] = {
        "event_id": f"bad-{rng.getrandbits(48):012x}",
        "source_system": SYSTEM,
        "content": "text of a bad event",
        "embedding": [round(rng.uniform(-1, 1), 4) + 1e-5 for _ in range(DIMENSIONS)],
        "metadata": {"language": "en"},
        "created_at": "2026-01-02T03:04:05.678901Z",
    }
    event.update(changes)
    return event


def good_arrow(rng: random.Random, events: int = 3) -> bytes:
    return encode_bundle([_event(rng) for _ in range(events)])


def _event(rng: random.Random, **changes: Any) -> Event:
    values = {**document(rng), "created_at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), **changes}
    return Event(**values)


def ipc(columns: dict[str, Any], *, compression: Literal["zstd", "lz4"] | None = None) -> bytes:
    """An Arrow stream of these columns."""
    table = pa.table(columns)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def columns_of(value: bytes) -> dict[str, Any]:
    table = pa.ipc.open_stream(value).read_all()
    return {name: table[name].combine_chunks() for name in table.schema.names}


def _arrow(value: bytes | None, key: bytes | None = KEY) -> tuple[bytes | None, bytes | None, Headers]:
    return key, value, headers("arrow", SYSTEM, "bundle")


def _json(value: object, key: bytes | None = KEY) -> tuple[bytes | None, bytes | None, Headers]:
    raw = value if isinstance(value, bytes) else json.dumps(value, ensure_ascii=False).encode()
    return key, raw, headers("json", SYSTEM, "bundle")


def _one(**changes: Any) -> Callable[[random.Random], tuple[bytes | None, bytes | None, Headers]]:
    """A JSON event with these fields."""
    return lambda rng: _json(document(rng, **changes))


def _without(name: str) -> Callable[[random.Random], tuple[bytes | None, bytes | None, Headers]]:
    return lambda rng: _json({field: value for field, value in document(rng).items() if field != name})


def _vectors(change: Callable[[np.ndarray[Any, Any]], None]) -> Callable[[random.Random], Any]:
    """An Arrow bundle whose every vector is changed."""

    def make(rng: random.Random) -> tuple[bytes | None, bytes | None, Headers]:
        events = [_event(rng) for _ in range(2)]
        for event in events:
            change(event.embedding)
        return _arrow(encode_bundle(events))

    return make


def _set(place: int | slice, value: float) -> Callable[[np.ndarray[Any, Any]], None]:
    def change(vector: np.ndarray[Any, Any]) -> None:
        vector[place] = value

    return change


def _truncated(rng: random.Random) -> Any:
    value = good_arrow(rng)
    # The last 8 bytes are the end mark, which a stream may lack.
    return _arrow(value[: rng.randrange(1, len(value) - 9)])


def _huge_metadata_length(rng: random.Random) -> Any:
    value = bytearray(good_arrow(rng))
    value[4:8] = struct.pack("<i", rng.choice([0x7FFFFFFF, 0x7FFFFFF8, -8, 0x10000000]))
    return _arrow(bytes(value))


def _huge_body_length(rng: random.Random) -> Any:
    value = bytearray(good_arrow(rng))
    batch = 8 + struct.unpack_from("<i", value, 4)[0] + 8
    body = len(value) - 8 - batch - struct.unpack_from("<i", value, batch - 4)[0]
    at = value.index(struct.pack("<q", body), batch)
    value[at : at + 8] = struct.pack("<q", rng.choice([2**62, 2**40, 2**33, body * 1000]))
    return _arrow(bytes(value))


def _corrupt_offsets(rng: random.Random) -> Any:
    value = bytearray(good_arrow(rng))
    lengths = [0]
    for system in (SYSTEM,) * 3:
        lengths.append(lengths[-1] + len(system))
    at = value.index(struct.pack("<4i", *lengths))
    value[at + 4 : at + 8] = struct.pack("<i", rng.choice([2**30, -5, 100_000]))
    return _arrow(bytes(value))


def _bad_utf8_arrow(rng: random.Random) -> Any:
    value = good_arrow(rng)
    return _arrow(value.replace(b"text of a bad", b"text \xff\xfe a bad"))


def _wrong_schema(rng: random.Random) -> Any:
    return _arrow(ipc({"id": [1, 2], "vector": [[1.0], [2.0]], "name": ["a", "b"]}))


def _column(name: str, make: Callable[[Any], Any]) -> Callable[[random.Random], Any]:
    """An Arrow bundle with one column made anew of the old."""

    def change(rng: random.Random) -> Any:
        columns = columns_of(good_arrow(rng))
        columns[name] = make(columns[name])
        return _arrow(ipc(columns))

    return change


def _view_bomb(rng: random.Random) -> Any:
    """2,000 views of the same 1 MB: 2 GB, if they were written out."""
    rows = 2_000
    text: Any = pa.array(["x" * 1_000_000], pa.string_view())
    views = pa.py_buffer(text.buffers()[1].to_pybytes()[:16] * rows)
    columns = {name: column.take(pa.array([0] * rows)) for name, column in columns_of(good_arrow(rng, 1)).items()}
    columns["embedding"] = pa.nulls(rows, pa.list_(pa.float32()))
    columns["content"] = pa.Array.from_buffers(pa.string_view(), rows, [None, views, text.buffers()[2]])
    return _arrow(ipc(columns))


def _dictionary_bomb(rng: random.Random) -> Any:
    """A few kB of indices into one string of 2 MB: decoded, 4 GB."""
    columns = columns_of(good_arrow(rng, 1))
    rows = 2_000
    columns = {name: column.take(pa.array([0] * rows)) for name, column in columns.items()}
    columns["embedding"] = pa.nulls(rows, pa.list_(pa.float32()))
    columns["content"] = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int16()), pa.array(["x" * 2_000_000]))
    return _arrow(ipc(columns))


def _too_many_events(rng: random.Random) -> Any:
    rows = 5_000
    columns = columns_of(good_arrow(rng, 1))
    columns = {name: column.take(pa.array([0] * rows)) for name, column in columns.items()}
    columns["embedding"] = pa.nulls(rows, pa.list_(pa.float32()))
    return _arrow(ipc(columns))


def _compressed(rng: random.Random) -> Any:
    return _arrow(ipc(columns_of(good_arrow(rng)), compression="zstd" if rng.random() < 0.5 else "lz4"))


def _big_json(rng: random.Random) -> Any:
    return _json([document(rng, content="x" * BIG_BYTES)])


def _big_arrow(rng: random.Random) -> Any:
    return _arrow(encode_bundle([_event(rng, content="x" * BIG_BYTES)]))


def _deep(levels: int) -> Callable[[random.Random], Any]:
    return lambda _: _json(b"[" * levels + b"]" * levels)


def _deep_metadata(rng: random.Random) -> Any:
    nested: object = 1
    for _ in range(rng.choice([12, 100, 400])):
        nested = {"a": nested}
    return _json(document(rng, metadata=nested))


def _duplicate_key(rng: random.Random) -> Any:
    value = json.dumps(document(rng)).encode()
    return _json(value.replace(b'"content"', b'"event_id": "other", "content"', 1))


def _duplicate_metadata_key(rng: random.Random) -> Any:
    value = json.dumps(document(rng)).encode()
    return _json(value.replace(b'{"language": "en"}', b'{"language": "en", "language": "de"}'))


def _huge_integer(rng: random.Random) -> Any:
    return _json(document(rng, metadata={"n": 10 ** rng.choice([19, 20, 30, 300]) * 2}))


def _wrong_content_type(rng: random.Random) -> Any:
    kind = rng.choice([b"text/plain", b"application/avro", b"", b"\xff\xfe", b"application/json-seq"])
    return KEY, orjson.dumps(document(rng)), [("content-type", kind)]


def _swapped_content_type(rng: random.Random) -> Any:
    if rng.random() < 0.5:
        return KEY, orjson.dumps(document(rng)), headers("arrow", SYSTEM, "bundle")
    return KEY, good_arrow(rng), headers("json", SYSTEM, "bundle")


def _random_bytes(rng: random.Random) -> Any:
    value = rng.randbytes(rng.randrange(1, 2_000))
    return KEY, value, headers(rng.choice(["arrow", "json"]), SYSTEM, "bundle")


def _naive_arrow_time(column: Any) -> Any:
    return column.cast(pa.timestamp("us"))


def _empty_arrow(_: random.Random) -> Any:
    schema = wire_schema(DIMENSIONS)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(pa.RecordBatch.from_pylist([], schema=schema))
    return _arrow(bytes(sink.getvalue()))


def _half_wrong(rng: random.Random) -> Any:
    """Several events, each refused for a reason of its own."""
    return _json([document(rng, event_id=""), document(rng, op="merge"), document(rng, metadata=[1])])


def _far_future(rng: random.Random) -> Any:
    at = datetime.now(UTC) + timedelta(days=rng.choice([30, 400, 100_000]))
    return _json(document(rng, created_at=at.isoformat()))


_TABLE: Final[dict[str, tuple[Callable[[random.Random], Any], str]]] = {
    # kind: (how it is made, the reasons it may be refused for)
    "null_body": (lambda _: (KEY, None, headers("json", SYSTEM, "bundle")), "null_body"),
    "empty_body": (lambda _: (KEY, b"", []), "bundle_empty"),
    "null_key": (lambda rng: _json(document(rng), key=None), "key_mismatch"),
    "key_mismatch": (lambda rng: _json(document(rng), key=b"another-system"), "key_mismatch"),
    "key_mismatch_arrow": (lambda rng: _arrow(good_arrow(rng), key=KEY + b" "), "key_mismatch"),
    "random_bytes": (_random_bytes, "arrow_invalid json_invalid json_shape"),
    "wrong_content_type": (_wrong_content_type, "content_type_unknown"),
    "swapped_content_type": (_swapped_content_type, "arrow_invalid json_invalid"),
    "truncated_arrow": (_truncated, "arrow_invalid bundle_empty"),
    "huge_metadata_length": (_huge_metadata_length, "arrow_invalid"),
    "huge_body_length": (_huge_body_length, "arrow_invalid"),
    "corrupt_offsets": (_corrupt_offsets, "arrow_invalid"),
    "compressed_arrow": (_compressed, "arrow_compressed"),
    "wrong_schema": (_wrong_schema, "arrow_schema"),
    "wrong_column_type": (_column("content", lambda column: pa.array([1] * len(column))), "arrow_schema"),
    "empty_arrow": (_empty_arrow, "bundle_empty"),
    "empty_array": (lambda _: _json(b"[]"), "bundle_empty"),
    "too_many_events": (_too_many_events, "bundle_too_many_events"),
    "dictionary_bomb": (_dictionary_bomb, "bundle_too_large"),
    "view_bomb": (_view_bomb, "bundle_too_large"),
    "body_of_8_mb_json": (_big_json, "bundle_too_large"),
    "body_of_8_mb_arrow": (_big_arrow, "bundle_too_large"),
    "nothing_but_brackets": (lambda _: _json(b"[" + b"{}," * 2_000_000 + b"{}]"), "json_too_complex"),
    "invalid_utf8_arrow": (_bad_utf8_arrow, "utf8_invalid"),
    "invalid_utf8_json": (
        lambda rng: _json(orjson.dumps(document(rng)).replace(b"text", b"te\xc3\x28")),
        "json_invalid",
    ),
    "lone_surrogate": (lambda rng: _json(orjson.dumps(document(rng)).replace(b"text", rb"te\ud800t")), "json_invalid"),
    "truncated_json": (lambda rng: _json(orjson.dumps(document(rng))[: rng.randrange(1, 2_000)]), "json_invalid"),
    "deep_json": (_deep(5_000), "json_too_deep"),
    "json_scalar": (lambda rng: _json(rng.choice([b"1", b"null", b'"text"', b"true"])), "json_shape"),
    "array_of_scalars": (lambda _: _json(b"[1,2,3]"), "json_shape"),
    "duplicate_key": (_duplicate_key, "duplicate_key"),
    "missing_id": (_without("event_id"), "field_missing"),
    "missing_content": (_without("content"), "field_missing"),
    "missing_embedding": (_without("embedding"), "field_missing"),
    "missing_time": (_without("created_at"), "field_missing"),
    "numeric_id": (_one(event_id=17), "field_type"),
    "embedding_of_strings": (_one(embedding=["1.0"] * DIMENSIONS), "field_type"),
    "embedding_of_booleans": (_one(embedding=[True] * DIMENSIONS), "field_type"),
    "embedding_with_null": (_one(embedding=[None] * DIMENSIONS), "vector_not_finite"),
    "bad_op": (_one(op="merge"), "op_unknown"),
    "empty_id": (_one(event_id=""), "event_id_size"),
    "oversized_id": (_one(event_id="i" * 300), "event_id_size"),
    "oversized_system": (
        lambda rng: _json(document(rng, source_system="s" * 200), key=b"s" * 200),
        "source_system_size",
    ),
    "oversized_model": (_one(model="m" * 300), "model_size"),
    "oversized_content": (_one(content="é" * 40_000), "content_size"),
    "control_in_content": (_one(content="nul \x00 here"), "control_characters"),
    "control_in_id": (_one(event_id="line\nend"), "control_characters"),
    "c1_control_in_id": (_one(event_id="next\x85line"), "control_characters"),
    "control_in_metadata": (_one(metadata={"a": "\x1b[2J"}), "control_characters"),
    "nan": (_vectors(_set(5, np.nan)), "vector_not_finite"),
    "infinity": (_vectors(_set(383, -np.inf)), "vector_not_finite"),
    "nan_in_json": (lambda rng: _json(document(rng, embedding=[float("nan")] * DIMENSIONS)), "json_invalid"),
    "number_too_large_for_float32": (_one(embedding=[1e300] * DIMENSIONS), "vector_not_finite"),
    "zero_vector": (_vectors(_set(slice(None), 0)), "vector_zero"),
    "tiny_vector": (_vectors(_set(slice(None), 1e-30)), "vector_magnitude"),
    "giant_vector": (_vectors(_set(0, 1e30)), "vector_magnitude"),
    "wrong_dimension": (_one(embedding=[1.0] * 383), "vector_length"),
    "wrong_dimension_arrow": (
        _column(
            "embedding", lambda column: pa.FixedSizeListArray.from_arrays(pa.array([1.0] * 768 * len(column)), 768)
        ),
        "vector_length",
    ),
    "naive_time": (_one(created_at="2026-01-02T03:04:05"), "created_at_naive"),
    "naive_time_arrow": (_column("created_at", _naive_arrow_time), "created_at_naive"),
    "no_time": (_one(created_at="yesterday"), "created_at_invalid"),
    "numeric_time": (_one(created_at=1_767_323_045_678_901), "created_at_invalid"),
    "impossible_time": (_one(created_at="2026-02-30T25:00:00Z"), "created_at_invalid"),
    "far_future": (_far_future, "created_at_range"),
    "before_1970": (_one(created_at="1969-12-31T23:59:59Z"), "created_at_range"),
    "overflowing_time": (
        _column("created_at", lambda column: pa.array([2**62] * len(column), pa.timestamp("s", "UTC"))),
        "created_at_range",
    ),
    "metadata_array": (_one(metadata=[1, 2]), "metadata_not_object"),
    "metadata_string": (_one(metadata="{}"), "metadata_not_object"),
    "metadata_no_json": (_column("metadata", lambda column: pa.array(["{'a': 1}"] * len(column))), "metadata_invalid"),
    "metadata_of_neighbours": (
        # Each row alone is broken, joined with commas they would be objects.
        _column("metadata", lambda _: pa.array(['{"a":[{}', "{}]}", "{},{}"])),
        "metadata_invalid",
    ),
    "oversized_metadata": (_one(metadata={"a": "x" * 20_000}), "metadata_size"),
    "deep_metadata": (_deep_metadata, "metadata_too_deep"),
    "duplicate_metadata_key": (_duplicate_metadata_key, "metadata_duplicate_key"),
    "huge_integer": (_huge_integer, "metadata_number"),
    "every_event_wrong": (_half_wrong, "event_id_size op_unknown metadata_not_object"),
}

KINDS: Final = {kind: make for kind, (make, _) in _TABLE.items()}
_REASONS: Final = {kind: frozenset(words.split()) for kind, (_, words) in _TABLE.items()}
