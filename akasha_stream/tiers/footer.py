"""What a spilled segment says about itself, in the Parquet footer's metadata under `akasha.segment`."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from akasha_stream.errors import SegmentCorrupt
from akasha_stream.incarnation import Incarnation
from akasha_stream.tiers.keys import LogId, SegmentKey
from akasha_stream.tiers.rounding import Precision

FOOTER_KEY = "akasha.segment"
FORMAT = 1


class _Format(BaseModel):
    format: int


class Counts(BaseModel):
    """Rows of one source system."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    upserts: int = Field(ge=0)
    deletes: int = Field(ge=0)


class SegmentFooter(BaseModel):
    """`end` is the offset after the last one. `rows` counts upserts and deletes.

    `systems` and `models` are sorted by name. Times are microseconds since the epoch, the least and the greatest of the
    upserts (None: there are none).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    format: int
    topic: str
    partition: int
    cluster_id: str | None
    topic_id: str | None
    epoch: int
    start: int
    end: int
    generation: int
    rows: int
    deletes: int
    first_created_at: int | None
    last_created_at: int | None
    systems: dict[str, Counts]
    models: tuple[str, ...] = Field(strict=False)  # JSON has lists only
    dimensions: int
    precision: Precision

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        counts = self.systems.values()
        if self.rows != sum(c.upserts + c.deletes for c in counts) or self.deletes != sum(c.deletes for c in counts):
            raise ValueError("the systems' rows don't add up")
        _ = self.key  # raises ValueError
        return self

    @property
    def key(self) -> SegmentKey:
        log = LogId(self.topic, Incarnation(self.cluster_id, self.topic_id), self.partition)
        return SegmentKey(log, self.start, self.end, self.generation)


def parse_footer(text: bytes, path: str) -> SegmentFooter:
    """Raises SegmentCorrupt, naming `path`; also where a newer release wrote it."""
    try:
        if (found := _Format.model_validate_json(text).format) != FORMAT:  # first: the rest may have other fields
            raise SegmentCorrupt(f"{path}: format {found}, this release reads {FORMAT}")
        return SegmentFooter.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise SegmentCorrupt(f"{path}: its akasha.segment is not one: {where}: {first['msg']}") from None
