"""Definitions against what a broker has: the changes that would make them equal. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol


class Wanted(Protocol):
    """A topic as it should be: a definition, or what a backup says."""

    @property
    def name(self) -> str: ...
    @property
    def partitions(self) -> int: ...
    @property
    def replication_factor(self) -> int: ...
    @property
    def config(self) -> Mapping[str, str]: ...
    @property
    def grow(self) -> Literal["allow", "refuse"]: ...


@dataclass(frozen=True, slots=True)
class BrokerTopic:
    """A topic as it is. `config`: every config with the value in force; None where the broker doesn't tell."""

    name: str
    partitions: int
    replication_factor: int
    config: Mapping[str, str] | None


@dataclass(frozen=True, slots=True)
class Change:
    """One difference of one topic. `refused`: why `apply` will not make it, else None.

    `key`: partitions, replication_factor or the name of a config; empty for `create`.
    """

    kind: Literal["create", "grow", "alter", "replicate"]
    topic: str
    key: str = ""
    found: str = ""
    wanted: str = ""
    refused: str | None = None

    def __str__(self) -> str:
        if self.kind == "create":
            return f"{self.topic}: missing"
        return f"{self.topic}: {self.key} is {self.found}, wanted {self.wanted}"


@dataclass(frozen=True, slots=True)
class Plan:
    """`changes`: what differs; `notes`: what could not be compared, and why."""

    changes: tuple[Change, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def refused(self) -> tuple[Change, ...]:
        return tuple(change for change in self.changes if change.refused)


@dataclass(slots=True)
class _Draft:
    changes: list[Change] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def differences(
    definitions: Sequence[Wanted], topics: Mapping[str, BrokerTopic], *, allow_growth: bool = False
) -> Plan:
    """`topics`: those of the broker, by name; others than the defined ones are not looked at.

    Partitions are never taken away, and a topic that says `grow: refuse` gets more only with `allow_growth`.
    """
    draft = _Draft()
    for definition in definitions:
        topic = topics.get(definition.name)
        if topic is None:
            wanted = f"{_count(definition.partitions, 'partition')}, {_count(definition.replication_factor, 'replica')}"
            draft.changes.append(Change("create", definition.name, wanted=wanted))
            continue
        _partitions(draft, definition, topic, allow_growth=allow_growth)
        if topic.replication_factor != definition.replication_factor:
            draft.changes.append(
                Change(
                    "replicate",
                    topic.name,
                    "replication_factor",
                    str(topic.replication_factor),
                    str(definition.replication_factor),
                    refused="replicas are moved with kafka-reassign-partitions",
                )
            )
        if topic.config is None:
            draft.notes.append(f"{topic.name}: this broker does not tell its topic configs, they were not compared")
            continue
        for key, wanted in definition.config.items():
            found = topic.config.get(key)
            if found is None:
                draft.notes.append(f"{topic.name}: this broker does not know the config {key}, it was not compared")
            elif not same_value(found, wanted):
                draft.changes.append(Change("alter", topic.name, key, found, wanted))
    return Plan(tuple(draft.changes), tuple(draft.notes))


def same_value(found: str, wanted: str) -> bool:
    """Lists (`compact,delete`) in any order; all else as text."""
    return found == wanted or sorted(found.replace(" ", "").split(",")) == sorted(wanted.replace(" ", "").split(","))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _partitions(draft: _Draft, definition: Wanted, topic: BrokerTopic, *, allow_growth: bool) -> None:
    if topic.partitions == definition.partitions:
        return
    refused = None
    if topic.partitions > definition.partitions:
        refused = "Kafka can't take partitions away; make a new topic and publish into it"
    elif definition.grow == "refuse" and not allow_growth:
        refused = (
            "a system's new events would go to another partition than its old ones, which then stay searchable "
            "beside them; make a new topic, or pass --grow"
        )
    draft.changes.append(
        Change("grow", topic.name, "partitions", str(topic.partitions), str(definition.partitions), refused=refused)
    )
