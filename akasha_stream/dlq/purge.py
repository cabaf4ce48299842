"""Removing dead letters from the start of their topic, up to an offset."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete

from akasha_stream.dlq.ledger import Choice, read_ledger
from akasha_stream.errors import UsageError
from akasha_stream.settings import Settings
from akasha_stream.topics.broker import admin_client, broker_errors
from akasha_stream.topics.reader import reading


@dataclass(frozen=True, slots=True)
class PurgePlan:
    """`before`: partition → everything below this offset goes."""

    topic: str
    before: Mapping[int, int]
    letters: int
    not_requeued: int
    """Of `letters`, those that were never published again: their events are lost for good."""
    kept: int


async def plan_purge(
    settings: Settings,
    *,
    before: Mapping[int, int] | None = None,
    until_ms: int | None = None,
    report: Callable[[int, int], None] | None = None,
) -> PurgePlan:
    """Up to these offsets, or up to the first letter written at or after a time; neither: all.

    Raises BrokerError; UsageError for an offset that the topic has not reached.
    """
    topic = settings.topics.dead_letters
    async with reading(settings.broker, topic) as reader:
        firsts, ends = await reader.beginnings(), await reader.ends()
        if before is not None:
            for partition, offset in before.items():
                if partition not in ends or offset > ends[partition]:
                    end = f"ends at {ends[partition]}" if partition in ends else "does not exist"
                    raise UsageError(f"{partition}:{offset}: partition {partition} of {topic} {end}")
            upto = dict(before)
        else:
            upto = ends if until_ms is None else await reader.at_time(until_ms)
        upto = {partition: offset for partition, offset in upto.items() if offset > firsts[partition]}
        ledger = await read_ledger(reader, Choice(), report)
    gone = [each for each in ledger.letters if each.place.offset < upto.get(each.place.partition, 0)]
    return PurgePlan(
        topic,
        upto,
        letters=len(gone),
        not_requeued=sum(ledger.mark_of(letter) is None for letter in gone),
        kept=ledger.total - len(gone),
    )


async def purge(settings: Settings, plan: PurgePlan) -> dict[int, int]:
    """Remove them; partition → its first offset from now on. Raises BrokerError."""
    if not plan.before:
        return {}
    async with admin_client(settings.broker) as admin:
        with broker_errors(f"deleting records of {plan.topic} (the embedded broker can't)"):
            found = await admin.delete_records(
                {
                    TopicPartition(plan.topic, partition): RecordsToDelete(before_offset=offset)
                    for partition, offset in plan.before.items()
                }
            )
    return {tp.partition: int(first) for tp, first in found.items()}
