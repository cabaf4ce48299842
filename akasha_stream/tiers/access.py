"""How often and when each segment was read by searches: what the tier policy keeps hot.

A derived figure, each worker's own: kept in memory, and now and then written to a file of its data directory. It is
lossy on purpose. What was counted since the last write is lost when the process dies, and a partition's new owner
starts with nothing. Then a segment may move to a colder tier earlier than it should; it is found there as before.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from akasha_stream.hot.durable import write_bytes
from akasha_stream.tiers.keys import SegmentKey

log = structlog.get_logger(__name__)

FORMAT = 1
FILE = "access.json"


class Searches(Protocol):
    """What the policy asks. Times are seconds since the epoch."""

    def since(self, key: SegmentKey, time_s: float) -> int:
        """How often the segment was read since then, as far as it was counted."""
        ...

    def last(self, key: SegmentKey) -> float | None: ...


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid")

    times: list[float]
    total: int


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    format: int
    segments: dict[str, _Entry]


class AccessRecord:
    """Of each segment the times of its last `keep` reads, 8 bytes each, and their number in all. Safe in any thread.

    A segment counts as read when a search took texts of its rows, that is when it had hits or nearly had, not when the
    bit codes in memory were scanned: every search scans those.
    """

    def __init__(self, keep: int, path: Path | None = None) -> None:
        """`keep`: tier_policy.keep_searches, or more. `path`: read at once where it is there."""
        self._keep = max(keep, 1)
        self._path = path
        self._lock = threading.Lock()
        self._times: dict[SegmentKey, deque[float]] = {}
        self._totals: dict[SegmentKey, int] = {}
        if path is not None:
            self._read(path)

    def __len__(self) -> int:
        with self._lock:
            return len(self._times)

    def searched(self, keys: Iterable[SegmentKey], at: float | None = None) -> None:
        """Count one read of each of these."""
        now = time.time() if at is None else at
        with self._lock:
            for key in keys:
                self._times.setdefault(key, deque(maxlen=self._keep)).append(now)
                self._totals[key] = self._totals.get(key, 0) + 1

    def since(self, key: SegmentKey, time_s: float) -> int:
        with self._lock:
            return sum(at >= time_s for at in self._times.get(key, ()))

    def last(self, key: SegmentKey) -> float | None:
        with self._lock:
            return max(self._times.get(key, ()), default=None)

    def total(self, key: SegmentKey) -> int:
        with self._lock:
            return self._totals.get(key, 0)

    def keep_only(self, keys: Iterable[SegmentKey]) -> None:
        """Forget all others: they were compacted away, or another worker has them."""
        kept = set(keys)
        with self._lock:
            self._times = {key: times for key, times in self._times.items() if key in kept}
            self._totals = {key: total for key, total in self._totals.items() if key in kept}

    def write(self) -> None:
        """Replace the file; one that can't be written is logged."""
        if self._path is None:
            return
        with self._lock:
            segments = {
                key.path(): _Entry(times=list(times), total=self._totals[key]) for key, times in self._times.items()
            }
        data = _File(format=FORMAT, segments=segments).model_dump_json().encode()

        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(self._path, data)
        except OSError as error:
            log.warning("access record not written", path=str(self._path), error=str(error))

    def _read(self, path: Path) -> None:
        try:
            file = _File.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return
        except (OSError, ValidationError):
            log.warning("access record can't be read; counting starts anew", path=str(path))
            return
        if file.format != FORMAT:
            return
        for path_of, each in file.segments.items():
            if (key := SegmentKey.parse(path_of)) is not None:
                self._times[key] = deque(sorted(each.times), self._keep)
                self._totals[key] = each.total
