from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

import httpx
import pytest
from fastapi import FastAPI

from akasha_stream.api.app import create_app
from akasha_stream.api.health import Health
from akasha_stream.client import AkashaClient
from akasha_stream.cluster.cluster import Cluster
from akasha_stream.search.engine import SearchEngine
from akasha_stream.settings import Limits, SearchSettings, Settings
from tests.search.memory_store import MemoryStore, Row

SETTINGS = Settings(limits=Limits(dimensions=8), search=SearchSettings(threads=1))
ODD = ["a/b", "/", "..", ".", "a b", "ü", "%2F", "?q=1#x", "a+b", "//", "x/", "\\", '"', "%", "&=;"]


@dataclass
class State:
    """What the health callback says; tests change it."""

    health: Health = field(default_factory=Health)


@pytest.fixture
def engine() -> Iterator[SearchEngine]:
    store = MemoryStore(4)
    rng = [[float((i * j) % 7 - 3) + 0.5 for j in range(1, 9)] for i in range(1, 21)]
    store.add([Row("s", str(i), v, f"content {i}", {"n": i}) for i, v in enumerate(rng)])
    store.add([Row(odd, odd, [1.0] * 8, "odd") for odd in ODD])
    engine = SearchEngine(store, SETTINGS)
    yield engine
    engine.close()


@pytest.fixture
def state() -> State:
    return State()


@pytest.fixture
def app(engine: SearchEngine, state: State) -> FastAPI:
    return create_app(Cluster(engine, SETTINGS), health=lambda: state.health)


@pytest.fixture
async def http(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://akasha") as client:
        yield client


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[AkashaClient]:
    async with AkashaClient("http://akasha", transport=httpx.ASGITransport(app)) as client:
        yield client
