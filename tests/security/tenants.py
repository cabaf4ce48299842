"""Three workers whose events belong to systems that must not learn of one another, and requests that try to.

Each system has two canaries: one in its name, one in all else that is its own (ids, texts, metadata, dead letters).
"""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import httpx
import pytest
from aiokafka import ConsumerRecord
from mcp.server.fastmcp.exceptions import ToolError
from pydantic import SecretStr

from akasha_stream.api import dead_letters
from akasha_stream.api.access import Guard
from akasha_stream.api.identity import path_of
from akasha_stream.api.map import add_map
from akasha_stream.api.metrics import add_metrics
from akasha_stream.api.overview import add_overview
from akasha_stream.auth.authentication import Authentication
from akasha_stream.auth.caller import Scope
from akasha_stream.auth.keys import Keys, KeysFile, NewKey
from akasha_stream.auth.systems import SYSTEMS_HEADER, Systems
from akasha_stream.events.dead_letters import DETAIL, EVENTS, OFFSET, PARTITION, REASON, TIMESTAMP, TOPIC
from akasha_stream.mcp.server import make_server
from akasha_stream.settings import BrokerSettings, Settings
from akasha_stream.topics.reader import TopicReader
from tests.cluster.fleet import DIMENSIONS, PARTITIONS, Fleet
from tests.search.memory_store import Row

SECRET = "n" * 40
PER_SYSTEM = 12
START = datetime(2026, 7, 1, tzinfo=UTC)

# Names that begin, look or compare like one another.
STEMS = [
    "team-a", "team-ab", "Team-a", "team-a ", "team-b", "team-b/x", "team-b*", "*", "a\u0308", "\u00e4", "..", "%2F",
    "ops", "OPS",
]  # fmt: skip


@dataclass(frozen=True)
class Tenant:
    """A source system and its canaries."""

    name: str
    in_name: str
    in_rest: str

    @property
    def canaries(self) -> tuple[str, str]:
        return self.in_name, self.in_rest

    def event_id(self, number: int) -> str:
        return f"{number}-{self.in_rest}"


def _tenants() -> list[Tenant]:
    made = random.Random(11)
    return [
        Tenant(f"{stem}{(token := f'n{made.getrandbits(48):012x}')}", token, f"r{made.getrandbits(48):012x}")
        for stem in STEMS
    ]


TENANTS = _tenants()


def _rows() -> list[Row]:
    made = random.Random(12)
    return [
        Row(
            tenant.name,
            tenant.event_id(number),
            [made.gauss(0, 1) for _ in range(DIMENSIONS)],
            f"{tenant.in_rest} says {number}",
            {"n": number, "of": tenant.in_rest, "even": number % 2 == 0},
            START + timedelta(minutes=made.randrange(100_000)),
            f"model-{tenant.in_rest}",
        )
        for tenant in TENANTS
        for number in range(PER_SYSTEM)
    ]


@dataclass(frozen=True)
class Bearer:
    """A caller: its key, and what it may see."""

    key: str
    systems: Systems
    scopes: frozenset[Scope]

    def foreign(self) -> list[Tenant]:
        return [each for each in TENANTS if each.name not in self.systems]

    def own(self) -> list[Tenant]:
        return [each for each in TENANTS if each.name in self.systems]


@dataclass
class Asked:
    """One request and its answer, as texts."""

    what: str
    """All that the asker said: what comes back of that tells nothing."""
    status: int
    said: str
    kind: str


@dataclass
class Tenancy:
    fleet: Fleet
    guard: Guard
    bearers: list[Bearer]
    everything: Bearer
    cursors: list[str] = field(default_factory=list)

    def http(self, number: int, bearer: Bearer) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            transport=self.fleet.network.apps[self.fleet.nodes[number].url],
            base_url="http://akasha",
            headers={"authorization": f"Bearer {bearer.key}"},
        )


class Letters:
    """A dead-letter topic: one letter of each system, one whose event names another system, and foreign bytes."""

    topic = "dlq"
    partitions = (0,)

    def __init__(self) -> None:
        self.records: list[ConsumerRecord] = []
        for number, tenant in enumerate(TENANTS):
            other = TENANTS[(number + 1) % len(TENANTS)]
            self._add(
                tenant.name.encode(), f'{{"content": "{tenant.in_rest}"}}'.encode(), "vector_length", tenant.in_rest
            )
            self._add(
                tenant.name.encode(), other.in_rest.encode(), "key_mismatch",
                f"the record's key is {tenant.name!r}, source_system {other.name!r}",
            )  # fmt: skip
        self._add(None, b"\xff", "json_invalid", "no bundle")

    def _add(self, key: bytes | None, value: bytes, reason: str, detail: str) -> None:
        headers = [
            (REASON, reason.encode()), (DETAIL, detail.encode()), (TOPIC, b"t"), (PARTITION, b"0"), (OFFSET, b"7"),
            (TIMESTAMP, b"1"), (EVENTS, b"1"),
        ]  # fmt: skip
        offset = len(self.records)
        self.records.append(ConsumerRecord("dlq", 0, offset, 1_000 + offset, 0, key, value, None, 1, 1, tuple(headers)))

    async def beginnings(self) -> dict[int, int]:
        return {0: 0}

    async def ends(self) -> dict[int, int]:
        return {0: len(self.records)}

    async def one(self, partition: int, offset: int) -> ConsumerRecord | None:
        return self.records[offset] if partition == 0 and offset < len(self.records) else None

    async def between(
        self, starts: Mapping[int, int], ends: Mapping[int, int]
    ) -> AsyncIterator[Sequence[ConsumerRecord]]:
        yield self.records[starts[0] : ends[0]]


@asynccontextmanager
async def tenancy(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Tenancy]:
    file = KeysFile(folder / "keys.yml")
    names = [each.name for each in TENANTS]
    read, write, admin = frozenset({Scope.READ}), frozenset({Scope.READ, Scope.WRITE}), frozenset({Scope.ADMIN})
    wanted: list[tuple[Sequence[str], frozenset[Scope]]] = [
        *(([name], read) for name in names if "*" not in name),
        ([names[0], names[8]], write),
        ([names[12]], admin),
        (["team-a*"], read),
        (["Team-*", "nobody"], admin),
        (["nobody"], admin),
    ]
    bearers = []
    for patterns, scopes in wanted:
        made = NewKey.make("k", scopes, patterns)
        file.add(made)
        bearers.append(Bearer(made.secret, Systems.of(patterns), scopes))
    whole = NewKey.make("whole", admin, ["*"])
    file.add(whole)
    guard = Guard(Authentication(Keys(file.path), node_secret=SECRET))

    @asynccontextmanager
    async def reading(_broker: BrokerSettings, _topic: str) -> AsyncIterator[TopicReader]:
        yield cast("TopicReader", Letters())

    monkeypatch.setattr(dead_letters, "reading", reading)

    def never() -> Any:
        raise AssertionError("the figures of all systems were asked for")

    async with Fleet(_rows(), [[0, 1], [2, 3], [4, 5]], guard=guard, secret=SecretStr(SECRET)) as fleet:
        for app, node in zip(fleet.apps, fleet.nodes, strict=True):
            dead_letters.add_dead_letters(app, Settings())
            add_map(app, node.engine.map)
            add_overview(app, never, never)
            add_metrics(app, never)
        site = Tenancy(fleet, guard, bearers, Bearer(whole.secret, Systems.of(["*"]), admin))
        async with site.http(0, site.everything) as http:
            page = (await http.get("/v1/events", params={"limit": 60})).json()
            site.cursors = [page["next"]]
        yield site


# ── requests ─────────────────────────────────────────────────────────────────────────────────────────────


class Asker:
    """Makes up requests, most of which reach for what is not the caller's."""

    def __init__(self, site: Tenancy, seed: int) -> None:
        self._site = site
        self._random = random.Random(seed)
        self._kinds: list[Callable[[Bearer], tuple[str, str, dict[str, Any]]]] = [
            self._search, self._search, self._search, self._get, self._get, self._recent, self._stats, self._map,
            self._letters, self._letter, self._operation, self._peer, self._wrong,
        ]  # fmt: skip

    async def ask(self) -> tuple[Bearer, Asked]:
        bearer = self._random.choice(self._site.bearers)
        node = self._random.randrange(len(self._site.fleet.nodes))
        if self._random.random() < 0.08:
            return bearer, await self._mcp(bearer, node)
        method, path, options = self._random.choice(self._kinds)(bearer)
        async with self._site.http(node, bearer) as http:
            response = await http.request(method, path, **options)
        said = "\n".join([*(f"{name}: {value}" for name, value in response.headers.items()), response.text])
        return bearer, Asked(
            f"{method} {path} {json.dumps(options, ensure_ascii=False)}", response.status_code, said, path.split("?")[0]
        )

    def _any(self, bearer: Bearer, foreign: float = 0.7) -> Tenant:
        own, others = bearer.own(), bearer.foreign()
        return self._random.choice(others if not own or self._random.random() < foreign else own)

    def _search(self, bearer: Bearer) -> tuple[str, str, dict[str, Any]]:
        made = self._random
        body: dict[str, Any] = {"k": made.choice([1, 3, 10, 200, 1000])}
        if made.random() < 0.5:
            body["vector"] = [made.gauss(0, 1) for _ in range(DIMENSIONS)]
        else:
            like = self._any(bearer)
            body["like"] = {
                "source_system": like.name, "event_id": like.event_id(made.randrange(PER_SYSTEM + 2))
            }  # fmt: skip
        filters: dict[str, Any] = {}
        if made.random() < 0.5:
            filters["systems"] = [self._any(bearer).name for _ in range(made.randrange(1, 4))]
        if made.random() < 0.3:
            conditions = {"of": {"ne": "x"}, "even": True, "n": {"gte": 3}, "of.x": {"exists": False}}
            filters["metadata"] = dict([made.choice(list(conditions.items()))])
        if made.random() < 0.2:
            filters["created_after"] = (START + timedelta(minutes=made.randrange(50_000))).isoformat()
        if filters:
            body["filters"] = filters
        if made.random() < 0.3:
            body["index"] = made.choice(["auto", "hnsw", "codes", "exact"])
        if made.random() < 0.3:
            body["threshold"] = made.choice([-1, 0, 0.5])
        if made.random() < 0.3:
            body["fields"] = made.sample(["content", "metadata", "model", "position", "embedding"], 2)
        if made.random() < 0.15:
            body["as_of"] = made.choice(["2026-07-20T00:00:00Z", "0:5,1:3", "3:100", "2001-01-01T00:00:00Z"])
        if made.random() < 0.1:
            body |= {"after": f"{made.randrange(PARTITIONS)}:0", "after_timeout_s": 0}
        return "POST", "/v1/search", {"json": body}

    def _get(self, bearer: Bearer) -> tuple[str, str, dict[str, Any]]:
        tenant = self._any(bearer)
        path = path_of(tenant.name, tenant.event_id(self._random.randrange(PER_SYSTEM + 2)))
        return "GET", path, {"params": {"embedding": self._random.choice(["true", "false"])}}

    def _recent(self, bearer: Bearer) -> tuple[str, str, dict[str, Any]]:
        made = self._random
        params: dict[str, Any] = {"limit": made.choice([1, 20, 100])}
        if made.random() < 0.5:
            params["system"] = [self._any(bearer).name for _ in range(made.randrange(1, 3))]
        if made.random() < 0.4:
            params["cursor"] = made.choice([*self._site.cursors, "0.0.0", f"{10**16}.5.{2**62}", "x"])
        return "GET", "/v1/events", {"params": params}

    def _stats(self, _bearer: Bearer) -> tuple[str, str, dict[str, Any]]:
        return "GET", self._random.choice(["/v1/stats", "/v1/stats?cluster=true"]), {}

    def _map(self, _bearer: Bearer) -> tuple[str, str, dict[str, Any]]:
        return "GET", f"/v1/map?sample={self._random.choice([2, 50, 5000])}", {}

    def _letters(self, bearer: Bearer) -> tuple[str, str, dict[str, Any]]:
        params: dict[str, Any] = {"limit": 1000}
        if self._random.random() < 0.6:
            params["system"] = [self._any(bearer).name]
        if self._random.random() < 0.3:
            params["reason"] = ["key_mismatch"]
        return "GET", "/v1/dead-letters", {"params": params}

    def _letter(self, _bearer: Bearer) -> tuple[str, str, dict[str, Any]]:
        return "GET", f"/v1/dead-letters/0/{self._random.randrange(2 * len(TENANTS) + 4)}", {}

    def _operation(self, _bearer: Bearer) -> tuple[str, str, dict[str, Any]]:
        paths = ["/v1/worker", "/v1/overview", "/v1/partitions", "/metrics", "/health/ready", "/health/startup",
                 "/openapi.json"]  # fmt: skip
        return "GET", self._random.choice(paths), {}

    def _peer(self, bearer: Bearer) -> tuple[str, str, dict[str, Any]]:
        """What only workers may ask, and a header that only they may send."""
        made, tenant = self._random, self._any(bearer)
        headers = {SYSTEMS_HEADER: json.dumps(["*"])}
        event = {"source_system": tenant.name, "event_id": tenant.event_id(0)}
        bodies: dict[str, dict[str, Any]] = {
            "search": {"request": {"vector": [1.0] * DIMENSIONS, "k": 100}, "partitions": list(range(PARTITIONS))},
            "event": {"event": event},
            "written": {"partition": made.randrange(PARTITIONS), "events": [event]},
        }
        if made.random() < 0.5:
            what = made.choice(list(bodies))
            return "POST", f"/v1/peer/{what}", {"json": bodies[what], "headers": headers}
        method, path, options = made.choice([self._search, self._recent, self._stats, self._get])(bearer)
        return method, path, {**options, "headers": headers}

    def _wrong(self, bearer: Bearer) -> tuple[str, str, dict[str, Any]]:
        """Requests that end in an error, whose text is looked at."""
        made, name = self._random, self._any(bearer).name
        body: Any = made.choice([
            {"vector": [1.0], "filters": {"systems": [name]}}, {"text": "words"}, {"like": {"source_system": name}},
            {"vector": [0.0] * DIMENSIONS}, {"k": 0}, [], {"like": {"source_system": name, "event_id": ""}},
            {"vector": [1.0] * DIMENSIONS, "k": 5000}, {"vector": [1.0] * DIMENSIONS, "after": "99:1"},
        ])  # fmt: skip
        return made.choice([
            ("POST", "/v1/search", {"json": body}),
            ("GET", f"/v1/events/{quote(name, safe='')}", {}),
            ("GET", f"/v1/events/{quote(name, safe='')}/a/b", {}),
            ("GET", "/v1/events/%FF/x", {}),
            ("GET", f"/nowhere/{quote(name, safe='')}", {}),
            ("POST", "/v1/dead-letters/requeue", {"json": {"letters": []}}),
            ("DELETE", path_of(name, "1"), {}),
        ])  # fmt: skip

    async def _mcp(self, bearer: Bearer, node: int) -> Asked:
        made, tenant = self._random, self._any(bearer)
        tool, arguments = made.choice([
            ("get", {"source_system": tenant.name, "event_id": tenant.event_id(made.randrange(PER_SYSTEM + 2))}),
            ("recent", {"systems": [tenant.name], "limit": 50}),
            ("recent", {"limit": 50}),
            ("recent", {"cursor": self._site.cursors[0]}),
            ("stats", {}),
            ("search", {"query": "words", "k": 50, "systems": [tenant.name]}),
        ])  # fmt: skip
        async with self._site.fleet.client(node, bearer.key) as client:
            try:
                said = str(await make_server(client).call_tool(tool, cast("dict[str, Any]", arguments)))
            except ToolError as error:
                return Asked(str(arguments), 400, str(error), f"mcp {tool}")
        return Asked(str(arguments), 200, said, f"mcp {tool}")
