"""What is said of dead letters over HTTP, and with --json on the command line."""

from __future__ import annotations

import base64
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import BaseModel, ConfigDict, Field

from akasha_stream.dlq.ledger import Ledger
from akasha_stream.dlq.letter import Letter, Mark

if TYPE_CHECKING:
    from akasha_stream.dlq.requeue import Requeued

MOST_BYTES = 65_536
"""Of a letter's value so many are in an answer; `akasha-stream dlq show --raw` has all."""
MOST_REQUEUED = 1_000

type PlaceText = Annotated[
    str,
    Field(description="PARTITION:OFFSET in the dead-letter topic", pattern=r"^\d{1,9}:\d{1,18}$", examples=["0:17"]),
]


class LetterOrigin(BaseModel):
    """Where the record was that could not be stored. Fields are null where another program wrote the letter."""

    topic: str | None
    partition: int | None
    offset: int | None
    timestamp_ms: int | None
    index: int | None = Field(description="of the event in its bundle; null: the whole record")


class LetterRequeued(BaseModel):
    to: str = Field(description="topic/partition:offset of the record that it became")
    timestamp_ms: int


class DeadLetter(BaseModel):
    """A record or event that could not be stored, and why."""

    letter: PlaceText
    partition: int
    offset: int
    timestamp_ms: int
    reason: str = Field(description="a stable word (docs/wire-format.md)", examples=["vector_length"])
    detail: str
    origin: LetterOrigin
    events: int
    system: str = Field(description="the record's key")
    bytes: int = Field(description="size of the original value")
    left_out: bool = Field(description="the value did not fit into the topic, and is in the log only")
    requeued_from: str | None = Field(
        description="the letter that it was before it was published again, and died again"
    )
    requeued: LetterRequeued | None = Field(description="null: it was not published again")
    preview: str = Field(description="the value's first bytes as UTF-8; what is none is U+FFFD")

    @classmethod
    def of(cls, letter: Letter, mark: Mark | None) -> Self:
        return cls(**_fields(letter, mark), preview=(letter.value or b"").decode(errors="replace"))


class DeadLetterWithBytes(DeadLetter):
    """A dead letter with its bytes and headers."""

    key_base64: str | None
    value_base64: str | None = Field(description=f"at most the first {MOST_BYTES} bytes; null: it has none")
    headers: list[tuple[str, str]] = Field(description="the original's own, as UTF-8; what is none is U+FFFD")

    @classmethod
    def of(cls, letter: Letter, mark: Mark | None) -> Self:
        value = None if letter.value is None else letter.value[:MOST_BYTES]
        return cls(
            **_fields(letter, mark),
            preview=(value or b"").decode(errors="replace"),
            key_base64=_base64(letter.key),
            value_base64=_base64(value),
            headers=[(name, (content or b"").decode(errors="replace")) for name, content in letter.headers],
        )


class DeadLetters(BaseModel):
    """The latest dead letters, the latest first."""

    total: int = Field(description="letters in the topic that the caller sees")
    matching: int = Field(description="those that were asked for, shown or not")
    reasons: dict[str, int] = Field(description="of the matching ones")
    letters: list[DeadLetter]

    @classmethod
    def of(cls, ledger: Ledger, limit: int) -> Self:
        latest = sorted(ledger.letters, key=lambda letter: (letter.timestamp_ms, letter.place), reverse=True)[:limit]
        reasons = Counter(letter.reason for letter in ledger.letters)
        return cls(
            total=ledger.total,
            matching=len(ledger.letters),
            reasons=dict(reasons.most_common()),
            letters=[DeadLetter.of(letter, ledger.mark_of(letter)) for letter in latest],
        )


class RequeueRequest(BaseModel):
    """Which letters to publish again."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={"examples": [{"letters": ["0:17", "0:18"]}, {"letters": ["0:17"], "again": True}]},
    )

    letters: list[PlaceText] = Field(min_length=1, max_length=MOST_REQUEUED)
    again: bool = Field(default=False, description="also those that were published again before")


class RequeuedLetter(BaseModel):
    letter: PlaceText
    to: str = Field(description="topic/partition:offset", examples=["akasha.embeddings.v1/3:1042"])


class SkippedLetter(BaseModel):
    letter: PlaceText
    why: str


class RequeueAnswer(BaseModel):
    """What became of the letters."""

    sent: list[RequeuedLetter]
    skipped: list[SkippedLetter]

    @classmethod
    def of(cls, done: Requeued) -> Self:
        return cls(
            sent=[RequeuedLetter(letter=str(each.letter), to=each.to) for each in done.sent],
            skipped=[SkippedLetter(letter=str(each.letter), why=each.why) for each in done.skipped],
        )


def plain(letter: Letter, mark: Mark | None) -> dict[str, object]:
    """As `dlq list --json` has it: without bytes."""
    return DeadLetter.of(letter, mark).model_dump(exclude={"preview"})


def _fields(letter: Letter, mark: Mark | None) -> dict[str, object]:
    return {
        "letter": str(letter.place),
        "partition": letter.place.partition,
        "offset": letter.place.offset,
        "timestamp_ms": letter.timestamp_ms,
        "reason": letter.reason,
        "detail": letter.detail,
        "origin": LetterOrigin(
            topic=letter.origin_topic,
            partition=letter.origin_partition,
            offset=letter.origin_offset,
            timestamp_ms=letter.origin_timestamp_ms,
            index=letter.index,
        ),
        "events": letter.events,
        "system": letter.system,
        "bytes": letter.size,
        "left_out": letter.left_out_bytes is not None,
        "requeued_from": letter.requeued_from,
        "requeued": None if mark is None else LetterRequeued(to=mark.to, timestamp_ms=mark.timestamp_ms),
    }


def _base64(content: bytes | None) -> str | None:
    return None if content is None else base64.b64encode(content).decode()
