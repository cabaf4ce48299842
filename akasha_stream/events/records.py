"""Kafka records on their way in, and what decoding makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from akasha_stream.events.batch import EventBatch


@dataclass(frozen=True, slots=True)
class Record:
    """A Kafka record as it was fetched."""

    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """What could not be accepted, and why."""

    reason: str
    """A stable word of `akasha_stream.events.reasons`."""
    detail: str
    """For people: the place and the values that broke the rule."""
    record: Record
    index: int | None = None
    """Place of the event in its bundle; None: the whole record."""
    event: bytes | None = None
    """The one event, as a bundle of its own in the record's format; None: the whole record."""
    events: int = 1
    """How many events it stands for, where that is known."""


@dataclass(frozen=True, slots=True)
class Decoded:
    batch: EventBatch
    record_of: NDArray[np.int32]
    """(n,) place of each event's record among those that were decoded, ascending."""
    dead: list[DeadLetter]
    redacted: int
    """Events in which at least one secret was replaced."""
    redactions: dict[str, int] = field(default_factory=dict)
    """Pattern name → events it matched in."""
