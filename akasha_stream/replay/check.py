"""Whether a shard holds what its log says under today's settings: a range is judged again, and nothing is written.

Each event is decoded, redacted and judged by the same code as when it came (hot/dedupe.py), against what the shard
held just before it (Segment.ended). So a shard whose rows all come out as they are is what a new reading of the log
would make of it. Where one event comes out otherwise, the events after it are still judged against the shard as it
is: from there on the figures are estimates, which only making the shard anew (beside.py) turns into facts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from akasha_stream.events.batch import EventBatch
from akasha_stream.events.forget import forgets
from akasha_stream.events.records import DeadLetter, Decoded, Record
from akasha_stream.hot.dedupe import Deduper, Stored
from akasha_stream.hot.hashes import Hashed, hash_batch
from akasha_stream.hot.known import ShardKnown
from akasha_stream.hot.position import MAX_INDEX, pack, pack_many, unpack
from akasha_stream.hot.segment import NEVER
from akasha_stream.hot.shard import AnySegment, Shard
from akasha_stream.replay.effect import Effect
from akasha_stream.search.segment import SystemCodes
from akasha_stream.settings import DedupeSettings
from akasha_stream.stream.windows import Outcome
from akasha_stream.tiers.forgotten import system_hash
from akasha_stream.tiers.spilled import SpilledSegment

NOWHERE = -1


@dataclass(frozen=True, slots=True)
class _Missing:
    """An event that should be a live row."""

    position: int
    system: str


class Decodes(Protocol):
    """events.decode.Decoder, with the settings that count now."""

    def decode(self, records: Sequence[Record]) -> Decoded: ...


class Check:
    """Takes the records of a range in log order, reads a shard that goes on meanwhile, and counts.

    What is stored of later offsets can't change what is asked here, so the shard's lock is not needed.
    """

    def __init__(self, shard: Shard, codes: SystemCodes, decoder: Decodes, dedupe: DedupeSettings) -> None:
        self._shard = shard
        self._codes = codes
        self._decoder = decoder
        self._deduper = Deduper(dedupe)
        self._dedupe = dedupe
        self._effect = Effect()
        self._missing: dict[str, _Missing] = {}
        self._first = NEVER

    @property
    def effect(self) -> Effect:
        """So far. An event counts as new until a later one of its identity comes."""
        missing = [each for each in self._missing.values() if not self._forgotten(each)]
        first = min([self._first, *(each.position for each in missing)])
        offset = None if first == NEVER else unpack(first).offset
        return replace(self._effect, new=len(missing), first_difference=offset)

    def take(self, records: Sequence[Record]) -> None:
        """Those that the shard has not stored yet are left alone."""
        records = [record for record in records if record.offset < self._shard.next_offset]
        if not records:
            return
        self._note(records)
        decoded = self._decoder.decode(records)
        self._effect.refused += len(decoded.dead)
        for letter in decoded.dead:
            self._refused(letter)
        batch = decoded.batch
        self._effect.events += len(batch)
        if len(batch):
            segments, hashed = self._shard.segments, hash_batch(batch)
            positions = pack_many(self._shard.epoch, batch.offset, batch.index)
            rows = _Rows.at(segments, positions)
            if self._obvious(segments, batch, hashed, rows):
                self._effect.unchanged += len(batch)
                self._superseded(hashed.keys)
            else:
                self._judge(segments, batch, hashed, positions, rows)
        for record in records:
            if (forgotten := forgets(record)) is not None:
                self._missing = {k: m for k, m in self._missing.items() if system_hash(m.system) != forgotten}

    def _note(self, records: Sequence[Record]) -> None:
        effect = self._effect
        effect.records += len(records)
        effect.bytes += sum(len(record.value or b"") for record in records)
        times = [record.timestamp_ms for record in records]
        effect.first_ms = min(times if effect.first_ms is None else [effect.first_ms, *times])
        effect.last_ms = max(times if effect.last_ms is None else [effect.last_ms, *times])

    def _obvious(self, segments: Sequence[AnySegment], batch: EventBatch, hashed: Hashed, rows: _Rows) -> bool:
        """Whether each event is a row with its own content, that no other row's content could have kept out.

        So it is nearly always, and five times as fast as judging.
        """
        if batch.delete.any() or self._dedupe.near_threshold is not None:
            return False
        if not np.array_equal(rows.payloads(segments), hashed.payload) or (rows.number == NOWHERE).any():
            return False
        if not self._dedupe.content:
            return True
        counts = sum((segment.count_contents(hashed.content) for segment in segments), np.zeros(len(batch), np.int64))
        return bool((counts == 1).all())

    def _judge(
        self,
        segments: Sequence[AnySegment],
        batch: EventBatch,
        hashed: Hashed,
        positions: NDArray[np.int64],
        rows: _Rows,
    ) -> None:
        known = ShardKnown(segments, batch, hashed, self._codes, at=int(positions[0]))
        verdict = self._deduper.judge(batch, hashed, known)
        deleted = {event: row for row, event, by_delete in verdict.masks if by_delete}
        same = (rows.payloads(segments) == hashed.payload) & (rows.number != NOWHERE)
        effect, whole_from = self._effect, _whole_from(segments)
        for i, (outcome, position) in enumerate(zip(verdict.outcome.tolist(), positions.tolist(), strict=True)):
            key, stored = hashed.keys[i], rows.number[i] != NOWHERE
            if outcome == Outcome.DELETED:
                self._superseded([key])
                row = deleted.get(i)
                if isinstance(row, Stored) and segments[row.segment].ended[row.row] == NEVER:
                    self._differs(position)
                    effect.deleted += 1
                else:
                    effect.unchanged += 1
            elif outcome <= Outcome.UPDATED:
                self._superseded([key])
                if not stored and self._forgotten(_Missing(position, hashed.systems[i])):
                    # Segments are rewritten without what was forgotten: it is not missing.
                    effect.unchanged += 1
                    continue
                if stored and not same[i]:
                    effect.replaced += 1
                elif not stored and not self._later(segments, key, int(hashed.identity[i]), position):
                    self._missing[key] = _Missing(position, hashed.systems[i])
                else:
                    effect.unchanged += 1
                if not same[i] and (stored or position >= whole_from):
                    self._differs(position)
            elif stored:
                # Also where it was replaced since: until then it may have kept others out, or would have.
                self._differs(position)
                live = rows.lives(segments, i)
                effect.removed += live
                effect.unchanged += not live
            else:
                effect.unchanged += 1

    def _refused(self, letter: DeadLetter) -> None:
        """Rows of what is no event today."""
        epoch, offset = self._shard.epoch, letter.record.offset
        whole = letter.index is None
        first, last = (
            pack(epoch, offset, letter.index or 0),
            pack(epoch, offset, MAX_INDEX if whole else letter.index or 0),
        )
        for segment in self._shard.segments:
            places = segment.positions[: segment.rows]
            between = slice(int(np.searchsorted(places, first)), int(np.searchsorted(places, last, "right")))
            live = int(np.count_nonzero(segment.live[between]))
            if live:
                self._effect.removed += live
                self._differs(first)

    def _differs(self, position: int) -> None:
        self._first = min(self._first, position)

    def _superseded(self, keys: Sequence[str]) -> None:
        """A later event of these identities came: it decides."""
        if self._missing:
            for key in keys:
                if self._missing.pop(key, None) is not None:
                    self._effect.unchanged += 1

    def _later(self, segments: Sequence[AnySegment], key: str, identity: int, position: int) -> bool:
        """Whether a later version is stored, or was: then there would be no live row of this event."""
        return any(
            segment.positions[row] > position for segment in segments for row in segment.with_identity(key, identity)
        )

    def _forgotten(self, missing: _Missing) -> bool:
        hashed = system_hash(missing.system)
        return any(each.position > missing.position and each.system_sha256 == hashed for each in self._shard.forgets)


def _whole_from(segments: Sequence[AnySegment]) -> int:
    """The position from which on no row is missing only because it counts no more: compaction drops those."""
    return min(pack(s.name.epoch, s.name.start, 0) for s in segments if not isinstance(s, SpilledSegment))


class _Rows:
    """Where n positions are stored: `number` of the segment, NOWHERE for none, and `row` in it."""

    __slots__ = ("number", "row")

    def __init__(self, number: NDArray[np.int32], row: NDArray[np.int64]) -> None:
        self.number = number
        self.row = row

    @classmethod
    def at(cls, segments: Sequence[AnySegment], positions: NDArray[np.int64]) -> _Rows:
        """`positions`: ascending."""
        number = np.full(len(positions), NOWHERE, np.int32)
        row = np.zeros(len(positions), np.int64)
        for each, segment in enumerate(segments):
            places = segment.positions[: segment.rows]
            if not len(places) or places[-1] < positions[0] or places[0] > positions[-1]:
                continue
            at = np.minimum(np.searchsorted(places, positions), len(places) - 1)
            here = places[at] == positions
            number[here], row[here] = each, at[here]
        return cls(number, row)

    def payloads(self, segments: Sequence[AnySegment]) -> NDArray[np.uint64]:
        """(n,) payload hashes, 0 where there is no row."""
        found = np.zeros(len(self.row), np.uint64)
        numbers: Any = np.unique(self.number)
        for each in numbers.tolist():
            if each != NOWHERE:
                here = self.number == each
                found[here] = segments[each].payload_hashes[self.row[here]]
        return found

    def lives(self, segments: Sequence[AnySegment], event: int) -> bool:
        return bool(segments[int(self.number[event])].live[self.row[event]])
