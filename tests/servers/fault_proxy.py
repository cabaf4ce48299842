"""An HTTP proxy that spoils requests: errors, time-outs, torn, lost and doubled ones, by a plan or by a seed.

    async with FaultProxy(server.endpoint_url, seeded(7)) as proxy:
        adapter = S3StorageAdapter("bucket", endpoint_url=proxy.url, …)
        …
    proxy.seen  # every request, with what was done to it

Without a schedule it passes everything on. `proxy.schedule` and `proxy.latency_s` may be changed at any time.
"""

from __future__ import annotations

import asyncio
import io
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Self

import aiohttp
from aiohttp import web
from yarl import URL

from akasha_stream.embedded.ports import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from types import TracebackType

_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "content-length"})
_LARGEST = 1 << 30


class Fault(StrEnum):
    ERROR = "error"
    """503, and the server sees nothing."""
    ERROR_AFTER = "error_after"
    """500, though the server has done it."""
    DROPPED = "dropped"
    """The connection ends, and the server sees nothing."""
    LOST_ANSWER = "lost_answer"
    """The server has done it; the connection ends without an answer."""
    TORN_REQUEST = "torn_request"
    """The server sees half of the body, then both connections end."""
    TORN_ANSWER = "torn_answer"
    """The server has done it; half of its answer's body arrives."""
    DOUBLED = "doubled"
    """The server gets the request twice; the second answer arrives."""
    SLOW = "slow"
    """It takes `slow_s` longer."""
    HANG = "hang"
    """The server has done it; no answer comes for `hang_s`, then the connection ends."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One request. `path` with its query, as it came (encoded)."""

    number: int
    method: str
    path: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    fault: Fault | None


Schedule = Callable[[str, str], Fault | None]
"""(method, path with query) → what to do to the request."""


def no_faults(method: str, path: str) -> Fault | None:
    return None


def seeded(
    seed: int, rate: float = 0.25, faults: Sequence[Fault] = tuple(Fault), longest_run: int | None = None
) -> Schedule:
    """A share `rate` of the requests gets one of `faults`; at most `longest_run` in a row. The same seed gives the
    same sequence; with requests side by side, which of them gets which depends on their order.
    """
    chance, run = random.Random(seed), 0

    def schedule(method: str, path: str) -> Fault | None:
        nonlocal run
        hit, fault = chance.random() < rate, chance.choice(faults)
        run = run + 1 if hit and (longest_run is None or run < longest_run) else 0
        return fault if run else None

    return schedule


def planned(*faults: Fault | None, method: str | None = None, containing: str = "") -> Schedule:
    """The first requests (of that method, with that text in their path) get these faults, the others none."""
    left = list(faults)

    def schedule(its_method: str, path: str) -> Fault | None:
        return left.pop(0) if left and method in (None, its_method) and containing in path else None

    return schedule


def always(fault: Fault) -> Schedule:
    return lambda method, path: fault


class FaultProxy:
    """For one event loop. Bodies are held in memory."""

    def __init__(
        self,
        upstream: str,
        schedule: Schedule = no_faults,
        *,
        latency_s: float = 0.0,
        slow_s: float = 0.3,
        hang_s: float = 5.0,
    ) -> None:
        self.upstream = upstream.rstrip("/")
        self.schedule = schedule
        self.latency_s = latency_s
        self.slow_s = slow_s
        self.hang_s = hang_s
        self.seen: list[Seen] = []
        self.url = ""

    async def __aenter__(self) -> Self:
        self._client = aiohttp.ClientSession(
            auto_decompress=False, timeout=aiohttp.ClientTimeout(total=60), connector=aiohttp.TCPConnector(limit=0)
        )
        # The handler ends with its client's connection, so that a hanging request doesn't hold up the end of a test.
        server = web.Server(self._handle, handler_cancellation=True)
        self._runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, LOOPBACK, 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._runner.cleanup()
        await self._client.close()

    def count(self, fault: Fault) -> int:
        return sum(each.fault is fault for each in self.seen)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        fault = self.schedule(request.method, request.raw_path)
        if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request._client_max_size = _LARGEST
        body = await request.read()
        self.seen.append(Seen(len(self.seen), request.method, request.raw_path, dict(request.headers), body, fault))
        if self.latency_s:
            await asyncio.sleep(self.latency_s)
        match fault:
            case Fault.ERROR:
                return web.Response(status=503, text="<Error><Code>ServiceUnavailable</Code></Error>")
            case Fault.DROPPED:
                return _cut(request)
            case Fault.TORN_REQUEST:
                with suppress(aiohttp.ClientError, _Torn):
                    await self._forward(request, _half(body), len(body))
                return _cut(request)
            case Fault.SLOW:
                await asyncio.sleep(self.slow_s)
            case Fault.DOUBLED:
                await self._forward(request, body, len(body))
        try:
            status, headers, answer = await self._forward(request, body, len(body))
        except aiohttp.ClientError:  # the server is down, so is this
            return _cut(request)
        match fault:
            case Fault.ERROR_AFTER:
                return web.Response(status=500, text="<Error><Code>InternalError</Code></Error>")
            case Fault.LOST_ANSWER:
                return _cut(request)
            case Fault.HANG:
                await asyncio.sleep(self.hang_s)
                return _cut(request)
            case Fault.TORN_ANSWER if len(answer) > 1 and request.method != "HEAD":
                torn = web.StreamResponse(status=status, headers={**headers, "Content-Length": str(len(answer))})
                await torn.prepare(request)
                await torn.write(answer[: len(answer) // 2])
                return _cut(request)
            case Fault.TORN_ANSWER:
                return _cut(request)
        whole = web.Response(status=status, body=answer, headers=headers)
        if request.method == "HEAD" and "Content-Length" in headers:
            whole = web.Response(status=status, headers=headers)
        return whole

    async def _forward(
        self, request: web.BaseRequest, body: bytes | AsyncIterator[bytes], length: int
    ) -> tuple[int, dict[str, str], bytes]:
        """The Host header stays the proxy's: S3 signatures are made over it."""
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _HOP_BY_HOP | {"expect"}}
        if length or request.method in ("PUT", "POST"):
            headers["Content-Length"] = str(length)
        async with self._client.request(
            request.method,
            URL(self.upstream + request.raw_path, encoded=True),
            headers=headers,
            data=_payload(body) if length else None,
            allow_redirects=False,
            skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent", "Content-Type"),
        ) as answer:
            kept = {k: v for k, v in answer.headers.items() if k.lower() not in _HOP_BY_HOP}
            if request.method == "HEAD" and "Content-Length" in answer.headers:
                kept["Content-Length"] = answer.headers["Content-Length"]
            if "Location" in kept:  # a resumable upload's session goes through the proxy too
                kept["Location"] = kept["Location"].replace(self.upstream, self.url)
            return answer.status, kept, await answer.read()


class _Torn(Exception):
    """Ends a request in the middle of its body."""


def _payload(body: bytes | AsyncIterator[bytes]) -> io.BytesIO | AsyncIterator[bytes]:
    """aiohttp warns of large bytes, though not of a file of them."""
    return io.BytesIO(body) if isinstance(body, bytes) else body


async def _half(body: bytes) -> AsyncIterator[bytes]:
    yield body[: len(body) // 2]
    await asyncio.sleep(0.02)  # so that the server has it before the connection ends
    raise _Torn


def _cut(request: web.BaseRequest) -> web.StreamResponse:
    """End the client's connection as a crashed server would."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()  # nobody gets it
