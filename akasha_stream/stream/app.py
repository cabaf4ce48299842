"""The Faust app: one agent on the embeddings topic, in the loop of the worker that holds it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from typing import Any, cast

import faust
from faust.types import TP
from mode.supervisors import CrashingSupervisor
from yarl import URL

from akasha_stream.connections.kafka import faust_credentials
from akasha_stream.settings import Settings
from akasha_stream.stream.assignor import StickyAssignor
from akasha_stream.stream.consumer import ReadTo, Run, RunSchema, RunTransport, StartOffsets
from akasha_stream.stream.group import Group

TAKE_S = 0.002
"""The runs of a fetch come one after the other; the consumer has waited for more of them already."""

type ProcessRuns = Callable[[Sequence[Run]], Awaitable[None]]


class IngestApp(faust.App):
    """A Faust app whose consumer starts where `start_offsets` says."""

    start_offsets: StartOffsets
    group: Group
    fetch_wait_ms = 500
    batch_wait_s = 0.0
    assignment_number = 0
    """Counts the assignments: each sets all partitions to the offsets that their shards have stored."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.read_to: dict[int, ReadTo] = {}
        """Partition → how far its log was read; written in the consumer's thread."""

    def read_now(self) -> dict[int, ReadTo]:
        """Of the current assignment."""
        return {p: each for p, each in self.read_to.copy().items() if each.assignment == self.assignment_number}

    def _new_transport(self) -> RunTransport:
        return RunTransport(self.conf.broker_consumer, self, loop=self.loop)


def create_app(
    settings: Settings,
    process: ProcessRuns,
    start_offsets: StartOffsets,
    group: Group,
    *,
    url: str,
    had: Collection[int] = (),
) -> IngestApp:
    """The app; `process` returns when the runs are committed, and its exception stops the app.

    `url`: of this worker's HTTP API, as others reach it; every member of the group hears of it (see Group.owners).
    `had`: the partitions that this worker had last, which it would best get again.
    """
    ingest, broker = settings.ingest, settings.broker
    app = IngestApp(
        ingest.group,
        broker=[URL(f"kafka://{server.strip()}") for server in broker.bootstrap_servers.split(",")],
        broker_client_id=broker.client_id,
        broker_credentials=faust_credentials(broker),
        broker_session_timeout=ingest.session_timeout_s,
        broker_heartbeat_interval=ingest.heartbeat_s,
        broker_request_timeout=max(broker.request_timeout_s, ingest.session_timeout_s + 1),
        broker_max_poll_records=None,
        # A batch that waits for a full disk keeps its partitions; the heartbeat says that the worker lives.
        broker_max_poll_interval=86_400.0,
        broker_commit_interval=1.0,
        broker_check_crcs=True,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=ingest.instance_id,
        consumer_max_fetch_size=ingest.fetch_bytes,
        consumer_metadata_max_age_ms=30_000,
        stream_buffer_maxsize=64,
        stream_wait_empty=False,
        stream_recovery_delay=0.0,
        stream_processing_timeout=86_400.0,
        topic_allow_declare=False,
        topic_disable_leader=True,
        PartitionAssignor=StickyAssignor,
        agent_supervisor=CrashingSupervisor,
        autodiscover=False,
        web_enabled=False,
        canonical_url=url,
        # Faust fills in {…}; a folder may be called so.
        datadir=(str(settings.hot.data_dir).replace("{", "{{").replace("}", "}}") + "/faust"),
        store="memory://",
        producer_acks=-1,
        loghandlers=[],
        logging_config={"version": 1, "disable_existing_loggers": False},
    )
    app.start_offsets = start_offsets
    app.group = group
    cast("StickyAssignor", app.assignor).had(settings.topics.embeddings, had)
    app.fetch_wait_ms = ingest.fetch_wait_ms
    app.batch_wait_s = ingest.batch_wait_ms / 1000
    for name in ("faust", "mode", "aiokafka"):
        logging.getLogger(name).setLevel(logging.WARNING)
    topic = app.topic(settings.topics.embeddings, schema=RunSchema(), internal=False)

    # concurrency=1: with more, acks come out of order.
    @app.agent(topic, name="ingest", concurrency=1)
    async def ingest_runs(stream: Any) -> None:
        async for events in _taken(stream, ingest.batch_messages):
            # What an earlier assignment fetched is fetched again, from the offset that its shard stored.
            runs = [event.value for event in events if event.value.assignment == app.assignment_number]
            if runs:
                await process(runs)
            for event in events:
                event.ack()

    return app


async def _taken(stream: Any, most: int) -> AsyncIterator[list[Any]]:
    """What waits in the agent's queue, 1 … `most` events at a time; the caller acknowledges them.

    Faust's take() acknowledges in a `finally`, so that an exception loses the batch, and its noack_take() wakes every
    `within` seconds whether anything came or not: at 2 ms that took a tenth of a core from ingest and searches.
    """
    events: list[Any] = []
    manual = stream.noack()
    waiting = manual.channel.queue
    async for event in manual.events():
        events.append(event)
        if len(events) < most and waiting.empty():
            await asyncio.sleep(TAKE_S)
        if len(events) == most or waiting.empty():
            yield events
            events = []


__all__ = ["TP", "IngestApp", "create_app"]
