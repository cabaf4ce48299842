"""A shard whose finished segments are spilled, with an object store in a folder."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import numpy as np

from akasha_stream.hot.shard import Shard
from akasha_stream.hot.store import ShardStore
from akasha_stream.incarnation import Incarnation
from akasha_stream.settings import Settings, TierSettings
from akasha_stream.storage import StorageSettings, StorageTiers
from akasha_stream.tiers.adopt import segments_of
from akasha_stream.tiers.keys import LogId
from akasha_stream.tiers.tiering import Tiering
from tests.hot.log import Log, settings_for

INCARNATION = Incarnation("cluster", "topic-1")
TOPIC = "akasha.embeddings.v1"
LOG = LogId(TOPIC, INCARNATION, 0)


def tiered_settings(folder: Path, *, seal_rows: int = 20, keep_rows: int = 0, keep_s: float = 0.0) -> Settings:
    settings = settings_for(folder, seal_rows=seal_rows)
    tiers = TierSettings(enabled=True, keep_local_rows=keep_rows, keep_local_s=keep_s, precision="float32")
    return settings.model_copy(update={"tiers": tiers})


class Tiered:
    """One worker's part: `async with Tiered(…) as worker:`; leaving it is the worker's end, its files stay."""

    def __init__(self, settings: Settings, storage: StorageSettings | StorageTiers) -> None:
        self.settings = settings
        self.storage = storage
        self.taken: list[int] = []
        self.tiering: Tiering
        self.store: ShardStore
        self.shard: Shard

    async def __aenter__(self) -> Tiered:
        storage = self.storage
        stores = StorageTiers(storage) if isinstance(storage, StorageSettings) else storage
        self.tiering = Tiering(self.settings, stores)
        self.store = ShardStore(self.settings, TOPIC, bodies=self.tiering.bodies)
        self.tiering.attach(self.store, self._taken)
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.store.close_all()
        await self.tiering.close()

    async def _taken(self, partition: int) -> None:
        self.taken.append(partition)

    async def open(self, *, only_stored: bool = False) -> None:
        """As an assignment does."""
        await self.tiering.adopt(0, self.store.shard_folder(0), only_stored=only_stored)
        self.shard = self.store.open(0, INCARNATION)
        self.tiering.opened(self.shard)

    async def reopen(self) -> None:
        self.store.close(0)
        await self.open(only_stored=bool(self.taken))
        self.taken.clear()

    async def spill(self) -> int:
        """Everything that is finished, and leave it to the store as the settings say."""
        assert self.store.wait_sealed(60)
        spilled = await self.tiering.spiller.spill()
        await self.tiering.spiller.leave_to_store()
        return spilled

    async def take_in(self, log: Log, batch: int = 5) -> None:
        """The log from where the shard is, spilling now and then."""
        for low in range(0, len(log), batch):
            log.apply(self.shard, low, low + batch)
            await self.spill()

    def ranges(self) -> list[tuple[int, int]]:
        """What the store has, in log order."""
        return [(each.key.start, each.key.end) for _, each in segments_of(self.tiering.segments, TOPIC, 0)]


def positions(shard: Shard) -> dict[tuple[str, str], int]:
    """identity → position of every live row; each identity has at most one."""
    found: dict[tuple[str, str], int] = {}
    for view in shard.views():
        for system, event_id, position in view.identities():
            assert (system, event_id) not in found, f"{(system, event_id)} is stored twice"
            found[system, event_id] = position
        assert np.all(np.diff(view.positions) > 0)
    return found
