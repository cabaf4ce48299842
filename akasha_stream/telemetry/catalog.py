"""Every metric of a worker. docs/telemetry.md says the same; a test compares the two with what a worker exports.

Attributes have few values: outcomes, tiers, partitions, routes. None is ever a source system, an id or a text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "updown", "histogram"]

PARTITION = "akasha.partition"
OUTCOME = "akasha.outcome"
STATE = "akasha.segment.state"
COMPONENT = "akasha.component"
REASON = "akasha.reason"
INDEX = "akasha.search.index"
SYSTEM = "messaging.system"
DESTINATION = "messaging.destination.name"
GROUP = "messaging.consumer.group.name"
OPERATION = "messaging.operation.name"
ERROR = "error.type"

FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Bounds in seconds of what takes milliseconds."""
SEMCONV = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Those that the semantic conventions advise."""
WIDE = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3_600.0)
"""Freshness: tens of milliseconds, or hours after an outage."""


@dataclass(frozen=True, slots=True)
class Metric:
    name: str
    kind: Kind
    unit: str
    meaning: str
    attributes: tuple[str, ...] = ()
    bounds: tuple[float, ...] | None = None
    """Of a histogram's buckets."""


# Ingest.
CONSUMED = Metric(
    "messaging.client.consumed.messages",
    "counter",
    "{message}",
    "Kafka records (bundles) that were stored, or went to the dead letters",
    (SYSTEM, DESTINATION, GROUP, OPERATION),
)
PROCESS_DURATION = Metric(
    "messaging.process.duration",
    "histogram",
    "s",
    "a batch from Kafka: decoding, dead letters and commits, with all retries",
    (SYSTEM, DESTINATION, GROUP, OPERATION),
    SEMCONV,
)
SENT = Metric(
    "messaging.client.sent.messages",
    "counter",
    "{message}",
    "records that the worker wrote to Kafka: dead letters, and digests of closed windows",
    (SYSTEM, DESTINATION, OPERATION),
)
COMMIT_DURATION = Metric(
    "db.client.operation.duration",
    "histogram",
    "s",
    "a commit of one partition: rows, tombstones and next offset in one DuckDB transaction",
    ("db.system.name", "db.operation.name", ERROR),
    FAST,
)
EVENTS = Metric(
    "akasha.ingest.events", "counter", "{event}", "events that were taken in, by what became of them", (OUTCOME,)
)
DEAD = Metric("akasha.ingest.dead_letters", "counter", "{letter}", "dead letters, by why", (REASON,))
REDACTED = Metric("akasha.ingest.redacted", "counter", "{event}", "events in which a secret was replaced")
INGEST_IO = Metric("akasha.ingest.io", "counter", "By", "of the values of Kafka records")
BATCHES = Metric("akasha.ingest.batches", "counter", "{batch}", "batches from Kafka that are committed")
FAILING = Metric(
    "akasha.ingest.failing", "gauge", "{partition}", "partitions whose batch at hand could not be committed yet"
)
FRESHNESS = Metric(
    "akasha.ingest.freshness",
    "histogram",
    "s",
    "from a record's timestamp until it is searchable; one value a commit, its oldest record's",
    (),
    WIDE,
)
RESTARTS = Metric(
    "akasha.stream.restarts", "counter", "{restart}", "times that the stream stopped and was started again"
)

# Where it stands in the log.
OWNED = Metric("akasha.partitions.owned", "gauge", "{partition}", "partitions that this worker has")
TOPIC_PARTITIONS = Metric("akasha.topic.partitions", "gauge", "{partition}", "partitions that the topic has")
NEXT_OFFSET = Metric("akasha.partition.next_offset", "gauge", "{offset}", "all below it is stored", (PARTITION,))
LAG_RECORDS = Metric(
    "akasha.partition.lag.records", "gauge", "{message}", "records (bundles) not read yet", (PARTITION,)
)
LAG_EVENTS = Metric(
    "akasha.partition.lag.events",
    "gauge",
    "{event}",
    "events not read yet: the records, by the mean of those that were read",
    (PARTITION,),
)
LAG_TIME = Metric("akasha.partition.lag.time", "gauge", "s", "age of the first record not read yet", (PARTITION,))

# What is stored.
SEGMENTS = Metric("akasha.segments", "gauge", "{segment}", "segments by how they are searched", (PARTITION, STATE))
ROWS = Metric(
    "akasha.rows", "gauge", "{row}", "rows by how their segment is searched, replaced ones included", (PARTITION, STATE)
)
LIVE_ROWS = Metric("akasha.rows.live", "gauge", "{row}", "rows that a search can return", (PARTITION,))
INDEX_BACKLOG = Metric("akasha.index.backlog", "gauge", "{segment}", "finished segments that wait for their index")
INDEX_BACKLOG_ROWS = Metric("akasha.index.backlog.rows", "gauge", "{row}", "their rows")
DIGESTS_PENDING = Metric(
    "akasha.digests.pending", "gauge", "{digest}", "windows that are closed, and their digest not in Kafka yet"
)
WINDOWS_OPEN = Metric("akasha.windows.open", "gauge", "{window}", "windows that still take events", (PARTITION,))
SPILL_BACKLOG = Metric("akasha.spill.backlog", "gauge", "{segment}", "finished segments that wait to be spilled")
SPILL_BACKLOG_ROWS = Metric("akasha.spill.backlog.rows", "gauge", "{row}", "their rows")
SPILLED = Metric("akasha.spill.segments", "counter", "{segment}", "segments that were spilled")
SPILLED_ROWS = Metric("akasha.spill.rows", "counter", "{row}", "their rows")
SPILLED_IO = Metric("akasha.spill.io", "counter", "By", "their bytes in the object store")
SPILL_TIME = Metric("akasha.spill.time", "counter", "s", "in which they were encoded and put")
SPILL_ERRORS = Metric("akasha.spill.errors", "counter", "{error}", "tries that failed")
CACHE_USED = Metric("akasha.cache.used", "gauge", "By", "disk that the row groups take which searches fetched")
CACHE_LIMIT = Metric("akasha.cache.limit", "gauge", "By", "tiers.cache_bytes")
CACHE_READS = Metric(
    "akasha.cache.reads", "counter", "{row_group}", "row groups that searches wanted: hit, miss", (OUTCOME,)
)

# Redis.
LOOKUPS_UP = Metric("akasha.lookups.available", "gauge", "1", "1: Redis answered last time")
LOOKUPS_QUEUED = Metric("akasha.lookups.queued", "gauge", "{event}", "events whose place is not in Redis yet")
LOOKUPS_REPAIRING = Metric("akasha.lookups.repairing", "gauge", "{partition}", "tables that are not complete")
LOOKUPS_REPAIRS = Metric("akasha.lookups.repairs", "counter", "{repair}", "tables that were repaired or rebuilt")
LOOKUPS_DROPPED = Metric("akasha.lookups.dropped", "counter", "{batch}", "batches that a repair has to make up for")

# Health, searches, HTTP.
COMPONENT_OK = Metric(
    "akasha.component.ok", "gauge", "1", "1: the part is as it should be, as /health/ready says", (COMPONENT,)
)
READY = Metric("akasha.worker.ready", "gauge", "1", "1: /health/ready answers 200")
SEARCH_DURATION = Metric(
    "akasha.search.duration",
    "histogram",
    "s",
    "a search, with its wait for freshness; complete, incomplete, or error",
    (INDEX, OUTCOME, ERROR),
    FAST,
)
# FastAPI's own.
HTTP_DURATION = Metric(
    "http.server.request.duration",
    "histogram",
    "s",
    "a request, until its answer is sent",
    ("http.request.method", "http.route", "http.response.status_code", "network.protocol.version", "url.scheme", ERROR),
    SEMCONV,
)
HTTP_ACTIVE = Metric(
    "http.server.active_requests", "updown", "{request}", "requests under way", ("http.request.method", "url.scheme")
)

# Of the storage adapters (storage/metrics.py).
STORAGE_DURATION = Metric(
    "akasha.storage.operation.duration",
    "histogram",
    "s",
    "an operation of an object store, its retries included; without error.type where it succeeded",
    ("akasha.storage.operation", "akasha.storage.provider", "akasha.storage.tier", ERROR),
    (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120),
)
STORAGE_IO = Metric(
    "akasha.storage.io",
    "counter",
    "By",
    "bytes of objects: read, write",
    ("akasha.storage.direction", "akasha.storage.provider", "akasha.storage.tier"),
)
STORAGE_RETRIES = Metric(
    "akasha.storage.retries",
    "counter",
    "{retry}",
    "requests that were made once more",
    ("akasha.storage.operation", "akasha.storage.provider", "akasha.storage.tier"),
)
STORAGE_BREAKER = Metric(
    "akasha.storage.breaker.state",
    "gauge",
    "1",
    "0: closed, 1: half open, 2: open, so that nothing is asked of the store",
    ("akasha.storage.bucket", "akasha.storage.provider", "akasha.storage.tier"),
)

ALL: tuple[Metric, ...] = tuple(each for each in list(globals().values()) if isinstance(each, Metric))
