"""Which events of a batch are stored, which replace, which are dropped: no I/O, one pass in log order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from akasha_stream.events.batch import EventBatch
from akasha_stream.hot.hashes import Hashed, normalise
from akasha_stream.settings import DedupeSettings
from akasha_stream.stream.windows import Outcome


@dataclass(frozen=True, slots=True)
class Stored:
    """A row that is stored already: `segment` is opaque here, the shard knows it."""

    segment: int
    row: int


@dataclass(frozen=True, slots=True)
class Fresh:
    """A row that this batch stores: the place of its event in the batch."""

    event: int


type Row = Stored | Fresh


class Known(Protocol):
    """What is stored so far, for one batch. All rows that it yields are live."""

    def latest(self, event: int) -> Stored | None:
        """The live row of the identity of the batch's event."""
        ...

    def same_content(self, event: int) -> Iterable[Stored]:
        """Live rows whose content hash is that of the batch's event."""
        ...

    def near(self, event: int, threshold: float, window_us: int) -> Iterable[Stored]:
        """Live rows of the same system within the window whose cosine reaches the threshold."""
        ...

    def payload_hash(self, row: Stored) -> int: ...

    def created_at(self, row: Stored) -> int: ...

    def content(self, row: Stored) -> str: ...

    def source_system(self, row: Stored) -> str: ...


@dataclass(slots=True)
class Verdict:
    """What becomes of a batch of n events."""

    outcome: NDArray[np.uint8]
    """(n,) windows.Outcome"""
    store: list[int] = field(default_factory=list)
    """events that become rows, in order"""
    masks: list[tuple[Row, int, bool]] = field(default_factory=list)
    """(row that is masked, event that masks it, whether by a delete)"""


class Deduper:
    """Exact, content and near dedupe, last writer wins, deletes.

    Content dedupe looks only at identities that have no live row: an update always replaces, even where its
    new content equals another row's, or the last writer would lose. It looks only at live rows, so that
    content whose only row was deleted or replaced is stored again.
    """

    def __init__(self, settings: DedupeSettings) -> None:
        self._content_us = int(settings.window_s * 1e6) if settings.content else 0
        self._near = settings.near_threshold
        self._near_us = int(settings.window_s * 1e6)

    def judge(self, batch: EventBatch, hashed: Hashed, known: Known) -> Verdict:
        n = len(batch)
        outcome = np.empty(n, np.uint8)
        verdict = Verdict(outcome)
        pending: dict[str, int | None] = {}  # identity → its event in this batch, None where deleted
        contents: dict[int, list[int]] = {}  # content hash → events of this batch stored with it
        masked: set[Row] = set()
        deletes = batch.delete.tolist()
        payloads, content_hashes = hashed.payload.tolist(), hashed.content.tolist()
        created = batch.created_at.tolist()
        keys = hashed.keys
        stored, updated = int(Outcome.STORED), int(Outcome.UPDATED)
        check_content, near = self._content_us > 0, self._near

        for i in range(n):
            key = keys[i]
            current: Row | None
            if key in pending:
                before = pending[key]
                current = None if before is None else Fresh(before)
            else:
                current = known.latest(i)
            if deletes[i]:
                if current is not None:
                    verdict.masks.append((current, i, True))
                    masked.add(current)
                pending[key] = None
                outcome[i] = Outcome.DELETED
                continue
            if current is not None:
                payload = payloads[current.event] if isinstance(current, Fresh) else known.payload_hash(current)
                if payload == payloads[i]:
                    outcome[i] = Outcome.DUPLICATE_EXACT
                    continue
                verdict.masks.append((current, i, False))
                masked.add(current)
                outcome[i] = updated
            elif check_content and self._same_content(i, batch, hashed, created, known, contents, masked):
                outcome[i] = Outcome.DUPLICATE_CONTENT
                continue
            elif near is not None and self._is_near(i, near, batch, hashed, created, known, verdict.store, masked):
                outcome[i] = Outcome.DUPLICATE_NEAR
                continue
            else:
                outcome[i] = stored
            verdict.store.append(i)
            pending[key] = i
            if check_content:
                contents.setdefault(content_hashes[i], []).append(i)
        return verdict

    def _same_content(
        self,
        i: int,
        batch: EventBatch,
        hashed: Hashed,
        created: Sequence[int],
        known: Known,
        contents: dict[int, list[int]],
        masked: set[Row],
    ) -> bool:
        text: str | None = None
        for row, at, system, content in self._candidates(i, batch, hashed, created, known, contents):
            if row in masked or abs(at - created[i]) > self._content_us or system != hashed.systems[i]:
                continue
            if text is None:
                text = normalise(batch.content[i].as_py())
            if normalise(content) == text:
                return True
        return False

    @staticmethod
    def _candidates(
        i: int,
        batch: EventBatch,
        hashed: Hashed,
        created: Sequence[int],
        known: Known,
        contents: dict[int, list[int]],
    ) -> Iterator[tuple[Row, int, str, str]]:
        fresh = contents.get(int(hashed.content[i]))
        for event in fresh or ():
            yield Fresh(event), created[event], hashed.systems[event], batch.content[event].as_py()
        for row in known.same_content(i):
            yield row, known.created_at(row), known.source_system(row), known.content(row)

    def _is_near(
        self,
        i: int,
        threshold: float,
        batch: EventBatch,
        hashed: Hashed,
        created: Sequence[int],
        known: Known,
        stored: Sequence[int],
        masked: set[Row],
    ) -> bool:
        vector = batch.embedding[i]
        for event in stored:
            if (
                hashed.systems[event] == hashed.systems[i]
                and Fresh(event) not in masked
                and abs(created[event] - created[i]) <= self._near_us
                and _cosine(batch.embedding[event], vector) >= threshold
            ):
                return True
        return any(row not in masked for row in known.near(i, threshold, self._near_us))


def _cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    return float(a @ b / np.sqrt(float(a @ a) * float(b @ b)))
