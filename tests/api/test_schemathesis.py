"""Requests made from the OpenAPI document, right and wrong ones: each answer is one that the document names."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import schemathesis
from hypothesis import HealthCheck, settings

from akasha_stream.api import dead_letters
from akasha_stream.api.access import Guard
from akasha_stream.api.app import create_app
from akasha_stream.api.health import ComponentHealth, Health
from akasha_stream.api.map import add_map
from akasha_stream.api.metrics import add_metrics
from akasha_stream.api.overview import add_overview
from akasha_stream.auth.authentication import Authentication
from akasha_stream.auth.caller import Scope
from akasha_stream.auth.keys import Keys, KeysFile, NewKey
from akasha_stream.cluster.cluster import Cluster
from akasha_stream.dlq.ledger import Choice
from akasha_stream.dlq.requeue import Requeued
from akasha_stream.errors import LetterNotFound
from akasha_stream.hot.store import ShardStore
from akasha_stream.operations.overview import Overview
from akasha_stream.replay.queue import Replays
from akasha_stream.search.engine import SearchEngine
from akasha_stream.settings import BrokerSettings, HotSettings, Settings
from akasha_stream.telemetry.figures import Backlog, WorkerFigures
from akasha_stream.topics.reader import TopicReader
from tests.api.conftest import SETTINGS
from tests.security.tenants import Letters

SECRET = "s" * 40
FIGURES = WorkerFigures(
    version="1", topic="t", group="g", at_ms=1, started_at_ms=1, ready=True, components={"a": ComponentHealth(True)},
    topic_partitions=4, embedder=None, records=0, bytes=0, batches=0, redacted=0, outcomes={}, dead_letters=0,
    reasons={}, windows_closed=0, restarts=0, freshness=None, index_backlog=Backlog(0, 0), spill_backlog=None,
)  # fmt: skip


@pytest.fixture
def api(engine: SearchEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The whole API, over a store in memory and dead letters that are made up."""
    file = KeysFile(tmp_path / "keys.yml")
    made = NewKey.make("admin", [Scope.ADMIN], ["*"])
    file.add(made)

    @asynccontextmanager
    async def reading(_broker: BrokerSettings, _topic: str) -> AsyncIterator[TopicReader]:
        yield cast("TopicReader", Letters())

    async def requeue(_settings: Settings, choice: Choice, *, again: bool) -> Requeued:
        if any(place.offset > 3 or place.partition for place in choice.places):
            raise LetterNotFound("there is no such letter")
        return Requeued(dry_run=again)

    async def overview() -> Overview:
        return Overview(1)

    async def quietly(_partition: int, call: Callable[[], Awaitable[None]]) -> None:
        await call()

    monkeypatch.setattr(dead_letters, "reading", reading)
    monkeypatch.setattr(dead_letters, "requeue", requeue)
    stored = Settings(hot=HotSettings(data_dir=tmp_path / "data"))
    store = ShardStore(stored, "t")
    guard = Guard(Authentication(Keys(file.path), node_secret=SECRET))
    app = create_app(
        Cluster(engine, SETTINGS),
        guard=guard,
        health=lambda: Health({"a": ComponentHealth(True)}),
        replays=Replays(stored, store, quietly=quietly),
    )
    dead_letters.add_dead_letters(app, SETTINGS)
    add_map(app, engine.map)
    add_overview(app, lambda: FIGURES, overview)
    add_metrics(app, lambda: b"a 1\n")
    schema: Any = schemathesis.openapi.from_asgi("/openapi.json", app)
    schema.config.headers = {"authorization": f"Bearer {made.secret}"}
    yield schema
    store.close_all()


schema = schemathesis.pytest.from_fixture("api")


@schema.parametrize()
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
def test_answers_are_as_documented(case: Any) -> None:
    node = "/peer/" in case.path
    headers = {"authorization": f"Bearer {SECRET}"} if node else {}
    case.call_and_validate(headers=headers)
