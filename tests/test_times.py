"""One form of a time in all answers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from akasha_stream.times import rfc3339


def test_utc_with_z() -> None:
    moment = datetime(2026, 7, 23, 12, 0, 0, 123_456, timezone(timedelta(hours=2)))
    assert rfc3339(moment) == "2026-07-23T10:00:00.123456Z"
    assert rfc3339(moment, "milliseconds") == "2026-07-23T10:00:00.123Z"
    assert rfc3339(datetime(2026, 7, 23, tzinfo=UTC)) == "2026-07-23T00:00:00Z"
