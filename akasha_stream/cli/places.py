"""Places of a log on the command line."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from akasha_stream.cli.times import timestamp_ms

if TYPE_CHECKING:
    from akasha_stream.operations.tail import Start

PLACES = (
    "start, end, an offset (1042, or 3:1042 of partition 3 alone), -10 (so many records back in each partition), "
    "or a time: RFC 3339, a date, or 2h (ago)."
)


def parse_place(text: str) -> Start:
    """Raises UsageError."""
    from akasha_stream.operations.tail import Start

    if text == "start":
        return Start("start")
    if text == "end":
        return Start("end")
    if re.fullmatch(r"-\d{1,9}", text):
        return Start("back", int(text[1:]))
    if re.fullmatch(r"\d{1,18}", text):
        return Start("offset", int(text))
    if place := re.fullmatch(r"(\d{1,9}):(\d{1,18})", text):
        return Start("offset", int(place[2]), int(place[1]))
    return Start("time", timestamp_ms(text))
