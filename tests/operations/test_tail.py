"""Records as lines, without a broker."""

from __future__ import annotations

import random
from typing import Any

import orjson
import pytest
from aiokafka import ConsumerRecord

from akasha_stream.cli.places import parse_place
from akasha_stream.dlq.letter import MARK, MARK_TO
from akasha_stream.errors import UsageError
from akasha_stream.events.dead_letters import dead_letter_record
from akasha_stream.events.decode import Decoder
from akasha_stream.operations.tail import FIELDS, Lines, Start, Topic, checked_format, formatted, shortened
from akasha_stream.settings import Limits, Settings
from akasha_stream.topics.reader import as_record
from tests.events.conversions import NOW_MS
from tests.events.malformed import document

SETTINGS = Settings(limits=Limits(future_s=400 * 86_400))


def record(value: bytes | None, offset: int = 7, key: bytes | None = b"malformed-system", **fields: Any) -> Any:
    values = {"headers": (), "partition": 2, "timestamp": NOW_MS, **fields}
    return ConsumerRecord(
        topic="t", offset=offset, key=key, value=value, timestamp_type=1, checksum=None, serialized_key_size=0,
        serialized_value_size=0, **values,
    )  # fmt: skip


def lines(topic: Topic, *records: Any, systems: tuple[str, ...] = ()) -> list[dict[str, object]]:
    return list(Lines(SETTINGS, topic, systems).of(list(records)))


def test_events_and_bad_ones_come_in_the_order_of_the_log() -> None:
    rng = random.Random(1)
    secret = document(rng, content="the key is AKIAIOSFODNN7EXAMPLE")
    bad = document(rng, event_id="i" * 300)
    found = lines(
        "embeddings",
        record(b"no json", 6),
        record(orjson.dumps([secret, bad, {**document(rng), "op": "delete"}]), 7),
    )
    assert [(line["offset"], line["index"]) for line in found] == [(6, None), (7, 0), (7, 1), (7, 2)]
    assert str(found[0]["error"]).startswith("json_invalid: ")
    assert "AKIA" not in str(found[1]["content"]), "redacted, as a worker stores it"
    assert str(found[2]["error"]).startswith("event_id_size: ")
    assert found[3]["op"] == "delete"
    assert {tuple(line) for line in found} == {FIELDS["embeddings"]}


def test_only_the_systems_that_are_asked_for() -> None:
    event = document(random.Random(1))
    assert len(lines("embeddings", record(orjson.dumps(event)), systems=("malformed-system",))) == 1
    assert lines("embeddings", record(orjson.dumps(event)), systems=("another",)) == []


def test_letters_and_their_marks() -> None:
    [letter] = Decoder(Limits(), None).decode([as_record(record(b"no json", 9))]).dead
    key, value, headers = dead_letter_record(letter, "t")
    mark = record(None, 4, headers=((MARK, b"0:3"), (MARK_TO, b"t/1:2")))
    found = lines("dlq", record(value, 3, key, headers=headers), mark)
    assert {tuple(line) for line in found} == {FIELDS["dlq"]}
    assert (found[0]["reason"], found[0]["origin"], found[0]["bytes"]) == ("json_invalid", "2:9", 7)
    assert (found[1]["requeued_letter"], found[1]["requeued_to"]) == ("0:3", "t/1:2")
    assert "requeued  0:3 → t/1:2" in shortened("dlq", found[1])


def test_digests_and_what_is_none() -> None:
    digest = {
        "source_system": "laptop", "window_start": "2026-07-23T10:00:00Z", "window_end": "2026-07-23T10:05:00Z",
        "events": {"stored": 3, "duplicates": {"exact": 1, "content": 1}, "late": 0}, "coherence": 0.5,
    }  # fmt: skip
    found = lines("digests", record(orjson.dumps(digest)), record(b"[]"))
    assert {tuple(line) for line in found} == {FIELDS["digests"]}
    assert shortened("digests", found[0]).endswith("laptop  2026-07-23T10:00…10:05  3 stored, 2 duplicates")
    assert "BAD" in shortened("digests", found[1])


def test_a_format_names_fields_that_there_are() -> None:
    line = lines("embeddings", record(orjson.dumps(document(random.Random(1), content="one\ntwo"))))[0]
    assert formatted(line, checked_format("embeddings", "{partition}:{offset} {{{content}}}")) == "2:7 {one two}"
    bad = lines("embeddings", record(b"no json"))[0]
    assert formatted(bad, "{content} {event_id}").startswith("BAD json_invalid")
    for template in ("{reason}", "{content!r}", "{content:>20}", "{content.__class__}", "{", "{}"):
        with pytest.raises(UsageError, match="--format"):
            checked_format("embeddings", template)


def test_where_to_start() -> None:
    assert parse_place("start") == Start("start")
    assert parse_place("end") == Start("end")
    assert parse_place("-10") == Start("back", 10)
    assert parse_place("1042") == Start("offset", 1042)
    assert parse_place("3:1042") == Start("offset", 1042, 3)
    assert parse_place("2026-07-23") == Start("time", 1_784_764_800_000)
    assert parse_place("15m").kind == "time"
    with pytest.raises(UsageError, match="is no time"):
        parse_place("yesterday")
