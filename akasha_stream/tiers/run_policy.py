"""What a worker does now and then for its own partitions: plan, move, clean up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import structlog

from akasha_stream.errors import ObjectNotFound, SegmentCorrupt, StorageError, UsageError
from akasha_stream.settings import TierPolicy
from akasha_stream.tiers.access import AccessRecord
from akasha_stream.tiers.clean import Cleaned, clean
from akasha_stream.tiers.keys import LogId
from akasha_stream.tiers.migrate import move
from akasha_stream.tiers.policy import Move, plan
from akasha_stream.tiers.segment_store import SegmentStore
from akasha_stream.tiers.stored_segment import StoredSegment

log = structlog.get_logger(__name__)

AT_ONCE = 2
"""Moves under way: each holds some parts of 8 MiB in memory."""


@dataclass(slots=True)
class Moved:
    """`done`: each move and the copy that it made. What failed stays where it is; the next run tries again."""

    done: list[tuple[Move, StoredSegment]] = field(default_factory=list)
    gone: list[Move] = field(default_factory=list)
    """Someone else had moved or rewritten the segment since the catalog was loaded."""
    failed: list[tuple[Move, str]] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        return sum(each.segment.size for each, _ in self.done)


@dataclass(slots=True)
class Report:
    planned: list[Move]
    moved: Moved
    cleaned: Cleaned


async def run_policy(
    store: SegmentStore,
    logs: Collection[LogId],
    access: AccessRecord,
    settings: TierPolicy,
    now: float | None = None,
) -> Report:
    """Load the catalog, move what the policy wants of these logs, delete what earlier moves left behind.

    `access` forgets what is not of these logs, and is written to its file. Only one run at a time is of use. A tier
    that can't be read, a damaged segment, a failing move: logged, in the report, and the rest is done. `now`: seconds
    since the epoch.
    """
    now = time.time() if now is None else now
    topics = {each.topic for each in logs}
    await store.load(topics.pop() if len(topics) == 1 else None)
    tiers = [tier for tier in store.configured if tier not in store.unreachable]
    moves: list[Move] = []
    if settings.enabled:  # in a thread: of 10,000 segments it takes a second on a busy machine
        moves = await asyncio.to_thread(plan, store.catalog, access, now, settings, tiers=tiers, logs=logs)
    moves = [each for each in moves if each.segment.tier in tiers]
    access.keep_only(segment.key for of in logs for segment in store.catalog.current(of))
    await asyncio.to_thread(access.write)
    moved = await move_all(store, moves)
    cleaned = await clean(store, logs, grace_s=settings.grace_s, now=now)
    if moves or cleaned.deleted or cleaned.stubs:
        log.info(
            "tiers",
            moved=len(moved.done),
            bytes=moved.bytes,
            failed=len(moved.failed),
            deleted=len(cleaned.deleted),
            stubs=len(cleaned.stubs),
        )
    return Report(moves, moved, cleaned)


async def move_all(store: SegmentStore, moves: Sequence[Move], on_move: Callable[[Move], None] | None = None) -> Moved:
    """Make moves, some at once. `on_move` is told of each when it is over, however it went."""
    moved = Moved()
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(each: Move) -> None:
        async with slots:
            try:
                moved.done.append((each, await move(store, each.segment, each.to)))
            except ObjectNotFound:
                moved.gone.append(each)
            except (StorageError, SegmentCorrupt, UsageError) as error:
                log.warning("segment not moved", path=each.segment.path, to=each.to, error=str(error))
                moved.failed.append((each, str(error)))
            if on_move is not None:
                on_move(each)

    async with asyncio.TaskGroup() as group:
        for each in moves:
            group.create_task(one(each))
    return moved
