"""Offer the memory to assistants, as tools."""

from __future__ import annotations

from typing import Annotated

import typer

from akasha_stream.cli.key import Key
from akasha_stream.cli.search import worker_ca, worker_key, worker_url
from akasha_stream.errors import UsageError


def command(
    ctx: typer.Context,
    *,
    url: Annotated[str | None, typer.Option(help="The worker.  [default: http.host and http.port]")] = None,
    key: Key = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=1, max=65_535, help="Streamable HTTP on 127.0.0.1, at /mcp, instead of standard input and output."
        ),
    ] = None,
) -> None:
    """Offer the memory to assistants: the tools search, get, recent and stats, by the Model Context Protocol.

    An assistant starts it, and speaks to it over standard input and output (docs/mcp.md has the lines for its
    settings). With --port it is a server of its own. Logs go to stderr.

    \b
    Examples:
      akasha-stream mcp --url http://127.0.0.1:8470
      akasha-stream mcp --port 8480
    """
    import asyncio

    try:
        from akasha_stream.mcp.server import make_server
    except ImportError as error:
        raise UsageError(f"the MCP SDK is not installed ({error.name}): pip install 'akasha-stream[mcp]'") from error
    from akasha_stream.client import AkashaClient

    worker, shown = worker_url(ctx, url), worker_key(ctx, key)

    async def serve() -> None:
        async with AkashaClient(worker, key=shown, ca=worker_ca(ctx, worker)) as client:
            server = make_server(client, port=port or 0)
            await (server.run_stdio_async() if port is None else server.run_streamable_http_async())

    asyncio.run(serve())
