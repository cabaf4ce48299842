"""Several workers in one process: each its own engine and HTTP app, joined by a network that a test breaks."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

import httpx
from fastapi import FastAPI
from pydantic import SecretStr

from akasha_stream.api.access import Guard
from akasha_stream.api.app import create_app
from akasha_stream.client import AkashaClient
from akasha_stream.cluster.cluster import Cluster
from akasha_stream.cluster.owners import Owners
from akasha_stream.cluster.peers import HttpPeers
from akasha_stream.errors import LookupUnavailable
from akasha_stream.lookups.workers import Worker
from akasha_stream.search.embedders import Embedder
from akasha_stream.search.engine import SearchEngine
from akasha_stream.settings import Limits, SearchSettings, Settings
from tests.search.memory_store import MemoryStore, Row

PARTITIONS = 6
DIMENSIONS = 8


@dataclass
class GroupOf:
    """A consumer group as one member knows it."""

    assigned: dict[int, str]
    members: list[str] = field(default_factory=list)
    member: bool = True

    def owners(self) -> Mapping[int, str]:
        return self.assigned

    def urls(self) -> Sequence[str]:
        return self.members or sorted(set(self.assigned.values()))

    def confirmed(self) -> bool:
        return self.member


@dataclass
class Registry:
    """Redis as one worker sees it."""

    assigned: dict[int, str]
    away: bool = False
    read: int = 0

    async def list(self) -> list[Worker]:
        self.read += 1
        if self.away:
            raise LookupUnavailable("no Redis")
        at = datetime.now(UTC)
        return [
            Worker(url, "h", url, 1, "1", at, at, tuple(p for p, owner in self.assigned.items() if owner == url))
            for url in sorted(set(self.assigned.values()))
        ]


class Network(httpx.AsyncBaseTransport):
    """Takes requests to the apps by their host."""

    def __init__(self) -> None:
        self.apps: dict[str, httpx.ASGITransport] = {}
        self.down: set[str] = set()
        self.stopped: set[str] = set()
        self.broken: set[str] = set()
        self.asked: list[tuple[str, str]] = []
        """(URL of the worker, path) of each request"""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = f"http://{request.url.host}"
        self.asked.append((url, request.url.path))
        if url in self.down:
            raise httpx.ConnectError("refused")
        if url in self.stopped:
            await asyncio.Event().wait()
        if url in self.broken:
            return httpx.Response(200, json={"hits": "none"})
        return await self.apps[url].handle_async_request(request)


@dataclass
class Node:
    url: str
    store: MemoryStore
    engine: SearchEngine
    cluster: Cluster
    group: GroupOf
    registry: Registry
    lapsed: set[int] = field(default_factory=set)


class Fleet:
    """`owned`: the partitions of each worker. All rows are in all stores; a worker searches those of its partitions."""

    def __init__(
        self,
        rows: Sequence[Row],
        owned: Sequence[Sequence[int]],
        *,
        embedder: Embedder | None = None,
        partitions: int = PARTITIONS,
        guard: Guard | None = None,
        secret: SecretStr | None = None,
        **search: float,
    ) -> None:
        """`guard`: of every worker; `secret`: what they show to one another."""
        settings = Settings(
            limits=Limits(dimensions=DIMENSIONS),
            search=SearchSettings.model_validate({"threads": 1, "peer_timeout_s": 5.0, **search}),
        )
        self.network = Network()
        self.apps: list[FastAPI] = []
        self.nodes: list[Node] = []
        assigned = {p: f"http://worker-{number}" for number, mine in enumerate(owned) for p in mine}
        for number, mine in enumerate(owned):
            url = f"http://worker-{number}"
            store = MemoryStore(partitions, owned=mine)
            if rows:
                store.add(rows)
            engine = SearchEngine(store, settings, embedder)
            group = GroupOf(dict(assigned), [f"http://worker-{each}" for each in range(len(owned))])
            registry = Registry(dict(assigned))
            lapsed: set[int] = set()
            cluster = Cluster(
                engine,
                settings,
                owners=Owners(lambda url=url: url, group, registry, 0.0),  # type: ignore[misc]
                peers=HttpPeers(self.network, secret=secret),
                holds=lambda partition, lapsed=lapsed: partition not in lapsed,  # type: ignore[misc]
            )
            self.nodes.append(Node(url, store, engine, cluster, group, registry, lapsed))
            app = create_app(cluster, guard=guard)
            self.apps.append(app)
            self.network.apps[url] = httpx.ASGITransport(app)
        everything = MemoryStore(partitions)
        if rows:
            everything.add(rows)
        self.alone = SearchEngine(everything, settings, embedder)
        """One engine over all rows: what every worker must answer."""

    def client(self, number: int, key: str | None = None) -> AkashaClient:
        url = self.nodes[number].url
        return AkashaClient(url, key=key, transport=self.network.apps[url])

    def move(self, partition: int, to: int, *, group: bool = True, registry: bool = True) -> None:
        """To another worker, with who hears of it."""
        for number, node in enumerate(self.nodes):
            owned = node.store._owned
            if partition in owned:
                owned.remove(partition)
            if number == to:
                owned.append(partition)
            if group:
                node.group.assigned[partition] = self.nodes[to].url
            if registry:
                node.registry.assigned[partition] = self.nodes[to].url

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.alone.close()
        for node in self.nodes:
            node.engine.close()
