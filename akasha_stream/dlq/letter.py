"""Records of the dead-letter topic, read: letters, and the marks of those that were published again.

events/dead_letters.py is how letters are written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from akasha_stream.errors import UsageError
from akasha_stream.events.dead_letters import (
    DETAIL,
    EVENTS,
    INDEX,
    LEFT_OUT,
    OFFSET,
    PARTITION,
    PREFIX,
    REASON,
    TIMESTAMP,
    TOPIC,
)
from akasha_stream.events.records import Record

MARK = "akasha-dlq-requeued"
"""Header of a mark: the place of the letter that was published again. A mark has no value; its key is this word."""
MARK_TO = "akasha-dlq-requeued-to"
"""Header of a mark: topic/partition:offset of the record that it became."""
REQUEUED_FROM = "akasha-requeued-from"
"""Header of a record that was a letter: topic/partition:offset of that letter. A letter it becomes again keeps it."""
REQUEUED_AT = "akasha-requeued-at"
"""Header of a record that was a letter: when it was published again, RFC 3339."""
FOREIGN = "unknown"
"""The reason of a record that some other program wrote into the topic."""

_PLACE = re.compile(r"(?:(\d{1,9}):)?(\d{1,18})", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A record of the dead-letter topic."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}:{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """`0:17`, or `17` of partition 0. Raises UsageError."""
        match = _PLACE.fullmatch(text.strip())
        if match is None:
            raise UsageError(f"{text!r} is no letter; write PARTITION:OFFSET as `akasha-stream dlq list` shows it")
        return cls(int(match[1] or 0), int(match[2]))


@dataclass(frozen=True, slots=True)
class Mark:
    """This letter was published again."""

    letter: Place
    to: str
    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter. Origin fields are None where a foreign program wrote it."""

    place: Place
    timestamp_ms: int
    """When it was written."""
    reason: str
    detail: str
    origin_topic: str | None
    origin_partition: int | None
    origin_offset: int | None
    origin_timestamp_ms: int | None
    index: int | None
    """Of the event in its bundle; None: the whole record."""
    events: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    """The original's own."""
    left_out_bytes: int | None = None
    """Size of the original where it did not fit into this topic; it is then in the log alone."""
    requeued_from: str | None = None
    """The letter that it was before it was published again, and died again."""
    full_size: int | None = None
    """Bytes of the value where only its beginning is kept here."""

    @property
    def origin(self) -> str:
        """`2:1042#3`; the topic is left out."""
        if self.origin_partition is None or self.origin_offset is None:
            return "-"
        return f"{self.origin_partition}:{self.origin_offset}" + ("" if self.index is None else f"#{self.index}")

    @property
    def size(self) -> int:
        """Bytes of the original's value."""
        if self.left_out_bytes is not None:
            return self.left_out_bytes
        return len(self.value or b"") if self.full_size is None else self.full_size

    @property
    def system(self) -> str:
        """The key: the source system, where the record was right in that."""
        return "" if self.key is None else self.key.decode(errors="replace")

    @classmethod
    def of(cls, record: Record) -> Self:
        """Never raises: a header that is missing or no number is left empty."""
        ours = {name: content or b"" for name, content in record.headers if name.startswith(PREFIX)}
        before = [content for name, content in record.headers if name == REQUEUED_FROM]
        return cls(
            Place(record.partition, record.offset),
            record.timestamp_ms,
            reason=_text(ours, REASON) or FOREIGN,
            detail=_text(ours, DETAIL) or ("" if REASON in ours else "not written by akasha-stream"),
            origin_topic=_text(ours, TOPIC),
            origin_partition=_number(ours, PARTITION),
            origin_offset=_number(ours, OFFSET),
            origin_timestamp_ms=_number(ours, TIMESTAMP),
            index=_number(ours, INDEX),
            events=_number(ours, EVENTS) or 1,
            key=record.key,
            value=record.value,
            headers=tuple((name, content) for name, content in record.headers if not name.startswith(PREFIX)),
            left_out_bytes=_number(ours, LEFT_OUT),
            requeued_from=before[-1].decode(errors="replace") if before else None,
        )


def read(record: Record) -> Letter | Mark:
    for name, content in record.headers:
        if name == MARK:
            match = _PLACE.fullmatch((content or b"").decode(errors="replace"))
            if match is not None:
                to = next((each for key, each in record.headers if key == MARK_TO), b"")
                place = Place(int(match[1] or 0), int(match[2]))
                return Mark(place, (to or b"").decode(errors="replace"), record.timestamp_ms)
    return Letter.of(record)


def _text(headers: Mapping[str, bytes], name: str) -> str | None:
    return headers[name].decode(errors="replace") if name in headers else None


def _number(headers: Mapping[str, bytes], name: str) -> int | None:
    text = headers.get(name, b"")
    return int(text) if re.fullmatch(rb"-?\d{1,18}", text) else None
