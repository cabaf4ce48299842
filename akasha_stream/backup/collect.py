"""What there is now, in the form of a backup: to be written, or to be compared with one."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from akasha_stream.backup.model import Content, LogState, ObjectKind, ObjectState, Role, TierPlace, TopicState
from akasha_stream.backup.without_secrets import without_secrets
from akasha_stream.configuration.load import Loaded
from akasha_stream.configuration.places import shipped
from akasha_stream.configuration.show import redacted
from akasha_stream.configuration.storage import LoadedStorage
from akasha_stream.errors import ObjectNotFound, StorageUnavailable
from akasha_stream.local import log as local
from akasha_stream.operations.workers import find_workers
from akasha_stream.settings import Settings
from akasha_stream.storage.adapter import ObjectInfo
from akasha_stream.storage.settings import TierName
from akasha_stream.storage.tiers import StorageTiers
from akasha_stream.tiers.folder import footers_folder
from akasha_stream.tiers.forgotten import is_entry
from akasha_stream.tiers.keys import SegmentKey, is_state
from akasha_stream.tiers.segment_store import Place, SegmentStore
from akasha_stream.tiers.stored_segment import StoredSegment
from akasha_stream.topics.broker import Unsupported, admin_client, describe_topics, topic_configs
from akasha_stream.topics.incarnation import log_incarnation
from akasha_stream.topics.reader import committed_offsets, reading

ROLES: tuple[Role, ...] = ("embeddings", "dead_letters", "digests")
CONCURRENCY = 16
"""Small objects read at once."""

type Report = Callable[[str, int, int | None], None]
"""(what is looked at, how much, of how much)"""


@dataclass(slots=True)
class _Found:
    topics: list[TopicState] = field(default_factory=list)
    tiers: dict[TierName, TierPlace] = field(default_factory=dict)
    objects: list[ObjectState] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


async def collect(
    loaded: Loaded,
    storage: LoadedStorage,
    urls: Sequence[str] = (),
    *,
    kafka: bool = True,
    report: Report = lambda _what, _done, _of: None,
) -> Content:
    """Look at settings, Kafka, the workers and the object stores. Changes nothing.

    `urls`: workers besides those of the registry. `kafka`: False where it is lost.

    Raises BrokerError; StorageUnavailable where a tier can't be read: what is known is all, or nothing is.
    """
    settings, found = loaded.settings, _Found()
    files, left_out = _files(loaded, storage)
    if kafka:
        report("topics", 0, None)
        await _kafka(settings, urls, found)
    else:
        found.notes.append("Kafka was not asked: its topics and offsets are not in it")
    if settings.tiers.enabled:
        await _objects(settings, storage, found, report)
    else:
        found.notes.append("tiers.enabled is false: what Kafka no longer has is on the workers' disks alone")
    local_log = local.exists(settings)
    if local_log:
        found.notes.append(
            f"{settings.hot.data_dir} has writes of VectorEmbeddingStorage that are not in Kafka yet: start a worker "
            "on it, which hands them over"
        )
    return Content(
        environment=settings.environment,
        settings=redacted(settings),
        storage={
            "tiers": dict(storage.settings.tiers),
            **{name: redacted(backend) for name, backend in storage.settings.backends.items()},
        },
        files=files,
        secrets_left_out=left_out,
        kafka=kafka,
        topics=tuple(found.topics),
        tiers=found.tiers,
        objects=tuple(sorted(found.objects, key=lambda each: (each.path, each.tier))),
        local_log=local_log,
        notes=tuple(found.notes),
    )


def _files(loaded: Loaded, storage: LoadedStorage) -> tuple[dict[str, str], tuple[str, ...]]:
    """The files that the settings were read from, as they are restored; and which secrets they lack."""
    definitions = loaded.settings.topics.definitions or shipped("topics")
    files: dict[str, str] = {}
    left_out: list[str] = []
    for folder, paths in (
        ("settings", [*loaded.files, *storage.files]),
        ("topics", sorted([*definitions.glob("*.yml"), *definitions.glob("*.yaml")])),
    ):
        for path in paths:
            cleaned = without_secrets(Path(path).read_text("utf-8"))
            files[f"{folder}/{path.name}"] = cleaned.text
            left_out += [f"{folder}/{path.name}: {key}" for key in cleaned.left_out]
    return files, tuple(left_out)


async def _kafka(settings: Settings, urls: Sequence[str], found: _Found) -> None:
    workers = await find_workers(settings, urls)
    stored = workers.next_offsets()
    if not any(each.error is None for each in workers.workers):
        found.notes.append("no worker answered: how far their disks go is known from the group's offsets alone")
    names: dict[Role, str] = {role: getattr(settings.topics, role) for role in ROLES}
    async with admin_client(settings.broker) as admin:
        present = await describe_topics(admin)
        there = [name for name in names.values() if name in present]
        try:
            in_force = await topic_configs(admin, there)
            own = await topic_configs(admin, there, own=True)
        except Unsupported as unsupported:
            in_force, own = {}, {}
            found.notes.append(f"this broker does not tell its topics' configs ({unsupported}): they are not in it")
    for role, name in names.items():
        if name not in present:
            found.notes.append(f"topic {name} does not exist")
            continue
        log = await log_incarnation(settings.broker, name)
        committed: dict[int, int] = {}
        if role == "embeddings":
            committed = await committed_offsets(settings.broker, settings.ingest.group, name)
        async with reading(settings.broker, name) as reader:
            firsts, ends = await reader.beginnings(), await reader.ends()
        found.topics.append(
            TopicState(
                role=role,
                name=name,
                cluster_id=log.cluster_id,
                topic_id=log.topic_id,
                partitions=present[name].partitions,
                replication_factor=present[name].replication_factor,
                config=own.get(name, {}),
                in_force=in_force.get(name),
                logs=tuple(
                    LogState(
                        partition=partition,
                        first=firsts[partition],
                        end=ends[partition],
                        stored=stored.get(partition) if role == "embeddings" else None,
                        committed=committed.get(partition),
                    )
                    for partition in sorted(ends)
                ),
            )
        )


async def _objects(settings: Settings, storage: LoadedStorage, found: _Found, report: Report) -> None:
    async with StorageTiers(storage.settings) as tiers:
        store = SegmentStore(tiers, cache_dir=footers_folder(settings))
        await store.load()
        if store.unreachable:
            raise StorageUnavailable("; ".join(f"tier {tier}: {why}" for tier, why in store.unreachable.items()))
        known = {segment.place: segment for segment in store.catalog.segments}
        limit = asyncio.Semaphore(CONCURRENCY)
        for tier in store.configured:
            place = await store.place(tier)
            found.tiers[tier] = TierPlace(provider=place.adapter.provider, bucket=place.bucket, prefix=place.prefix)
            if store.sharing(tier)[0] != tier:
                continue  # its objects were listed with the tier that shares its place
            tasks = []
            async for info in place.adapter.list(place.bucket, place.prefix):
                if (kind := _kind(info.path, place.prefix)) is not None:
                    tasks.append(asyncio.create_task(_object(store, place, info, kind, known=known, limit=limit)))
                    report("objects", len(found.objects) + len(tasks), None)
            found.objects += [each for each in await asyncio.gather(*tasks) if each is not None]


async def _object(
    store: SegmentStore,
    place: Place,
    info: ObjectInfo,
    kind: ObjectKind,
    *,
    known: dict[tuple[TierName, str], StoredSegment],
    limit: asyncio.Semaphore,
) -> ObjectState | None:
    tiers = store.sharing(place.tier)
    segment = next((known[tier, info.path] for tier in tiers if (tier, info.path) in known), None)
    problem = next((store.corrupt[tier, info.path] for tier in tiers if (tier, info.path) in store.corrupt), None)
    fingerprint = None
    if segment is not None:
        fingerprint = hashlib.sha256(segment.footer.model_dump_json().encode()).hexdigest()
    elif kind in ("state", "forgotten"):
        try:
            async with limit:
                fingerprint = hashlib.sha256(await place.adapter.download(place.bucket, info.path)).hexdigest()
        except ObjectNotFound:  # a newer state has just taken its place
            return None
    return ObjectState(
        tier=place.tier if segment is None else segment.tier,
        path=info.path.removeprefix(place.prefix),
        kind=kind,
        size=info.size,
        etag=info.etag,
        fingerprint=fingerprint,
        rows=None if segment is None else segment.footer.rows,
        epoch=None if segment is None else segment.footer.epoch,
        problem=problem,
    )


def _kind(path: str, prefix: str) -> ObjectKind | None:
    """None: not ours."""
    if SegmentKey.parse(path, prefix) is not None:
        return "segment"
    if SegmentKey.parse_stub(path, prefix) is not None:
        return "stub"
    if is_state(path):
        return "state"
    return "forgotten" if is_entry(path) else None
