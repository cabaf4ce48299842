"""The answers of several workers as one: each partition's from one of them, ranked as one engine would."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from akasha_stream.cluster.ask import Answered
from akasha_stream.search.query import Hit, Incomplete, SegmentPlan

type Version = tuple[str, str, int]
"""An event as a partition has it: source system, id, partition."""


class Reported(Answered, Protocol):
    @property
    def incomplete(self) -> Sequence[Incomplete]: ...


@dataclass(frozen=True, slots=True)
class Part:
    """One worker's answer. `hits` are its best `k`, with their positions, best first, each identity once."""

    hits: Sequence[Hit]
    appended_at: Sequence[int]
    """Of each hit, microseconds since the epoch."""
    plan: Sequence[SegmentPlan]
    incomplete: Sequence[Incomplete]
    owned: frozenset[int]
    lapsed: frozenset[int]
    """Partitions that it has searched while the group did not confirm that they are its own."""


@dataclass(frozen=True, slots=True)
class Merged:
    hits: list[Hit]
    appended_at: list[int]
    """Of each hit."""
    plan: list[SegmentPlan]
    incomplete: list[Incomplete]
    owned: frozenset[int]
    """Partitions whose owner has answered."""
    lapsed: frozenset[int]
    """… of which only somebody has answered who may have lost it meanwhile."""
    short: bool
    """Versions that are no longer the newest have taken places from others: ask for more."""

    def versions(self) -> dict[Version, int]:
        """→ when the log took it."""
        return {
            (hit.source_system, hit.event_id, _partition(hit)): at
            for hit, at in zip(self.hits, self.appended_at, strict=True)
        }


def merge(parts: Sequence[Part], k: int, asked: int, superseded: Collection[Version]) -> Merged:
    """The best `k` by (similarity descending, source system, event id), of parts that were asked for `asked` hits each.

    A partition that two have searched (it moved meanwhile) counts from the one that owns it. Of an identity in two
    partitions (the topic has grown) the version counts that the log took last. `superseded`: known not to be the
    newest.
    """
    source, owned = sources(parts)
    newest: dict[tuple[str, str], tuple[int, int, Hit]] = {}
    dropped = [0] * len(parts)
    for number, part in enumerate(parts):
        for hit, appended_at in zip(part.hits, part.appended_at, strict=True):
            identity = (hit.source_system, hit.event_id)
            partition = _partition(hit)
            if source.get(partition) != number or (*identity, partition) in superseded:
                dropped[number] += 1
                continue
            other = newest.get(identity)
            if other is not None:
                dropped[number if other[0] > appended_at else other[1]] += 1
            if other is None or other[0] <= appended_at:
                newest[identity] = appended_at, number, hit
    ranked = sorted(newest.values(), key=lambda found: _order(found[2]))[:k]
    best = [hit for _, _, hit in ranked]
    short = any(
        lost
        and len(part.hits) >= asked
        and asked - lost < k
        and (len(best) < k or _order(part.hits[-1]) < _order(best[-1]))
        for part, lost in zip(parts, dropped, strict=True)
    )
    return Merged(
        best,
        [appended_at for appended_at, _, _ in ranked],
        [each for number, part in enumerate(parts) for each in part.plan if source.get(each.partition) == number],
        counting(parts, source),
        owned,
        frozenset(source) - owned,
        short,
    )


def sources(parts: Sequence[Answered]) -> tuple[dict[int, int], frozenset[int]]:
    """Partition → number of the part that counts for it; and the partitions whose owner has answered."""
    numbered = [*enumerate(parts)][::-1]  # of two that say so, the first counts
    lapsed = {partition: number for number, part in numbered for partition in part.lapsed}
    owned = {partition: number for number, part in numbered for partition in part.owned}
    return lapsed | owned, frozenset(owned)


def counting(parts: Sequence[Reported], source: Mapping[int, int]) -> list[Incomplete]:
    """What the parts that count say is missing. A partition that one does not own is another's to tell of."""
    return [
        each
        for number, part in enumerate(parts)
        for each in part.incomplete
        if each.reason != "partition_not_owned" and (each.partition is None or source.get(each.partition) == number)
    ]


def _order(hit: Hit) -> tuple[float, str, str]:
    return -hit.similarity, hit.source_system, hit.event_id


def _partition(hit: Hit) -> int:
    assert hit.position is not None
    return hit.position.partition
