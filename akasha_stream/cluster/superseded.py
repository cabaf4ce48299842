"""Versions of events that are left in a partition where their system's key does not lead any more.

When a topic grows, keys move: what a system publishes from then on goes to another partition, whose shard knows
nothing of the rows that lie in the old one, and can't mask them. So a search asks, for each hit that is not in the
partition that the partitioner names, whether that one has a newer version of it. Where no key has moved, none is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from akasha_stream.auth.systems import Systems
from akasha_stream.cluster.ask import ask_owners
from akasha_stream.cluster.here import Here
from akasha_stream.cluster.merge import Version
from akasha_stream.cluster.messages import PeerWrites
from akasha_stream.cluster.owners import Owners
from akasha_stream.cluster.peers import Peers
from akasha_stream.partitioner import partition_of
from akasha_stream.search.query import EventRef


@dataclass(frozen=True, slots=True)
class _Written:
    times: Mapping[int, Sequence[int | None]]
    """By partition."""
    owned: Collection[int]
    lapsed: Collection[int] = ()


def strays(versions: Mapping[Version, int], partitions: int) -> dict[Version, int]:
    """Those that are not in the partition that the partitioner names. Of each version: when the log took it."""
    homes = {system: partition_of(system, partitions) for system in {system for system, _, _ in versions}}
    return {version: at for version, at in versions.items() if version[2] != homes[version[0]]}


async def superseded(
    versions: Mapping[Version, int], here: Here, owners: Owners, peers: Peers, timeout_s: float, *, within: Systems
) -> set[Version]:
    """Those that were written again, or deleted, in the partition that the partitioner names now.

    One whose owner does not answer is taken for the newest: the search is incomplete by that partition anyway.
    """
    partitions = here.engine.store.partitions()
    by_home: dict[int, list[Version]] = {}
    for version in versions:
        by_home.setdefault(partition_of(version[0], partitions), []).append(version)
    questions = {
        home: PeerWrites(partition=home, events=[EventRef(source_system=s, event_id=i) for s, i, _ in each])
        for home, each in by_home.items()
    }

    async def ask(url: str, homes: list[int], limit_s: float) -> _Written:
        answers = await asyncio.gather(*(peers.written(url, questions[home], within, limit_s) for home in homes))
        times = {home: each.written_at for home, each in zip(homes, answers, strict=True) if home in each.owned}
        return _Written(times, times.keys())

    mine = questions.keys() & set(here.owned())
    written: dict[int, Sequence[int | None]] = {home: here.written(questions[home], within).written_at for home in mine}
    if elsewhere := questions.keys() - mine:
        for answer in (await ask_owners(owners, elsewhere, ask, timeout_s)).answers:
            written |= answer.times
    return {
        version
        for home, times in written.items()
        for version, at in zip(by_home[home], times, strict=True)
        if at is not None and at > versions[version]
    }
