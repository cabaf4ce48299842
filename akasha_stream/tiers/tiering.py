"""The object stores as one worker uses them: adopting shards, spilling, and following what others change."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from akasha_stream.errors import AkashaError, SegmentCorrupt, SettingsError, StorageError
from akasha_stream.hot.durable import write_bytes
from akasha_stream.hot.schema import ADOPTING, SegmentName
from akasha_stream.hot.shard import Shard
from akasha_stream.hot.store import ShardStore
from akasha_stream.search.query import Incomplete
from akasha_stream.settings import Settings
from akasha_stream.storage.settings import StorageSettings
from akasha_stream.storage.tiers import StorageTiers
from akasha_stream.tiers.access import AccessRecord
from akasha_stream.tiers.adopt import adopt, fetch_stub, segments_of
from akasha_stream.tiers.bodies import SegmentBodies
from akasha_stream.tiers.body_cache import BodyCache
from akasha_stream.tiers.compact import compact_logs
from akasha_stream.tiers.folder import footers_folder, tiers_folder
from akasha_stream.tiers.forgotten import Forgotten, load_forgotten, note_forgotten
from akasha_stream.tiers.keys import LogId, SegmentKey
from akasha_stream.tiers.run_policy import run_policy
from akasha_stream.tiers.segment_store import SegmentStore
from akasha_stream.tiers.spill import Spiller
from akasha_stream.tiers.spilled import SpilledSegment
from akasha_stream.tiers.stored_segment import StoredSegment
from akasha_stream.tiers.stub import write_stub

log = structlog.get_logger(__name__)

REFRESH_S = 60.0
LOOK_S = 2.0
RETRY_S = (1.0, 30.0)


async def _nothing(_: int) -> None: ...


class Tiering:
    """One instance belongs to one event loop, that of the worker."""

    def __init__(self, settings: Settings, stores: StorageTiers) -> None:
        """`stores` are closed with it. Raises ShardLocked where another process uses the data directory."""
        self._settings = settings
        self._topic = settings.topics.embeddings
        folder = tiers_folder(settings)
        self._ledger = folder / "forgotten.json"
        self._forgot = asyncio.Event()
        """Set when a segment forgot a system: what was spilled before has to be rewritten."""
        policy = settings.tier_policy
        self.access = AccessRecord(policy.keep_searches, folder / "access.json")
        self._stores = stores
        self.segments = SegmentStore(self._stores, cache_dir=footers_folder(settings))
        cache = BodyCache(folder / "bodies", settings.tiers.cache_bytes) if settings.tiers.cache_bytes else None
        self.bodies = SegmentBodies(
            self.segments, cache, timeout_s=settings.tiers.timeout_s, on_answered=self.access.searched
        )
        self._looking = asyncio.Lock()
        self._looked_at = -math.inf
        self.waiting: dict[int, str] = {}
        """Partition → why its shard can't be opened yet: nothing of it is here, and the store can't be read."""
        self._shards: ShardStore
        self._spiller: Spiller

    def attach(
        self,
        shards: ShardStore,
        on_taken: Callable[[int], Awaitable[None]] = _nothing,
        holds: Callable[[int], bool] = lambda _partition: True,
    ) -> None:
        """Before anything else: the shards of this process.

        `on_taken`, `holds`: see Spiller; of use while `run` runs.
        """
        self._shards = shards
        shards.forgotten = _read_ledger(self._ledger)
        self._spiller = Spiller(
            shards,
            self.segments,
            self.bodies,
            self._settings,
            on_taken=on_taken,
            on_forgotten=self._note_forgotten,
            holds=holds,
        )

    @property
    def spiller(self) -> Spiller:
        return self._spiller

    @property
    def problems(self) -> list[str]:
        """Tiers that can't be read, segments that are damaged."""
        return [f"tier {tier}: {why}" for tier, why in list(self.segments.unreachable.items())] + [
            f"tier {tier}: {why}" for (tier, _), why in list(self.segments.corrupt.items())
        ]

    def missing(self) -> list[Incomplete]:
        """Segments of the owned partitions that no search can answer from: they are damaged, and not here either."""
        found = []
        for (tier, path), why in self.segments.corrupt.items():
            key = SegmentKey.parse(path, self._stores.settings.tier(tier).prefix)
            shard = None if key is None or key.log.topic != self._topic else self._shards.shard(key.log.partition)
            if key is None or shard is None:
                continue
            if not any(segment.name.start == key.start for segment in shard.segments):
                detail = f"{tier} tier, {path}: its rows are missing: {why}"
                found.append(
                    Incomplete(
                        reason="segment_corrupt", partition=key.log.partition, tier=tier, path=path, detail=detail
                    )
                )
        return found

    async def adopt(self, partition: int, folder: Path, *, only_stored: bool = False) -> None:
        """Make a shard's folder fit to be opened (adopt.py, `only_stored` too).

        Where the store can't be read, a folder that has something is taken as it is: ingest goes on, and what is not
        as it should be shows when it is spilled. A folder that has nothing waits: reading the log from its beginning
        would store again, unmasked, what the store has. So does one that a process left changed in part.
        """
        pause, longest = RETRY_S
        begun = False
        if only_stored:
            self._looked_at = -math.inf  # another worker has just changed it
        try:
            while True:
                await self._look()
                why = "; ".join(f"tier {tier}: {each}" for tier, each in self.segments.unreachable.items())
                if not why:
                    try:
                        begun = True
                        await adopt(folder, self._topic, partition, self.segments, only_stored=only_stored)
                        return
                    except (StorageError, SegmentCorrupt) as error:
                        why = str(error)
                elif not begun and not only_stored and _fit(folder):
                    log.warning("shard opened without a look at the object store", partition=partition, error=why)
                    return
                if partition not in self.waiting:
                    log.warning("shard waits for the object store", partition=partition, error=why)
                self.waiting[partition] = why
                self._looked_at = -math.inf  # what was seen is not good enough
                await asyncio.sleep(pause)
                pause = min(longest, pause * 2)
        finally:
            self.waiting.pop(partition, None)

    def opened(self, shard: Shard) -> None:
        """A shard is owned: tell its segments where their objects are."""
        for segment in shard.segments:
            if isinstance(segment, SpilledSegment):
                stored = self.segments.catalog.find(segment.footer.key)
                if stored is not None:
                    segment.stored = stored

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._spiller.run())
            tasks.create_task(self._follow())
            tasks.create_task(self._maintain())

    async def _look(self) -> None:
        """Catalog and ledger, as they were a moment ago: one look serves all partitions of an assignment."""
        async with self._looking:
            if time.monotonic() - self._looked_at > LOOK_S:
                await self._load()
                self._looked_at = time.monotonic()

    async def _load(self) -> None:
        """Catalog and ledger, as they are now."""
        await self.segments.load(self._topic)
        if "hot" in self.segments.unreachable:
            return  # the copy of the ledger has to do
        try:
            ledger = await load_forgotten(self.segments)
        except StorageError as error:
            self.segments.unreachable["hot"] = str(error)
            return
        await self._take_ledger(ledger)

    async def _note_forgotten(self, system_sha256: str, ends: dict[LogId, int]) -> None:
        await note_forgotten(self.segments, system_sha256, ends)
        await self._take_ledger((self._shards.forgotten or Forgotten()).with_hash(system_sha256, ends))
        self._forgot.set()

    async def _take_ledger(self, ledger: Forgotten) -> None:
        """Use it, and keep a copy for a start while the store is away."""
        self._shards.forgotten = ledger
        if ledger:
            await asyncio.to_thread(write_bytes, self._ledger, ledger.pack())

    async def _maintain(self) -> None:
        """Move, compact and clean up what is of the partitions that this worker owns."""
        policy, compaction = self._settings.tier_policy, self._settings.compaction
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._forgot.wait(), policy.check_s)
            self._forgot.clear()
            try:
                logs = self._logs()
                if not logs:
                    continue
                await run_policy(self.segments, logs, self.access, policy)
                if compaction.enabled:
                    report = await compact_logs(self.segments, logs, dry_run=False, settings=self._settings)
                    for problem in report.problems:
                        log.warning("compaction passed something over", problem=problem)
                await self.follow()
            except (AkashaError, OSError) as error:
                log.warning("tiers not maintained, will try again", error=str(error))

    def _logs(self) -> list[LogId]:
        owned = set(self._shards.owned())
        return [log for log in self.segments.catalog.logs if log.topic == self._topic and log.partition in owned]

    async def close(self) -> None:
        await self.bodies.close()
        await self._stores.close()

    async def _follow(self) -> None:
        """Learn every minute what was moved and rewritten, by this worker or from outside."""
        while True:
            await asyncio.sleep(REFRESH_S)
            try:
                await self.follow()
            except (AkashaError, OSError) as error:
                log.warning("catalog not brought up to date, will try again", error=str(error))

    async def follow(self) -> None:
        """Make the shards agree with what the tiers hold now. Raises StorageError, SegmentCorrupt, OSError."""
        await self._load()
        for shard in self._shards.shards():
            self.opened(shard)
            await self._follow_rewritten(shard)

    async def _follow_rewritten(self, shard: Shard) -> None:
        current = {segment.name: segment for segment in shard.segments if isinstance(segment, SpilledSegment)}
        for name, stored in segments_of(self.segments, self._topic, shard.partition):
            known = current.get(name)
            if known is None or known.footer.key == stored.key:
                continue
            await self._rewritten(shard, name, stored)

    async def _rewritten(self, shard: Shard, name: SegmentName, stored: StoredSegment) -> None:
        """Take a compacted segment in the place of those that it covers."""
        stub = await fetch_stub(stored, self.segments)
        replacement = await asyncio.to_thread(SpilledSegment, stub, stored, self._shards.codes, self.bodies)

        def take() -> bool:
            write_stub(name.stub(shard.folder), stub)
            return shard.leave_to_store(replacement)

        if await asyncio.to_thread(take):
            log.info("rewritten segment taken", partition=shard.partition, segment=stored.path)


def _read_ledger(path: Path) -> Forgotten | None:
    """The copy that was kept of it; None where there is none that can be read."""
    try:
        return Forgotten.unpack(path.read_bytes(), str(path))
    except FileNotFoundError:
        return None
    except (OSError, SegmentCorrupt) as error:
        log.warning("copy of the ledger can't be read; the one in the store counts", error=str(error))
        return None


def _fit(folder: Path) -> bool:
    """Whether a shard's folder holds something of it, and did not get it from the store in part."""
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    return ADOPTING not in names and any(map(SegmentName.parse, names))


def load_storage_settings() -> StorageSettings:
    """settings/akasha-storage.yml. Raises SettingsError, also where the hot tier has no backend."""
    settings = StorageSettings.load()
    if "hot" not in settings.tiers:
        raise SettingsError("storage.tiers.hot: is missing; tiers.enabled needs at least the hot tier")
    return settings
