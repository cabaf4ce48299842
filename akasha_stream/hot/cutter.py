"""Where a segment ends: a function of the log alone, so that every worker cuts the same ranges."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SegmentCutter:
    """Cuts before the record that would take the segment past `max_rows`, or that is `max_age_ms` younger
    than the segment's first.

    Events are counted as they stand in the log, before dedupe: what dedupe drops depends on settings, and
    segments of the same range must have the same name wherever they are made.
    """

    max_rows: int
    max_age_ms: int

    def cut_before(self, rows: int, first_timestamp_ms: int | None, events: int, timestamp_ms: int) -> bool:
        """Whether the next record (`events` events, appended at `timestamp_ms`) begins a new segment.

        `rows`: events the segment has; `first_timestamp_ms`: of its first record, None while it is empty.
        """
        if first_timestamp_ms is None:
            return False
        return rows + events > self.max_rows or timestamp_ms - first_timestamp_ms >= self.max_age_ms

    def due(self, first_timestamp_ms: int | None, now_ms: int) -> bool:
        """Whether an idle segment is old enough to seal: any later record would be cut off anyway."""
        return first_timestamp_ms is not None and now_ms - first_timestamp_ms >= self.max_age_ms
