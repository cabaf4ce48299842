"""Which log a topic is: one that is deleted and made again under its name is another."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

_OWN = "local-"


@dataclass(frozen=True, slots=True)
class Incarnation:
    """Offsets are comparable within it alone; None where the broker does not say."""

    cluster_id: str | None = None
    topic_id: str | None = None

    def differs_from(self, other: Incarnation) -> bool:
        """True only where both know: an unknown incarnation never throws stored offsets away."""
        return self.known and other.known and (self.topic_id != other.topic_id or self.cluster_id != other.cluster_id)

    def __str__(self) -> str:
        """`<cluster id>/<topic id>`: what is stored beside offsets."""
        return f"{self.cluster_id}/{self.topic_id}"

    @property
    def known(self) -> bool:
        """Whether the broker said it."""
        return self.topic_id is not None and not self.topic_id.startswith(_OWN)

    def named(self) -> Incarnation:
        """Itself, or under a name of our own where the broker gives none.

        So that spilled segments of two logs can't meet under one key. The name is in this data directory alone.
        """
        return self if self.topic_id is not None else Incarnation(self.cluster_id, f"{_OWN}{uuid.uuid4().hex}")
