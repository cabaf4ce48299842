"""The local log: what is written to a data directory while no worker runs on it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import orjson

from akasha_stream.errors import ValidationError
from akasha_stream.events.bundles import encode_bundles, headers
from akasha_stream.events.decode import Decoder
from akasha_stream.events.model import Event
from akasha_stream.events.records import Record
from akasha_stream.hot.durable import remove
from akasha_stream.hot.segment import View
from akasha_stream.hot.shard import Shard
from akasha_stream.hot.store import ShardStore
from akasha_stream.incarnation import Incarnation
from akasha_stream.publish.checks import checked_size
from akasha_stream.search.segment import Span, SystemCodes
from akasha_stream.settings import DedupeSettings, Settings
from akasha_stream.tiers.spilled import SpilledView

FOLDER = "local"
PARTITION = 99_999
"""The local log's number among the views of a search, where the topic's partitions have theirs."""
HANDED_OVER = "local.handed-over"
READ_ROWS = 1_024

type Identity = tuple[str, str]
"""(source system, event id)"""


@dataclass(frozen=True, slots=True)
class Written:
    """What the log says last about an identity."""

    at_ms: int
    """Milliseconds since the epoch, of this machine's clock."""
    view: View
    row: int
    delete: bool


class LocalLog:
    """A shard whose log is this process's own: offsets count its records, in no broker's log.

    Events pass the same decoder as those from Kafka: the same limits, the same redaction. A write is committed, and
    as durable as any of a shard's, when `write` returns. Content dedupe is the stream's, and takes place when the
    log is handed over.

    A delete is a record of two events, the identity and its deletion: the masked row says what was deleted, which
    may be a row of another shard.
    """

    def __init__(self, settings: Settings, codes: SystemCodes | None = None) -> None:
        """Open or create it. Whoever does holds the topic's folder already: see LocalStore, hand_over."""
        self._settings = settings
        self._decoder = Decoder.of(settings)
        self._nothing = self._decoder.decode([]).batch
        plain = settings.model_copy(update={"dedupe": DedupeSettings(content=False)})
        self._store = ShardStore(plain, f"{settings.topics.embeddings}/{FOLDER}", codes)
        try:
            self._shard: Shard = self._store.open(PARTITION, Incarnation())
        except BaseException:
            self._store.close_all()
            raise
        self._writing = threading.Lock()

    def write(self, events: Sequence[Event]) -> None:
        """Commit the events in their order; all that one transaction takes, so mostly all or none.

        Raises:
            ValidationError: an event breaks a limit; nothing is written.
            ShardWriteError: the disk is full, or broken. The same call may be made again.
        """
        for event in events:
            checked_size(event, self._settings.limits)
        bundles = list(self._bundles(events))
        with self._writing:
            # A clock that was set back must not make later writes earlier ones.
            now_ms = max(int(time.time() * 1000), self._shard.progress.last_timestamp_ms or 0)
            # After a commit that failed, only the file, read anew, says whether it took place. Before the offsets
            # are counted: a record at one that is taken already would be skipped.
            self._shard.apply((), self._nothing)
            first = self._shard.next_offset
            records = [
                Record(
                    PARTITION,
                    first + number,
                    now_ms,
                    bundle[0].source_system.encode(),
                    value,
                    headers("arrow", bundle[0].source_system, str(first + number)),
                )
                for number, (bundle, value) in enumerate(zip(bundles, encode_bundles(bundles), strict=True))
            ]
            decoded = self._decoder.decode(records)
            if decoded.dead:
                letter = decoded.dead[0]
                raise ValidationError(letter.reason, letter.detail)
            self._shard.apply(records, decoded.batch)

    def _bundles(self, events: Sequence[Event]) -> Iterator[list[Event]]:
        """Runs of one source system, as long as a publisher's bundles; a delete's two events are in one."""
        publish, limits = self._settings.publish, self._settings.limits
        most = min(publish.bundle_events, limits.bundle_events)
        most_bytes = min(publish.bundle_bytes, limits.bundle_bytes)
        for _, run in groupby(events, lambda event: event.source_system):
            bundle: list[Event] = []
            size = 0
            for event in run:
                bytes_of = checked_size(event, limits) + 4 * limits.dimensions
                if bundle and (len(bundle) + 2 > most or size + bytes_of > most_bytes):
                    yield bundle
                    bundle, size = [], 0
                bundle += [self._deletable(event), event] if event.op == "delete" else [event]
                size += bytes_of
            yield bundle

    def _deletable(self, delete: Event) -> Event:
        vector = np.ones(self._settings.limits.dimensions, np.float32)
        return Event(delete.event_id, delete.source_system, embedding=vector, created_at=delete.created_at)

    @property
    def empty(self) -> bool:
        return not any(segment.rows for segment in self._shard.segments)

    def spans(self) -> dict[int, Span]:
        return {PARTITION: self._shard.span()}

    def views(self) -> list[View]:
        return [_own(view) for view in self._shard.views() if view.rows]

    def find(self, source_system: str, event_id: str) -> tuple[View, int] | None:
        """The live row of an identity."""
        found = self._shard.find(source_system, event_id)
        return None if found is None else (_own(found[0]), found[1])

    def last_writes(self) -> dict[Identity, Written]:
        """What the log says last about each identity in it."""
        found: dict[Identity, Written] = {}
        for segment in self._shard.segments:  # in the order of the log
            view = _own(segment.view())
            for start in range(0, view.rows, READ_ROWS):
                for row, stored in enumerate(view.texts(range(start, min(start + READ_ROWS, view.rows))), start):
                    found[stored.source_system, stored.event_id] = Written(
                        int(segment.appended_at[row]) // 1000, view, row, delete=not view.live[row]
                    )
        return found

    def close(self) -> None:
        self._store.close_all()

    def discard(self) -> None:
        """Close it and remove it: all it held is elsewhere."""
        self.close()
        folder = self._store.folder
        done = folder.with_name(HANDED_OVER)
        remove(done)
        folder.rename(done)  # first: half a log must not be taken for one
        remove(done)


def _own(view: View | SpilledView) -> View:
    """A local log is handed over, never spilled: its rows are here."""
    assert isinstance(view, View)
    return view


def exists(settings: Settings) -> bool:
    return _folder(settings).is_dir()


def _folder(settings: Settings) -> Path:
    return settings.hot.data_dir / settings.topics.embeddings / FOLDER


def as_events(writes: Iterable[tuple[Identity, Written]]) -> Iterator[Event]:
    """The writes as events to publish."""
    for (system, event_id), written in writes:
        if written.delete:
            yield Event.delete(system, event_id)
            continue
        stored = written.view.texts([written.row])[0]
        assert stored.content is not None
        assert stored.model is not None
        assert stored.metadata is not None
        yield Event(
            event_id=event_id,
            source_system=system,
            content=stored.content,
            embedding=written.view.vectors(np.array([written.row]))[0],
            model=stored.model,
            metadata=orjson.loads(stored.metadata),
            created_at=stored.created_at,
        )
