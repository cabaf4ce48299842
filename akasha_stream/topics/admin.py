"""Plan, apply and check the topics on a broker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from aiokafka.admin import AIOKafkaAdminClient

from akasha_stream.errors import BrokerError, TopicDrift
from akasha_stream.settings import Settings
from akasha_stream.topics.broker import (
    Unsupported,
    add_partitions,
    admin_client,
    create_topic,
    describe_topics,
    leaderless,
    set_configs,
    topic_configs,
)
from akasha_stream.topics.definition import definitions
from akasha_stream.topics.difference import Change, Plan, Wanted, differences

LEADERS_TIMEOUT_S = 15.0
CONFIGS_TIMEOUT_S = 5.0


async def plan(wanted: Sequence[Wanted], admin: AIOKafkaAdminClient, *, allow_growth: bool = False) -> Plan:
    """What `apply` would change. Raises BrokerError."""
    topics = await describe_topics(admin)
    present = [definition.name for definition in wanted if definition.name in topics]
    notes: tuple[str, ...] = ()
    try:
        configs = await topic_configs(admin, present)
    except Unsupported as unsupported:
        configs = {}
        notes = (f"this broker can't tell configs ({unsupported})",)
    for name in present:
        topics[name] = replace(topics[name], config=configs.get(name))
    found = differences(wanted, topics, allow_growth=allow_growth)
    return Plan(found.changes, notes or found.notes)


async def apply(wanted: Sequence[Wanted], admin: AIOKafkaAdminClient, *, allow_growth: bool = False) -> Plan:
    """Make the broker's topics as they are wanted; wait until each partition has a leader and configs are in force.

    Idempotent.

    Returns what was to change; `refused` of it was left alone, and notes say what the broker can't do.
    Raises BrokerError.
    """
    found = await plan(wanted, admin, allow_growth=allow_growth)
    by_name = {definition.name: definition for definition in wanted}
    changes: list[Change] = []
    notes = list(found.notes)
    for topic, of_topic in groupby(found.changes, key=lambda change: change.topic):
        for kind, of_kind in groupby(of_topic, key=lambda change: change.kind):
            same = list(of_kind)
            if not same[0].refused:
                try:
                    await _make(kind, by_name[topic], same, admin)
                except Unsupported as unsupported:
                    notes.append(f"{topic}: left as it is, this broker can't change it ({unsupported})")
                    same = [replace(change, refused="this broker can't change it") for change in same]
            changes.extend(same)
    await _wait_for_leaders(admin, changes, by_name)
    notes += [f"{change.topic}: {change.key} is set, and not in force yet" for change in await _late(admin, changes)]
    return Plan(tuple(changes), tuple(notes))


async def _make(kind: str, definition: Wanted, changes: Sequence[Change], admin: AIOKafkaAdminClient) -> None:
    if kind == "create":
        await create_topic(admin, definition)
    elif kind == "grow":
        await add_partitions(admin, definition.name, definition.partitions)
    elif kind == "alter":
        await set_configs(admin, definition.name, {change.key: change.wanted for change in changes})


async def check(wanted: Sequence[Wanted], admin: AIOKafkaAdminClient) -> Plan:
    """Raises TopicDrift, which lists each difference; returns the plan (without changes) with its notes."""
    found = await plan(wanted, admin)
    if found.changes:
        raise drift(found.changes)
    return found


def drift(changes: Sequence[Change]) -> TopicDrift:
    return TopicDrift("; ".join(str(change) for change in changes))


async def ensure_topics(settings: Settings) -> Plan:
    """`apply` of the configured definitions on the configured broker. Raises SettingsError, BrokerError."""
    wanted = definitions(settings)
    async with admin_client(settings.broker) as admin:
        return await apply(wanted, admin)


async def _wait_for_leaders(admin: AIOKafkaAdminClient, changes: Sequence[Change], by_name: dict[str, Wanted]) -> None:
    """A topic is created before it can be written to."""
    expected = {
        change.topic: by_name[change.topic].partitions
        for change in changes
        if change.kind in {"create", "grow"} and not change.refused
    }
    if not expected:
        return
    missing: list[str] = []
    try:
        async with asyncio.timeout(LEADERS_TIMEOUT_S):
            while missing := await leaderless(admin, expected):  # noqa: ASYNC110  # the broker has no event for it
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise BrokerError(f"no leader after {LEADERS_TIMEOUT_S:.0f} s: {', '.join(missing)}") from None


async def _late(admin: AIOKafkaAdminClient, changes: Sequence[Change]) -> list[Change]:
    """Configs that the broker does not have in force after a while.

    The controller has them when it answers; the broker that is asked next may learn of them a moment later.
    """
    late = [change for change in changes if change.kind == "alter" and not change.refused]
    deadline = time.monotonic() + CONFIGS_TIMEOUT_S
    while late:
        found = await topic_configs(admin, sorted({change.topic for change in late}))
        late = [change for change in late if found.get(change.topic, {}).get(change.key) != change.wanted]
        if not late or time.monotonic() > deadline:
            break
        await asyncio.sleep(0.05)
    return late
