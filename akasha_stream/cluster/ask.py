"""One question to the owners of many partitions, side by side, within one time-out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from akasha_stream.cluster.owners import Owners
from akasha_stream.errors import OwnerUnavailable

TRIES = 2
"""The second one where a partition has moved, or a connection broke. There is no third, and no hedging: a partition
has one owner, so a second request would go to the same process, which is busy or stopped."""


class Answered(Protocol):
    """Partitions that the worker had for certain, and those that it may have lost meanwhile."""

    @property
    def owned(self) -> Collection[int]: ...

    @property
    def lapsed(self) -> Collection[int]: ...


@dataclass(slots=True)
class Asked[A: Answered]:
    answers: list[A] = field(default_factory=list)
    failures: dict[int, OwnerUnavailable] = field(default_factory=dict)
    """Of the partitions whose owner has not answered."""


async def ask_owners[A: Answered](
    owners: Owners,
    partitions: Collection[int],
    ask: Callable[[str, list[int], float], Awaitable[A]],
    timeout_s: float,
) -> Asked[A]:
    """`ask(url, partitions, timeout_s)` raises OwnerUnavailable. Nothing is raised here."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    result: Asked[A] = Asked()
    left, wrong = set(partitions), dict[int, str]()
    for _ in range(TRIES):
        by_url = await _owners(owners, left, wrong, result.failures, deadline)
        if not by_url:
            break
        found = await asyncio.gather(
            *(ask(url, asked, deadline - loop.time()) for url, asked in by_url.items()), return_exceptions=True
        )
        for (url, asked), answer in zip(by_url.items(), found, strict=True):
            if isinstance(answer, OwnerUnavailable):
                result.failures.update(dict.fromkeys(asked, answer))
            elif isinstance(answer, BaseException):
                raise answer
            else:
                result.answers.append(answer)
                left.difference_update(answer.owned)
                said = f"{url}, which should own it, says that it does not"
                result.failures.update({p: OwnerUnavailable(said) for p in asked if p not in answer.owned})
            wrong.update({p: url for p in asked if p in left})
        if not left or loop.time() >= deadline:
            break
    result.failures = {partition: why for partition, why in result.failures.items() if partition in left}
    return result


async def _owners(
    owners: Owners,
    left: Collection[int],
    wrong: Mapping[int, str],
    failures: dict[int, OwnerUnavailable],
    deadline: float,
) -> dict[str, list[int]]:
    """URL → partitions to ask it for."""
    try:
        async with asyncio.timeout_at(deadline):
            found = await owners.find(left, wrong=wrong or None)
    except TimeoutError:
        found = {}
    by_url: dict[str, list[int]] = {}
    for partition in sorted(left):
        url = found.get(partition)
        if url is None:
            failures.setdefault(partition, OwnerUnavailable("it belongs to no worker that is known"))
        elif url != wrong.get(partition) or failures[partition].reason == "worker_unreachable":
            by_url.setdefault(url, []).append(partition)
    return by_url
