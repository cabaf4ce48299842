"""What benchmarks.systems sees of a worker, and the two judgements that it makes of that."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from akasha_stream.hot.schema import MEMORY_LIMIT_MB

ROW_BYTES = 2_500
"""What a hot row may take."""
BASE_BYTES = 320_000_000
"""What a worker may take beside its rows and growing files."""
FILE_BYTES = MEMORY_LIMIT_MB * 1_000_000
"""What DuckDB may keep of each partition's growing file: 400 MB in all with the four partitions of the default."""
STEADY_BYTES_PER_MINUTE = 1_000_000
"""What it may grow by while events come and no row does: allocators are not quite still."""
STEADY_S = 60.0
"""A shorter time says nothing of growth a minute."""
STARVED_S = 5.0


@dataclass(slots=True)
class Watch:
    at: list[float] = field(default_factory=list)
    """monotonic seconds of each look"""
    rows: list[int] = field(default_factory=list)
    anonymous: list[int] = field(default_factory=list)
    """bytes of resident memory, files that are mapped left out"""
    behind: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    """by partition, records that it had not taken in"""
    longest_wait_s: dict[int, float] = field(default_factory=dict)
    """by partition, the longest time in which it had records to read and none was taken in"""
    _moved: dict[int, tuple[int, float]] = field(default_factory=dict)

    def look(self, now: float, rows: int, anonymous: int, offsets: Mapping[int, int], ends: Mapping[int, int]) -> None:
        """`offsets`, `ends`: by partition, the next offset of the worker and of the log, read before it."""
        self.at.append(now)
        self.rows.append(rows)
        self.anonymous.append(anonymous)
        for partition, offset in offsets.items():
            behind = max(0, ends[partition] - offset)
            before, since = self._moved.get(partition, (-1, now))
            if offset != before or not behind:
                since = now
            self._moved[partition] = offset, since
            self.behind[partition].append(behind)
            self.longest_wait_s[partition] = max(self.longest_wait_s.get(partition, 0.0), now - since)

    def memory(self) -> dict[str, object]:
        """Whether memory grows with more than the rows.

        bytes_per_row: the slope of memory over rows from half of them on. steady_mb_per_minute: its slope over time
        while no row came; None where that was less than a minute. beyond_rows_mb: memory less what the rows may
        take, at each quarter of them and at the end; most_beyond_rows_mb: at the worst look.
        """
        rows, memory, at = np.array(self.rows), np.array(self.anonymous, np.float64), np.array(self.at)
        beyond, base = memory - rows * ROW_BYTES, BASE_BYTES + FILE_BYTES * len(self.behind)
        quarters = np.searchsorted(rows, rows[-1] * np.array([0.25, 0.5, 0.75, 1.0])).clip(0, len(rows) - 1)
        later = (rows >= rows[-1] / 2) & (rows < rows[-1])
        steady = rows == rows[-1]
        a_row = _slope(rows[later].astype(np.float64), memory[later])
        a_minute = _slope(at[steady] / 60, memory[steady]) if np.ptp(at[steady]) >= STEADY_S else None
        found = {
            f"more than {base / 1e6:g} MB beyond the rows": beyond.max() > base,
            f"more than {ROW_BYTES} bytes a row": a_row is not None and a_row > ROW_BYTES,
            "growth while no row came": a_minute is not None and a_minute > STEADY_BYTES_PER_MINUTE,
        }
        return {
            "holds": not any(found.values()),
            "broken": [what for what, is_so in found.items() if is_so],
            "bytes_per_row": None if a_row is None else round(a_row),
            "steady_s": round(float(np.ptp(at[steady]))),
            "steady_mb_per_minute": None if a_minute is None else round(a_minute / 1e6, 3),
            "beyond_rows_mb": [round(float(each) / 1e6, 1) for each in beyond[[*quarters, -1]]],
            "most_beyond_rows_mb": round(float(beyond.max()) / 1e6, 1),
            "at_end_mb": round(self.anonymous[-1] / 1e6, 1),
            "most_mb": round(max(self.anonymous) / 1e6, 1),
        }

    def starvation(self) -> dict[str, object]:
        """Whether a partition waited while it had records: 99th percentile of its lag, and its longest wait."""
        waits = {partition: round(wait, 2) for partition, wait in sorted(self.longest_wait_s.items())}
        starved = [partition for partition, wait in waits.items() if wait > STARVED_S]
        lags = {partition: round(_p99(lags)) for partition, lags in sorted(self.behind.items())}
        return {
            "holds": not starved,
            "starved_partitions": starved,
            "longest_wait_s": max(waits.values(), default=0.0),
            "lag_p99_records": max(lags.values(), default=0),
            "longest_wait_s_by_partition": list(waits.values()),
            "lag_p99_records_by_partition": list(lags.values()),
        }


def _slope(x: NDArray[np.float64], y: NDArray[np.float64]) -> float | None:
    if len(x) < 2 or np.ptp(x) == 0:
        return None
    return float(np.polyfit(x - x[0], y, 1)[0])


def _p99(values: Sequence[int]) -> float:
    return float(np.percentile(values, 99))
