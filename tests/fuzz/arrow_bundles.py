"""Arrow streams that are nearly a bundle: any types, texts that are no UTF-8, columns given twice or left out."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
import pyarrow

from akasha_stream.events.bundles import encode_bundle
from akasha_stream.events.model import Event
from tests.fuzz.json_bundles import STRINGS

pa: Any = pyarrow  # types are drawn, so nothing can be said of them
SYSTEM = "s"
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SOUND = [
    Event(f"id-{n}", SYSTEM, f"text {n} of a good length", np.full(8, 0.3, np.float32), "m", {"n": n}, AT)
    for n in range(4)
]


def ipc(
    names: list[str],
    columns: list[Any],
    *,
    compression: Literal["zstd", "lz4"] | None = None,
    batches: int = 1,
) -> bytes:
    """An Arrow stream of these columns; names may be there twice."""
    batch = pa.RecordBatch.from_arrays(columns, names=names)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        for _ in range(batches):
            writer.write_batch(batch)
    return bytes(sink.getvalue())


def sound_columns(rows: int) -> dict[str, Any]:
    table = pa.ipc.open_stream(_MANY).read_all()
    return {name: table[name].chunk(0)[:rows] for name in table.schema.names}


_MANY = encode_bundle([SOUND[row % 4] for row in range(41)])


def _text_column(rng: random.Random, rows: int) -> Any:
    """Texts of any type that holds texts, some of them no UTF-8."""
    pool = [b"", b"s", b"id-1", b"upsert", b"delete", b"{}", b'{"a":1,"a":2}', b'{"a":{"b":{"c":{"d":{}}}}}', b"\x00"]
    pool += [
        b"\xff\xfe",
        b"\xc3",
        b"\xed\xa0\x80",
        b"\x1b[31m",
        b"x" * 600,
        b"{}]",
        b"[{}",
        b"\xc2\x85",
        b'{"n":1e400}',
    ]
    pool += [text for text in STRINGS if len(text) < 100]
    raw = pa.array([rng.choice([*pool, None]) for _ in range(rows)], pa.binary())
    text = pa.Array.from_buffers(pa.string(), rows, raw.buffers())
    match rng.randrange(5):
        case 0:
            return text
        case 1:
            large = raw.cast(pa.large_binary())
            return pa.Array.from_buffers(pa.large_string(), rows, large.buffers())
        case 2:
            view = raw.cast(pa.binary_view())
            return pa.Array.from_buffers(pa.string_view(), rows, view.buffers())
        case 3:
            indices = [rng.choice([None, *range(len(pool))]) for _ in range(rows)]
            words = pa.array(pool, pa.binary())
            words = pa.Array.from_buffers(pa.string(), len(pool), words.buffers())
            kind = rng.choice([pa.int8(), pa.int16(), pa.uint32(), pa.int64()])
            return pa.DictionaryArray.from_arrays(pa.array(indices, kind), words)
        case _:
            return raw


def _vector_column(rng: random.Random, rows: int) -> Any:
    numbers: list[float | None] = [0.5, 0.0, -1.0, 1e30, 1e-30, float("nan"), float("inf"), 3e38, 1e300, None]
    weights = [40] + [1] * (len(numbers) - 1)
    width = rng.choice([8, 8, 8, 0, 7, 16])
    of_one_width = rng.random() < 0.5

    def vector() -> list[float | None] | None:
        length = width if of_one_width or rng.random() < 0.9 else rng.randrange(12)
        if rng.random() < 0.1:
            zeros: list[float | None] = [0.0] * length
            return rng.choice([None, zeros])
        return rng.choices(numbers, weights, k=length)

    lists = pa.array([vector() for _ in range(rows)], pa.list_(pa.float64()))
    item = rng.choice([pa.float16(), pa.float32(), pa.float64(), pa.float32(), pa.int32()])
    lists = lists.cast(pa.list_(item), safe=False)
    if of_one_width and lists.null_count == 0:
        return pa.FixedSizeListArray.from_arrays(lists.flatten(), width) if width else lists
    return lists if rng.random() < 0.5 else lists.cast(pa.large_list(item))


def _time_column(rng: random.Random, rows: int) -> Any:
    ticks = [0, 1, -1, 1_767_323_045, 1_767_323_045_678_901, 2**62, -(2**62), 2**63 - 1, -(2**63), 9_223_372_036_854]
    kind = pa.timestamp(
        rng.choice(["s", "ms", "us", "ns"]), rng.choice(["UTC", "UTC", "Europe/Berlin", "+99:99", None])
    )
    column = pa.array([rng.choice([*ticks, None]) for _ in range(rows)], pa.int64())
    return column.cast(kind) if rng.random() < 0.9 else column


def _odd_column(rng: random.Random, rows: int) -> Any:
    match rng.randrange(5):
        case 0:
            return pa.nulls(rows)
        case 1:
            return pa.array([1] * rows)
        case 2:
            return pa.array([[{"a": "b"}]] * rows, pa.list_(pa.struct([("a", pa.string())])))
        case 3:
            return pa.array([[("a", 1)]] * rows, pa.map_(pa.string(), pa.int8()))
        case _:
            return pa.RunEndEncodedArray.from_arrays([rows], ["s"]) if rows else pa.nulls(0)


def arrow_bundle(rng: random.Random) -> bytes:
    rows = rng.choice([0, 1, 2, 3, 4, 4, 4, 41])
    columns = sound_columns(rows)
    names, arrays = list(columns), list(columns.values())
    for _ in range(rng.choice([0, 1, 1, 2, 3])):
        at = rng.randrange(len(names))
        match names[at] if rng.random() < 0.85 else rng.choice(["drop", "twice", "odd", "unknown"]):
            case "embedding":
                arrays[at] = _vector_column(rng, rows)
            case "created_at":
                arrays[at] = _time_column(rng, rows)
            case "drop" if len(names) > 1:
                del names[at], arrays[at]
            case "twice":
                names.append(names[at])
                arrays.append(arrays[at])
            case "odd":
                arrays[at] = _odd_column(rng, rows)
            case "unknown":
                names.append(rng.choice(["extra", "", "\x00", "x" * 3_000]))
                arrays.append(_odd_column(rng, rows))
            case _:
                arrays[at] = _text_column(rng, rows)
    compression: Literal["zstd", "lz4"] | None = rng.choice([None] * 12 + ["zstd", "lz4"])
    return ipc(names, arrays, compression=compression, batches=rng.choice([1, 1, 1, 1, 2, 3, 0, 66]))


def bomb(rng: random.Random) -> bytes:
    """Little on the wire, megabytes once it is decoded: views of, or indices into, the same long text."""
    rows = 40
    columns = {name: column.take(pa.array([0] * rows)) for name, column in sound_columns(1).items()}
    text = "x" * rng.choice([400, 40_000])
    name = rng.choice(["content", "metadata", "event_id", "extra"])
    if rng.random() < 0.5:
        columns[name] = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int8()), pa.array([text]))
    else:
        view = pa.array([text], pa.string_view())
        buffers = view.buffers()
        views = pa.py_buffer(buffers[1].to_pybytes()[:16] * rows)
        columns[name] = pa.Array.from_buffers(pa.string_view(), rows, [None, views, *buffers[2:]])
    return ipc(list(columns), list(columns.values()))
