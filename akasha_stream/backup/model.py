"""What a backup holds. The events themselves it does not: those are in the object store and in Kafka."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints

from akasha_stream.storage.settings import TierName

type Role = Literal["embeddings", "dead_letters", "digests"]
type ObjectKind = Literal["segment", "state", "stub", "forgotten"]

type FileName = Annotated[str, StringConstraints(pattern=r"^(settings|topics)/[A-Za-z0-9_][A-Za-z0-9._-]*$")]
"""Nothing that leads out of the folder that it is restored to."""


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LogState(Part):
    """Offsets of one partition. `first`, `end`: of Kafka's log, [first, end) is there."""

    partition: int
    first: int
    end: int
    stored: int | None = None
    """Next offset of the worker that owns it; None: none answered."""
    committed: int | None = None
    """By the group: for lag tools, and never after what was stored."""


class TopicState(Part):
    """A topic as it is in Kafka. `cluster_id`, `topic_id`: which log its offsets belong to; None: not known."""

    role: Role
    name: str
    cluster_id: str | None
    topic_id: str | None
    partitions: int
    replication_factor: int
    config: dict[str, str]
    """Configs that were set on the topic itself: it is created with these."""
    in_force: dict[str, str] | None
    """All its configs, with the broker's defaults; None: the broker does not tell."""
    logs: tuple[LogState, ...]

    @property
    def grow(self) -> Literal["allow", "refuse"]:
        """Of topics.difference.Wanted: what is restored is never made other than it was."""
        return "refuse"


class ObjectState(Part):
    """One object of a tier. `path`: without the tier's prefix, so that a copy elsewhere compares."""

    tier: TierName
    path: str
    kind: ObjectKind
    size: int
    etag: str
    """As the store gave it: of one store, it changes whenever the content does."""
    fingerprint: str | None = None
    """SHA-256 that does not depend on the store: of a segment's footer, else of the content; None: not read."""
    rows: int | None = None
    """Of a segment: upserts and deletes."""
    epoch: int | None = None
    """Of a segment: how many times the topic had been created anew under its shard."""
    problem: str | None = None
    """Why it can't be read."""


class TierPlace(Part):
    provider: str
    bucket: str
    prefix: str


class Content(Part):
    environment: str
    settings: dict[str, object]
    """In force, secrets masked; for people. What is restored are the files."""
    storage: dict[str, object]
    files: dict[FileName, str]
    """Path below the folder that they are restored to → text, without secrets."""
    secrets_left_out: tuple[str, ...]
    """`file: key`: what a restored file takes from an environment variable instead."""
    kafka: bool
    """Whether Kafka was asked."""
    topics: tuple[TopicState, ...]
    tiers: dict[TierName, TierPlace]
    """Empty: tiers.enabled is false."""
    objects: tuple[ObjectState, ...]
    local_log: bool = False
    """Whether this machine's data directory has writes that no worker has handed over to Kafka yet."""
    notes: tuple[str, ...] = ()
    """What is not in the backup, and why."""

    def topic(self, role: Role) -> TopicState | None:
        return next((each for each in self.topics if each.role == role), None)
