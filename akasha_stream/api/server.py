"""Uvicorn inside a running loop, next to everything else that a worker does."""

from __future__ import annotations

import asyncio
import math
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from errno import EADDRINUSE

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from akasha_stream.errors import ServerStartError
from akasha_stream.settings import HttpSettings

GRACE_S = 5.0
RECEIVE_S = 10.0
MOST_HEAD_BYTES = 2_097_152
"""Of a request's head: the systems of a caller with the most and longest names fit."""
_ALL_ADDRESSES = {"0.0.0.0", "::"}  # noqa: S104 - compared, not bound


def url_of(host: str, port: int, *, tls: bool = False) -> str:
    return f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"


def advertised_url(settings: HttpSettings, port: int) -> str:
    """Where other machines reach a server that listens on `port`."""
    if settings.advertised_url is not None:
        return settings.advertised_url.rstrip("/")
    host = socket.gethostname() if settings.host in _ALL_ADDRESSES else settings.host
    return url_of(host, port, tls=settings.tls_certificate is not None)


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # Signals belong to the worker, which stops its parts in order.
        yield


class _Protocol(HttpToolsProtocol):
    """Closes a connection on which a request's head does not arrive in time, or does not end: Uvicorn waits for ever,
    and keeps what came."""

    receive_s: float
    _head_bytes = 0
    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as Uvicorn's
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        if self._late is not None:
            self._head_bytes += len(data)
            if self._head_bytes > MOST_HEAD_BYTES:
                self.transport.close()
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._await_head()

    def on_headers_complete(self) -> None:
        self._arrived()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._arrived()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        if self._late is None:
            self._late = self.loop.call_later(self.receive_s, self._close)

    def _arrived(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
            self._head_bytes = 0

    def _close(self) -> None:
        self._late = None
        # The one before it on this connection may still be answered.
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()


def _protocol(receive_s: float) -> type[HttpToolsProtocol]:
    return type("Protocol", (_Protocol,), {"receive_s": receive_s})


def _listen(host: str, port: int) -> socket.socket:
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    # With the protocol named: asyncio sets TCP_NODELAY only on sockets that say TCP, and without it
    # every answer waited 40 ms for the client's delayed ACK between its head and its body.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(512)
    except OSError:
        listener.close()
        raise
    return listener


@asynccontextmanager
async def serve(
    app: FastAPI,
    host: str,
    port: int,
    *,
    tls: ssl.SSLContext | None = None,
    grace_s: float = GRACE_S,
    receive_s: float = RECEIVE_S,
) -> AsyncIterator[int]:
    """Serve until the block ends; yields the bound port (port 0: a free one). `tls`: HTTPS, and nothing else.

    Requests under way get `grace_s` to finish; the head of one has to arrive within
    `receive_s`. Raises ServerStartError where the address can't be bound.
    """
    try:
        listener = _listen(host, port)
    except OSError as error:
        raise ServerStartError(
            f"http.host, http.port: can't listen on {host}:{port}: {error}"
            + ("; give another port with --port, or 0 for any" if error.errno == EADDRINUSE else "")
        ) from error
    server = _Server(
        uvicorn.Config(
            app,
            http=_protocol(receive_s),
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=math.ceil(grace_s),
            ssl_context_factory=None if tls is None else lambda _config, _default: tls,
        )
    )
    task = asyncio.create_task(server.serve(sockets=[listener]), name="http")
    try:
        while not server.started:
            if task.done():
                raise ServerStartError(f"the HTTP server stopped at once: {task.exception()}")
            await asyncio.sleep(0.005)
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        await asyncio.wait([task])
        listener.close()
        if not task.cancelled() and (failure := task.exception()) is not None:
            raise failure
