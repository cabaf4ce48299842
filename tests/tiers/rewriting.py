"""For the tests that rewrite segments: a log in some tiers, what must count of it, and crashes at named steps."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from akasha_stream.hot import durable
from akasha_stream.hot.hashes import strings
from akasha_stream.settings import CompactionSettings, Settings
from akasha_stream.storage import StorageSettings, StorageTiers
from akasha_stream.storage.adapter import StorageAdapter
from akasha_stream.storage.local_adapter import LocalStorageAdapter
from akasha_stream.storage.settings import LocalBackend, TierName
from akasha_stream.tiers.changelog import changelog_schema
from akasha_stream.tiers.forgotten import load_forgotten
from akasha_stream.tiers.keys import LogId
from akasha_stream.tiers.live import live
from akasha_stream.tiers.segment_store import SegmentStore
from tests.tiers.segments import DIMENSIONS, LOG, Change, live_state, spilled

PREFIX = "akasha/"

type Rows = dict[tuple[str, str], str]
"""(source system, event id) → content of the rows that count."""


class FixedTiers(StorageTiers):
    """Tiers on adapters that the test has made, all of one place each."""

    def __init__(self, adapters: Mapping[TierName, StorageAdapter]) -> None:
        backends = {t: LocalBackend(bucket_name=adapters[t].bucket_name, tier=t, prefix=PREFIX) for t in adapters}
        super().__init__(StorageSettings(backends=backends, tiers={t: t for t in adapters}))
        self._adapters = adapters

    async def open(self, tier: TierName) -> StorageAdapter:
        return self._adapters[tier]


def settings_for(grace_s: float = 0.0, **compaction: Any) -> Settings:
    values = {"target_bytes": 1_000_000, "fan_in": 2, "masked_share": 0.3, "grace_s": grace_s, **compaction}
    return Settings(compaction=CompactionSettings.model_validate(values))


def some_changes(count: int = 60, seed: int = 0) -> list[Change]:
    """Updates, deletes and two systems, over few identities; one change an offset."""
    made = []
    for at in range(count):
        system = "ab"[(at * 7 + seed) % 3 % 2]
        deleted = (at + seed) % 7 == 5
        made.append(Change(at, 0, system, str((at * 5 + seed) % 17), None if deleted else f"v{at}", seed=at))
    return made


def local_store(root: Path) -> SegmentStore:
    tiers: tuple[TierName, ...] = ("hot", "warm")
    for tier in tiers:
        (root / tier).mkdir(parents=True)
    return SegmentStore(FixedTiers({tier: LocalStorageAdapter(tier, root, tier=tier) for tier in tiers}))


async def fill(
    store: SegmentStore, changes: Sequence[Change], every: int = 5, *, warm_below: int = 20, log: LogId = LOG
) -> None:
    """Segments of `every` offsets, those below an offset in the warm tier; a state with each."""
    end = max(change.offset for change in changes) + 1
    for start in range(0, end, every):
        part = [change for change in changes if start <= change.offset < start + every]
        tier: TierName = "warm" if start < warm_below else "hot"
        await store.put_state(log, start + every, a_state(*sorted({change.system for change in changes})))
        await store.put(spilled(part, start, start + every, log=log), tier)


def a_state(*systems: str) -> bytes:
    table = pa.table({"kind": ["counters"] * len(systems), "key": list(systems)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def expected(changes: Sequence[Change], forgotten: Mapping[str, int] | None = None) -> Rows:
    """`forgotten`: system → offset below which its rows are."""
    ends = forgotten or {}
    left = [change for change in changes if change.offset >= ends.get(change.system, 0)]
    return {identity: change.content or "" for identity, change in live_state(left).items()}


async def counting(store: SegmentStore, log: LogId = LOG) -> Rows:
    """What a new reader of the store takes for live, by the catalog and the ledger."""
    reader = SegmentStore(store.tiers)
    await reader.load()
    assert reader.unreachable == {}
    assert reader.corrupt == {}
    assert not [problem for problem in reader.catalog.problems if type(problem).__name__ == "Gap"]
    forgotten = await load_forgotten(reader)
    lives = [of for of in reader.catalog.logs if (of.topic, of.partition) == (log.topic, log.partition)]
    tables = [await reader.read(segment) for of in lives for segment in reader.catalog.current(of)]
    rows = live(pa.concat_tables([changelog_schema(DIMENSIONS).empty_table(), *tables]))
    masked = forgotten.masks(log, rows["source_system"], rows["position"].to_numpy())
    rows = rows.filter(pa.array(~masked))
    names = zip(strings(rows["source_system"]), strings(rows["event_id"]), strict=True)
    return dict(zip(names, strings(rows["content"]), strict=True))


async def assert_clean(store: SegmentStore, log: LogId = LOG) -> None:
    """Ranges tile, and every object is a current segment, the last state or the ledger's."""
    reader = SegmentStore(store.tiers)
    await reader.load()
    assert reader.catalog.problems == (), reader.catalog.problems
    left = [(each.tier, each.path, each.modified) for each in reader.catalog.superseded]
    assert left == [], (left, [(each.tier, each.path, each.modified) for each in reader.catalog.current(log)])
    segments = {each.place for each in reader.catalog.current(log)}
    for tier in reader.configured:
        place = await reader.place(tier)
        for path in [each.path async for each in place.adapter.list(place.bucket, log.folder(place.prefix))]:
            assert (tier, path) in segments or path.endswith(f"{reader.catalog.end(log):020d}.state"), (tier, path)


class Crash(BaseException):
    """As if the process had ended."""


@contextmanager
def crash_at(number: int) -> Iterator[list[str]]:
    """Crash at a step by its number; yields the names of those that were passed."""
    steps: list[str] = []

    def step(name: str) -> None:
        steps.append(name)
        if len(steps) == number + 1:
            raise Crash(name)

    before, durable.on_step = durable.on_step, step
    try:
        yield steps
    finally:
        durable.on_step = before


async def copy_tier(store: SegmentStore, source: TierName, target: TierName) -> None:
    """What a move between tiers leaves when it ends half way: the objects in both."""
    for segment in store.catalog.segments:
        if segment.tier == source:
            place, other = await store.place(source), await store.place(target)
            await other.adapter.upload(
                other.bucket, segment.path, await place.adapter.download(place.bucket, segment.path)
            )
    await asyncio.sleep(0)


def recreated(log: LogId = LOG) -> LogId:
    return replace(log, incarnation=replace(log.incarnation, topic_id="another"))
