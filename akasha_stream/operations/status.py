"""The cluster at a glance: broker, topics, workers, who owns what, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from akasha_stream.errors import BrokerError, UsageError
from akasha_stream.operations.workers import Workers, WorkerState, find_workers
from akasha_stream.settings import Settings
from akasha_stream.topics.broker import admin_client, broker_errors
from akasha_stream.topics.reader import reading

OLD_HEARTBEATS = 2
"""So many heartbeats late, and a worker is named; after three it is gone from the registry."""


@dataclass(frozen=True, slots=True)
class BrokerState:
    bootstrap_servers: str
    reachable: bool
    error: str | None = None
    brokers: int = 0
    controller: int | None = None
    cluster_id: str | None = None


@dataclass(frozen=True, slots=True)
class TopicState:
    role: str
    name: str
    partitions: int
    """0: it does not exist."""
    records: int
    """In the log now, by its offsets: gaps count too."""


@dataclass(frozen=True, slots=True)
class PartitionOwner:
    """`owners`: one name where all is well; none, or two while a rebalance is under way."""

    partition: int
    owners: tuple[str, ...]
    next_offset: int | None
    end_offset: int | None
    rows: int | None
    """None where its owner did not answer."""
    live_rows: int | None
    segments: int | None
    sealed_segments: int | None
    indexed_segments: int | None
    remote_segments: int | None


@dataclass(frozen=True, slots=True)
class Status:
    """`problems`: what does not work; `notes`: what could not be looked at."""

    broker: BrokerState
    topics: tuple[TopicState, ...]
    workers: tuple[WorkerState, ...]
    partitions: tuple[PartitionOwner, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not self.problems


async def cluster_status(settings: Settings, urls: Sequence[str] = ()) -> Status:
    """Raises nothing on purpose: what can't be reached is a problem in the answer."""
    found = await find_workers(settings, urls)
    notes = list(found.notes)
    topics: list[TopicState] = []
    ends: dict[int, int] = {}
    broker = await _broker(settings)
    if broker.reachable:
        try:
            topics, ends = await _topics(settings)
        except BrokerError as error:
            notes.append(str(error))
    owners = _owners(found, ends)
    return Status(
        broker, tuple(topics), found.workers, owners, tuple(_problems(settings, broker, topics, found, owners)),
        tuple(notes),
    )  # fmt: skip


async def _broker(settings: Settings) -> BrokerState:
    servers = settings.broker.bootstrap_servers
    try:
        async with admin_client(settings.broker) as admin:
            with broker_errors("asking for the cluster"):
                cluster = await admin.describe_cluster()
    except BrokerError as error:
        return BrokerState(servers, reachable=False, error=str(error))
    return BrokerState(
        servers,
        reachable=True,
        brokers=len(cluster["brokers"]),
        controller=cluster.get("controller_id"),
        cluster_id=cluster.get("cluster_id"),
    )


async def _topics(settings: Settings) -> tuple[list[TopicState], dict[int, int]]:
    """The topics, and the end offsets of the embeddings' partitions."""
    names = settings.topics
    states: list[TopicState] = []
    of_embeddings: dict[int, int] = {}
    for role, name in (
        ("embeddings", names.embeddings), ("dead_letters", names.dead_letters), ("digests", names.digests)
    ):  # fmt: skip
        try:
            async with reading(settings.broker, name) as reader:
                firsts, ends = await reader.beginnings(), await reader.ends()
        except UsageError:  # there is no such topic
            states.append(TopicState(role, name, 0, 0))
            continue
        records = sum(ends[partition] - firsts[partition] for partition in ends)
        states.append(TopicState(role, name, len(ends), records))
        if role == "embeddings":
            of_embeddings = ends
    return states, of_embeddings


def _owners(found: Workers, ends: dict[int, int]) -> tuple[PartitionOwner, ...]:
    names: dict[int, list[str]] = {partition: [] for partition in ends}
    for worker in found.workers:
        for partition in worker.owned:
            names.setdefault(partition, []).append(worker.name)
    states = {each.partition: each for worker in found.workers for each in worker.partitions}
    owners = []
    for partition in sorted(names):
        state = states.get(partition)
        owners.append(
            PartitionOwner(
                partition,
                tuple(names[partition]),
                next_offset=None if state is None else state.next_offset,
                end_offset=ends.get(partition),
                rows=None if state is None else state.rows,
                live_rows=None if state is None else state.live_rows,
                segments=None if state is None else state.segments,
                sealed_segments=None if state is None else state.sealed_segments,
                indexed_segments=None if state is None else state.indexed_segments,
                remote_segments=None if state is None else state.remote_segments,
            )
        )
    return tuple(owners)


def _problems(
    settings: Settings,
    broker: BrokerState,
    topics: Sequence[TopicState],
    found: Workers,
    owners: Sequence[PartitionOwner],
) -> list[str]:
    problems = [] if broker.reachable else [broker.error or "the broker can't be reached"]
    problems += [
        f"topic {topic.name} does not exist: akasha-stream topics apply" for topic in topics if not topic.partitions
    ]
    if not found.workers:
        problems.append("no worker runs: akasha-stream worker")
    late_s = OLD_HEARTBEATS * settings.redis.heartbeat_s
    for worker in found.workers:
        if worker.error is not None:
            problems.append(f"worker {worker.name} at {worker.url} {worker.error}")
            continue
        for name, component in worker.components.items():
            if not component.ok:
                problems.append(f"worker {worker.name}: {name}: {component.detail or 'not ok'}")
        age_s = worker.heartbeat_age_s()
        if age_s is not None and age_s > late_s:
            problems.append(f"worker {worker.name}: its last heartbeat is {age_s:.1f} s old, or its clock is behind")
    if found.workers:
        unowned = [str(owner.partition) for owner in owners if not owner.owners]
        if unowned:
            problems.append(f"no worker owns partition {', '.join(unowned)}: its events wait in Kafka")
        problems += [
            f"partition {owner.partition} is claimed by {' and '.join(owner.owners)}: a rebalance, or two groups"
            for owner in owners
            if len(owner.owners) > 1
        ]
    versions = {worker.registered.version for worker in found.workers if worker.registered is not None}
    if len(versions) > 1:
        problems.append(f"workers of different versions run: {', '.join(sorted(versions))}")
    return problems
