"""topics/*.yml: one file a topic, validated."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator

from akasha_stream.configuration.documents import read_document, require_resolved
from akasha_stream.configuration.explain import explain, shown
from akasha_stream.configuration.places import shipped
from akasha_stream.errors import SettingsError
from akasha_stream.settings import Settings

# What a record takes besides its value: key, headers and the batch around it.
RECORD_OVERHEAD_BYTES = 65_536
_NUMBER = re.compile(r"[0-9]{1,12}")
TopicName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,249}$")]
# What any clean-up of these topics may be about; a misspelt name would be refused by the broker only.
CONFIG_KEYS = frozenset({
    "cleanup.policy", "compression.gzip.level", "compression.lz4.level", "compression.type", "compression.zstd.level",
    "delete.retention.ms", "file.delete.delay.ms", "flush.messages", "flush.ms",
    "follower.replication.throttled.replicas", "index.interval.bytes", "leader.replication.throttled.replicas",
    "local.retention.bytes", "local.retention.ms", "max.compaction.lag.ms", "max.message.bytes",
    "message.timestamp.after.max.ms", "message.timestamp.before.max.ms", "message.timestamp.type",
    "min.cleanable.dirty.ratio", "min.compaction.lag.ms", "min.insync.replicas", "preallocate",
    "remote.copy.disable", "remote.log.delete.on.disable", "remote.storage.enable", "retention.bytes", "retention.ms",
    "segment.bytes", "segment.index.bytes", "segment.jitter.ms", "segment.ms", "unclean.leader.election.enable",
})  # fmt: skip


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class KeySchema(Part):
    type: Literal["string", "bytes"]
    encoding: str | None = None
    description: str


class HeaderSchema(Part):
    required: bool
    description: str


class FieldSchema(Part):
    type: str
    required: bool
    description: str


class ValueSchema(Part):
    description: str
    fields_: dict[str, FieldSchema] = Field(default_factory=dict, alias="fields")


class TopicDefinition(Part):
    """One topic as it should be.

    `role`: which of settings.topics it is; that setting then names it. `value`: a schema per content type.
    `grow`: whether `apply` may add partitions by itself.
    """

    role: Literal["embeddings", "dead_letters", "digests"] | None = None
    name: TopicName
    partitions: int = Field(ge=1, le=10_000)
    replication_factor: int = Field(ge=1, le=100)
    grow: Literal["allow", "refuse"] = "allow"
    config: dict[str, str] = Field(default_factory=dict)
    key: KeySchema | None = None
    headers: dict[str, HeaderSchema] = Field(default_factory=dict)
    value: dict[str, ValueSchema] = Field(default_factory=dict)

    @field_validator("config", mode="before")
    @classmethod
    def _texts(cls, given: object) -> object:
        """Kafka's configs are texts: `604800000` and `true` are fine in YAML."""
        if not isinstance(given, Mapping):
            return given
        return {
            str(key): str(value).lower() if isinstance(value, bool) else str(value) if isinstance(value, int) else value
            for key, value in given.items()
        }


def definitions(settings: Settings, variables: Mapping[str, str] | None = None) -> list[TopicDefinition]:
    """The definitions of settings.topics.definitions (default: the shipped ones), by file name.

    Raises SettingsError, one line with file and key: also for a role that no file has or two have, and for a
    message size that a bundle of limits.bundle_bytes would not fit into.
    """
    folder = settings.topics.definitions or shipped("topics")
    files = sorted([*folder.glob("*.yml"), *folder.glob("*.yaml")])
    if not files:
        raise SettingsError(f"topics.definitions: there is no *.yml in {folder}")
    by_role: dict[str, Path] = {}
    by_name: dict[str, Path] = {}
    found = []
    for file in files:
        topic = read_definition(file, settings, variables)
        if topic.role is not None:
            if topic.role in by_role:
                raise SettingsError(f"{file}: role: found {topic.role!r}, which {by_role[topic.role].name} has too")
            by_role[topic.role] = file
        if topic.name in by_name:
            raise SettingsError(f"{file}: name: found {topic.name!r}, which {by_name[topic.name].name} has too")
        by_name[topic.name] = file
        found.append(topic)
    if missing := [role for role in ("embeddings", "dead_letters", "digests") if role not in by_role]:
        raise SettingsError(f"{folder}: no file has role: {missing[0]}")
    return found


def read_definition(file: Path, settings: Settings, variables: Mapping[str, str] | None = None) -> TopicDefinition:
    """One definition; a role's name comes from the settings. Raises SettingsError."""
    document = read_document(file, os.environ if variables is None else variables)
    require_resolved(document.values)
    try:
        topic = TopicDefinition.model_validate(document.values)
    except ValidationError as error:
        raise SettingsError(explain(error, TopicDefinition, document.places, str(file))) from None
    if problem := _config_problem(topic, settings):
        key, text = problem
        raise SettingsError(f"{document.places.get(('config', key), file)}: config.{key}: {text}")
    return topic if topic.role is None else topic.model_copy(update={"name": getattr(settings.topics, topic.role)})


def _config_problem(topic: TopicDefinition, settings: Settings) -> tuple[str, str] | None:
    from difflib import get_close_matches

    for key in topic.config:
        if key not in CONFIG_KEYS:
            close = get_close_matches(key, sorted(CONFIG_KEYS), n=1, cutoff=0.6)
            return key, "is no topic config of Kafka" + (f"; did you mean {close[0]}?" if close else "")
    least = settings.limits.bundle_bytes + RECORD_OVERHEAD_BYTES
    # A bundle that the limits allow must fit into the topic, and its bytes into the dead letters.
    if topic.role in {"embeddings", "dead_letters"}:
        size = topic.config.get("max.message.bytes", "1048588")
        if not _NUMBER.fullmatch(size) or int(size) < least:
            return (
                "max.message.bytes",
                f"found {_found(size)}; "
                f"allowed: a whole number ≥ {least} (limits.bundle_bytes + {RECORD_OVERHEAD_BYTES})",
            )
    insync = topic.config.get("min.insync.replicas", "1")
    if not _NUMBER.fullmatch(insync) or not 1 <= int(insync) <= topic.replication_factor:
        return (
            "min.insync.replicas",
            f"found {_found(insync)}; "
            f"allowed: 1 to replication_factor ({topic.replication_factor}), else no write succeeds",
        )
    return None


def _found(text: str) -> str:
    return text if _NUMBER.fullmatch(text) else shown(text)
