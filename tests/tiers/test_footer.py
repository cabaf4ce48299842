from __future__ import annotations

import json
from typing import Any

import pytest

from akasha_stream.errors import SegmentCorrupt
from akasha_stream.tiers.footer import parse_footer
from tests.tiers.segments import Change, spilled

FOOTER = spilled([Change(1, 0, "a", "1", "x"), Change(2, 0, "b", "2", None)], 0, 10).footer


def changed(**fields: Any) -> bytes:
    return json.dumps(FOOTER.model_dump(mode="json") | fields).encode()


def test_round_trip() -> None:
    assert parse_footer(changed(), "x") == FOOTER


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (changed(format=2, more="later"), "format 2, this release reads 1"),
        (changed(rows=3), "don't add up"),
        (changed(end=0), "no range of offsets"),
        (changed(start="0"), "start"),
        (changed(precision="int4"), "precision"),
        (changed(extra=1), "extra"),
        (b"{}", "format"),
        (b"\xff", "JSON"),
    ],
)
def test_what_is_no_footer_is_named(text: bytes, why: str) -> None:
    with pytest.raises(SegmentCorrupt, match=f"^some/object: .*{why}"):
        parse_footer(text, "some/object")
