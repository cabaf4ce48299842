"""Who may ask what: refusals are problem documents, and no endpoint is without a rule."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from structlog.testing import capture_logs

from akasha_stream.api.access import Guard, GuardedRoute, more_time, needs, note, open_to_all
from akasha_stream.api.app import create_app
from akasha_stream.api.console import add_console
from akasha_stream.api.dead_letters import add_dead_letters
from akasha_stream.api.health import ComponentHealth, Health
from akasha_stream.api.map import add_map
from akasha_stream.api.metrics import add_metrics
from akasha_stream.api.overview import add_overview
from akasha_stream.auth.audit import Audit
from akasha_stream.auth.authentication import Authentication
from akasha_stream.auth.caller import Scope
from akasha_stream.auth.keys import Keys, KeysFile, NewKey
from akasha_stream.auth.rates import Rates
from akasha_stream.client import AkashaClient, SyncAkashaClient
from akasha_stream.cluster.cluster import Cluster
from akasha_stream.errors import AnswerTimeout, NotAllowed, NotAuthenticated, TooManyRequests, UsageError
from akasha_stream.search.engine import SearchEngine
from akasha_stream.settings import HttpSettings
from tests.api.conftest import SETTINGS

PROBLEM = "application/problem+json"
NODE_SECRET = "s" * 40
HTTP = HttpSettings(body_bytes=2_000, timeout_s=0.2, receive_s=0.1)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Site:
    """A guarded application with a key for each scope, and endpoints that are only there to be asked."""

    def __init__(self, engine: SearchEngine, folder: Path, *, required: bool = True) -> None:
        file = KeysFile(folder / "keys.yml")
        self.keys: dict[str, str] = {}
        for name, scopes, systems in (
            ("reader", [Scope.READ], ["*"]),
            ("bound", [Scope.READ], ["s"]),
            ("writer", [Scope.WRITE], ["*"]),
            ("scraper", [Scope.METRICS], ["*"]),
            ("admin", [Scope.ADMIN], ["*"]),
            ("bound admin", [Scope.ADMIN], ["s"]),
        ):
            made = NewKey.make(name, scopes, systems)
            file.add(made)
            self.keys[name] = made.secret
        self.keys["node"] = NODE_SECRET
        self.clock = Clock()
        self.audit_file = folder / "audit.jsonl"
        authentication = Authentication(Keys(file.path), node_secret=NODE_SECRET) if required else Authentication()
        self.guard = Guard(authentication, Rates(1.0, 20, clock=self.clock), Audit(self.audit_file), HTTP)
        failing = Health({"disk": ComponentHealth(False, "/var/lib is full")})
        self.app = create_app(Cluster(engine, SETTINGS), guard=self.guard, health=lambda: failing)
        self._add(self.app)

    def _add(self, app: FastAPI) -> None:
        @app.get("/slow")
        @needs(Scope.READ)
        async def slow(request: Request, asked_s: float = 0.0) -> Response:
            more_time(request, asked_s)
            await asyncio.sleep(0.4)
            return Response("done")

        @app.post("/change/{what}")
        @needs(Scope.ADMIN, all_systems=True)
        async def change(request: Request, what: str) -> Response:
            note(request, what=what)
            if what == "wrong":
                raise UsageError("not so")
            return Response("changed")

        @app.get("/open")
        @open_to_all
        async def opened() -> Response:
            return Response("open")

    @asynccontextmanager
    async def http(self, key: str | None = None) -> AsyncIterator[httpx.AsyncClient]:
        headers = {} if key is None else {"authorization": f"Bearer {self.keys.get(key, key)}"}
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://akasha", headers=headers) as client:
            yield client

    def audited(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.audit_file.read_text().splitlines()]


@pytest.fixture
def site(engine: SearchEngine, tmp_path: Path) -> Iterator[Site]:
    made = Site(engine, tmp_path)
    yield made
    made.guard.audit.close()


def problem_of(answer: httpx.Response, status: int, kind: str) -> dict[str, Any]:
    assert (answer.status_code, answer.headers["content-type"]) == (status, PROBLEM), answer.text
    found: dict[str, Any] = answer.json()
    assert (found["status"], found["type"]) == (status, f"urn:akasha-stream:problem:{kind}")
    assert found["detail"]
    return found


async def test_without_a_key_or_with_a_wrong_one(site: Site) -> None:
    details = set()
    for header in (None, "Bearer", "Bearer ", "Basic YTpi", f"Bearer {'x' * 9_000}", "ak_x", "Bearer ak_0_0"):
        async with site.http() as http:
            answer = await http.get("/v1/stats", headers={} if header is None else {"authorization": header})
        problem = problem_of(answer, 401, "not-authenticated")
        assert answer.headers["www-authenticate"] == 'Bearer realm="akasha-stream"'
        details.add(problem["detail"])
    assert len(details) == 3  # none, no bearer, not valid: and no more is told
    made = NewKey.make("gone", [Scope.READ], ["*"])
    async with site.http(made.secret) as http:
        assert (await http.get("/v1/stats")).status_code == 401


@pytest.mark.parametrize(
    ("key", "path", "status"),
    [
        ("reader", "/v1/stats", 200),
        ("writer", "/v1/stats", 403),
        ("scraper", "/v1/stats", 403),
        ("admin", "/v1/stats", 200),
        ("bound", "/v1/stats", 200),
        ("node", "/v1/stats", 200),
        ("reader", "/v1/partitions", 200),
        ("bound", "/v1/partitions", 403),
        ("bound admin", "/v1/partitions", 403),
    ],
)
async def test_scopes(site: Site, key: str, path: str, status: int) -> None:
    async with site.http(key) as http:
        answer = await http.get(path)
    assert answer.status_code == status
    if status == 403:
        assert "scope read" in (detail := problem_of(answer, 403, "not-allowed")["detail"]) or "all source" in detail


@pytest.mark.parametrize("key", ["reader", "writer", "admin"])
async def test_only_workers_ask_as_workers_do(site: Site, key: str) -> None:
    async with site.http(key) as http:
        problem = problem_of(await http.post("/v1/peer/written", json={}), 403, "not-allowed")
    assert "scope node" in problem["detail"]


async def test_a_refusal_comes_before_the_request_is_looked_at(site: Site) -> None:
    async with site.http() as http:
        assert (await http.post("/v1/search", content=b"{")).status_code == 401
        assert (await http.get("/v1/events?limit=x")).status_code == 401


async def test_probes_need_no_key_and_tell_no_details(site: Site) -> None:
    for path in ("/health/live", "/livez", "/open", "/openapi.json"):
        async with site.http("Bearer of nothing") as http:
            assert (await http.get(path)).status_code == 200
    for path in ("/health/ready", "/readyz", "/health/startup", "/startupz"):
        for key, detail in ((None, ""), ("bound", ""), ("wrong", ""), ("reader", "/var/lib is full")):
            async with site.http(key) as http:
                found = (await http.get(path)).json()
            assert found["components"]["disk"] == {"ok": False, "detail": detail, "required": True}


async def test_readiness_and_startup(engine: SearchEngine) -> None:
    states = [Health({"a": ComponentHealth(False)}, started=False), Health(), Health({"a": ComponentHealth(False)})]
    app = create_app(Cluster(engine, SETTINGS), health=lambda: states[0])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://akasha") as http:
        seen = []
        while states:
            ready, startup = await http.get("/health/ready"), await http.get("/health/startup")
            seen.append((ready.status_code, startup.status_code, startup.json()["status"]))
            states.pop(0)
    assert seen == [(503, 503, "starting"), (200, 200, "ok"), (503, 200, "ok")]


async def test_the_rate_of_each_caller(site: Site) -> None:
    async with site.http("reader") as http, site.http("admin") as other, site.http("node") as node:
        for _ in range(20):
            assert (await http.get("/v1/stats")).status_code == 200
        answer = await http.get("/v1/stats")
        assert problem_of(answer, 429, "too-many-requests")["retriable"]
        assert answer.headers["retry-after"] == "1"
        assert (await http.get("/health/live")).status_code == 200
        assert (await other.get("/v1/stats")).status_code == 200
        for _ in range(30):  # what workers ask one another was counted where it came from
            assert (await node.get("/v1/stats")).status_code == 200
        site.clock.now += 1.0
        assert (await http.get("/v1/stats")).status_code == 200


async def test_where_no_key_is_asked_for_the_address_is_the_caller(engine: SearchEngine, tmp_path: Path) -> None:
    site = Site(engine, tmp_path, required=False)
    for client, statuses in (("10.0.0.1", [200] * 20 + [429]), ("10.0.0.2", [200])):
        transport = httpx.ASGITransport(site.app, client=(client, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://akasha") as http:
            assert [(await http.get("/v1/stats")).status_code for _ in statuses] == statuses
    site.guard.audit.close()


async def test_an_answer_that_takes_too_long_is_given_up(site: Site) -> None:
    async with site.http("reader") as http:
        assert problem_of(await http.get("/slow"), 504, "answer-timeout")["retriable"]
        assert (await http.get("/slow?asked_s=5")).text == "done"


async def test_bodies_that_are_too_large(site: Site) -> None:
    async with site.http("reader") as http:
        problem = problem_of(await http.post("/v1/search", content=b" " * 2_001), 413, "usage-error")
        assert "2000 bytes" in problem["detail"]
        assert (await http.post("/v1/search", content=b" " * 2_000)).status_code == 422


async def test_changes_and_refusals_are_audited(site: Site) -> None:
    with capture_logs() as logged:
        for key, what in (("admin", "it"), ("admin", "wrong"), ("reader", "it"), ("bound admin", "it"), (None, "it")):
            async with site.http(key) as http:
                await http.post(f"/change/{what}?key={site.keys['admin']}")
                await http.get("/v1/stats")  # reading is not audited
    lines = site.audited()
    assert [(line["who"], line["result"], line["about"]) for line in lines] == [
        ("admin", "ok", {"what": "it"}),
        ("admin", "UsageError", {"what": "wrong"}),
        ("reader", "NotAllowed", {}),
        ("bound admin", "NotAllowed", {}),
        ("nobody", "NotAuthenticated", {}),
    ]
    first = lines[0]
    assert (first["what"], first["path"], first["from"]) == ("POST /change/{what}", "/change/it", "127.0.0.1")
    assert first["key_id"] == site.keys["admin"].split("_")[1]
    assert first["at"].endswith("Z")
    assert [each["result"] for each in logged if each["event"] == "audit"] == [line["result"] for line in lines]
    for secret in site.keys.values():
        assert secret.rpartition("_")[2] not in site.audit_file.read_text() + str(logged)
    assert site.audit_file.stat().st_mode & 0o777 == 0o600


async def test_errors_come_back_as_they_were_raised(site: Site) -> None:
    def client(key: str | None) -> AkashaClient:
        return AkashaClient("http://akasha", key=key, transport=httpx.ASGITransport(site.app))

    async with client(None) as nobody, client(site.keys["scraper"]) as scraper, client(site.keys["reader"]) as reader:
        with pytest.raises(NotAuthenticated, match="API key is needed"):
            await nobody.stats()
        with pytest.raises(NotAllowed, match="needs the scope read"):
            await scraper.stats()
        for _ in range(20):
            await reader.stats()
        with pytest.raises(TooManyRequests) as refused:
            await reader.stats()
        assert (refused.value.retry_after_s, refused.value.retriable) == (1.0, True)
    with pytest.raises(UsageError, match="looks like ak_"):
        SyncAkashaClient(key="two words")
    assert AnswerTimeout.retriable


# ── every endpoint has a rule ────────────────────────────────────────────────────────────────────────────


def whole_app(engine: SearchEngine) -> FastAPI:
    app = create_app(Cluster(engine, SETTINGS), replays=object())  # type: ignore[arg-type]
    add_console(app)
    add_map(app, engine.map)
    add_dead_letters(app, SETTINGS)
    add_metrics(app, bytes)
    add_overview(app, None, None)  # type: ignore[arg-type]
    return app


OPEN = {
    "/", "/console", "/console/{name:path}", "/livez", "/health/live", "/readyz", "/health/ready", "/startupz",
    "/health/startup", "/openapi.json",
}  # fmt: skip


def test_every_route_has_a_rule_and_the_open_ones_are_known(engine: SearchEngine) -> None:
    app = whole_app(engine)
    found: dict[str, Scope | None] = {}
    changing: dict[str, Scope | None] = {}
    for route in app.routes:
        path = route.path  # type: ignore[attr-defined]
        if path == "/openapi.json":  # FastAPI's own: the document alone
            found[path] = None
            continue
        assert isinstance(route, GuardedRoute), path
        found[path] = route.rule.scope
        if route.methods == {"POST"} and path != "/v1/search":
            changing[path] = route.rule.scope
    assert {path for path, scope in found.items() if scope is None} == OPEN
    assert {path for path, scope in found.items() if scope is Scope.NODE} == {
        "/v1/peer/search", "/v1/peer/event", "/v1/peer/written", "/v1/peer/recent",
    }  # fmt: skip
    assert len(changing) == 9
    assert set(changing.values()) == {Scope.ADMIN, Scope.WRITE, Scope.NODE}


def test_an_endpoint_without_a_rule_is_refused_when_it_is_added(engine: SearchEngine) -> None:
    app = whole_app(engine)

    async def nothing_said() -> Response:
        return Response()

    with pytest.raises(TypeError, match=r"/new: say who may call it, with @needs"):
        app.get("/new")(nothing_said)


def test_openapi_says_what_each_endpoint_needs(engine: SearchEngine) -> None:
    document = whole_app(engine).openapi()
    assert set(document["components"]["securitySchemes"]) == {"key", "node"}
    for path, methods in document["paths"].items():
        for operation in methods.values():
            assert "security" in operation, path
            expected = {"504"} | ({"401", "403", "429"} if operation["security"] else set())
            assert expected <= set(operation["responses"]), path
            assert "eeds" in operation["description"], path


async def test_a_worker_without_keys_answers_anybody(engine: SearchEngine) -> None:
    app = create_app(Cluster(engine, SETTINGS))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://akasha") as http:
        assert (await http.get("/v1/stats")).status_code == 200
        assert (await http.get("/v1/stats", headers={"authorization": "Bearer anything"})).status_code == 200
