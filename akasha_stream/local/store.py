"""A data directory as a search sees it while no worker runs on it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from akasha_stream.events.model import Event
from akasha_stream.hot.store import ShardStore
from akasha_stream.incarnation import Incarnation
from akasha_stream.local import notice
from akasha_stream.local.log import Identity, LocalLog
from akasha_stream.search.segment import SegmentView, Span
from akasha_stream.settings import Settings

if TYPE_CHECKING:
    from akasha_stream.tiers.tiering import Tiering


class LocalStore:
    """search.segment.HotStore over the partitions' shards with the local log laid over them.

    What the log says about an identity is the later write, always: a worker hands the log over before it reads from
    Kafka again (hand_over.py), so all that the shards have was there before. A row of theirs that the log supersedes
    is masked in this process's memory; the shards' files stay as their worker left them.
    """

    def __init__(self, settings: Settings, tiering: Tiering | None = None) -> None:
        """Open the directory. `tiering`: for segments that are in the object store only.

        Raises ShardLocked where another process has it, SegmentCorrupt; UsageError where there are such segments and
        no `tiering`.
        """
        bodies = None if tiering is None else tiering.bodies
        self.shards = ShardStore(settings, settings.topics.embeddings, bodies=bodies)
        self.codes = self.shards.codes
        try:
            if tiering is not None:
                tiering.attach(self.shards)
            notice.remove(self.shards.folder)  # of a worker that was killed: the lock is ours
            for partition in self.shards.stored():
                self.shards.open(partition, Incarnation())
            self.log = LocalLog(settings, self.codes)
        except BaseException:
            self.shards.close_all()
            raise
        self._supersede(self.log.last_writes())

    def write(self, events: Sequence[Event]) -> None:
        """Raises ValidationError, ShardWriteError; see LocalLog.write."""
        self.log.write(events)
        self._supersede((event.source_system, event.event_id) for event in events)

    def _supersede(self, identities: Iterable[Identity]) -> None:
        for system, event_id in identities:
            while (found := self.shards.find(system, event_id)) is not None:
                view, row = found
                view.live[row] = False

    def close(self) -> None:
        self.log.close()
        self.shards.close_all()

    # ── search.segment.HotStore ──────────────────────────────────────────────────────────────────────────

    def views(self, partitions: Sequence[int] | None = None) -> list[SegmentView]:
        local: list[SegmentView] = [*self.log.views()] if partitions is None else []
        # The log first: its rows are visible before those that they supersede are masked.
        return local + self.shards.views(partitions)

    def owned(self) -> list[int]:
        """All there is to search, as if it were one partition: how many the topic has, only the broker knows."""
        return [0]

    def partitions(self) -> int:
        return 1

    def spans(self) -> dict[int, Span]:
        return self.shards.spans() | self.log.spans()

    def forgets(self) -> dict[int, list[int]]:
        return self.shards.forgets()

    def find(self, source_system: str, event_id: str) -> tuple[SegmentView, int] | None:
        return self.log.find(source_system, event_id) or self.shards.find(source_system, event_id)

    def written_at(self, partition: int, source_system: str, event_id: str) -> int | None:
        return self.shards.written_at(partition, source_system, event_id)

    def at(self, partition: int, position: int) -> tuple[SegmentView, int] | None:
        return self.shards.at(partition, position)

    async def wait_for(self, partition: int, offset: int, timeout_s: float) -> bool:
        return True
