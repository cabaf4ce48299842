"""The HTTP contract, without a socket."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from akasha_stream.api.health import ComponentHealth, Health
from akasha_stream.api.identity import path_of
from akasha_stream.search.engine import SearchEngine
from tests.api.conftest import ODD, State

PROBLEM = "application/problem+json"


async def test_search(http: httpx.AsyncClient) -> None:
    response = await http.post("/v1/search", json={"vector": [1, 0, 0, 0, 0, 0, 0, 0], "k": 3, "fields": ["content"]})
    assert response.status_code == 200
    body = response.json()
    assert set(body) == {"hits", "complete", "incomplete", "plan", "took_ms"}
    assert [set(hit) for hit in body["hits"]] == [{"source_system", "event_id", "similarity", "content"}] * 3
    plan = {"segment", "partition", "tier", "index", "rows", "matching", "considered", "bytes_read", "note"}
    assert set(body["plan"][0]) == plan


@pytest.mark.parametrize(
    ("body", "status", "kind", "place"),
    [
        (b"{", 422, "usage-error", "body"),
        (b"\xff", 422, "usage-error", "body"),
        (b"[]", 422, "usage-error", "body"),
        (b"", 422, "usage-error", "body"),
        (b'{"vector":[1],"k":0}', 422, "usage-error", "k"),
        (b'{"vector":[1]}', 400, "usage-error", None),
        (b'{"vector":[1,1,1,1,1,1,1,NaN]}', 422, "usage-error", None),
        (b'{"vector":[1e300,1,1,1,1,1,1,1]}', 400, "usage-error", None),
        (b'{"text":"x"}', 501, "embedder-missing", None),
        (b'{"like":{"source_system":"s","event_id":"x"}}', 404, "event-not-found", None),
        (b'{"vector":[1,1,1,1,1,1,1,1],"after":"x"}', 400, "usage-error", None),
        (b'{"text":"' + b"x" * 1_100_000 + b'"}', 413, "usage-error", None),
    ],
)
async def test_problems(http: httpx.AsyncClient, body: bytes, status: int, kind: str, place: str | None) -> None:
    response = await http.post("/v1/search", content=body)
    assert response.status_code == status
    assert response.headers["content-type"] == PROBLEM
    problem = response.json()
    assert problem["type"] == f"urn:akasha-stream:problem:{kind}"
    assert problem["status"] == status
    assert problem["detail"]
    if place is not None:
        assert place in {e["place"] for e in problem["errors"]}


async def test_a_body_without_a_length_is_cut_off(http: httpx.AsyncClient) -> None:
    async def endless() -> Any:
        for _ in range(40):
            yield b" " * 65_536

    assert (await http.post("/v1/search", content=endless())).status_code == 413


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/v1/search", 405), ("GET", "/nowhere", 404)])
async def test_routing_errors_are_problems_too(http: httpx.AsyncClient, method: str, path: str, status: int) -> None:
    response = await http.request(method, path)
    assert (response.status_code, response.headers["content-type"]) == (status, PROBLEM)


async def test_a_bug_does_not_tell_its_text(
    http: httpx.AsyncClient, engine: SearchEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a secret path")

    monkeypatch.setattr(engine, "stats", broken)
    response = await http.get("/v1/stats")
    assert (response.status_code, response.headers["content-type"]) == (500, PROBLEM)
    assert "secret" not in response.text


@pytest.mark.parametrize("odd", ODD)
async def test_any_identity_can_be_asked_for(http: httpx.AsyncClient, odd: str) -> None:
    response = await http.get(path_of(odd, odd))
    assert response.status_code == 200, response.text
    body = response.json()
    assert (body["source_system"], body["event_id"], body["answered_from"]) == (odd, odd, "shard")
    assert "embedding" not in body or body["embedding"] is None


async def test_an_event_with_its_vector(http: httpx.AsyncClient) -> None:
    response = await http.get(path_of("a/b", "a/b"), params={"embedding": "true"})
    assert response.json()["embedding"] == [1.0] * 8


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/events/s/unknown", 404),
        ("/v1/events/a/b/a/b", 400),
        ("/v1/events/s/", 400),
        ("/v1/events/%FF/x", 400),
        ("/v1/events/s/1?embedding=maybe", 422),
    ],
)
async def test_wrong_identities(http: httpx.AsyncClient, path: str, status: int) -> None:
    response = await http.get(path)
    assert (response.status_code, response.headers["content-type"]) == (status, PROBLEM)


async def test_stats(http: httpx.AsyncClient) -> None:
    body = (await http.get("/v1/stats")).json()
    assert body["rows"] == 20 + len(ODD)
    assert body["partitions_owned"] == [0, 1, 2, 3]


async def test_health(http: httpx.AsyncClient, state: State) -> None:
    assert (await http.get("/health/live")).json()["status"] == "ok"
    assert (await http.get("/health/ready")).status_code == 200
    state.health = Health({"broker": ComponentHealth(True), "redis": ComponentHealth(False, "gone", required=False)})
    assert (await http.get("/health/ready")).status_code == 200
    state.health = Health({"broker": ComponentHealth(False, "no connection"), "shards": ComponentHealth(True)})
    response = await http.get("/health/ready")
    assert response.status_code == 503
    assert response.json()["components"]["broker"] == {"ok": False, "detail": "no connection", "required": True}


async def test_openapi_describes_what_is_sent(http: httpx.AsyncClient) -> None:
    document = (await http.get("/openapi.json")).json()
    schemas = document["components"]["schemas"]
    assert {"SearchRequest", "SearchResponse", "StoredEvent", "Stats", "Problem", "Condition", "Hit"} <= set(schemas)
    search = document["paths"]["/v1/search"]["post"]
    body = search["requestBody"]["content"]["application/json"]
    assert body["schema"] == {"$ref": "#/components/schemas/SearchRequest"}
    assert body["examples"]
    assert PROBLEM in search["responses"]["422"]["content"]
    missing = [ref for ref in _references(document) if ref.removeprefix("#/components/schemas/") not in schemas]
    assert missing == []


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [ref for v in value.values() for ref in _references(v)]
    return [ref for v in value for ref in _references(v)] if isinstance(value, list) else []
