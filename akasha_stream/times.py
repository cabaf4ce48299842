"""Times as text: RFC 3339, in UTC with Z, the same in every answer, line and record."""

from __future__ import annotations

from datetime import UTC, datetime


def rfc3339(moment: datetime, timespec: str = "auto") -> str:
    """`2026-07-23T10:00:00.123Z`. `timespec`: as in isoformat; auto: microseconds where there are any.

    Needs an aware time: a naive one would be taken for this machine's.
    """
    return moment.astimezone(UTC).isoformat(timespec=timespec).removesuffix("+00:00") + "Z"
