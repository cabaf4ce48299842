"""The MCP server, by the official client over standard input and output, against a real worker."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult, TextContent

from akasha_stream.embedded import Broker
from akasha_stream.embedded.ports import free_ports
from akasha_stream.mcp.answers import EXCERPT
from akasha_stream.search.embedders.onnx import OnnxEmbedder
from tests.publish.events import make_events
from tests.worker.process import ROOT
from tests.worker.stage import Stage

DOCS = (ROOT / "docs" / "mcp.md").read_text()
TEXTS = {
    "rain": "It rained all night and the river rose over its banks.",
    "bread": "Knead the dough, let it rise, and bake the bread for an hour.",
    "retry": "Retry a failed request with exponential back-off and jitter.",
    "long": "How to pack for a long journey. " + "Take less than you think. " * 200,
}


@asynccontextmanager
async def session(url: str) -> AsyncIterator[ClientSession]:
    """As docs/mcp.md tells assistants to start it."""
    snippet = re.search(r"```json\n(.*?)```", DOCS, re.DOTALL)
    assert snippet is not None
    server = json.loads(snippet[1])["mcpServers"]["akasha-stream"]
    arguments = [url if each == "http://127.0.0.1:8470" else each for each in server["args"]]
    command = str(Path(sys.executable).with_name(server["command"]))
    parameters = StdioServerParameters(command=command, args=arguments, cwd=ROOT, env={"PYTHONPATH": str(ROOT)})
    async with stdio_client(parameters) as (read, write), ClientSession(read, write) as opened:
        await opened.initialize()
        yield opened


async def call(opened: ClientSession, tool: str, **arguments: Any) -> Any:
    result = await opened.call_tool(tool, arguments)
    assert not result.isError, text_of(result)
    return result.structuredContent


def text_of(result: CallToolResult) -> str:
    return "".join(each.text for each in result.content if isinstance(each, TextContent))


async def failed(opened: ClientSession, tool: str, **arguments: Any) -> str:
    result = await opened.call_tool(tool, arguments)
    assert result.isError
    return text_of(result)


async def publish(stage: Stage) -> None:
    embedder = OnnxEmbedder()
    vectors = await embedder.embed(list(TEXTS.values()))
    now = datetime.now(UTC)
    events = [
        replace(
            made,
            event_id=name,
            source_system="notes" if name != "retry" else "code",
            content=text,
            embedding=vector,
            created_at=now - timedelta(hours=age),
            metadata={"topic": name} | ({"big": "x" * 2_000} if name == "long" else {}),
        )
        for age, (made, (name, text), vector) in enumerate(
            zip(make_events(len(TEXTS)), TEXTS.items(), vectors, strict=True)
        )
    ]
    await stage.publish(events)


@pytest.mark.timeout(240)
async def test_an_assistant_uses_the_memory(tansu: Broker, tmp_path: Path) -> None:
    stage = await Stage.make(tansu, tmp_path, partitions=2, embedder__kind="onnx")
    async with stage.worker() as worker:
        await publish(stage)
        await stage.until_searchable(worker)
        async with session(worker.url) as opened:
            tools = {tool.name: tool for tool in (await opened.list_tools()).tools}
            assert set(tools) == {"search", "get", "recent", "stats"}
            for tool in tools.values():
                assert tool.description
                assert tool.outputSchema is not None
                assert tool.annotations is not None
                assert tool.annotations.readOnlyHint
            assert tools["search"].inputSchema["required"] == ["query"]

            found = await call(opened, "search", query="what to do when a request fails", k=2)
            assert found["hits"][0]["event_id"] == "retry"
            assert found["hits"][0]["source_system"] == "code"
            assert found["hits"][0]["content"] == TEXTS["retry"]
            assert len(found["hits"]) == 2
            assert found["notes"] == []
            assert found["hits"][0]["similarity"] > found["hits"][1]["similarity"]

            found = await call(opened, "search", query="a request fails", systems=["notes"], k=50)
            assert {hit["source_system"] for hit in found["hits"]} == {"notes"}
            found = await call(opened, "search", query="anything", since="90m", metadata={"topic": {"ne": "rain"}})
            assert [hit["event_id"] for hit in found["hits"]] == ["bread"]

            # Small in lists, whole by get.
            (long,) = (await call(opened, "search", query="packing for a journey", k=1))["hits"]
            assert (long["event_id"], len(long["content"]), long["truncated"]) == ("long", EXCERPT, True)
            assert long["metadata"] is None
            whole = await call(opened, "get", source_system="notes", event_id="long")
            assert (whole["content"], whole["truncated"]) == (TEXTS["long"], False)
            assert whole["metadata"]["topic"] == "long"

            first = await call(opened, "recent", limit=3)
            assert [event["event_id"] for event in first["events"]] == ["rain", "bread", "retry"]
            rest = await call(opened, "recent", limit=3, cursor=first["next"])
            assert ([event["event_id"] for event in rest["events"]], rest["next"]) == (["long"], None)
            mine = await call(opened, "recent", systems=["code"])
            assert [event["event_id"] for event in mine["events"]] == ["retry"]

            stats = await call(opened, "stats")
            assert (stats["events"], stats["partitions"], stats["partitions_here"]) == (4, 2, [0, 1])

            # What went wrong, and what to do; nothing of our code.
            assert "no event 'nothing'" in await failed(opened, "get", source_system="notes", event_id="nothing")
            assert "yesterday" in await failed(opened, "search", query="x", since="yesterday")
            assert "cursor" in await failed(opened, "recent", cursor="page 2")
            assert "less than or equal to 50" in await failed(opened, "search", query="x", k=51)
            assert "metadata" in await failed(opened, "search", query="x", metadata={"topic": {"like": "r%"}})
            await worker.stop()
            away = await failed(opened, "stats")
            assert worker.url in away
            assert "start a worker" in away
            assert "Traceback" not in away


@pytest.mark.timeout(180)
async def test_words_need_an_embedder(tansu: Broker, tmp_path: Path) -> None:
    stage = await Stage.make(tansu, tmp_path, partitions=1)
    async with stage.worker() as worker, session(worker.url) as opened:
        assert "akasha-stream[onnx]" in await failed(opened, "search", query="rain")
        assert (await call(opened, "recent"))["events"] == []
        await worker.stop()


@pytest.mark.timeout(180)
async def test_over_streamable_http(tansu: Broker, tmp_path: Path) -> None:
    stage = await Stage.make(tansu, tmp_path, partitions=1)
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "akasha_stream.cli", "mcp", "--port", str(port)]
    async with stage.worker() as worker:
        await stage.publish(make_events(5))
        await stage.until_searchable(worker)
        with (tmp_path / "mcp.log").open("w") as log:
            server = subprocess.Popen([*command, "--url", worker.url], cwd=ROOT, stderr=log)
        try:
            async with asyncio.timeout(60):
                while not await listens(port):
                    assert server.poll() is None, (tmp_path / "mcp.log").read_text()
                    await asyncio.sleep(0.1)
            async with (
                streamable_http_client(f"http://127.0.0.1:{port}/mcp") as (read, write, _),
                ClientSession(read, write) as opened,
            ):
                await opened.initialize()
                assert (await call(opened, "stats"))["events"] == 5
        finally:
            server.terminate()
            server.wait(20)
        await worker.stop()


async def listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True
