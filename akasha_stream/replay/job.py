"""A replay into one shard: what its log says under today's settings, and the shard made so.

    waiting     another one goes first, or segments are still being finished
    checking    the range is read and judged; nothing is written (check.py). A dry run ends here, as does a replay
                that would change nothing
    rebuilding  from the segment of the first difference on, the shard is made anew beside itself (beside.py)
    replacing   it has caught up and takes the live one's place
    done, failed, cancelled

What was asked for and how far it came is in `replays/<partition>.json`: whoever opens the shard next, after a crash or
a restart, goes on with it. Checking begins anew then; rebuilding goes on where its transactions end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import structlog
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from akasha_stream.errors import AkashaError, BrokerError, ShardMoved, UsageError
from akasha_stream.events.decode import Decoder
from akasha_stream.events.forget import is_forget
from akasha_stream.events.records import Record
from akasha_stream.hot.durable import remove, write_bytes
from akasha_stream.hot.shard import Shard
from akasha_stream.hot.store import REPLAYS, ShardStore
from akasha_stream.replay.beside import Beside, segment_of
from akasha_stream.replay.check import Check
from akasha_stream.replay.compare import RowChanges, row_changes
from akasha_stream.replay.effect import Effect
from akasha_stream.replay.pace import Pace
from akasha_stream.settings import Settings
from akasha_stream.topics.reader import TopicReader, as_record, reading
from akasha_stream.turns import Turns

log = structlog.get_logger(__name__)

type Phase = Literal["waiting", "checking", "rebuilding", "replacing", "done", "failed", "cancelled"]
FINAL: tuple[Phase, ...] = ("done", "failed", "cancelled")
WAIT_S = 0.2
NEARLY_S = 1.0
"""A new shard that takes in what came meanwhile in this time is as far as it gets while records keep coming."""


class ReplayRequest(BaseModel):
    """What POST /v1/replays asks for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    partition: int = Field(ge=0)
    start: int = Field(ge=0, description="offset of the first record")
    end: int | None = Field(default=None, ge=0, description="offset after the last record that is looked at")
    system: str | None = Field(default=None, description="only events of this source system are looked at")
    dry_run: bool = False
    rate: float | None = Field(default=None, gt=0, description="events a second at most")


@dataclass(slots=True)
class ReplayState:
    """What GET /v1/replays says of one."""

    partition: int
    start: int
    end: int | None
    dry_run: bool
    system: str | None = None
    rate: float | None = None
    phase: Phase = "waiting"
    paused: bool = False
    next_offset: int = 0
    """How far the reading of this phase is."""
    until: int = 0
    """How far it has to go; of a shard that takes records in, so far."""
    effect: Effect = field(default_factory=Effect)
    """What checking found."""
    rebuilt_from: int | None = None
    """Offset of the first segment that was made anew."""
    changed: RowChanges | None = None
    """Live rows of the shard that came, went or changed; None before it was replaced."""
    error: str | None = None

    @property
    def final(self) -> bool:
        return self.phase in FINAL


_STATE = TypeAdapter(ReplayState)


def state_path(store: ShardStore, partition: int) -> Path:
    return store.folder / REPLAYS / f"{partition:05d}.json"


def read_state(store: ShardStore, partition: int) -> ReplayState | None:
    """What is left on disk of a partition's last replay."""
    try:
        return _STATE.validate_json(state_path(store, partition).read_bytes())
    except OSError:
        return None
    except ValueError as error:
        log.warning("replay can't be gone on with", file=str(state_path(store, partition)), error=str(error))
        return None


type Quietly = Callable[[int, Callable[[], Awaitable[None]]], Awaitable[None]]
"""Call something while nothing reads the partition from Kafka; reading goes on where its shard then ends."""


class Replay:
    """One replay of one partition, whose shard this process has. `run` does it all."""

    def __init__(
        self, settings: Settings, store: ShardStore, state: ReplayState, *, quietly: Quietly, turns: Turns | None = None
    ) -> None:
        self.state = state
        self.pace = Pace(state.rate)
        self._settings = settings
        self._store = store
        self._quietly = quietly
        self._turns = turns or Turns()
        self._decoder = Decoder.of(settings)
        self._beside: Beside | None = None
        if state.paused:
            self.pace.pause()

    def pause(self) -> None:
        self.pace.pause()
        self.state.paused = True
        self.save()

    def resume(self) -> None:
        self.pace.resume()
        self.state.paused = False
        self.save()

    def save(self) -> None:
        path = state_path(self._store, self.state.partition)
        path.parent.mkdir(exist_ok=True)
        write_bytes(path, _STATE.dump_json(self.state))

    async def run(self) -> None:
        """Until it is done; what goes wrong is in `state`. Cancelled: it goes on when it is started again."""
        state = self.state
        try:
            await self.pace.took(0)
            if not self._store.replay_folder(state.partition).is_dir():
                state.rebuilt_from = None  # nothing is begun, or all was done but to say so: checking tells
            async with reading(self._settings.broker, self._settings.topics.embeddings) as reader:
                if state.rebuilt_from is None:
                    await self._check(reader)
                if state.rebuilt_from is not None:
                    await self._rebuild(reader)
            state.phase = "done"
        except (AkashaError, OSError) as error:
            state.phase, state.error = "failed", str(error)
            log.warning("replay failed", partition=state.partition, error=str(error))
        finally:
            if self._beside is not None:
                self._beside.close()
                self._beside = None
        self._clean_up()
        self.save()

    def cancelled(self) -> None:
        """It is not wanted any more."""
        self.state.phase = "cancelled"
        self._clean_up()
        self.save()

    def _clean_up(self) -> None:
        remove(self._store.replay_folder(self.state.partition))

    def _shard(self) -> Shard:
        shard = self._store.shard(self.state.partition)
        if shard is None or shard.closed:
            raise ShardMoved(f"partition {self.state.partition} is not this worker's any more")
        return shard

    async def _check(self, reader: TopicReader) -> None:
        state, shard = self.state, self._shard()
        state.phase = "checking"
        self.save()
        state.until = shard.next_offset if state.end is None else min(state.end, shard.next_offset)
        start = await _first_offset(reader, state)
        check = Check(shard, self._store.codes, self._decoder, self._settings.dedupe)
        before = 0
        async for records in _records(reader, state.partition, start, state.until):
            await asyncio.to_thread(self._judge, check, [each for each in records if of_system(each, state.system)])
            state.effect, state.next_offset = check.effect, records[-1].offset + 1
            self._shard()
            # A rate may have come meanwhile: what was judged before these records does not count for it.
            events, before = state.effect.events - before, state.effect.events
            await self.pace.took(events)
        state.effect, state.next_offset = check.effect, state.until
        if not state.dry_run and state.effect.first_difference is not None:
            state.rebuilt_from = segment_of(shard, state.effect.first_difference).name.start
            self.save()

    def _judge(self, check: Check, records: list[Record]) -> None:
        self._turns.give_way()
        check.take(records)

    async def _rebuild(self, reader: TopicReader) -> None:
        state, shard = self.state, self._shard()
        assert state.rebuilt_from is not None
        beginning = (await reader.beginnings())[state.partition]
        if beginning > state.rebuilt_from:
            raise BrokerError(
                f"partition {state.partition}: the shard would have to be made anew from offset {state.rebuilt_from} "
                f"on, and Kafka has no records before {beginning} any more; nothing was changed"
            )
        await self._until_finished(shard, state.rebuilt_from)
        state.phase = "rebuilding"
        self.save()
        beside = self._beside = await asyncio.to_thread(Beside, self._store, shard, state.rebuilt_from)
        state.next_offset = max(beside.shard.next_offset, beside.start)
        clock = asyncio.get_running_loop().time
        while True:
            started = clock()
            await self._catch_up(beside, reader)
            if clock() - started < NEARLY_S:
                break
        state.phase = "replacing"
        self.save()
        await self._quietly(state.partition, self._put_in_place)

    async def _put_in_place(self) -> None:
        beside, shard = self._beside, self._shard()
        assert beside is not None
        async with reading(self._settings.broker, self._settings.topics.embeddings) as reader:
            await self._catch_up(beside, reader)
        self.state.changed = await asyncio.to_thread(row_changes, shard, beside.shard)
        await asyncio.to_thread(beside.replace)
        self._beside = None

    async def _until_finished(self, shard: Shard, offset: int) -> None:
        """Wait until the segments before have their files: what is being written can't be shared."""
        first = segment_of(shard, offset)
        while any(self._store.is_sealing(s) for s in shard.segments if s.name < first.name):
            self.state.phase = "waiting"
            await asyncio.sleep(WAIT_S)
            self._shard()

    async def _catch_up(self, beside: Beside, reader: TopicReader) -> None:
        """Take in what the live shard has."""
        state, new = self.state, beside.shard
        start, until = max(new.next_offset, beside.start), self._shard().next_offset
        state.until = until
        async for records in _records(reader, state.partition, start, until):
            events = await asyncio.to_thread(self._apply, new, records)
            state.next_offset = new.next_offset
            self._shard()
            await self.pace.took(events)

    def _apply(self, shard: Shard, records: list[Record]) -> int:
        self._turns.give_way()
        decoded = self._decoder.decode(records)
        shard.apply(records, decoded.batch, [letter.record.offset for letter in decoded.dead])
        return len(decoded.batch)


async def _first_offset(reader: TopicReader, state: ReplayState) -> int:
    beginning = (await reader.beginnings()).get(state.partition)
    if beginning is None:
        raise UsageError(f"{reader.topic} has no partition {state.partition}")
    state.next_offset = max(state.start, beginning)
    return state.next_offset


async def _records(reader: TopicReader, partition: int, start: int, end: int) -> AsyncIterator[list[Record]]:
    if start < end:
        async for records in reader.between({partition: start}, {partition: end}):
            yield [as_record(record) for record in records]


def of_system(record: Record, system: str | None) -> bool:
    """Whether a record may have events of a source system, or forgets one; None: all."""
    return system is None or record.key == system.encode() or is_forget(record)


def dump(state: ReplayState) -> bytes:
    """As JSON."""
    return _STATE.dump_json(state)


def dump_all(states: Sequence[ReplayState]) -> bytes:
    return b'{"replays":[' + b",".join(map(dump, states)) + b"]}"


def parse(data: bytes) -> ReplayState:
    """The reverse of dump(). Raises ValueError."""
    return _STATE.validate_json(data)


def parse_all(data: bytes) -> list[ReplayState]:
    """The reverse of dump_all(). Raises ValueError."""
    return TypeAdapter(dict[str, list[ReplayState]]).validate_json(data)["replays"]
