"""Dead letters as Kafka records: the original bytes, and headers that say why and where from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from akasha_stream.events.bundles import ARROW_TYPE, WIRE_COLUMNS
from akasha_stream.events.json_bundle import element_texts
from akasha_stream.events.records import DeadLetter, Record

REASON = "akasha-dlq-reason"
DETAIL = "akasha-dlq-detail"
TOPIC = "akasha-dlq-topic"
PARTITION = "akasha-dlq-partition"
OFFSET = "akasha-dlq-offset"
TIMESTAMP = "akasha-dlq-timestamp-ms"
INDEX = "akasha-dlq-index"
EVENTS = "akasha-dlq-events"
LEFT_OUT = "akasha-dlq-bytes-left-out"
"""How many bytes the message had, where it is larger than the dead-letter topic takes; the value is null then."""
PREFIX = "akasha-dlq-"

_DETAIL_BYTES = 1_000
_ORIGINAL_HEADERS_BYTES = 16_384
"""Of a record's own headers as many are kept as fit; the rest could make the letter too big for its topic."""


def dead_letter_record(letter: DeadLetter, topic: str) -> tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]:
    """(key, value, headers) of the record for the dead-letter topic; `topic` is where the original was read.

    The key is the original's. The value is the original's too, byte by byte; where other events of the
    bundle were accepted, it is the bundle of the refused event alone, so that a replay of the letter
    repeats nothing. The original's headers are kept, then come ours.
    """
    record = letter.record
    headers: list[tuple[str, bytes]] = []
    room = _ORIGINAL_HEADERS_BYTES
    for name, content in record.headers:
        room -= len(name.encode(errors="replace")) + len(content or b"")
        # A letter that was published again carries the headers of its first death; the new ones replace them.
        if room >= 0 and not name.startswith(PREFIX):
            headers.append((name, content))
    headers += [
        (REASON, letter.reason.encode()),
        (DETAIL, letter.detail.encode(errors="replace")[:_DETAIL_BYTES]),
        (TOPIC, topic.encode()),
        (PARTITION, str(record.partition).encode()),
        (OFFSET, str(record.offset).encode()),
        (TIMESTAMP, str(record.timestamp_ms).encode()),
        (EVENTS, str(letter.events).encode()),
    ]
    if letter.index is not None:
        headers.append((INDEX, str(letter.index).encode()))
    return record.key, record.value if letter.event is None else letter.event, headers


def single_events(record: Record, places: Sequence[int]) -> list[bytes] | list[None]:
    """The events at these places of a record that decodes, each as a bundle of its own in the same format.

    JSON: the very bytes of the element, in brackets where it is an array. Arrow: a stream with the record's own
    types and one row, of the columns that the wire format names. All None where that can't be done: the letter is
    the whole record then.
    """
    try:
        return _single_events(record, places)
    except (pa.ArrowException, OSError, ValueError, LookupError, RecursionError):
        return [None] * len(places)


def _single_events(record: Record, places: Sequence[int]) -> list[bytes]:
    value = record.value or b""
    content_type = next((content for name, content in record.headers if name.lower() == "content-type"), b"") or b""
    if not content_type.strip().lower().startswith(ARROW_TYPE.encode()):
        texts = element_texts(value)
        # An array alone would be a bundle, and its elements events.
        return [b"[%b]" % texts[place] if texts[place].startswith(b"[") else texts[place] for place in places]
    rows: list[tuple[pa.RecordBatch, int]] = [
        (batch, row) for batch in pa.ipc.open_stream(value) for row in range(batch.num_rows)
    ]
    return [_one_row(*rows[place]) for place in places]


def _one_row(batch: pa.RecordBatch, row: int) -> bytes:
    # Only the columns that decoding has validated: an unknown one may have offsets that lead anywhere.
    names = [name for name in WIRE_COLUMNS if name in batch.schema.names]
    one = pa.RecordBatch.from_arrays([_alone(batch.column(name).slice(row, 1)) for name in names], names=names)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, one.schema) as writer:
        writer.write_batch(one)
    return bytes(sink.getvalue())


def _alone(value: Any) -> Any:
    """One value without what IPC would write along with it: a whole dictionary, or all buffers of a view column."""
    if pa.types.is_dictionary(value.type):
        value = value.dictionary_decode()
    if value.type == pa.string_view():
        raw: Any = pa.Array.from_buffers(pa.binary_view(), len(value), value.buffers(), offset=value.offset)
        raw = raw.cast(pa.binary())
        # Back to a string without a look at the UTF-8, which may be what it was refused for.
        value = pa.Array.from_buffers(pa.string(), len(raw), raw.buffers(), offset=raw.offset)
    return value
