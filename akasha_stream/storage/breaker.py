"""A circuit breaker: after some failures in a row the store is left alone for a while."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

from akasha_stream.errors import StorageCircuitOpen, StorageError, StorageUnavailable

State = Literal["closed", "half_open", "open"]


class CircuitBreaker:
    """Closed: requests pass. `failures` in a row open it; `reset_s` later one request is tried (half open): its
    success closes the breaker, its failure opens it again.

    Only StorageUnavailable counts as a failure: a store that says "not found" or "denied" is up. For one event loop.
    """

    def __init__(
        self,
        name: str,
        failures: int = 8,
        reset_s: float = 10.0,
        *,
        clock: Callable[[], float] = time.monotonic,
        on_change: Callable[[State], None] = lambda state: None,
    ) -> None:
        self._name = name
        self._failures_allowed = failures
        self._reset_s = reset_s
        self._clock = clock
        self._on_change = on_change
        self._failures = 0
        self._opened_at: float | None = None
        self._trial = False
        self.tripped_by: StorageError | None = None
        """The failure that opened it, kept until it closes."""

    @property
    def state(self) -> State:
        if self._opened_at is None:
            return "closed"
        return "half_open" if self._trial or self._clock() >= self._opened_at + self._reset_s else "open"

    @contextmanager
    def request(self) -> Iterator[None]:
        """Make one request inside. Raises StorageCircuitOpen when it must not be made."""
        trial = self._enter()
        try:
            yield
        except StorageUnavailable as error:
            self._failed(error)
            raise
        except StorageError:
            self._answered()
            raise
        except BaseException:  # cancelled, or a fault of ours: it says nothing about the store
            if trial:
                self._trial = False
            raise
        else:
            self._answered()

    def _enter(self) -> bool:
        if self._opened_at is None or self.tripped_by is None:
            return False
        wait_s = self._opened_at + self._reset_s - self._clock()
        if wait_s > 0 or self._trial:
            raise StorageCircuitOpen(
                f"{self._name} is left alone for now, after {self._failures} failures in a row; "
                f"the one that did it: {self.tripped_by}",
                self.tripped_by,
                max(wait_s, 0.0),
            )
        self._trial = True
        self._on_change("half_open")
        return True

    def _failed(self, error: StorageUnavailable) -> None:
        self._failures += 1
        if self._trial or (self._opened_at is None and self._failures >= self._failures_allowed):
            self._trial = False
            self._opened_at = self._clock()
            self.tripped_by = error
            self._on_change("open")

    def _answered(self) -> None:
        was_open = self._opened_at is not None
        self._failures, self._opened_at, self._trial, self.tripped_by = 0, None, False, None
        if was_open:
            self._on_change("closed")
