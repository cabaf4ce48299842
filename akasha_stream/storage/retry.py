"""The one retry policy of all object stores; the client libraries' own retries are switched off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from akasha_stream.errors import StorageCircuitOpen, StorageUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from stamina import Attempt


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential backoff with jitter, bounded in number and time. Times in seconds.

    A request (a part of a large object is one) is made at most `attempts` times within `total_s`, and given up after
    `attempt_s` each time. `health_s` bounds the one request of health().
    """

    attempts: int = 5
    total_s: float = 120.0
    attempt_s: float = 30.0
    first_wait_s: float = 0.1
    longest_wait_s: float = 5.0
    jitter_s: float = 0.2
    health_s: float = 3.0

    def rounds(self) -> AsyncIterator[Attempt]:
        """`async for round in policy.rounds(): with round: …`"""
        import stamina

        return aiter(
            stamina.retry_context(
                on=self._wait_for,
                attempts=self.attempts,
                timeout=self.total_s,
                wait_initial=self.first_wait_s,
                wait_max=self.longest_wait_s,
                wait_jitter=self.jitter_s,
            )
        )

    def _wait_for(self, error: Exception) -> bool | float:
        """Whether a repetition can help at once, and when the store said so itself (Retry-After), after how long."""
        if not isinstance(error, StorageUnavailable) or isinstance(error, StorageCircuitOpen):
            return False
        return True if error.retry_after_s is None else min(error.retry_after_s, self.longest_wait_s)
