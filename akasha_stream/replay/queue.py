"""The replays of one process: one partition at a time, the others wait."""

from __future__ import annotations

import asyncio
import contextlib

import structlog

from akasha_stream.errors import ShardMoved, UsageError
from akasha_stream.hot.durable import remove
from akasha_stream.hot.store import ShardStore
from akasha_stream.replay.compare import dump_rows, live_rows
from akasha_stream.replay.job import Quietly, Replay, ReplayRequest, ReplayState, read_state
from akasha_stream.settings import Settings
from akasha_stream.turns import Turns

log = structlog.get_logger(__name__)


class Replays:
    """At most one a partition. All calls are the event loop's."""

    def __init__(self, settings: Settings, store: ShardStore, *, quietly: Quietly, turns: Turns | None = None) -> None:
        self._settings = settings
        self._store = store
        self._quietly = quietly
        self._turns = turns
        self._turn = asyncio.Lock()
        self._replays: dict[int, tuple[Replay, asyncio.Task[None]]] = {}

    def start(self, request: ReplayRequest) -> ReplayState:
        """Begin one, or go on with the same that is paused or under way.

        Raises ShardMoved where the partition is not here, UsageError where it has another one.
        """
        partition = request.partition
        if partition not in self._store.owned():
            raise ShardMoved(f"partition {partition} is not this worker's")
        wanted = ReplayState(
            partition, request.start, request.end, request.dry_run, system=request.system, rate=request.rate
        )
        if (running := self._running(partition)) is not None:
            if _asked(running.state) != _asked(wanted):
                raise UsageError(
                    f"partition {partition} has another replay, of offsets [{running.state.start}, "
                    f"{'' if running.state.end is None else running.state.end}), {running.state.phase}; "
                    "wait for it, or end it with: akasha-stream replay cancel"
                )
            running.state.rate = request.rate
            running.pace.change(request.rate)
            running.resume()
            return running.state
        left = read_state(self._store, partition)
        if left is not None and not left.final and _asked(left) == _asked(wanted):
            left.rate, left.paused = request.rate, False
            return self._run(left)
        remove(self._store.replay_folder(partition))
        return self._run(wanted)

    def states(self) -> list[ReplayState]:
        """The last one of each partition that is here."""
        found = []
        for partition in self._store.owned():
            known = self._replays.get(partition)
            state = read_state(self._store, partition) if known is None else known[0].state
            if state is not None:
                found.append(state)
        return found

    def pause(self, partition: int) -> ReplayState:
        """Raises UsageError where none is under way; so do the others."""
        replay = self._expected(partition)
        replay.pause()
        return replay.state

    def resume(self, partition: int) -> ReplayState:
        replay = self._expected(partition)
        replay.resume()
        return replay.state

    async def cancel(self, partition: int) -> ReplayState:
        replay = self._expected(partition)
        if replay.state.phase == "replacing":
            raise UsageError(f"partition {partition}: its shard is being replaced, which takes a moment; look again")
        await self._stop(partition)
        replay.cancelled()
        return replay.state

    def opened(self, partition: int) -> None:
        """Go on with what a process before, or this one before a move of the partition, had begun."""
        if self._running(partition) is None:
            state = read_state(self._store, partition)
            if state is not None and not state.final:
                log.info("replay goes on", partition=partition, phase=state.phase)
                self._run(state)

    def closed(self, partition: int) -> None:
        """The partition is not here any more."""
        if (running := self._replays.pop(partition, None)) is not None:
            running[1].cancel()

    async def stop(self) -> None:
        for partition in list(self._replays):
            await self._stop(partition)

    async def rows(self, partition: int) -> bytes:
        """compare.dump_rows of a partition that is here. Raises ShardMoved."""
        shard = self._store.shard(partition)
        if shard is None:
            raise ShardMoved(f"partition {partition} is not this worker's")
        return await asyncio.to_thread(lambda: dump_rows(live_rows(shard)))

    def _run(self, state: ReplayState) -> ReplayState:
        replay = Replay(self._settings, self._store, state, quietly=self._quietly, turns=self._turns)
        replay.save()

        async def in_turn() -> None:
            async with self._turn:
                await replay.run()

        self._replays[state.partition] = (replay, asyncio.create_task(in_turn(), name=f"replay {state.partition}"))
        return state

    def _running(self, partition: int) -> Replay | None:
        known = self._replays.get(partition)
        return None if known is None or known[1].done() else known[0]

    def _expected(self, partition: int) -> Replay:
        replay = self._running(partition)
        if replay is None:
            raise UsageError(f"partition {partition} has no replay under way")
        return replay

    async def _stop(self, partition: int) -> None:
        _, task = self._replays[partition]
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def wait(self, partition: int) -> None:
        """Until it has ended."""
        await self._replays[partition][1]


def _asked(state: ReplayState) -> tuple[int, int | None, str | None, bool]:
    return state.start, state.end, state.system, state.dry_run
