"""What is in the files of workers and in the object store."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from akasha_stream.errors import AkashaError
from akasha_stream.hot.schema import SegmentName
from akasha_stream.hot.store import ShardStore
from akasha_stream.incarnation import Incarnation
from akasha_stream.settings import Settings
from akasha_stream.storage import StorageSettings, StorageTiers
from akasha_stream.tiers.segment_store import SegmentStore
from tests.chaos.model import Entry, Identity
from tests.chaos.stage import Stage
from tests.chaos.violation import Found, compare


def check_disk(found: Found, stage: Stage, disk: Path, log: Mapping[int, list[Entry]]) -> None:
    """What is on a disk, also of a worker that owns it no more: the rows are those of the log below its offset."""
    if not (disk / stage.topic).exists():
        return
    settings = Settings.load(
        overrides={**stage.overrides, "hot.data_dir": str(disk), "hot.build_indexes": False, "redis.enabled": False}
    )
    store = ShardStore(settings, stage.topic)
    try:
        for folder in sorted(store.folder.glob("0*")):
            partition = int(folder.name)
            shard = store.open(partition, Incarnation())
            below = [entry for entry in log[partition] if entry[0][1:3] < (shard.epoch, shard.next_offset)]
            where = f"{disk.name}/{partition} below {shard.epoch}/{shard.next_offset}"
            rows: dict[Identity, tuple[Any, str]] = {}
            for view in shard.views():
                for row in view.texts([at for at in range(view.rows) if view.live[at]]):
                    identity = row.source_system, row.event_id
                    found.add("duplicated", f"{where}: two live rows", [identity] if identity in rows else [])
                    rows[identity] = (row.partition, row.offset, row.index), str(row.content)
            compare(found, where, rows, stage.model({partition: below}).live)
            names = [(each.name.epoch, each.name.start) for each in shard.segments]
            ends = [(each.name.epoch, each.end) for each in shard.segments[:-1]]  # type: ignore[union-attr]
            follow = zip(ends, names[1:], strict=True)
            gaps = [(end, start) for end, start in follow if end[0] == start[0] and end != start]
            found.add("wrong", f"{where}: segments do not tile the log", gaps)
    except AkashaError as error:
        found.add("wrong", f"{disk.name} can't be opened", [error])
    finally:
        store.close_all()


async def check_store(found: Found, stage: Stage) -> None:
    """The ranges of what was spilled tile the log, and nothing in there is damaged."""
    async with StorageTiers(StorageSettings.load(stage.folder / "akasha-storage.yml")) as tiers:
        store = SegmentStore(tiers)
        await store.load(stage.topic)
        found.add("wrong", "the object store", store.catalog.problems)
        found.add("wrong", "damaged in the object store", store.corrupt.items())
        found.add("wrong", "a tier can't be read", store.unreachable.items())
        ends = {log.partition: store.catalog.end(log) or 0 for log in store.catalog.logs}
        for slot in stage.slots:
            for disk in [slot.disk, *slot.left]:
                _check_joins(found, disk / stage.topic, ends)
        begins = [store.catalog.current(log)[0].key for log in store.catalog.logs]
        found.add("wrong", "what was spilled does not begin with the log", [key for key in begins if key.start])


def _check_joins(found: Found, topic: Path, ends: Mapping[int, int]) -> None:
    """What a disk has of a shard, a former owner's too, begins where the object store ends, or before."""
    for folder in sorted(topic.glob("0*")):
        names = [parsed for path in folder.iterdir() if (parsed := SegmentName.parse(path.name)) is not None]
        local = [name for name, kind in names if kind in {"growing.duckdb", "sealed.duckdb"}]
        end = ends.get(int(folder.name), 0)
        if local and (start := min(local).start) > end:
            found.add("wrong", "neither the store nor the disk has", [f"{folder}: offsets [{end}, {start})"])
