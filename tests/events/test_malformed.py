"""Every kind of bad record becomes a dead letter with its reason and bytes, and takes no good event with it."""

from __future__ import annotations

import random

import numpy as np
import orjson
import pytest

from akasha_stream.events.decode import Decoder, Record
from akasha_stream.events.model import Event
from akasha_stream.events.reasons import REASONS
from akasha_stream.events.redaction import Redactor
from akasha_stream.settings import Limits, RedactionSettings
from tests.events.conversions import NOW_MS, arrow_record, json_record, record
from tests.events.malformed import (
    DIMENSIONS,
    KINDS,
    columns_of,
    document,
    good_arrow,
    ipc,
    malformed,
    malformed_records,
    reasons,
)

SOUND = [
    Event(f"good-{number}", "good-system", "a good text", np.full(DIMENSIONS, 0.05, np.float32)) for number in range(4)
]


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    return Decoder(Limits(future_s=400 * 86_400), Redactor(RedactionSettings()))


@pytest.fixture(scope="module")
def strict_decoder() -> Decoder:
    return Decoder(Limits(), Redactor(RedactionSettings()))


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_bad_record_is_a_dead_letter(kind: str, strict_decoder: Decoder) -> None:
    for seed in range(1 if kind.startswith(("body", "nothing")) else 8):
        _, key, value, headers = malformed(kind, random.Random(seed))
        bad = Record(0, 8, NOW_MS, key, value, headers)
        good = [
            record(SOUND, offset=7, timestamp_ms=2 * NOW_MS),
            record(SOUND, "json", offset=9, timestamp_ms=2 * NOW_MS),
        ]
        decoded = strict_decoder.decode([good[0], bad, good[1]])
        assert decoded.batch.offset.tolist() == [7] * 4 + [9] * 4
        assert decoded.batch.event_id.to_pylist() == [event.event_id for event in SOUND] * 2
        assert decoded.dead
        assert {letter.reason for letter in decoded.dead} <= reasons(kind)
        assert all(letter.record is bad and letter.detail for letter in decoded.dead)
        assert sum(letter.events for letter in decoded.dead) >= 1


def test_reasons_are_all_known_and_all_reached() -> None:
    reached = set().union(*(reasons(kind) for kind in KINDS))
    assert reached <= REASONS.keys()
    assert REASONS.keys() - reached == {"record_timestamp", "forget_invalid", "source_system_not_allowed"}


def test_a_thousand_bad_records_among_good_ones(strict_decoder: Decoder) -> None:
    rng = random.Random(4)
    records: list[Record] = []
    good = 0
    for offset, (_, key, value, headers) in enumerate(malformed_records(seed=4, n=1_000)):
        records.append(Record(0, 2 * offset, NOW_MS, key, value, headers))
        form = rng.choice(["arrow", "json"])
        records.append(record(SOUND[:2], form, 2 * offset + 1, 2 * NOW_MS))  # type: ignore[arg-type]
        good += 2
    stored = 0
    dead: set[int] = set()
    for start in range(0, len(records), 64):
        decoded = strict_decoder.decode(records[start : start + 64])
        assert all(offset % 2 for offset in decoded.batch.offset.tolist())
        assert decoded.batch.offset.tolist() == sorted(decoded.batch.offset.tolist())
        stored += len(decoded.batch)
        dead |= {letter.record.offset for letter in decoded.dead}
    assert stored == good
    assert dead == set(range(0, 2_000, 2))


@pytest.mark.parametrize("timestamp_ms", [-1, 253_402_300_800_000, 2**62])
def test_a_record_without_a_sane_timestamp(timestamp_ms: int, decoder: Decoder) -> None:
    decoded = decoder.decode([record(SOUND, timestamp_ms=timestamp_ms)])
    assert [letter.reason for letter in decoded.dead] == ["record_timestamp"]


def test_the_good_events_of_a_json_array_are_kept(decoder: Decoder) -> None:
    rng = random.Random(1)
    events = [document(rng, source_system="s", event_id=f"e{number}") for number in range(6)]
    events[1]["op"] = "merge"
    events[3]["embedding"] = [1.0]
    events[4] = 17  # type: ignore[call-overload]
    text = b"[\n " + b" ,\n ".join(orjson.dumps(event) for event in events) + b"\n]"
    decoded = decoder.decode([json_record(text)])
    assert decoded.batch.event_id.to_pylist() == ["e0", "e2", "e5"]
    assert decoded.batch.index.tolist() == [0, 2, 5]
    assert [(letter.reason, letter.index) for letter in decoded.dead] == [
        ("op_unknown", 1),
        ("vector_length", 3),
        ("json_shape", 4),
    ]
    # The very bytes of each.
    assert [letter.event for letter in decoded.dead] == [orjson.dumps(events[place]) for place in (1, 3, 4)]


def test_the_good_events_of_an_arrow_bundle_are_kept(decoder: Decoder) -> None:
    columns = columns_of(good_arrow(random.Random(1), 5))
    ids = columns["event_id"].to_pylist()
    ids[2] = "tab\there"
    value = ipc({**columns, "event_id": ids})
    # Bad UTF-8 in one content (each has the length of "text of a bad event"), too.
    at = value.index(b"text of a bad event")
    value = value[:at] + b"\xff" + value[at + 1 :]
    bundle = arrow_record(value, key=b"malformed-system")
    decoded = decoder.decode([bundle])
    assert decoded.batch.index.tolist() == [1, 3, 4]
    assert [(letter.reason, letter.index) for letter in decoded.dead] == [
        ("utf8_invalid", 0),
        ("control_characters", 2),
    ]
    # Each letter is a bundle of its own, refused again for the same reason.
    for letter in decoded.dead:
        assert letter.event is not None
        again = decoder.decode([arrow_record(letter.event, key=b"malformed-system")])
        assert [dead.reason for dead in again.dead] == [letter.reason]


def test_one_reason_for_all_events_is_one_letter(decoder: Decoder) -> None:
    bundle = record(SOUND)
    decoded = decoder.decode([Record(0, 1, NOW_MS, b"someone else", bundle.value, bundle.headers)])
    [letter] = decoded.dead
    assert (letter.reason, letter.index, letter.event, letter.events) == ("key_mismatch", None, None, 4)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a":1,"b\\u0022:":2,"a":3}', "metadata_duplicate_key"),
        # An escaped colon must not pay for the colon of the second "a".
        ('{"a":"\\u003a","a":"x"}', "metadata_duplicate_key"),
        ('{"a":"\\u003A","a":"x"}', "metadata_duplicate_key"),
        ('{"a":{"b":[{"c":1,"c":1}]}}', "metadata_duplicate_key"),
        ('{"a":18446744073709551616}', "metadata_number"),
        ('{"a":-9223372036854775809}', "metadata_number"),
        ('{"a":18446744073709551615,"b":-9223372036854775808,"c":1e300,"d":"1e30"}', None),
        ('{"a":"\\u0000"}', "control_characters"),
        ('{"\\u001b":1}', "control_characters"),
        ('{"a":"\\\\u0000 \\n\\t\\r \\u00e9"}', None),
        ("{}", None),
        ("", "metadata_invalid"),
        ("null", "metadata_not_object"),
    ],
)
def test_metadata_that_hides_something(text: str, reason: str | None, decoder: Decoder) -> None:
    columns = columns_of(good_arrow(random.Random(1), 3))
    arrow = arrow_record(ipc({**columns, "metadata": ["{}", text, '{"b": 1}']}), key=b"malformed-system")
    decoded = decoder.decode([arrow])
    assert [letter.reason for letter in decoded.dead] == ([reason] if reason else [])
    assert len(decoded.batch) == (2 if reason else 3)
    if text and text != "null":
        event = orjson.dumps(document(random.Random(1), metadata=0)).replace(
            b'"metadata":0', b'"metadata":' + text.encode()
        )
        decoded = decoder.decode([json_record(event, key=b"malformed-system")])
        assert [letter.reason for letter in decoded.dead] == ([reason] if reason else [])
