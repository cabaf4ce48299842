"""Dead letters over HTTP, on Apache Kafka: the bytes that went in, sent again once, and errors that name the place."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from akasha_stream.api.dead_letters import add_dead_letters
from akasha_stream.embedded import Broker
from tests.console.letters import publish_bytes
from tests.worker.stage import Stage

VALUE = b'{"event_id": "x", "source_system": "s", "content": "<b>no</b>", "embedding": [1.0]}'

pytestmark = pytest.mark.kafka


@pytest.fixture
async def stage(kafka: Broker, tmp_path: Path) -> Stage:
    return await Stage.make(kafka, tmp_path, partitions=1)


@pytest.fixture
async def letters(app: FastAPI, stage: Stage) -> AsyncIterator[httpx.AsyncClient]:
    add_dead_letters(app, stage.settings)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://akasha") as client:
        yield client


async def until(letters: httpx.AsyncClient, count: int) -> dict[str, Any]:
    async with asyncio.timeout(60):
        while True:
            found: dict[str, Any] = (await letters.get("/v1/dead-letters")).raise_for_status().json()
            if found["total"] >= count:
                return found
            await asyncio.sleep(0.2)


async def test_listed_shown_and_requeued(stage: Stage, letters: httpx.AsyncClient) -> None:
    async with stage.worker() as worker:
        await publish_bytes(stage, VALUE, b"s")
        await publish_bytes(stage, b"\xff\xfe", b"other")
        found = await until(letters, 2)
        assert found["reasons"] == {"vector_length": 1, "json_invalid": 1}
        newest, oldest = found["letters"]
        assert (newest["system"], newest["preview"]) == ("other", "��")
        assert (oldest["system"], oldest["reason"], oldest["origin"]["offset"]) == ("s", "vector_length", 0)
        only = (await letters.get("/v1/dead-letters", params={"system": "s", "limit": 1})).json()
        assert [each["letter"] for each in only["letters"]] == [oldest["letter"]]
        one = (await letters.get("/v1/dead-letters/0/{offset}".format(**oldest))).json()
        assert base64.b64decode(one["value_base64"]) == VALUE

        sent = await letters.post("/v1/dead-letters/requeue", json={"letters": [oldest["letter"]]})
        assert sent.json() == {"sent": [{"letter": oldest["letter"], "to": f"{stage.topic}/0:2"}], "skipped": []}
        again = (await letters.post("/v1/dead-letters/requeue", json={"letters": [oldest["letter"]]})).json()
        assert again["sent"] == []
        assert again["skipped"][0]["letter"] == oldest["letter"]
        after = await until(letters, 3)
        assert after["letters"][0]["requeued_from"] is not None
        assert next(each for each in after["letters"] if each["letter"] == oldest["letter"])["requeued"] is not None
        await worker.stop()


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "names"),
    [
        ("GET", "/v1/dead-letters/0/5", None, 404, "no letter 0:5"),
        ("GET", "/v1/dead-letters/7/0", None, 404, "no letter 7:0"),
        ("GET", "/v1/dead-letters/-1/0", None, 422, "partition"),
        ("GET", "/v1/dead-letters?limit=0", None, 422, "limit"),
        ("POST", "/v1/dead-letters/requeue", {"letters": ["0:9"]}, 404, "0:9"),
        ("POST", "/v1/dead-letters/requeue", {"letters": []}, 422, "letters"),
        ("POST", "/v1/dead-letters/requeue", {"letters": ["x"]}, 422, "letters.0"),
        ("POST", "/v1/dead-letters/requeue", {"letters": ["0:1"], "al": True}, 422, "al"),
    ],
)
async def test_errors_name_the_place(
    letters: httpx.AsyncClient, *, method: str, path: str, body: object, status: int, names: str
) -> None:
    answer = await letters.request(method, path, content=None if body is None else json.dumps(body))
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert names in answer.json()["detail"]
