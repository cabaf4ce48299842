"""Reading JSON bundles: one object or an array of objects, to a record batch of the wire schema.

orjson parses (23 µs an event of 384 numbers); what it lets pass silently (a key given twice, integers
beyond 64 bits, booleans among numbers) is looked for by signs that cost a scan of the bytes at most,
and only where a sign shows is the value parsed again by a slower, stricter reader.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from akasha_stream.errors import DecodeError, ValidationError
from akasha_stream.events.bundles import wire_schema
from akasha_stream.events.metadata import StrictObject, canonical_value, check_strictly, looks_huge, parse_strictly
from akasha_stream.settings import Limits

MAX_OPENINGS = 1_048_576
"""An empty object of 2 bytes becomes 64 bytes of memory: 8 MB of them would become 170 MB."""
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,12})?(?P<zone>[Zz]|[+-]\d\d:\d\d)?\Z", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_STRINGS = ("event_id", "source_system", "content", "model", "op")


@dataclass(slots=True)
class JsonRows:
    """Columns of the events of several JSON records, in order; a None where an event is refused."""

    dimensions: int
    columns: dict[str, list[Any]] = field(default_factory=lambda: {name: [] for name in (*_STRINGS, "metadata")})
    created_at: list[int | None] = field(default_factory=list)
    numbers: array[float] = field(default_factory=lambda: array("d"))
    vectorless: list[bool] = field(default_factory=list)
    refused: list[tuple[int, str, str]] = field(default_factory=list)
    """(row, reason, detail)"""

    def __len__(self) -> int:
        return len(self.created_at)

    def batch(self) -> pa.RecordBatch:
        """In the wire schema."""
        schema = wire_schema(self.dimensions)
        with np.errstate(over="ignore"):
            values = np.zeros((len(self), self.dimensions), dtype=np.float32)
            values[~np.array(self.vectorless)] = np.frombuffer(self.numbers).reshape(-1, self.dimensions)
        vectors = pa.FixedSizeListArray.from_arrays(
            pa.array(values.ravel()), type=schema.field("embedding").type, mask=pa.array(self.vectorless)
        )
        columns: list[Any] = []
        for name in schema.names:
            if name == "embedding":
                columns.append(vectors)
            elif name == "created_at":
                columns.append(pa.array(self.created_at, pa.int64()).cast(pa.timestamp("us", "UTC")))
            else:
                columns.append(pa.array(self.columns[name], pa.string()))
        return pa.RecordBatch.from_arrays(columns, schema=schema)


class JsonReader:
    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    def read(self, value: bytes, rows: JsonRows) -> int:
        """Append the events of one record to `rows`; how many there were. Raises DecodeError, and adds nothing then."""
        events = self._events(value)
        document = _Document(value)
        booleans = b"true" in value or b"false" in value
        start = len(rows)
        colons = 0
        for event in events:
            colons += self._append(event, rows, document, booleans=booleans)
        # Every colon of the text is one that the parsed value accounts for, or a key was given twice,
        # or a colon was escaped, or an element is no object: then look properly.
        if colons != value.count(b":") or b"\\u003" in value:
            for index, error in document.duplicates():
                rows.refused.append((start + index, error.reason, str(error)))
        return len(events)

    def _events(self, value: bytes) -> list[Any]:
        if value.count(b"{") + value.count(b"[") > MAX_OPENINGS:
            raise DecodeError("json_too_complex", f"more than {MAX_OPENINGS} objects and arrays in one value")
        try:
            parsed = orjson.loads(value)
        except orjson.JSONDecodeError as error:
            reason = "json_too_deep" if "depth limit" in error.msg else "json_invalid"
            raise DecodeError(reason, f"no JSON: {error.msg} at character {error.pos}") from None
        if isinstance(parsed, dict):
            return [parsed]
        if not isinstance(parsed, list):
            raise DecodeError("json_shape", f"the JSON value is {_kind(parsed)}, not an object or an array")
        if not parsed:
            raise DecodeError("bundle_empty", "the JSON array is empty")
        if len(parsed) > self._limits.bundle_events:
            limit = self._limits.bundle_events
            raise DecodeError("bundle_too_many_events", f"{len(parsed)} events, the limit is {limit}")
        return parsed

    def _append(self, event: Any, rows: JsonRows, document: _Document, *, booleans: bool) -> int:
        """Append one event; the colons that its text should have (far below zero where that is not known)."""
        row = len(rows)
        problem: ValidationError | None = None
        if type(event) is not dict:
            problem = ValidationError("json_shape", f"the element is {_kind(event)}, not an object")
            event = {}
        colons = len(event)
        for name in _STRINGS:
            text = event.get(name)
            if type(text) is str:
                colons += text.count(":")
            elif text is not None:
                problem = problem or ValidationError("field_type", f"{name} is {_kind(text)}, not a string")
                text = None
            rows.columns[name].append(text)
        # A delete is an identity; all else that it may carry is ignored.
        delete = event.get("op") == "delete"
        metadata, created_at, vector = None, None, None
        try:
            created_at = _microseconds(event.get("created_at"))
            if not delete:
                metadata = self._metadata(event.get("metadata"), document, row_in_document=document.seen)
                vector = self._vector(event.get("embedding"), booleans=booleans)
        except ValidationError as error:
            problem = problem or error
        document.seen += 1
        rows.created_at.append(created_at)
        rows.columns["metadata"].append(metadata)
        rows.vectorless.append(vector is None)
        if vector is not None:
            rows.numbers.extend(vector)
        if problem is not None:
            rows.refused.append((row, problem.reason, str(problem)))
        return colons + _other_colons(event, metadata)

    def _metadata(self, value: object, document: _Document, row_in_document: int) -> str | None:
        if value is None:
            return None
        canonical = canonical_value(value, self._limits.metadata_depth)
        if looks_huge(canonical):
            strict = document.element(row_in_document)
            check_strictly(strict.get("metadata") if isinstance(strict, dict) else None)
        return canonical.decode()

    def _vector(self, value: object, *, booleans: bool) -> array[float] | None:
        if value is None:
            return None
        if type(value) is not list:
            raise ValidationError("field_type", f"embedding is {_kind(value)}, not an array")
        if len(value) != self._limits.dimensions:
            wanted = self._limits.dimensions
            raise ValidationError("vector_length", f"the embedding has {len(value)} numbers, wanted are {wanted}")
        try:
            vector = array("d", value)
        except TypeError:
            if None in value:
                raise ValidationError("vector_not_finite", "the embedding holds a null") from None
            raise ValidationError("field_type", "the embedding holds something that is no number") from None
        # array() takes True for 1.0.
        if booleans and bool in set(map(type, value)):
            raise ValidationError("field_type", "the embedding holds a boolean")
        return vector


class _Document:
    """The text of one record, parsed strictly when (rarely) someone asks."""

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._parsed: list[Any] | None = None
        self.seen = 0

    def _elements(self) -> list[Any]:
        if self._parsed is None:
            parsed = parse_strictly(self._text)
            self._parsed = parsed if isinstance(parsed, list) else [parsed]
        return self._parsed

    def element(self, index: int) -> Any:
        return self._elements()[index]

    def duplicates(self) -> Iterator[tuple[int, ValidationError]]:
        """(index, error) for each event that names a key twice, itself or in its metadata."""
        try:
            elements = self._elements()
        except ValidationError as error:
            for index in range(self.seen):
                yield index, error
            return
        for index, event in enumerate(elements):
            if not isinstance(event, StrictObject):
                continue
            if event.duplicate is not None:
                yield index, ValidationError("duplicate_key", f"the event names {event.duplicate!a} twice")
            elif event.get("op") != "delete":
                try:
                    check_strictly(event.get("metadata"))
                except ValidationError as error:
                    yield index, error


def element_texts(value: bytes) -> list[bytes]:
    """The bytes of each event of a JSON record that orjson has accepted, as they were sent."""
    import json

    text = value.decode()
    decoder = json.JSONDecoder(parse_int=float)
    space = re.compile(r"[ \t\n\r]*")

    def skip(at: int) -> int:
        found = space.match(text, at)
        return found.end() if found else at

    at = skip(0)
    if text[at] != "[":
        return [value]
    elements: list[bytes] = []
    at = skip(at + 1)
    while text[at] != "]":
        _, end = decoder.raw_decode(text, at)
        elements.append(text[at:end].encode())
        at = skip(end)
        if text[at] == ",":
            at = skip(at + 1)
    return elements


def _microseconds(text: object) -> int | None:
    if text is None:
        return None
    if type(text) is not str:
        raise ValidationError("created_at_invalid", f"created_at is {_kind(text)}, not an RFC 3339 string")
    found = _RFC3339.match(text)
    if found is None:
        raise ValidationError("created_at_invalid", f"created_at is no RFC 3339 time: {text[:40]!a}")
    if found["zone"] is None:
        raise ValidationError("created_at_naive", f"created_at has no time zone: {text[:40]!a}")
    try:
        return (datetime.fromisoformat(text.upper()) - _EPOCH) // _MICROSECOND
    except (ValueError, OverflowError) as error:
        raise ValidationError("created_at_invalid", f"created_at {text[:40]!a}: {error}") from None


_KNOWN = frozenset((*_STRINGS, "embedding", "created_at", "metadata"))


def _other_colons(event: dict[str, Any], metadata: str | None) -> int:
    """Colons in everything but the keys and the string fields."""
    colons = 0
    created_at = event.get("created_at")
    if type(created_at) is str:
        colons += created_at.count(":")
    rest = {}
    if metadata is not None:
        colons += metadata.count(":")
    elif "metadata" in event:
        rest["metadata"] = event["metadata"]
    if not event.keys() <= _KNOWN:
        rest.update((name, value) for name, value in event.items() if name not in _KNOWN)
        colons += sum(name.count(":") for name in rest if name != "metadata")
    if rest:
        try:
            # One colon behind each name of `rest` is a key's, which is counted already.
            values = list(rest.values())
            colons += orjson.dumps(values).count(b":")
        except (TypeError, orjson.JSONEncodeError):
            return -(1 << 60)
    return colons


def _kind(value: object) -> str:
    names = {list: "an array", dict: "an object", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
