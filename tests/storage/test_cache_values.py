"""What the cache stores comes back the same: same type, same value."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from enum import Enum
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from akasha_stream.errors import CacheError
from akasha_stream.storage.cache_values import decode, encode

ATOMS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.binary()
    | st.datetimes(timezones=st.none() | st.just(UTC)).map(lambda at: at.replace(fold=0))
)
VALUES = st.recursive(
    ATOMS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text() | st.sampled_from(["$type", "value"]), inner, max_size=4)
    ),
)


def same(one: object, other: object) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return repr(one) == repr(other)  # -0.0 and 0.0 are equal


@given(VALUES)
def test_round_trip(value: object) -> None:
    assert same(decode(encode(value)), value)


@pytest.mark.parametrize("text", ["123", "null", "true", '"quoted"', '{"a": 1}', "", "\0", "NaN"])
def test_a_text_that_looks_like_json_stays_a_text(text: str) -> None:
    assert decode(encode(text)) == text


@pytest.mark.parametrize("value", [{"$type": "tuple", "value": []}, {"$type": "bytes"}, {"$type": {"$type": 1}}])
def test_a_dict_that_looks_like_a_tag_stays_a_dict(value: object) -> None:
    assert decode(encode(value)) == value


def test_plain_values_are_plain_json() -> None:
    assert json.loads(encode({"id": "a", "scores": [1, 0.5]})) == {"id": "a", "scores": [1, 0.5]}


def test_of_a_time_zone_the_offset_is_kept() -> None:
    berlin = datetime(2026, 7, 1, 12, tzinfo=ZoneInfo("Europe/Berlin"))
    back = decode(encode(berlin))
    assert back == berlin
    assert back.isoformat() == "2026-07-01T12:00:00+02:00"  # type: ignore[attr-defined]


class Colour(Enum):
    RED = 1


class Word(str):
    __slots__ = ()


LOOP: list[object] = []
LOOP.append(LOOP)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({1, 2}, "value: a set"),
        ({"a": [{"b": float("nan")}]}, r"value.a\[0\].b: a float"),
        (float("inf"), "value: a float"),
        ({1: "a"}, "value: the key 1 is no text"),
        (np.float32(1), "value: a float32"),
        (Colour.RED, "value: a Colour"),
        (Word("a"), "value: a Word"),
        (LOOP, "nested too deeply, or contains itself"),
        pytest.param("\ud800", "surrogates not allowed", id="half a surrogate pair"),
        pytest.param(10**5000, "4300", id="an int of 5,001 digits"),
    ],
)
def test_what_would_not_come_back_the_same_is_refused(value: object, said: str) -> None:
    with pytest.raises(CacheError, match=said):
        encode(value)


@pytest.mark.parametrize(
    ("stored", "wanted"), [(b"plain text", "plain text"), (b"\xff\xfe\x01", b"\xff\xfe\x01"), (b"", ""), (b"[1]", [1])]
)
def test_what_another_client_wrote_is_given_as_it_is(stored: bytes, wanted: object) -> None:
    assert decode(stored) == wanted
