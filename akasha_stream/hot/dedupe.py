"""Which events of a batch are stored, which replace, which are dropped: no I/O, one pass in log order."""

from __future__ import annotations

import math
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

    def near(self, event: int, least: float, window_us: int) -> Iterable[Stored]:
        """Live rows of the same system within the window whose cosine is about `least` or more; local ones only."""
        ...

    def payload_hash(self, row: Stored) -> int: ...

    def created_at(self, row: Stored) -> int: ...

    def content(self, row: Stored) -> str | None:
        """None: the row is in an object store; its hash and its system have to do (tiers/spilled.py)."""
        ...

    def source_system(self, row: Stored) -> str: ...

    def vector(self, row: Stored) -> NDArray[np.float32]: ...


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

    Content and near dedupe look only at identities that have no live row: an update always replaces, even
    where its new content equals another row's, or the last writer would lose. They look only at live rows,
    so that content whose only row was deleted or replaced is stored again.
    """

    def __init__(self, settings: DedupeSettings) -> None:
        self._window_us = int(settings.window_s * 1e6)
        self._content = settings.content and self._window_us > 0
        self._near = settings.near_threshold

    def judge(self, batch: EventBatch, hashed: Hashed, known: Known) -> Verdict:
        n = len(batch)
        outcome = bytearray(n)
        verdict = Verdict(np.frombuffer(outcome, np.uint8))
        pending: dict[str, int | None] = {}  # identity → its event in this batch, None where deleted
        masked: set[Row] = set()
        alike = _Alike(batch, hashed, known, masked, self._window_us)
        deletes = batch.delete.tolist()
        payloads, content_hashes = hashed.payload.tolist(), hashed.content.tolist()
        keys = hashed.keys
        stored, updated = int(Outcome.STORED), int(Outcome.UPDATED)
        check_content, near = self._content, self._near

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
            elif check_content and alike.content(i, content_hashes[i]):
                outcome[i] = Outcome.DUPLICATE_CONTENT
                continue
            elif near is not None and alike.near(i, near, verdict.store):
                outcome[i] = Outcome.DUPLICATE_NEAR
                continue
            else:
                outcome[i] = stored
            verdict.store.append(i)
            pending[key] = i
            if check_content:
                alike.stored(i, content_hashes[i])
        return verdict


class _Alike:
    """Finds rows like an event: those stored before the batch, and those of the batch itself."""

    def __init__(self, batch: EventBatch, hashed: Hashed, known: Known, masked: set[Row], window_us: int) -> None:
        self._batch = batch
        self._systems = hashed.systems
        self._known = known
        self._masked = masked
        self._window_us = window_us
        self._created: list[int] = batch.created_at.tolist()
        self._contents: dict[int, list[int]] = {}
        self._units: NDArray[np.float32] | None = None

    def stored(self, event: int, content_hash: int) -> None:
        known = self._contents.get(content_hash)
        if known is None:
            self._contents[content_hash] = [event]
        else:
            known.append(event)

    def content(self, event: int, content_hash: int) -> bool:
        """Whether a live row of the system has the same content, and a time within the window."""
        fresh, stored = self._contents.get(content_hash, ()), self._known.same_content(event)
        if not fresh and not stored:  # nearly always
            return False
        at, system = self._created[event], self._systems[event]
        text: str | None = None
        for row, created, other, content in self._with_content(fresh, stored):
            if row in self._masked or abs(created - at) > self._window_us or other != system:
                continue
            if content is None:
                return True
            if text is None:
                text = normalise(self._batch.content[event].as_py() or "")
            if normalise(content) == text:
                return True
        return False

    def _with_content(
        self, fresh: Iterable[int], stored: Iterable[Stored]
    ) -> Iterator[tuple[Row, int, str, str | None]]:
        for each in fresh:
            yield Fresh(each), self._created[each], self._systems[each], self._batch.content[each].as_py() or ""
        known = self._known
        for row in stored:
            yield row, known.created_at(row), known.source_system(row), known.content(row)

    def near(self, event: int, threshold: float, stored: Sequence[int]) -> bool:
        """Whether a live row of the system reaches the cosine, and has a time within the window."""
        vector, at, system = self._batch.embedding[event], self._created[event], self._systems[event]
        least = threshold - NEAR_SLACK
        for each in self._about(event, least, stored):
            if (
                self._systems[each] == system
                and abs(self._created[each] - at) <= self._window_us
                and Fresh(each) not in self._masked
                and cosine(self._batch.embedding[each], vector) >= threshold
            ):
                return True
        known = self._known
        return any(
            row not in self._masked and cosine(known.vector(row), vector) >= threshold
            for row in known.near(event, least, self._window_us)
        )

    def _about(self, event: int, least: float, stored: Sequence[int]) -> list[int]:
        """The events among `stored` whose cosine is about `least` or more: one matrix product."""
        if not stored:
            return []
        if self._units is None:
            norms = np.linalg.norm(self._batch.embedding.astype(np.float64), axis=1, keepdims=True)
            self._units = (self._batch.embedding / np.where(norms > 0, norms, 1)).astype(np.float32)
        about = self._units[: stored[-1] + 1] @ self._units[event]
        close = np.flatnonzero(about >= least)
        return close[np.isin(close, stored)].tolist() if len(close) else []


NEAR_SLACK = 1e-4
"""How far a float32 matrix product may be from `cosine`; what comes this near is computed exactly."""


def cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """To 6 digits, and the same whatever matrix the vectors stand in: dedupe must not depend on batches."""
    wide_a, wide_b = a.astype(np.float64).tolist(), b.astype(np.float64).tolist()
    square = math.sumprod(wide_a, wide_a) * math.sumprod(wide_b, wide_b)
    return round(math.sumprod(wide_a, wide_b) / math.sqrt(square), 6)
