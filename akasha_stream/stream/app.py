"""The Faust app: one agent on the embeddings topic, in the loop of the worker that holds it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import faust
from faust.types import TP
from mode.supervisors import CrashingSupervisor
from yarl import URL

from akasha_stream.settings import Settings
from akasha_stream.stream.consumer import Run, RunSchema, RunTransport, StartOffsets

type ProcessRuns = Callable[[Sequence[Run]], Awaitable[None]]


class IngestApp(faust.App):
    """A Faust app whose consumer starts where `start_offsets` says."""

    start_offsets: StartOffsets
    fetch_wait_ms = 500
    assignment_number = 0
    """Counts the assignments: each sets all partitions to the offsets that their shards have stored."""

    def _new_transport(self) -> RunTransport:
        return RunTransport(self.conf.broker_consumer, self, loop=self.loop)


def create_app(settings: Settings, process: ProcessRuns, start_offsets: StartOffsets) -> IngestApp:
    """The app; `process` returns when the runs are committed, and its exception stops the app."""
    ingest, broker = settings.ingest, settings.broker
    app = IngestApp(
        ingest.group,
        broker=[URL(f"kafka://{server.strip()}") for server in broker.bootstrap_servers.split(",")],
        broker_client_id=broker.client_id,
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
        agent_supervisor=CrashingSupervisor,
        autodiscover=False,
        web_enabled=False,
        datadir=Path(settings.hot.data_dir) / "faust",
        store="memory://",
        producer_acks=-1,
        loghandlers=[],
        logging_config={"version": 1, "disable_existing_loggers": False},
    )
    app.start_offsets = start_offsets
    app.fetch_wait_ms = ingest.fetch_wait_ms
    for name in ("faust", "mode", "aiokafka"):
        logging.getLogger(name).setLevel(logging.WARNING)
    topic = app.topic(settings.topics.embeddings, schema=RunSchema(), internal=False)

    # concurrency=1: with more, acks come out of order.
    @app.agent(topic, name="ingest", concurrency=1)
    async def ingest_runs(stream: Any) -> None:
        # Never take(): it acknowledges in a `finally`, so that an exception loses the batch.
        async for events in stream.noack_take(ingest.batch_messages, within=ingest.batch_wait_ms / 1000.0):
            # What an earlier assignment fetched is fetched again, from the offset that its shard stored.
            runs = [event.value for event in events if event.value.assignment == app.assignment_number]
            if runs:
                await process(runs)
            for event in events:
                event.ack()

    return app


__all__ = ["TP", "IngestApp", "create_app"]
