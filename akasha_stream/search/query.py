"""What a search asks and answers: the models behind HTTP, CLI and the Python client."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    JsonValue,
    Tag,
    model_validator,
)
from pydantic.config import JsonDict

Index = Literal["auto", "hnsw", "codes", "exact"]
FieldName = Literal["source_system", "event_id", "content", "metadata", "model", "created_at", "position", "embedding"]
DEFAULT_FIELDS: tuple[FieldName, ...] = (
    "source_system",
    "event_id",
    "content",
    "metadata",
    "model",
    "created_at",
    "position",
)
Scalar = str | bool | int | float | None


def _text_time(value: object) -> object:
    # A bare number would be read as seconds or milliseconds, depending on its size.
    if isinstance(value, str | datetime):
        return value
    raise ValueError("must be an RFC 3339 time with an offset, such as 2026-07-23T00:00:00Z")


Time = Annotated[AwareDatetime, BeforeValidator(_text_time, json_schema_input_type=datetime)]


MOST_RECENT = 100
"""Events on a page of the newest ones."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True)


class EventRef(_Model):
    """An event's identity."""

    source_system: str = Field(min_length=1)
    event_id: str = Field(min_length=1)


_NEVER_NULL = ("in", "gt", "gte", "lt", "lte", "exists")


def _at_least_one(schema: JsonDict) -> None:
    """What the validator of Condition asks for, in its JSON schema."""
    schema["minProperties"] = 1
    properties = schema["properties"]
    assert isinstance(properties, dict)
    for name in _NEVER_NULL:
        found = properties[name]
        assert isinstance(found, dict)
        choices = found.pop("anyOf")
        assert isinstance(choices, list)
        found["anyOf"] = [each for each in choices if each != {"type": "null"}]
        del found["default"]


class Condition(_Model):
    """Conditions on one metadata value, all of which must hold.

    Only values of one kind compare: numbers with numbers, strings with strings (by code point, so
    RFC 3339 times in one zone sort rightly). `ne` also holds where the key is missing.
    """

    model_config = ConfigDict(json_schema_extra=_at_least_one)

    eq: Scalar = None
    ne: Scalar = None
    in_: list[Scalar] | None = Field(default=None, alias="in", min_length=1, max_length=1_000)
    gt: str | int | float | None = None
    gte: str | int | float | None = None
    lt: str | int | float | None = None
    lte: str | int | float | None = None
    exists: bool | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("needs at least one of eq, ne, in, gt, gte, lt, lte, exists")
        for name in _NEVER_NULL:
            field = "in_" if name == "in" else name
            if field in self.model_fields_set and getattr(self, field) is None:
                raise ValueError(f"{name} may not be null")
        return self


def _condition_or_scalar(value: object) -> str:
    return "condition" if isinstance(value, dict | Condition) else "scalar"


class Filters(_Model):
    """Which events may be found. All parts must hold."""

    systems: list[str] | None = Field(default=None, min_length=1, max_length=1_000)
    created_after: Time | None = Field(default=None, description="events at or after this time (RFC 3339)")
    created_before: Time | None = Field(default=None, description="events before this time (RFC 3339)")
    metadata: dict[
        str,
        Annotated[
            Annotated[Condition, Tag("condition")] | Annotated[Scalar, Tag("scalar")],
            Discriminator(_condition_or_scalar),
        ],
    ] = Field(
        default_factory=dict,
        max_length=32,
        description="key → value, or key → {op: value}; dots reach into nested objects",
    )

    @model_validator(mode="after")
    def _range(self) -> Self:
        if self.created_after and self.created_before and self.created_after >= self.created_before:
            raise ValueError("created_after must lie before created_before")
        return self


_NULL: JsonValue = {"type": "null"}


class SearchRequest(_Model):
    """Exactly one of `vector`, `text` and `like`, and how to search."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"required": ["vector"], "properties": {"vector": {"type": "array"}, "text": _NULL, "like": _NULL}},
                {"required": ["text"], "properties": {"text": {"type": "string"}, "vector": _NULL, "like": _NULL}},
                {"required": ["like"], "properties": {"like": {"type": "object"}, "vector": _NULL, "text": _NULL}},
            ],
            "examples": [
                {"text": "how are retries configured?", "k": 5},
                {
                    "like": {"source_system": "session-buddy-035", "event_id": "ffbb9ef5"},
                    "threshold": 0.5,
                    "filters": {"created_after": "2026-07-01T00:00:00Z", "metadata": {"section": {"in": ["doc"]}}},
                },
            ],
        }
    )

    vector: list[float] | None = Field(default=None, min_length=1, max_length=4_096)
    text: str | None = Field(default=None, min_length=1, max_length=65_536)
    like: EventRef | None = None
    k: int = Field(default=10, ge=1, le=10_000)
    threshold: float | None = Field(default=None, ge=-1, le=1, description="least cosine similarity")
    filters: Filters | None = None
    after: str | None = Field(
        default=None,
        max_length=16_384,
        description='freshness tokens, "partition:offset", joined by commas: wait until these records are searchable',
    )
    after_timeout_s: float | None = Field(default=None, ge=0, le=300)
    as_of: str | None = Field(
        default=None,
        max_length=16_384,
        description='the state after these records, "partition:offset" joined by commas, or at an RFC 3339 time: '
        "as far as no object was rewritten since. Records that are not stored yet are waited for",
    )
    fields: list[FieldName] | None = Field(default=None, description="what a hit carries besides identity, similarity")
    index: Index | None = Field(default=None, description="force an index; default: the setting search.index")

    @model_validator(mode="after")
    def _one_query(self) -> Self:
        given = [name for name in ("vector", "text", "like") if getattr(self, name) is not None]
        if len(given) != 1:
            were = f"{' and '.join(given)} were" if given else "none was"
            raise ValueError(f"exactly one of vector, text and like is needed, and {were} given")
        return self


class Position(_Model):
    """Where an event stands in the log."""

    partition: int
    offset: int
    index: int = Field(description="place in its bundle, from 0")


class Hit(BaseModel):
    """One found event. Fields outside the projection are absent."""

    source_system: str
    event_id: str
    similarity: float = Field(description="cosine, rounded to 6 digits; an estimate where needs_restore")
    needs_restore: bool = Field(
        default=False,
        description="its object is archived: similarity is an estimate from the bit codes (99 % within .18), and "
        "content, metadata, model and embedding are null, until it is restored",
    )
    content: str | None = None
    metadata: dict[str, JsonValue] | None = None
    model: str | None = None
    created_at: datetime | None = None
    position: Position | None = None
    embedding: list[float] | None = None


class Incomplete(BaseModel):
    """Why a response may lack events."""

    reason: Literal[
        "partition_not_owned",
        "worker_unreachable",
        "worker_timeout",
        "worker_failed",
        "ownership_lapsed",
        "catching_up",
        "freshness_timeout",
        "tier_unreachable",
        "segment_corrupt",
        "needs_restore",
        "as_of",
    ]
    partition: int | None = None
    tier: Literal["hot", "warm", "cold"] | None = Field(default=None, description="of an object that could not be read")
    path: str | None = Field(default=None, description="of that object")
    detail: str


class SegmentPlan(BaseModel):
    """How one segment was searched."""

    segment: str
    partition: int
    tier: Literal["local", "hot", "warm", "cold"] = Field(
        default="local", description="where its vectors and texts are; hot, warm and cold are object stores"
    )
    index: Literal["hnsw", "codes", "exact"]
    rows: int = Field(description="rows of the segment")
    matching: int = Field(description="live rows that pass the vectorised filters")
    considered: int = Field(description="rows whose similarity was computed, exactly unless a note says otherwise")
    bytes_read: int = Field(default=0, description="from the object store; the rest was cached")
    note: str | None = None


class SearchResponse(BaseModel):
    """Hits, best first. `complete` is False when events could be missing; `incomplete` says why."""

    hits: list[Hit]
    complete: bool
    incomplete: list[Incomplete] = []
    plan: list[SegmentPlan] = []
    took_ms: float


class StoredEvent(BaseModel):
    """One event by its identity."""

    source_system: str
    event_id: str
    content: str | None
    metadata: dict[str, JsonValue] | None
    model: str | None
    created_at: datetime
    position: Position
    embedding: list[float] | None = None
    answered_from: Literal["lookups", "shard"]
    needs_restore: bool = Field(
        default=False,
        description="its object is archived: content, metadata, model and embedding are null until it is restored",
    )
    incomplete: list[Incomplete] = Field(
        default=[], description="why there may be a newer version; absent: there is none"
    )


class RecentRequest(BaseModel):
    systems: list[str] = Field(default_factory=list, description="only of these source systems; none: of all")
    limit: int = Field(default=20, ge=1, le=MOST_RECENT)
    cursor: str | None = Field(default=None, description="`next` of the page before")


class RecentEvents(BaseModel):
    """One page, the newest first. `complete` is False where events could be missing; `incomplete` says why."""

    events: list[StoredEvent]
    next: str | None = Field(description="cursor of the page behind this one; null: there is none")
    complete: bool
    incomplete: list[Incomplete] = []
