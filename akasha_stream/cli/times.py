"""Times on the command line: `2026-07-23T10:00:00Z`, `2026-07-23`, or so long ago: `90s`, `15m`, `2h`, `7d`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from akasha_stream.errors import UsageError

_AGO = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)(s|m|min|h|d)", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3_600, "d": 86_400}


def parse_time(text: str) -> datetime:
    """Aware. A bare date means its start in UTC, a time without offset UTC. Raises UsageError."""
    if ago := _AGO.fullmatch(text.strip()):
        return datetime.now(UTC) - timedelta(seconds=float(ago[1]) * _SECONDS[ago[2]])
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"{text!r} is no time; write 2026-07-23, 2026-07-23T10:00:00Z or 2h (ago)") from error
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def timestamp_ms(text: str) -> int:
    """As Kafka has it: milliseconds since 1970. Raises UsageError."""
    return max(0, int(parse_time(text).timestamp() * 1000))
