"""Bytes to events: the records of one fetch in, columns out, and a dead letter for all that is bad.

The way of a record: envelope (size, content type, key) → its codec → a record batch of the wire schema;
then all batches become one, and one pass of rules over it says which rows are good.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from akasha_stream.errors import DecodeError
from akasha_stream.events.arrow_bundle import ArrowReader
from akasha_stream.events.batch import EventBatch
from akasha_stream.events.bundles import ARROW_TYPE, JSON_TYPE, wire_schema
from akasha_stream.events.dead_letters import single_events
from akasha_stream.events.forget import decode_forget, is_forget
from akasha_stream.events.json_bundle import JsonReader, JsonRows
from akasha_stream.events.records import DeadLetter, Decoded, Record
from akasha_stream.events.redaction import Redactor
from akasha_stream.events.validation import Columns
from akasha_stream.settings import Limits, Settings

__all__ = ["DeadLetter", "Decoded", "Decoder", "Record"]

concat_batches: Any = pa.concat_batches  # type: ignore[attr-defined]  # newer than its type stubs

LATEST_MS = 253_402_300_799_999
"""The last millisecond of the year 9999."""


class Decoder:
    """Decodes, validates and redacts. Keeps nothing between calls but parsed schemas; one thread at a time."""

    def __init__(self, limits: Limits, redactor: Redactor | None) -> None:
        self._limits = limits
        self._redactor = redactor
        self._arrow = ArrowReader(limits)
        self._json = JsonReader(limits)

    @classmethod
    def of(cls, settings: Settings) -> Decoder:
        """With the limits of the settings, and their redaction where it is on. Raises SettingsError, as Redactor."""
        return cls(settings.limits, Redactor(settings.redaction) if settings.redaction.enabled else None)

    def decode(self, records: Sequence[Record]) -> Decoded:
        """Events in the order of the records, then of their place in the bundle. Never raises for bad bytes."""
        pieces = _Pieces(records, wire_schema(self._limits.dimensions))
        kinds: list[str | None] = []
        for number, record in enumerate(records):
            try:
                kinds.append(self._kind(record))
            except DecodeError as error:
                pieces.dead[number] = (error.reason, str(error))
                kinds.append(None)
        numbers = (number for number, kind in enumerate(kinds) if kind is not None)
        for kind, consecutive in groupby(numbers, lambda number: kinds[number]):
            (self._read_json if kind == "json" else self._read_arrow)(list(consecutive), pieces)
        pieces.validate(self._arrow)
        return self._checked(pieces)

    def _read_json(self, numbers: Sequence[int], pieces: _Pieces) -> None:
        rows = JsonRows(self._limits.dimensions)
        counts: list[int] = []
        for number in numbers:
            start = len(rows)
            try:
                self._json.read(pieces.records[number].value or b"", rows)
            except DecodeError as error:
                pieces.dead[number] = (error.reason, str(error))
            finally:
                counts.append(len(rows) - start)
        if len(rows):
            pieces.add([rows.batch()], numbers, counts, rows.refused, validated=True)

    def _read_arrow(self, numbers: Sequence[int], pieces: _Pieces) -> None:
        joined = self._arrow.read_together([pieces.records[number].value or b"" for number in numbers])
        if joined is not None and len(joined.places) == len(numbers):
            pieces.add([joined.batch], numbers, joined.rows, [], validated=True)
            return
        together: dict[int, pa.RecordBatch] = {}
        if joined is not None:
            starts = np.cumsum([0, *joined.rows]).tolist()
            for place, start, rows in zip(joined.places, starts, joined.rows, strict=False):
                together[numbers[place]] = joined.batch.slice(start, rows)
        for number in numbers:
            if number in together:
                pieces.add([together[number]], [number], [together[number].num_rows], [], validated=True)
                continue
            try:
                read = self._arrow.read(pieces.records[number].value or b"")
            except DecodeError as error:
                pieces.dead[number] = (error.reason, str(error))
            else:
                rows = sum(batch.num_rows for batch in read.batches)
                pieces.add(read.batches, [number], [rows], read.refused, validated=read.validated)

    def _kind(self, record: Record) -> str | None:
        """Its codec; None for a control message, which has no events. Raises DecodeError."""
        if is_forget(record):
            decode_forget(record)
            return None
        return self._envelope(record)

    def _envelope(self, record: Record) -> str:
        """ "arrow" or "json"; raises DecodeError for what can be seen from outside."""
        value = record.value
        if value is None:
            raise DecodeError("null_body", "the record has no value")
        if not value:
            raise DecodeError("bundle_empty", "the value has no bytes")
        if len(value) > self._limits.bundle_bytes:
            raise DecodeError("bundle_too_large", f"{len(value)} bytes, the limit is {self._limits.bundle_bytes}")
        if record.key is None:
            raise DecodeError("key_mismatch", "the record has no key; it must be the source_system")
        if not 0 <= record.timestamp_ms <= LATEST_MS:
            raise DecodeError("record_timestamp", f"the record's timestamp is {record.timestamp_ms} ms")
        for name, content in record.headers:
            if name.lower() == "content-type":
                # Parameters (";charset=utf-8") change nothing: JSON is UTF-8 anyway.
                media = (content or b"").split(b";", 1)[0].strip().lower()
                if media == ARROW_TYPE.encode():
                    return "arrow"
                if media == JSON_TYPE.encode():
                    return "json"
                raise DecodeError(
                    "content_type_unknown", f"content-type is {content[:80]!a}" if content else "no value"
                )
        return "json"

    def _checked(self, pieces: _Pieces) -> Decoded:
        batch, record_of, index_of = pieces.joined()
        columns = Columns(batch, self._limits)
        for row, reason, detail in pieces.refused:
            columns.refusals.refuse(row, reason, detail)
        records = pieces.records
        appended_at = np.array([min(max(r.timestamp_ms, 0), LATEST_MS) for r in records], dtype=np.int64) * 1_000
        offsets = np.array([r.offset for r in records], dtype=np.int64)
        keys: Any = pa.array([r.key for r in records], pa.binary()).take(record_of)
        refusals = columns.check(keys, appended_at[record_of])
        dead = pieces.dead_letters(refusals.bad, refusals.why, record_of, index_of)
        result = EventBatch(
            offset=offsets[record_of],
            index=index_of,
            appended_at=appended_at[record_of],
            source_system=columns.source_system,
            event_id=columns.event_id,
            content=columns.content,
            embedding=columns.embedding,
            model=columns.model,
            metadata=columns.metadata,
            created_at=columns.created_at,
            delete=columns.delete,
        )
        if refusals.bad.any():
            good = np.flatnonzero(~refusals.bad)
            result, record_of = _select(result, good), record_of[good]
        if self._redactor is None or not len(result):
            return Decoded(result, record_of, dead, redacted=0)
        clean, redacted, counts = self._redactor.redact(result)
        return Decoded(clean, record_of, dead, redacted, counts)


class _Pieces:
    """The batches of one call with where their rows came from, before they become one."""

    def __init__(self, records: Sequence[Record], schema: pa.Schema) -> None:
        self.records = records
        self.dead: dict[int, tuple[str, str]] = {}
        """Record number → why the whole record is refused."""
        self.refused: list[tuple[int, str, str]] = []
        """(row of the joined batch, reason, detail)"""
        self._schema = schema
        self._parts: list[_Part] = []

    def add(
        self,
        batches: list[pa.RecordBatch],
        numbers: Sequence[int],
        counts: Sequence[int],
        refused: list[tuple[int, str, str]],
        *,
        validated: bool,
    ) -> None:
        """Rows of consecutive records: `counts` of each. Those of several records have passed validation."""
        record_of = np.repeat(np.array(numbers, dtype=np.int32), counts)
        index_of = np.concatenate([np.arange(count, dtype=np.int32) for count in counts])
        self._parts.append(_Part(batches, validated, refused, record_of, index_of))

    def validate(self, arrow: ArrowReader) -> None:
        """Full Arrow validation of what has not passed it: all at once, one by one only where that fails."""
        unsure = [batch for part in self._parts if not part.validated for batch in part.batches]
        if not unsure:
            return
        try:
            pa.Table.from_batches(unsure, self._schema).validate(full=True)
        except (pa.ArrowException, ValueError):
            self._parts = [part for part in self._parts if part.validated or self._survives(part, arrow)]

    def _survives(self, part: _Part, arrow: ArrowReader) -> bool:
        try:
            pa.Table.from_batches(part.batches, self._schema).validate(full=True)
        except (pa.ArrowException, ValueError):
            try:
                saved = arrow.salvage(part.batches)
            except DecodeError as error:
                self.dead[int(part.record_of[0])] = (error.reason, str(error))
                return False
            part.batches, part.refused = saved.batches, saved.refused
        return True

    def joined(self) -> tuple[pa.RecordBatch, NDArray[np.int32], NDArray[np.int32]]:
        """All rows in one batch, their record numbers and their places in the bundle."""
        if not self._parts:
            nothing = np.empty(0, dtype=np.int32)
            return pa.RecordBatch.from_pylist([], schema=self._schema), nothing, nothing
        base = 0
        for part in self._parts:
            self.refused.extend((base + row, reason, detail) for row, reason, detail in part.refused)
            base += len(part.record_of)
        batches = [batch for part in self._parts for batch in part.batches]
        # One buffer a column, contiguous: every rule below works on whole columns.
        batch = batches[0] if len(batches) == 1 else concat_batches(batches)
        record_of = np.concatenate([part.record_of for part in self._parts])
        return batch, record_of, np.concatenate([part.index_of for part in self._parts])

    def dead_letters(
        self,
        bad: NDArray[np.bool_],
        why: dict[int, tuple[str, str]],
        record_of: NDArray[np.int32],
        index_of: NDArray[np.int32],
    ) -> list[DeadLetter]:
        """In the order of the log. Events that are all bad for one reason make one letter, of the whole record."""
        letters = {
            number: [DeadLetter(reason, detail, self.records[number])] for number, (reason, detail) in self.dead.items()
        }
        if why:
            totals = np.bincount(record_of, minlength=len(self.records))
            rows = np.flatnonzero(bad)
            by_record: dict[int, list[int]] = {}
            for row in rows.tolist():
                by_record.setdefault(int(record_of[row]), []).append(row)
            for number, refused in by_record.items():
                places = [(int(index_of[row]), *why[row]) for row in refused]
                letters[number] = _letters(self.records[number], places, int(totals[number]))
        return [letter for number in sorted(letters) for letter in letters[number]]


class _Part:
    """Consecutive rows that one codec call made."""

    __slots__ = ("batches", "index_of", "record_of", "refused", "validated")

    def __init__(
        self,
        batches: list[pa.RecordBatch],
        validated: bool,
        refused: list[tuple[int, str, str]],
        record_of: NDArray[np.int32],
        index_of: NDArray[np.int32],
    ) -> None:
        self.batches = batches
        self.validated = validated
        self.refused = refused
        self.record_of = record_of
        self.index_of = index_of


def _letters(record: Record, places: list[tuple[int, str, str]], total: int) -> list[DeadLetter]:
    reasons = {reason for _, reason, _ in places}
    if len(places) == total and len(reasons) == 1:
        index, reason, detail = places[0]
        detail = f"event {index}: {detail}" + (f" (and the other {total - 1} alike)" if total > 1 else "")
        return [DeadLetter(reason, detail, record, events=total)]
    alone = single_events(record, [index for index, _, _ in places])
    return [
        DeadLetter(reason, f"event {index}: {detail}", record, index, event)
        for (index, reason, detail), event in zip(places, alone, strict=True)
    ]


def _select(batch: EventBatch, rows: NDArray[np.int64]) -> EventBatch:
    taken: Any = pa.array(rows)
    return EventBatch(
        offset=batch.offset[rows],
        index=batch.index[rows],
        appended_at=batch.appended_at[rows],
        source_system=batch.source_system.take(taken),
        event_id=batch.event_id.take(taken),
        content=batch.content.take(taken),
        embedding=batch.embedding[rows],
        model=batch.model.take(taken),
        metadata=batch.metadata.take(taken),
        created_at=batch.created_at[rows],
        delete=batch.delete[rows],
    )
