"""Rows straight into the shards of this process, without Kafka."""

from __future__ import annotations

import time
from collections.abc import Sequence

from akasha_stream.events.decode import Decoder
from akasha_stream.events.records import Record
from akasha_stream.hot.store import ShardStore
from akasha_stream.incarnation import Incarnation
from akasha_stream.partitioner import partition_of
from akasha_stream.settings import Settings
from akasha_stream.topics.definition import TopicDefinition
from benchmarks.data import Corpus, bundles

TRANSACTION_BUNDLES = 32


def partitions_of(topics: Sequence[TopicDefinition], settings: Settings) -> int:
    """Partitions of the embeddings topic by its definition."""
    return next(topic.partitions for topic in topics if topic.name == settings.topics.embeddings)


def fill_shards(
    store: ShardStore, settings: Settings, corpus: Corpus, *, rows: int, systems: int, partitions: int
) -> None:
    """Open the shards and store rows 0 …, as the worker would: decoded from bundles, in durable transactions."""
    shards = [store.open(number, Incarnation()) for number in range(partitions)]
    decoder = Decoder(settings.limits, None)
    waiting: list[list[Record]] = [[] for _ in shards]
    offsets = [0] * partitions

    def store_waiting(partition: int) -> None:
        records = waiting[partition]
        if not records:
            return
        waiting[partition] = []
        decoded = decoder.decode(records)
        if decoded.dead:
            raise RuntimeError(f"an event was refused: {decoded.dead[0].reason}: {decoded.dead[0].detail}")
        shards[partition].apply(records, decoded.batch)

    for table in corpus.tables(rows, systems):
        for system, value, _ in bundles(table):
            partition = partition_of(system, partitions)
            headers = [("content-type", b"application/vnd.apache.arrow.stream")]
            now_ms = time.time_ns() // 1_000_000
            waiting[partition].append(Record(partition, offsets[partition], now_ms, system.encode(), value, headers))
            offsets[partition] += 1
            if len(waiting[partition]) >= TRANSACTION_BUNDLES:
                store_waiting(partition)
    for partition in range(partitions):
        store_waiting(partition)
    stored = sum(view.rows for view in store.views())
    if stored != rows:
        raise RuntimeError(f"{stored} of {rows} rows were stored")
