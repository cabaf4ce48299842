"""What only a socket shows: slow requests, and a stop that lets requests finish."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import httpx
from fastapi import Response

from akasha_stream.api.access import Guard, open_to_all
from akasha_stream.api.app import create_app
from akasha_stream.api.server import MOST_HEAD_BYTES, serve
from akasha_stream.cluster.cluster import Cluster
from akasha_stream.search.engine import SearchEngine
from akasha_stream.settings import HttpSettings
from tests.api.conftest import SETTINGS


async def spoken(port: int, text: bytes) -> bytes:
    """All that is answered until the server closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(text)
    await writer.drain()
    try:
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()


async def test_a_slow_request_is_cut_off(engine: SearchEngine) -> None:
    guard = Guard(http=HttpSettings(receive_s=0.2))
    app = create_app(Cluster(engine, SETTINGS), guard=guard)
    async with serve(app, "127.0.0.1", 0, receive_s=0.2) as port:
        head = b"POST /v1/search HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 9\r\n\r\n{"
        answer = await spoken(port, head)
        assert b" 408 " in answer.splitlines()[0]
        assert b"http.receive_s" in answer
        # A head that never ends, and no byte at all: there is nobody to answer.
        assert await spoken(port, b"GET /health/live HTTP/1.1\r\nhost:") == b""
        assert await spoken(port, b"") == b""
        # Nor one that does not end.
        endless = b"GET /health/live HTTP/1.1\r\n" + b"x: y\r\n" * (MOST_HEAD_BYTES // 6 + 1)
        with suppress(ConnectionError):
            assert await spoken(port, endless) == b""
        # What is quick enough is answered, again and again on one connection.
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
            for _ in range(3):
                assert (await http.get("/health/live")).status_code == 200
                await asyncio.sleep(0.15)


async def test_requests_under_way_finish_when_it_stops(engine: SearchEngine) -> None:
    app = create_app(Cluster(engine, SETTINGS))
    began, may_end = asyncio.Event(), asyncio.Event()

    @app.get("/long")
    @open_to_all
    async def long() -> Response:
        began.set()
        await may_end.wait()
        return Response("finished")

    async with httpx.AsyncClient() as http:
        async with serve(app, "127.0.0.1", 0, grace_s=10.0) as port:
            answer = asyncio.create_task(http.get(f"http://127.0.0.1:{port}/long"))
            await began.wait()
            asyncio.get_running_loop().call_later(0.3, may_end.set)
        assert (await answer).text == "finished"
