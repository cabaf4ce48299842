"""The control message that forgets a source system."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from akasha_stream.errors import DecodeError
from akasha_stream.events.forget import Forget, decode_forget, encode_forget, is_forget
from akasha_stream.events.records import Record
from akasha_stream.tiers.forgotten import system_hash

AT = datetime(2026, 3, 1, 12, 30, 0, 123456, tzinfo=timezone(timedelta(hours=2)))


def record_of(request: Forget) -> Record:
    key, value, headers = encode_forget(request)
    return Record(partition=1, offset=7, timestamp_ms=0, key=key, value=value, headers=headers)


@given(st.text(st.characters(codec="utf-8"), min_size=1), st.datetimes(timezones=st.just(UTC)))
def test_what_is_encoded_comes_back_and_does_not_hold_the_name(system: str, at: datetime) -> None:
    request = Forget(system_hash(system), at)
    record = record_of(request)
    assert is_forget(record)
    assert decode_forget(record) == request


def test_as_it_is_on_the_wire() -> None:
    key, value, headers = encode_forget(Forget(system_hash("session-buddy"), AT))
    assert key.decode() == system_hash("session-buddy")
    assert orjson.loads(value) == {
        "format": 1,
        "system_sha256": system_hash("session-buddy"),
        "requested_at": "2026-03-01T10:30:00.123456Z",
    }
    named = dict(headers)
    assert (named["ce_type"], named["content-type"]) == (b"akasha.forget", b"application/json")


def test_a_bundle_is_none() -> None:
    assert not is_forget(Record(0, 0, 0, b"a", b"{}", [("ce_type", b"io.akasha.embedding.bundle.v1")]))
    assert not is_forget(Record(0, 0, 0, b"a", b"{}"))


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"not JSON",
        b"[]",
        b"{}",
        orjson.dumps({"format": 2, "system_sha256": "0" * 64, "requested_at": "2026-03-01T10:30:00Z"}),
        orjson.dumps({"format": 1, "system_sha256": "0" * 63, "requested_at": "2026-03-01T10:30:00Z"}),
        orjson.dumps({"format": 1, "system_sha256": 5, "requested_at": "2026-03-01T10:30:00Z"}),
        orjson.dumps({"format": 1, "system_sha256": "0" * 64, "requested_at": "2026-03-01T10:30:00"}),
        orjson.dumps({"format": 1, "system_sha256": "0" * 64, "requested_at": 7}),
        orjson.dumps({"format": 1, "system_sha256": "1" * 64, "requested_at": "2026-03-01T10:30:00Z"}),  # not the key
        b'{"a": "' + b"x" * 5_000 + b'"}',
    ],
)
def test_one_that_is_malformed_forgets_nothing(value: bytes | None) -> None:
    record = replace(record_of(Forget("0" * 64, AT)), value=value)
    with pytest.raises(DecodeError) as error:
        decode_forget(record)
    assert error.value.reason == "forget_invalid"
