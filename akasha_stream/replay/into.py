"""A replay into a directory of its own: a part of the log, as today's settings would store it, beside what is stored.

The directory is a data directory like any other: `akasha-stream search --data-dir`, and VectorEmbeddingStorage, open
it. Which part of the log it holds is in its `replay.json`; the same replay again goes on where the shards end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from pydantic import TypeAdapter, ValidationError

from akasha_stream.errors import EmbedderFailed, UsageError
from akasha_stream.events.batch import EventBatch
from akasha_stream.events.decode import Decoder
from akasha_stream.events.records import Record
from akasha_stream.hot.durable import write_bytes
from akasha_stream.hot.hashes import strings
from akasha_stream.hot.shard import Shard
from akasha_stream.hot.store import ShardStore
from akasha_stream.incarnation import Incarnation
from akasha_stream.replay.job import of_system
from akasha_stream.replay.pace import Pace
from akasha_stream.replay.selection import Range
from akasha_stream.search.embedders import Embedder
from akasha_stream.settings import Settings
from akasha_stream.stream.windows import Outcome
from akasha_stream.topics.reader import TopicReader, as_record

FILE = "replay.json"

type Report = Callable[[str, int, int], None]
"""(what is done, how much, of how much)"""


@dataclass(frozen=True, slots=True)
class Taken:
    """What of which log a directory holds."""

    topic: str
    incarnation: Incarnation
    asked: str
    """What the ranges were made of, in words: the same words again go on with them."""
    ranges: list[Range]
    system: str | None = None
    model: str | None = None
    """Of the embedder that made the vectors anew; None: they are the log's."""


@dataclass(slots=True)
class Filled:
    """What was read this time; `rows`: live ones of the directory now."""

    records: int = 0
    events: int = 0
    refused: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    rows: int = 0


_TAKEN = TypeAdapter(Taken)


def read_taken(folder: Path) -> Taken | None:
    """None where the directory is none of a replay. Raises UsageError where that can't be seen."""
    file = folder / FILE
    try:
        return _TAKEN.validate_json(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UsageError(f"{file}: can't be read: {error.strerror}") from None
    except ValidationError:
        raise UsageError(f"{file}: is not what a replay writes; make another directory: replay --into") from None


async def replay_into(
    settings: Settings,
    folder: Path,
    reader: TopicReader,
    taken: Taken,
    *,
    pace: Pace | None = None,
    embedder: Embedder | None = None,
    report: Report = lambda _what, _done, _of: None,
) -> Filled:
    """Fill `folder`. Where it has a part of this replay, go on: with its starts, and these ends.

    `embedder`: makes the vectors anew, from the contents.

    Raises UsageError where the directory holds something else; EmbedderFailed, BrokerError, ShardWriteError.
    """
    taken = _claim(folder, taken)
    hot = settings.hot.model_copy(update={"data_dir": folder, "build_indexes": False})
    store = await asyncio.to_thread(ShardStore, settings.model_copy(update={"hot": hot}), taken.topic)
    try:
        filling = _Filling(settings, taken, pace or Pace(), embedder)
        for each in taken.ranges:
            shard = await asyncio.to_thread(store.open, each.partition, taken.incarnation)
            await filling.take(reader, each, shard, report)
        filling.filled.rows = sum(int(np.count_nonzero(view.live)) for view in store.views())
        return filling.filled
    finally:
        await asyncio.to_thread(store.close_all)


def _claim(folder: Path, taken: Taken) -> Taken:
    found = read_taken(folder)
    if found is None:
        if folder.exists() and any(folder.iterdir()):
            raise UsageError(f"{folder} is not empty, and not of a replay: name another directory")
        folder.mkdir(parents=True, exist_ok=True)
    elif replace(found, ranges=[]) != replace(taken, ranges=[]):
        what = next(name for name, value in asdict(taken).items() if name != "ranges" and asdict(found)[name] != value)
        raise UsageError(f"{folder} holds another replay ({what} differs): name another directory, or remove it")
    else:
        starts = {each.partition: each.start for each in found.ranges}
        ranges = [replace(each, start=starts.get(each.partition, each.start)) for each in taken.ranges]
        taken = replace(taken, ranges=ranges)
    write_bytes(folder / FILE, _TAKEN.dump_json(taken))
    return taken


class _Filling:
    def __init__(self, settings: Settings, taken: Taken, pace: Pace, embedder: Embedder | None) -> None:
        self.filled = Filled()
        self._decoder = Decoder.of(settings)
        self._dimensions = settings.limits.dimensions
        self._taken = taken
        self._pace = pace
        self._embedder = embedder

    async def take(self, reader: TopicReader, wanted: Range, shard: Shard, report: Report) -> None:
        start = max(wanted.start, shard.next_offset)
        what, total = f"partition {wanted.partition}", wanted.end - wanted.start
        report(what, start - wanted.start, total)
        if start >= wanted.end:
            return
        async for fetched in reader.between({wanted.partition: start}, {wanted.partition: wanted.end}):
            records = [as_record(record) for record in fetched]
            events = await self._store(shard, records)
            report(what, records[-1].offset + 1 - wanted.start, total)
            await self._pace.took(events)
        report(what, total, total)

    async def _store(self, shard: Shard, records: Sequence[Record]) -> int:
        mine = [record for record in records if of_system(record, self._taken.system)]
        decoded = await asyncio.to_thread(self._decoder.decode, mine)
        batch = decoded.batch if self._embedder is None else await self._embedded(decoded.batch, self._embedder)
        dead = [letter.record.offset for letter in decoded.dead]
        applied = await asyncio.to_thread(shard.apply, records, batch, dead)
        filled = self.filled
        filled.records += len(mine)
        filled.events += len(batch)
        filled.refused += len(dead)
        for each in applied:
            for outcome, count in zip(Outcome, each.outcomes.tolist(), strict=True):
                name = outcome.name.lower()
                filled.outcomes[name] = filled.outcomes.get(name, 0) + count
        return len(batch)

    async def _embedded(self, batch: EventBatch, embedder: Embedder) -> EventBatch:
        rows = np.flatnonzero(~batch.delete)
        if not len(rows):
            return batch
        contents = strings(batch.content)
        made = await embedder.embed([contents[row] for row in rows.tolist()])
        if made.shape != (len(rows), self._dimensions):
            raise EmbedderFailed(
                f"the embedder {embedder.model} gave {made.shape[-1]} dimensions, limits.dimensions is "
                f"{self._dimensions}"
            )
        vectors = batch.embedding.copy()
        vectors[rows] = made
        models = strings(batch.model)
        for row in rows.tolist():
            models[row] = embedder.model
        return replace(batch, embedding=vectors, model=pa.array(models, pa.string()))
