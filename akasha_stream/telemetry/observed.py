"""Figures that exist anyway, read when a metric reader asks: what they measure does not know of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from akasha_stream.events.reasons import REASONS
from akasha_stream.hot.growing import GrowingSegment
from akasha_stream.stream.window import Outcome
from akasha_stream.telemetry import catalog
from akasha_stream.telemetry.catalog import Metric
from akasha_stream.telemetry.recorded import IngestDurations, messaging
from akasha_stream.tiers.spilled import SpilledSegment

if TYPE_CHECKING:
    from akasha_stream.api.health import Health
    from akasha_stream.hot.shard import AnySegment
    from akasha_stream.hot.store import ShardStore
    from akasha_stream.lookups.updates import LookupHealth
    from akasha_stream.settings import Settings
    from akasha_stream.stream.ingest import Ingest
    from akasha_stream.stream.outlet import Outlet
    from akasha_stream.telemetry.lag import LagWatch
    from akasha_stream.tiers.tiering import Tiering

STATES = ("growing", "sealed", "indexed", "remote")

type Read = Callable[[], Iterable[Observation]]


@dataclass(frozen=True, slots=True)
class Parts:
    """Of a worker, as far as they have figures."""

    settings: Settings
    store: ShardStore
    ingest: Ingest
    outlet: Outlet
    lag: LagWatch
    durations: IngestDurations
    tiering: Tiering | None
    lookups: Callable[[], LookupHealth]
    health: Callable[[], Health]
    restarts: Callable[[], int]


def observe(meter: Meter, parts: Parts) -> None:
    """Make an asynchronous instrument of each figure. Their callbacks run in the reader's thread."""
    for metric, read in _readings(parts).items():
        create: Any = {
            "counter": meter.create_observable_counter,
            "gauge": meter.create_observable_gauge,
        }[metric.kind]
        create(metric.name, [_callback(read)], metric.unit, metric.meaning)


def _callback(read: Read) -> Callable[[CallbackOptions], Iterable[Observation]]:
    return lambda _options: list(read())


def _readings(parts: Parts) -> dict[Metric, Read]:
    return (
        _of_ingest(parts)
        | _of_log(parts)
        | _of_segments(parts.store)
        | _of_lookups(parts)
        | _of_health(parts)
        | ({} if parts.tiering is None else _of_tiers(parts.tiering))
    )


def _of_ingest(parts: Parts) -> dict[Metric, Read]:
    totals, outlet, topics = parts.ingest.totals, parts.outlet, parts.settings.topics
    consumed = messaging(topics.embeddings, "process") | {catalog.GROUP: parts.settings.ingest.group}
    letters, digests = messaging(topics.dead_letters, "send"), messaging(topics.digests, "send")

    def outcomes() -> Iterator[Observation]:
        for outcome in Outcome:
            yield Observation(int(totals.outcomes[outcome]), {catalog.OUTCOME: outcome.name.lower()})

    return {
        catalog.CONSUMED: lambda: [Observation(totals.records, consumed)],
        catalog.SENT: lambda: [
            Observation(outlet.dead_letters_sent, letters),
            Observation(outlet.digests_sent, digests),
        ],
        catalog.EVENTS: outcomes,
        # Zeros too: a counter that begins with its first letter would hide it from rate().
        catalog.DEAD: lambda: _each({reason: totals.reasons[reason] for reason in REASONS}, catalog.REASON),
        catalog.REDACTED: lambda: _one(totals.redacted),
        catalog.INGEST_IO: lambda: _one(totals.bytes),
        catalog.BATCHES: lambda: _one(totals.batches),
        catalog.FAILING: lambda: _one(len(totals.failures)),
        catalog.RESTARTS: lambda: _one(parts.restarts()),
    }


def _of_log(parts: Parts) -> dict[Metric, Read]:
    store, lag, totals = parts.store, parts.lag, parts.ingest.totals

    def lag_events() -> dict[int, int]:
        mean = totals.events / totals.records if totals.records else 1.0
        return {partition: round(n * mean) for partition, n in lag.records(store.shards()).items()}

    def lag_time() -> Iterator[Observation]:
        for shard in store.shards():
            progress = shard.progress
            age = lag.seconds(shard.partition, progress.next_offset, progress.last_timestamp_ms)
            if age is not None:
                yield Observation(age, {catalog.PARTITION: shard.partition})

    return {
        catalog.OWNED: lambda: _one(len(store.owned())),
        catalog.TOPIC_PARTITIONS: lambda: _one(store.partitions()),
        catalog.NEXT_OFFSET: lambda: _each({s.partition: s.next_offset for s in store.shards()}, catalog.PARTITION),
        catalog.LAG_RECORDS: lambda: _each(lag.records(store.shards()), catalog.PARTITION),
        catalog.LAG_EVENTS: lambda: _each(lag_events(), catalog.PARTITION),
        catalog.LAG_TIME: lag_time,
    }


def _of_segments(store: ShardStore) -> dict[Metric, Read]:
    def by_state(count: Callable[[AnySegment], int]) -> Iterator[Observation]:
        for shard in store.shards():
            found = dict.fromkeys(STATES, 0)
            for segment in shard.segments:
                found[_state(segment)] += count(segment)
            for state, value in found.items():
                yield Observation(value, {catalog.PARTITION: shard.partition, catalog.STATE: state})

    def live() -> dict[int, int]:
        return {s.partition: sum(int(each.live[: each.rows].sum()) for each in s.segments) for s in store.shards()}

    return {
        catalog.SEGMENTS: lambda: by_state(lambda _: 1),
        catalog.ROWS: lambda: by_state(lambda segment: segment.rows),
        catalog.LIVE_ROWS: lambda: _each(live(), catalog.PARTITION),
        catalog.INDEX_BACKLOG: lambda: _one(store.backlog().segments),
        catalog.INDEX_BACKLOG_ROWS: lambda: _one(store.backlog().rows),
        catalog.DIGESTS_PENDING: lambda: _one(sum(shard.digests_waiting for shard in store.shards())),
        catalog.WINDOWS_OPEN: lambda: _each({s.partition: s.open_windows for s in store.shards()}, catalog.PARTITION),
    }


def _state(segment: AnySegment) -> str:
    if isinstance(segment, GrowingSegment):
        return "growing"
    if isinstance(segment, SpilledSegment):
        return "remote"
    return "sealed" if segment.index is None else "indexed"


def _of_tiers(tiering: Tiering) -> dict[Metric, Read]:
    spiller, bodies = tiering.spiller, tiering.bodies
    totals, reads = spiller.totals, bodies.reads
    readings: dict[Metric, Read] = {
        catalog.SPILL_BACKLOG: lambda: _one(spiller.backlog().segments),
        catalog.SPILL_BACKLOG_ROWS: lambda: _one(spiller.backlog().rows),
        catalog.SPILLED: lambda: _one(totals.segments),
        catalog.SPILLED_ROWS: lambda: _one(totals.rows),
        catalog.SPILLED_IO: lambda: _one(totals.bytes),
        catalog.SPILL_TIME: lambda: _one(totals.seconds),
        catalog.SPILL_ERRORS: lambda: _one(totals.errors),
        catalog.CACHE_READS: lambda: _each({"hit": reads.hits, "miss": reads.misses}, catalog.OUTCOME),
    }
    cache = bodies.cache
    if cache is not None:
        readings |= {
            catalog.CACHE_USED: lambda: _one(cache.used_bytes),
            catalog.CACHE_LIMIT: lambda: _one(cache.limit_bytes),
        }
    return readings


def _of_lookups(parts: Parts) -> dict[Metric, Read]:
    lookups = parts.lookups
    if not lookups().enabled:
        return {}
    return {
        catalog.LOOKUPS_UP: lambda: _one(int(lookups().available)),
        catalog.LOOKUPS_QUEUED: lambda: _one(lookups().queued_events),
        catalog.LOOKUPS_REPAIRING: lambda: _one(len(lookups().repairing)),
        catalog.LOOKUPS_REPAIRS: lambda: _one(lookups().repairs),
        catalog.LOOKUPS_DROPPED: lambda: _one(lookups().dropped_updates),
    }


def _of_health(parts: Parts) -> dict[Metric, Read]:
    return {
        catalog.COMPONENT_OK: lambda: _each(
            {name: int(part.ok) for name, part in parts.health().components.items()}, catalog.COMPONENT
        ),
        catalog.READY: lambda: _one(int(parts.health().ready)),
    }


def _one(value: float) -> list[Observation]:
    return [Observation(value)]


def _each(values: Mapping[int, float] | Mapping[str, float], attribute: str) -> list[Observation]:
    return [Observation(value, {attribute: key}) for key, value in values.items()]
