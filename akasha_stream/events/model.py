"""One event: a text, its embedding, and where it comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from akasha_stream.errors import ValidationError

type JSON = Mapping[str, JSON] | Sequence[JSON] | str | int | float | bool | None
"""A JSON value; integers in [-2^63, 2^64), numbers finite."""

DEFAULT_MODEL = "all-MiniLM-L6-v2"
"""The model of an event that names none."""


def _now() -> datetime:
    return datetime.now(UTC)


def _no_vector() -> NDArray[np.float32]:
    return np.empty(0, dtype=np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Event:
    """An embedding with its text. Its identity is (source_system, event_id).

    Only what every limit presupposes is checked here (the time has a zone, the vector is one row of
    numbers); sizes depend on settings: `akasha_stream.events.check.check_event`.

    Raises:
        ValidationError: `created_at` without a zone, or an embedding that is no flat list of numbers.
    """

    event_id: str
    source_system: str
    content: str = ""
    embedding: NDArray[np.float32] = field(default_factory=_no_vector)
    """(dimensions,) float32; anything that numpy makes a vector of is taken. Empty for deletes."""
    model: str = DEFAULT_MODEL
    metadata: Mapping[str, JSON] = field(default_factory=dict)
    created_at: datetime = field(default_factory=_now)
    """Event time, with a zone; microseconds are kept."""
    op: Literal["upsert", "delete"] = "upsert"

    def __post_init__(self) -> None:
        if self.created_at.tzinfo is None or self.created_at.utcoffset() is None:
            raise ValidationError("created_at_naive", f"created_at {self.created_at} has no time zone")
        given = self.embedding
        if type(given) is np.ndarray and given.dtype == np.float32 and given.ndim == 1:
            return
        try:
            vector = np.asarray(given, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise ValidationError("field_type", f"embedding is no list of numbers: {error}") from None
        if vector.ndim != 1:
            raise ValidationError("vector_length", f"embedding has the shape {vector.shape}, wanted is one row")
        object.__setattr__(self, "embedding", vector)

    @classmethod
    def delete(cls, source_system: str, event_id: str, created_at: datetime | None = None) -> Event:
        """The event that removes an identity."""
        return cls(event_id=event_id, source_system=source_system, created_at=created_at or _now(), op="delete")

    def __eq__(self, other: object) -> bool:
        """Equal in every field; vectors by their bits, so that NaN equals itself and -0.0 is not 0.0."""
        if not isinstance(other, Event):
            return NotImplemented
        return (
            self.event_id == other.event_id
            and self.source_system == other.source_system
            and self.content == other.content
            and self.model == other.model
            and self.op == other.op
            and self.created_at == other.created_at
            and dict(self.metadata) == dict(other.metadata)
            and self.embedding.tobytes() == other.embedding.tobytes()
        )

    def __hash__(self) -> int:
        return hash((self.source_system, self.event_id, self.content, self.op, self.created_at))
