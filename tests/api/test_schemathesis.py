"""Requests made from the OpenAPI document, right and wrong ones: each answer is one that the document names."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from numpy.typing import NDArray
from schemathesis import GenerationMode
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import ignored_auth

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


class Embedder:
    model = "none"
    dimensions = SETTINGS.limits.dimensions

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.ones((len(texts), SETTINGS.limits.dimensions), np.float32)


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
    engine = SearchEngine(engine.store, SETTINGS, Embedder())
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
    # Of a request that the document allows: 400 where it does not fit the store, as with a vector of another length.
    accepted = ["2xx", 400, 404, 409, 422]
    config = SchemathesisConfig.from_dict({"checks": {"positive_data_acceptance": {"expected-statuses": accepted}}})
    schema: Any = schemathesis.openapi.from_asgi("/openapi.json", app, config=config)
    schema.key = made.secret
    yield schema
    store.close_all()
    engine.close()


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_answers_are_as_documented(api: Any, mode: GenerationMode) -> None:
    """`mode`: requests as the document wants them, and requests that it does not allow."""
    asked: set[str] = set()
    for found in api.get_all_operations():
        operation = found.ok()

        # pytest's plugin of schemathesis would make one test of each; this way the application is made once.
        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
        def check(case: Any) -> None:
            asked.add(case.path)
            secret = SECRET if "/peer/" in case.path else api.key
            case.headers["Authorization"] = f"Bearer {secret}"
            # It takes the key for one of its own wrong ones; the test below is for that.
            response = case.call_and_validate(excluded_checks=[ignored_auth])
            if mode is GenerationMode.POSITIVE and response.status_code == 422:
                # The one rule of a field that no JSON schema can tell.
                assert "created_after must lie before created_before" in response.text, response.text

        # What takes nothing can't be asked wrongly.
        with suppress(Unsatisfiable):
            check()
    assert len(asked) > 8


def test_nothing_is_answered_without_a_key_but_probes(api: Any) -> None:
    answered = set()
    for found in api.get_all_operations():
        operation = found.ok()
        response = operation.Case(path_parameters=dict.fromkeys(("system", "id", "partition", "offset"), "1")).call()
        if response.status_code != 401:
            answered.add(operation.path)
    assert answered == {"/health/live", "/health/ready", "/health/startup"}
