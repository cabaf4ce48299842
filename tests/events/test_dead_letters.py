"""Dead letters as Kafka records."""

from __future__ import annotations

import random

import numpy as np
import orjson
import pyarrow as pa

from akasha_stream.events.dead_letters import dead_letter_record
from akasha_stream.events.decode import Decoder, Record
from akasha_stream.settings import Limits
from tests.events.conversions import NOW_MS
from tests.events.malformed import columns_of, document, good_arrow, ipc

LIMITS = Limits(future_s=400 * 86_400)


def test_a_whole_record_keeps_its_key_bytes_and_headers() -> None:
    trace = ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    bad = Record(3, 17, NOW_MS, b"key", b"\xff\x00bytes", [("content-type", b"application/json"), trace])
    [letter] = Decoder(LIMITS, None).decode([bad]).dead
    key, value, headers = dead_letter_record(letter, "akasha.embeddings.v1")
    assert (key, value) == (b"key", b"\xff\x00bytes")
    assert headers[:2] == [("content-type", b"application/json"), trace]
    ours = dict(headers[2:])
    assert ours.pop("akasha-dlq-detail").startswith(b"no JSON")
    assert ours == {
        "akasha-dlq-reason": b"json_invalid",
        "akasha-dlq-topic": b"akasha.embeddings.v1",
        "akasha-dlq-partition": b"3",
        "akasha-dlq-offset": b"17",
        "akasha-dlq-timestamp-ms": str(NOW_MS).encode(),
        "akasha-dlq-events": b"1",
    }


def test_a_tombstone_stays_one() -> None:
    [letter] = Decoder(LIMITS, None).decode([Record(0, 1, NOW_MS, None, None)]).dead
    key, value, headers = dead_letter_record(letter, "t")
    assert key is None
    assert value is None
    assert dict(headers)["akasha-dlq-reason"] == b"null_body"


def test_one_event_of_a_bundle_goes_alone_and_can_be_replayed_once_mended() -> None:
    rng = random.Random(1)
    good, bad = document(rng), document(rng, event_id="i" * 300)
    record = Record(0, 1, NOW_MS, b"malformed-system", orjson.dumps([good, bad]), [("akasha-dlq-reason", b"old")])
    [letter] = Decoder(LIMITS, None).decode([record]).dead
    _, value, headers = dead_letter_record(letter, "t")
    assert value == orjson.dumps(bad)
    assert [content for name, content in headers if name == "akasha-dlq-reason"] == [b"event_id_size"]
    assert dict(headers)["akasha-dlq-index"] == b"1"
    again = Decoder(Limits(event_id_bytes=400, future_s=LIMITS.future_s), None)
    assert again.decode([Record(0, 2, NOW_MS, record.key, value)]).batch.event_id.to_pylist() == ["i" * 300]


def test_a_letter_of_one_row_does_not_carry_a_whole_dictionary() -> None:
    columns = columns_of(good_arrow(random.Random(1), 100))
    columns["content"] = columns["content"].dictionary_encode()
    words = ["x" * 60_000 + str(number) for number in range(100)]
    columns["content"] = pa.DictionaryArray.from_arrays(np.arange(100, dtype=np.int32), pa.array(words))
    columns["model"] = columns["model"].cast(pa.string_view())
    columns["event_id"] = pa.array(["" if row % 2 else f"id-{row}" for row in range(100)])
    headers = [("content-type", b"application/vnd.apache.arrow.stream")]
    record = Record(0, 1, NOW_MS, b"malformed-system", ipc(columns), headers)
    dead = Decoder(LIMITS, None).decode([record]).dead
    assert len(dead) == 50
    assert all(letter.event is not None and 60_000 < len(letter.event) < 65_000 for letter in dead)


def test_hostile_headers_and_details_stay_small() -> None:
    many = [(f"header-{number}", b"x" * 1_000) for number in range(100)]
    record = Record(0, 1, NOW_MS, b"k" * 100_000, orjson.dumps(document(random.Random(1))), many)
    [letter] = Decoder(LIMITS, None).decode([record]).dead
    _, _, headers = dead_letter_record(letter, "t")
    assert sum(len(name) + len(content) for name, content in headers) < 20_000
    assert b"\x00" not in dict(headers)["akasha-dlq-detail"]
