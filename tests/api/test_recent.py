"""GET /v1/events, by HTTP and by the clients."""

from __future__ import annotations

import httpx
import pytest
from fastapi import FastAPI

from akasha_stream.client import AkashaClient
from akasha_stream.errors import UsageError
from tests.api.conftest import ODD


async def test_pages(http: httpx.AsyncClient) -> None:
    first = (await http.get("/v1/events", params={"limit": 8})).json()
    second = (await http.get("/v1/events", params={"limit": 100, "cursor": first["next"]})).json()
    identities = [(e["source_system"], e["event_id"]) for e in first["events"] + second["events"]]
    assert len(identities) == len(set(identities)) == 20 + len(ODD)
    assert second["next"] is None
    assert first["complete"]


async def test_of_some_systems(http: httpx.AsyncClient) -> None:
    found = (await http.get("/v1/events", params={"system": ["a/b", "ü"]})).json()
    assert {e["source_system"] for e in found["events"]} == {"a/b", "ü"}
    assert (await http.get("/v1/events", params={"system": "nobody"})).json()["events"] == []


@pytest.mark.parametrize("wrong", [{"limit": "0"}, {"limit": "101"}, {"limit": "x"}, {"cursor": "x" * 65}])
async def test_a_wrong_parameter_is_a_problem(http: httpx.AsyncClient, wrong: dict[str, str]) -> None:
    answer = await http.get("/v1/events", params=wrong)
    assert answer.status_code == 422
    assert next(iter(wrong)) in answer.json()["detail"]


async def test_a_wrong_cursor_is_a_problem(http: httpx.AsyncClient) -> None:
    answer = await http.get("/v1/events", params={"cursor": "nonsense"})
    assert answer.status_code == 400
    assert "cursor" in answer.json()["detail"]


async def test_the_client(client: AkashaClient) -> None:
    page = await client.recent("s", limit=3)
    assert [event.source_system for event in page.events] == ["s"] * 3
    following = await client.recent("s", limit=3, cursor=page.next)
    assert not {e.event_id for e in page.events} & {e.event_id for e in following.events}
    with pytest.raises(UsageError, match="cursor"):
        await client.recent(cursor="nonsense")
    assert (await client.stats()).live_rows == 20 + len(ODD)


def test_it_is_documented(app: FastAPI) -> None:
    assert "/v1/events" in app.openapi()["paths"]
