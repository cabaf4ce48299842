"""Who goes first where a search and ingest want the interpreter at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

WAIT_S = 0.01


class Turns:
    """Lets searches go before ingest, which waits a little between two steps while one is under way.

    Python runs one thread at a time. A search of 2 ms takes it some hundred times, and each time may wait for a
    thread of ingest that has it, or that the kernel has put aside while it has it: p99 was 24 ms while 5,000 events
    a second arrived. A batch has a step for its decoding and one for each partition: searches without a pause cost it
    some 50 ms with 4 partitions, not its progress.
    """

    def __init__(self, wait_s: float = WAIT_S) -> None:
        self._wait_s = wait_s
        self._searches = 0
        self._none = threading.Condition()

    @contextmanager
    def search(self) -> Iterator[None]:
        """Around what a search does, its waiting for events left out."""
        with self._none:
            self._searches += 1
        try:
            yield
        finally:
            with self._none:
                self._searches -= 1
                if not self._searches:
                    self._none.notify_all()

    @property
    def searching(self) -> bool:
        """Whether a search is under way."""
        return self._searches > 0

    def give_way(self) -> None:
        """Called by ingest before each step: return when no search is under way, after `wait_s` at the latest."""
        with self._none:
            if self._searches:
                self._none.wait_for(lambda: not self._searches, self._wait_s)
