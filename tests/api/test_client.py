from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

import httpx
import numpy as np
import pytest
from fastapi import FastAPI

from akasha_stream.api.health import ComponentHealth, Health
from akasha_stream.api.server import serve
from akasha_stream.client import AkashaClient, SyncAkashaClient
from akasha_stream.errors import (
    AkashaError,
    EmbedderMissing,
    EventNotFound,
    ServerStartError,
    ServiceUnreachable,
    UsageError,
)
from akasha_stream.search.query import Filters
from tests.api.conftest import ODD, State


async def test_search(client: AkashaClient) -> None:
    found = await client.search(
        vector=np.ones(8, np.float32), filters={"systems": ["s"], "metadata": {"n": {"lt": 3}}}, fields=["metadata"]
    )
    assert sorted(str(h.metadata["n"]) for h in found.hits if h.metadata) == ["0", "1", "2"]
    assert found.complete
    found = await client.search(like=("s", "1"), k=2, filters=Filters(created_after=datetime(2026, 1, 1, tzinfo=UTC)))
    assert len(found.hits) == 2
    assert found.hits[0].created_at == datetime(2026, 7, 1, tzinfo=UTC)


@pytest.mark.parametrize("odd", ODD)
async def test_get(client: AkashaClient, odd: str) -> None:
    event = await client.get(odd, odd, embedding=True)
    assert (event.source_system, event.event_id, event.embedding) == (odd, odd, [1.0] * 8)


async def test_errors_come_back_as_they_were_raised(client: AkashaClient) -> None:
    with pytest.raises(EventNotFound, match="no event 'x'"):
        await client.get("s", "x")
    with pytest.raises(EmbedderMissing, match="onnx"):
        await client.search(text="x")
    with pytest.raises(UsageError, match="has 1 values"):
        await client.search(vector=[1.0])
    with pytest.raises(UsageError, match="exactly one of"):
        await client.search()
    with pytest.raises(UsageError, match="k: "):
        await client.search(text="x", k=0)


async def test_ready(client: AkashaClient, state: State) -> None:
    assert await client.ready()
    state.health = Health({"broker": ComponentHealth(False)})
    assert not await client.ready()


async def test_what_is_no_akasha_stream_is_told() -> None:
    def other(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200 if request.method == "GET" else 500, text="<html>")

    async with AkashaClient("http://other", transport=httpx.MockTransport(other)) as client:
        with pytest.raises(AkashaError, match="HTTP 500"):
            await client.search(text="x")
        with pytest.raises(AkashaError, match="something else than a StoredEvent"):
            await client.get("a", "b")


async def test_an_answer_does_not_wait_for_a_delayed_ack(app: FastAPI) -> None:
    """40 ms a request, were TCP_NODELAY missing on the server's side."""
    async with serve(app, "127.0.0.1", 0) as port, AkashaClient(f"http://127.0.0.1:{port}") as client:
        took = []
        for _ in range(20):
            started = time.perf_counter()
            await client.get("s", "1")
            took.append(time.perf_counter() - started)
    assert min(took) < 0.03  # it would be every one of them


async def test_over_a_real_socket(app: FastAPI) -> None:
    async with serve(app, "127.0.0.1", 0) as port:
        url = f"http://127.0.0.1:{port}"
        async with AkashaClient(url) as client:
            assert await client.ready()
            assert len((await client.search(vector=[1.0] * 8)).hits) == 10
            for odd in ODD:
                assert (await client.get(odd, odd)).event_id == odd

        def blocking() -> int:
            with SyncAkashaClient(url) as sync:
                assert sync.ready()
                assert sync.get("s", "1").content == "content 1"
                with pytest.raises(EventNotFound):
                    sync.get("s", "none")
                return len(sync.search(vector=[1.0] * 8, after=["0:0"], after_timeout_s=0).hits)

        assert await asyncio.to_thread(blocking) == 10
        with pytest.raises(ServerStartError, match=f"can't listen on 127.0.0.1:{port}: .*--port"):
            async with serve(app, "127.0.0.1", port):
                pass
    async with AkashaClient(url) as client:
        assert not await client.ready()
        with pytest.raises(ServiceUnreachable, match="akasha-stream up --embedded"):
            await client.search(text="x")
