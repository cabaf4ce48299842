"""What a worker asks another one, which answers from its own partitions alone: so no question goes round in circles.

POST /v1/peer/search  PeerSearch → PeerAnswer
POST /v1/peer/event   PeerGet → PeerEvent
POST /v1/peer/written PeerWrites → PeerWritten
POST /v1/peer/recent  PeerRecent → PeerPage

What asks too much (a field that this version does not know) is refused, not half answered.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from akasha_stream.search.query import (
    EventRef,
    Incomplete,
    RecentRequest,
    SearchRequest,
    SearchResponse,
    StoredEvent,
)


class _Question(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class PeerSearch(_Question):
    """A search by vector, over these partitions as far as the worker asked has them."""

    request: SearchRequest = Field(description="by vector, and with `position` among its fields, if it has any")
    partitions: list[int]
    like: EventRef | None = Field(default=None, description="is not to be found")


class PeerAnswer(BaseModel):
    """Hits in `owned` and `lapsed` partitions; nothing is known of the others that were asked for."""

    response: SearchResponse
    appended_at: list[int] = Field(description="of each hit: when the log took it, microseconds since the epoch")
    owned: list[int] = Field(description="partitions that the group had given to this worker before and after")
    lapsed: list[int] = Field(
        default=[],
        description="partitions it has, while the group has not confirmed lately that they are still its own",
    )


class PeerGet(_Question):
    """One event by its identity, in whichever of its partitions the worker asked finds it."""

    event: EventRef
    embedding: bool = False
    after: str | None = Field(default=None, max_length=16_384, description="freshness tokens to wait for first")
    after_timeout_s: float = Field(default=0.0, ge=0, le=300)


class PeerEvent(BaseModel):
    event: StoredEvent | None = Field(description="null: it has no such event")
    appended_at: int = Field(default=0, description="when the log took it, microseconds since the epoch")
    gone_at: int | None = Field(
        default=None,
        description="the partition that the partitioner names has had such an event, whose newest version the log took "
        "then: older ones elsewhere do not count",
    )
    incomplete: list[Incomplete] = Field(
        default=[], description="why the partition of the event, or the one that should have it, may lack newer records"
    )
    owned: list[int]
    lapsed: list[int] = []


class PeerWrites(_Question):
    """Asked of the partition that the partitioner names, about versions that were found elsewhere."""

    partition: int
    events: list[EventRef]


class PeerWritten(BaseModel):
    written_at: list[int | None] = Field(
        description="of each event: when the log took its newest version there, deleted ones too, microseconds since "
        "the epoch; null: there was none"
    )
    owned: list[int]
    lapsed: list[int] = []


class PeerRecent(_Question):
    """The newest events of all partitions that the worker asked has."""

    request: RecentRequest


class PeerPage(BaseModel):
    events: list[StoredEvent]
    places: list[str] = Field(description="of each event: what a page that ends with it names as its `next`")
    appended_at: list[int] = Field(description="of each event: when the log took it, microseconds since the epoch")
    next: str | None
    incomplete: list[Incomplete] = []
    owned: list[int]
    lapsed: list[int] = []
