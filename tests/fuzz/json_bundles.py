"""JSON that is nearly a bundle: hostile numbers, strings and times, keys given twice, any depth, no UTF-8."""

from __future__ import annotations

import random

NUMBERS = [
    *b"0 -0 1 -1 0.5 1e5 1e308 1e309 -1e400 1e-400 5e-324 1e18 1e19 3.5e38 1E+2 01 1. .5 +1 0x1 1e 1e99999999".split(),
    *b"9223372036854775807 9223372036854775808 -9223372036854775808 -9223372036854775809".split(),
    *b"18446744073709551615 18446744073709551616 NaN Infinity -Infinity nan".split(),
    b"9" * 400,
    b"1" + b"0" * 5_000,
    b"0." + b"0" * 400 + b"1",
]
STRINGS = [
    b'""', b'"a"', b'"upsert"', b'"delete"', b'"s"', b'"id-1"', b'"\\u0000"', b'"\\u001b[2J"', b'"\x00"', b'"\n"',
    b'"\xff"', b'"\xc3"', b'"\xed\xa0\x80"', b'"\\ud800"', b'"\\udc00\\ud800"', b'"\\ud83d\\ude00"', b'"\\x"', b'"',
    b'"\\u003a"', b'":"', b'"\xc2\x85"', b'"\xe2\x80\xae"', b'"\xef\xbb\xbf"', b'"{}"', b'"5e23"',
    b'"' + b"x" * 600 + b'"',
    b'"' + b"x" * 300 + b'"', b'"' + b"\\u00e9" * 300 + b'"', b'"\xc3\xa9"',
    b'"password=hunter2hunter2 AKIAIOSFODNN7EXAMPLE"',
]  # fmt: skip
TIMES = [
    f'"{text}"'.encode()
    for text in (
        "2026-01-02T03:04:05Z", "2026-01-02t03:04:05.123456789012z", "2026-01-02T03:04:05+23:59",
        "2026-01-02T03:04:05-99:99", "2026-01-02T03:04:05", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59",
        "0000-01-01T00:00:00Z", "2026-02-30T00:00:00Z", "2026-01-02T24:00:00Z", "2026-01-02T03:04:60Z", "1969-12-31",
        "٢٠٢٦-01-02T03:04:05Z", "2026-W01-1T00:00:00Z", "now", "1e9", "2026-01-02T03:04:05Z\\u0000",
    )
]  # fmt: skip
_NAMES = ("event_id", "source_system", "content", "embedding", "model", "metadata", "created_at", "op", "unknown", "")


def json_value(rng: random.Random, depth: int = 0) -> bytes:
    pick = rng.random()
    if depth > 5 or pick < 0.3:
        return rng.choice(NUMBERS)
    if pick < 0.6:
        return rng.choice(STRINGS)
    if pick < 0.75:
        return rng.choice([b"null", b"true", b"false", b"{}", b"[]", b"None", b"", b" ", b"\\", b"{]", b"/**/1"])
    items = [json_value(rng, depth + 1) for _ in range(rng.randrange(4))]
    if pick < 0.87:
        return b"[" + b",".join(items) + b"]"
    return b"{" + b",".join(rng.choice([b'"a"', b'"b"', *STRINGS]) + b":" + item for item in items) + b"}"


def _vector_text(rng: random.Random) -> bytes:
    numbers = [b"0.5"] * rng.choice([8, 8, 8, 8, 7, 9, 0, 500])
    for _ in range(rng.choice([0, 1, 2])):
        if numbers:
            numbers[rng.randrange(len(numbers))] = rng.choice([*NUMBERS, b"null", b"true", b'"1"', b"[]", b"{}"])
    return b"[" + b",".join(numbers if rng.random() < 0.9 else [rng.choice(NUMBERS)] * 8) + b"]"


def deep(rng: random.Random, *most: int) -> bytes:
    levels = rng.choice(most)
    if rng.random() < 0.5:
        return b"[" * levels + rng.choice([b"", b"1"]) + b"]" * levels
    return b'{"a":' * levels + b"1" + b"}" * levels


def _json_event(rng: random.Random) -> bytes:
    fields: list[tuple[bytes, bytes]] = [
        (b'"event_id"', b'"id-1"'),
        (b'"source_system"', b'"s"'),
        (b'"content"', b'"a text"'),
        (b'"embedding"', b"[0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5]"),
        (b'"metadata"', b'{"a":1}'),
        (b'"created_at"', b'"2026-01-02T03:04:05Z"'),
    ]
    for _ in range(rng.choice([0, 0, 1, 1, 2, 4])):
        at = rng.randrange(len(fields))
        name, text = fields[at]
        match rng.randrange(10):
            case 0:
                fields[at] = (name, json_value(rng))
            case 1:
                fields[at] = (name, rng.choice(STRINGS))
            case 2:
                fields[at] = (b'"embedding"', _vector_text(rng))
            case 3:
                again = rng.choice([name, b'"\\u0065vent_id"', b'"metadata"'])
                fields.append((again, rng.choice([text, b"1"])))
            case 4 if len(fields) > 1:
                del fields[at]
            case 5:
                fields.append((f'"{rng.choice(_NAMES)}"'.encode(), json_value(rng)))
            case 6:
                fields.append((b'"op"', rng.choice(STRINGS)))
            case 7:
                fields[-1] = (b'"created_at"', rng.choice(TIMES))
            case 8:
                fields[at] = (b'"metadata"', b'{"a":%b}' % rng.choice([*NUMBERS, *STRINGS]))
            case _:
                fields.append((rng.choice([b'"metadata"', b'"unknown"']), deep(rng, 3, 5, 60, 250, 260, 900, 1_100)))
    rng.shuffle(fields)
    space = rng.choice([b"", b"", b" ", b"\n\t", b"\r"])
    return b"{" + space + (b"," + space).join(name + b":" + space + text for name, text in fields) + space + b"}"


def json_bundle(rng: random.Random) -> bytes:
    if rng.random() < 0.1:
        return rng.choice([json_value(rng), deep(rng, 10, 1_000, 1_024, 1_025, 30_000), b"[" * 40_000, b"{}" * 9])
    if rng.random() < 0.4:
        return _json_event(rng)
    events = [_json_event(rng) for _ in range(rng.choice([1, 2, 3, 5, 41]))]
    if rng.random() < 0.1:
        events[rng.randrange(len(events))] = json_value(rng)
    return rng.choice([b"", b" ", b"\xef\xbb\xbf"] + [b""] * 9) + b"[" + b",".join(events) + b"]"
