"""Freshness tokens: "search only when these records are searchable"."""

from __future__ import annotations

import asyncio
import re

from akasha_stream.errors import UsageError
from akasha_stream.search.query import Incomplete
from akasha_stream.search.segment import HotStore

_TOKEN = re.compile(r"(\d{1,9}):(\d{1,18})", re.ASCII)


def parse_tokens(text: str, partitions: int, *, field: str = "after") -> dict[int, int]:
    """Highest offset per partition of "partition:offset[,partition:offset]". UsageError, naming `field`, on anything
    else."""
    wanted: dict[int, int] = {}
    for part in text.split(","):
        token = part.strip()
        match = _TOKEN.fullmatch(token)
        if match is None:
            raise UsageError(f'{field}: {token[:40]!r} is no freshness token; a token looks like "3:1042"')
        partition, offset = int(match[1]), int(match[2])
        if partition >= partitions:
            raise UsageError(f"{field}: {token} names partition {partition}, and the topic has {partitions}")
        wanted[partition] = max(offset, wanted.get(partition, 0))
    return wanted


async def await_tokens(store: HotStore, wanted: dict[int, int], timeout_s: float) -> list[Incomplete]:
    """Wait for all tokens together, at most timeout_s; what was not reached is named, never passed over."""
    owned = set(store.owned())
    missing = [
        Incomplete(
            reason="partition_not_owned",
            partition=partition,
            detail=f"partition {partition} is not owned by this worker, which can't tell if {offset} is searchable",
        )
        for partition, offset in wanted.items()
        if partition not in owned
    ]
    here = {partition: offset for partition, offset in wanted.items() if partition in owned}
    reached = await asyncio.gather(*(store.wait_for(p, o, timeout_s) for p, o in here.items()))
    missing += [
        Incomplete(
            reason="freshness_timeout",
            partition=partition,
            detail=f"record {partition}:{offset} was not searchable within {timeout_s:g} s",
        )
        for (partition, offset), done in zip(here.items(), reached, strict=True)
        if not done
    ]
    return missing
