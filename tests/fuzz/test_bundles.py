"""A part of the fuzzer's cases; `python -m tests.fuzz --cases 1000000` runs many."""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import orjson
import pytest

from akasha_stream.events.decode import Decoder
from akasha_stream.events.forget import FORGET_TYPE
from akasha_stream.events.reasons import REASONS
from akasha_stream.events.records import Decoded, Record
from tests.events.conversions import arrow_record, json_record
from tests.fuzz.arrow_bundles import SOUND, SYSTEM, ipc, pa, sound_columns
from tests.fuzz.cases import LIMITS, NOW_MS, VARIANTS, case
from tests.fuzz.running import run, run_apart

OUT_OF_REACH = {"json_too_complex", "source_system_not_allowed"}
"""The one takes a megabyte, the other a setting."""


def test_no_bytes_hurt() -> None:
    report = run(seed=1, first=0, cases=2_500)
    assert report.failed == {}
    assert report.seen.events > 8_000
    assert len(report.seen.letters) > 25


@pytest.mark.long
@pytest.mark.timeout(7_200)
def test_a_million_cases() -> None:
    report = run_apart(seed=2, first=0, cases=1_000_000)
    assert report.failed == {}
    assert report.seen.letters.keys() == REASONS.keys() - OUT_OF_REACH


def test_a_case_is_always_the_same() -> None:
    assert [case(5, number) for number in range(200)] == [case(5, number) for number in range(200)]


class _Broken(Decoder):
    """Breaks on purpose what `how` says."""

    def __init__(self, how: str) -> None:
        super().__init__(LIMITS, None)
        self._how = how

    def decode(self, records: Sequence[Record]) -> Decoded:
        decoded = super().decode(records)
        match self._how:
            case "loses an event":
                rows = max(len(decoded.batch) - 1, 0)
                return replace(decoded, batch=decoded.batch[slice(0, rows)], record_of=decoded.record_of[:rows])
            case "loses a letter":
                return replace(decoded, dead=decoded.dead[1:])
            case "stores what it refuses":
                return replace(decoded, dead=[replace(letter, index=0) for letter in decoded.dead])
            case "lets a NaN in":
                decoded.batch.embedding[-1:] = np.nan
                return decoded
            case _:
                raise ZeroDivisionError


@pytest.mark.parametrize(
    "how", ["loses an event", "loses a letter", "stores what it refuses", "lets a NaN in", "raises"]
)
def test_what_is_broken_on_purpose_is_found(how: str) -> None:
    assert run(seed=1, first=0, cases=40, decoder=_Broken(how)).failed


# ── what it found ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("column", range(6))
def test_a_buffer_may_be_longer_than_its_values(column: int) -> None:
    value = bytearray(VARIANTS["wire"])
    # Of the record batch's buffers that are offsets.
    lengths = [found.start() for found in re.finditer(struct.pack("<q", 4 * (len(SOUND) + 1)), value)][-6:]
    value[lengths[column]] += 1
    decoded = Decoder(LIMITS, None).decode([arrow_record(bytes(value), SYSTEM.encode())])
    assert decoded.batch.event_id.to_pylist() == [event.event_id for event in SOUND]
    assert decoded.dead == []


def test_the_letter_of_an_array_among_events_is_no_bundle_of_its_elements() -> None:
    event = orjson.dumps(orjson.loads(VARIANTS["json"])[0])
    decoder = Decoder(LIMITS, None)
    decoded = decoder.decode([json_record(b"[%b, [%b]]" % (event, event))])
    [letter] = decoded.dead
    assert (len(decoded.batch), letter.reason, letter.event) == (1, "json_shape", b"[[%b]]" % event)
    again = decoder.decode([json_record(letter.event)])
    assert (len(again.batch), [dead.reason for dead in again.dead]) == (0, ["json_shape"])


@pytest.mark.parametrize("version", ["[" * 990 + "]" * 990, '"' + "x" * 3_000 + '"'])
def test_a_control_message_is_quoted_in_short(version: str) -> None:
    value = f'{{"format":{version},"system_sha256":"{"5a" * 32}","requested_at":"2026-01-02T03:04:05Z"}}'
    message = Record(0, 0, NOW_MS, SYSTEM.encode(), value.encode(), [("ce_type", FORGET_TYPE.encode())])
    [letter] = Decoder(LIMITS, None).decode([message]).dead
    assert letter.reason == "forget_invalid"
    assert len(letter.detail) < 300


def test_a_type_of_anyones_words_is_named_in_short() -> None:
    named = pa.struct([pa.field("\x1b[2J" + "x" * 5_000, pa.int8())])
    columns = sound_columns(4) | {"content": pa.nulls(4, named)}
    [letter] = Decoder(LIMITS, None).decode([arrow_record(ipc(list(columns), list(columns.values())))]).dead
    assert letter.reason == "arrow_schema"
    assert letter.detail.isprintable()
    assert len(letter.detail) < 200
