"""Kafka records of anyone, drawn from a seed: sound bundles, spoilt ones, and ones that only look like bundles."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

from akasha_stream.events.bundles import ARROW_TYPE, CLOUDEVENT_TYPE, JSON_TYPE, encode_bundle
from akasha_stream.events.forget import FORGET_TYPE
from akasha_stream.events.records import Record
from akasha_stream.settings import Limits
from tests.fuzz.arrow_bundles import SOUND, SYSTEM, arrow_bundle, bomb, ipc, pa, sound_columns
from tests.fuzz.json_bundles import TIMES, deep, json_bundle, json_value

NOW_MS: Final = 1_780_000_000_000
LIMITS: Final = Limits(
    dimensions=8,
    source_system_bytes=16,
    event_id_bytes=32,
    model_bytes=32,
    content_bytes=512,
    metadata_bytes=256,
    metadata_depth=4,
    bundle_events=40,
    bundle_bytes=65_536,
)
"""Small ones: what is too large is drawn as often as all else, and a million cases take minutes."""

type Headers = list[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Case:
    """What one call of the decoder gets. `sound`: the places of the records that hold the events of SOUND."""

    records: list[Record]
    sound: frozenset[int]


def case(seed: int, number: int) -> Case:
    """Always the same one for a seed and a number."""
    rng = random.Random(f"{seed}:{number}")
    records: list[Record] = []
    sound: set[int] = set()
    for place in range(rng.choice([1, 1, 2, 2, 3, 5])):
        if rng.random() < 0.35:
            sound.add(place)
            records.append(_sound(rng, place))
        else:
            records.append(_record(rng, place))
    return Case(records, frozenset(sound))


def _sound(rng: random.Random, offset: int) -> Record:
    form: Literal["arrow", "json"] = rng.choice(["arrow", "json"])
    return Record(0, offset, 2 * NOW_MS, SYSTEM.encode(), _ENCODED[form], _headers(_TYPES[form]))


def _record(rng: random.Random, offset: int) -> Record:
    kind, make = rng.choice(_VALUES)
    value: bytes | None = make(rng)
    if value and rng.random() < 0.2:
        value = spoilt(value, rng)
    if rng.random() < 0.01:
        value = rng.choice([None, b""])
    given = _headers(_TYPES[kind], FORGET_TYPE if kind == "forget" else CLOUDEVENT_TYPE)
    if rng.random() < 0.15:
        given = _hostile_headers(rng, given)
    key: bytes | None = SYSTEM.encode()
    if kind == "forget":
        key = _HASH.encode()
    if rng.random() < 0.05:
        key = rng.choice([None, b"", b"s ", b"\xff\xfe", b"S", _HASH.encode(), b"x" * 5_000])
    at = 2 * NOW_MS if rng.random() < 0.9 else rng.choice([NOW_MS, 0, -1, 2**62, -(2**63), 253_402_300_799_999])
    return Record(0, offset, at, key, value, given)


# ── bytes ────────────────────────────────────────────────────────────────────────────────────────────────


def spoilt(value: bytes, rng: random.Random) -> bytes:
    """Cut off, flipped, overwritten, or put together from two places."""
    match rng.randrange(8):
        case 0:
            return value[: rng.randrange(len(value))]
        case 1:
            start, end = sorted(rng.randrange(len(value)) for _ in range(2))
            return value[:start] + value[end:] if rng.random() < 0.5 else value[:end] + value[start:]
        case 2:
            other = rng.choice(list(VARIANTS.values()))
            return value[: rng.randrange(len(value))] + other[rng.randrange(len(other)) :]
        case 3:
            return value + rng.choice([value, *VARIANTS.values(), b"\0", b"\n"])
        case _:
            data = bytearray(value)
            for _ in range(rng.choice([1, 1, 1, 2, 4, 16])):
                at = rng.randrange(len(data))
                if rng.random() < 0.6:
                    data[at] ^= 1 << rng.randrange(8)
                else:
                    width = rng.choice([1, 2, 4, 8])
                    number = rng.choice([0, -1, 1, 2 ** (8 * width - 1) - 1, -(2 ** (8 * width - 1)), len(value)])
                    data[at : at + width] = (number % 2 ** (8 * width)).to_bytes(width, "little")
            return bytes(data)


def _spliced(rng: random.Random) -> bytes:
    """One bundle, a piece of which is another's."""
    first, second = rng.choice(list(VARIANTS.values())), rng.choice(list(VARIANTS.values()))
    at, start = rng.randrange(len(first)), rng.randrange(len(second))
    end = min(len(second), start + rng.choice([1, 8, 64, 1_000]))
    return first[:at] + second[start:end] + first[at + rng.choice([0, end - start]) :]


# ── headers and control messages ─────────────────────────────────────────────────────────────────────────

_HASH = "5a" * 32
_TYPES = {"arrow": ARROW_TYPE, "json": JSON_TYPE, "forget": JSON_TYPE}


def _headers(content_type: str, ce_type: str = CLOUDEVENT_TYPE) -> Headers:
    """As the publisher's, without what differs each time."""
    fields = {
        "content-type": content_type,
        "ce_specversion": "1.0",
        "ce_type": ce_type,
        "ce_id": "1",
        "ce_source": "/s",
    }
    return [(name, text.encode()) for name, text in fields.items()]


def _forget(rng: random.Random) -> bytes:
    fields = {
        b'"format"': b"1",
        b'"system_sha256"': f'"{_HASH}"'.encode(),
        b'"requested_at"': b'"2026-01-02T03:04:05.000000Z"',
    }
    for name in rng.sample(list(fields), rng.choice([0, 1, 1, 2])):
        fields[name] = rng.choice([json_value(rng), rng.choice(TIMES), deep(rng, 3, 300, 990)])
    if rng.random() < 0.1:
        return json_value(rng)
    return b"{" + b",".join(name + b":" + text for name, text in fields.items()) + b"}"


def _hostile_headers(rng: random.Random, given: Headers) -> Headers:
    contents = [b"", b"\xff\xfe", b"text/plain", ARROW_TYPE.encode(), JSON_TYPE.encode(), b"x" * 20_000, b"\x00", b";"]
    contents += [ARROW_TYPE.upper().encode() + b" ; x=y", b" application/json\t", FORGET_TYPE.encode(), b"1.0", b"2.0"]
    names = [name for name, _ in given] + ["Content-Type", "", "\ud800", "akasha-dlq-reason", "ce_id", "x" * 20_000]
    result = list(given)
    for _ in range(rng.choice([1, 1, 2, 5])):
        match rng.randrange(4):
            case 0 if result:
                del result[rng.randrange(len(result))]
            case 1:
                # A header of Kafka may have no value.
                result.insert(rng.randrange(len(result) + 1), (rng.choice(names), cast("bytes", None)))
            case _:
                result.insert(rng.randrange(len(result) + 1), (rng.choice(names), rng.choice(contents)))
    return result


# ── what is drawn from ───────────────────────────────────────────────────────────────────────────────────


def _variants() -> dict[str, bytes]:
    columns = sound_columns(4)
    strings = {name: column for name, column in columns.items() if column.type == pa.string()}
    shapes: dict[str, dict[str, Any]] = {
        "dictionaries": {name: column.dictionary_encode() for name, column in strings.items()},
        "views": {name: column.cast(pa.string_view()) for name, column in strings.items()},
        "lists": {
            "embedding": columns["embedding"].cast(pa.list_(pa.float64())),
            "created_at": columns["created_at"].cast(pa.timestamp("ns", "UTC")),
            "extra": pa.array([[{"a": "b"}]] * 4),
        },
    }
    made = {name: {**columns, **changed} for name, changed in shapes.items()}
    variants = {name: ipc(list(each), list(each.values())) for name, each in made.items()}
    return {"wire": encode_bundle(SOUND), **variants, "json": encode_bundle(SOUND, "json")}


VARIANTS: Final = _variants()
"""Sound bundles, one of each shape that is read in a way of its own."""
_ENCODED: Final = {"arrow": VARIANTS["wire"], "json": VARIANTS["json"]}


def _spoilt_variant(name: str) -> Callable[[random.Random], bytes]:
    return lambda rng: spoilt(VARIANTS[name], rng)


def _random_bytes(rng: random.Random) -> bytes:
    return rng.randbytes(rng.choice([1, 7, 8, 100, 1_000]))


def _values() -> Iterator[tuple[Any, Callable[[random.Random], bytes]]]:
    """(content type, maker), as often as it shall be drawn."""
    for name in VARIANTS:
        yield from [("json" if name == "json" else "arrow", _spoilt_variant(name))] * 2
    yield from [("arrow", arrow_bundle)] * 6
    yield from [("json", json_bundle)] * 6
    yield ("arrow", _spliced)
    yield ("json", _spliced)
    yield ("arrow", bomb)
    yield ("json", _random_bytes)
    yield ("forget", _forget)


_VALUES: Final = list(_values())
