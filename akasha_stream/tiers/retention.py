"""Retention per source system: how long a row is kept after it was appended to the log.

Counted from `appended_at`, the record's time, not from `created_at`: what is imported today is not gone at the next
compaction however old it is, a producer's clock decides nothing (with LogAppendTime, as topics/ defines it), and along
a log these times ascend, so that the versions of an identity expire in their order.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from akasha_stream.settings import RetentionSettings

OVERDUE = 0.1
"""A row that has outlived its retention by this share of it has its segment rewritten, however few such rows it has."""

_DAY_US = 86_400_000_000
_NEVER = np.iinfo(np.int64).min


class Retention:
    """The settings at one moment. Rows appended before their system's cutoff are expired."""

    def __init__(self, settings: RetentionSettings, now: datetime) -> None:
        self._settings = settings
        self._now_us = int(now.timestamp() * 1e6)

    def cutoff(self, system: str, overdue: float = 0.0) -> int | None:
        """Microseconds since the epoch; None: its rows are kept for ever."""
        days = self._settings.systems.get(system, self._settings.days)
        return None if days is None else self._now_us - int(days * (1 + overdue) * _DAY_US)

    def applies_to(self, systems: Iterable[str]) -> bool:
        return any(self.cutoff(system) is not None for system in systems)

    def expired(
        self, systems: pa.ChunkedArray[Any] | pa.Array[Any], appended_at: NDArray[np.int64], overdue: float = 0.0
    ) -> NDArray[np.bool_]:
        """(n,) of n rows: their source systems (strings), and times in microseconds since the epoch.

        The mask for searches and for compaction alike. `overdue`: by this share of the retention, at least.
        """

        def least(system: str) -> int:
            cutoff = self.cutoff(system, overdue)
            return _NEVER if cutoff is None else cutoff

        return appended_at < by_system(systems, least)


def by_system(systems: pa.ChunkedArray[Any] | pa.Array[Any], value: Any) -> NDArray[np.int64]:
    """(n,) `value(system)` of each row; it is called once a system."""
    if isinstance(systems, pa.ChunkedArray):
        systems = pa.concat_arrays(systems.chunks) if systems.num_chunks else pa.array([], pa.string())
    encoded: Any = systems.dictionary_encode()
    values = np.array([value(system) for system in encoded.dictionary.to_pylist()], np.int64)
    codes = encoded.indices.to_numpy(zero_copy_only=False)
    return values[codes] if len(values) else np.empty(0, np.int64)
