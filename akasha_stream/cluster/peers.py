"""Requests to other workers over HTTP."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, Protocol

import httpx
from pydantic import BaseModel, SecretStr, TypeAdapter, ValidationError

from akasha_stream.api.problems import MEDIA_TYPE, Problem
from akasha_stream.auth.systems import EVERY, SYSTEMS_HEADER, Systems
from akasha_stream.cluster.messages import (
    PeerAnswer,
    PeerEvent,
    PeerGet,
    PeerPage,
    PeerRecent,
    PeerSearch,
    PeerWrites,
    PeerWritten,
)
from akasha_stream.connections.tls import trusting, untrusted
from akasha_stream.errors import OwnerUnavailable
from akasha_stream.search.engine import Stats
from akasha_stream.telemetry.figures import WorkerFigures

CONNECT_S = 1.0
KEEP_CONNECTIONS = 32
# Shorter than uvicorn's, which closes an idle connection after 5 s: a request sent at that moment would fail.
KEEP_IDLE_S = 4.0

_STATS = TypeAdapter(Stats)
_FIGURES = TypeAdapter(WorkerFigures)


class Peers(Protocol):
    """Other workers. Every call raises OwnerUnavailable where no usable answer came within `timeout_s`.

    `within`: what the caller sees, on whose behalf they are asked; they look at nothing else.
    """

    async def search(self, url: str, asked: PeerSearch, within: Systems, timeout_s: float) -> PeerAnswer: ...

    async def event(self, url: str, asked: PeerGet, within: Systems, timeout_s: float) -> PeerEvent: ...

    async def written(self, url: str, asked: PeerWrites, within: Systems, timeout_s: float) -> PeerWritten: ...

    async def recent(self, url: str, asked: PeerRecent, within: Systems, timeout_s: float) -> PeerPage: ...

    async def stats(self, url: str, within: Systems, timeout_s: float) -> Stats: ...


class HttpPeers:
    """`transport`: instead of the network. `secret`: what workers that ask for keys show to one another. `ca`: whom to
    trust; None: whom this machine trusts."""

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport | None = None,
        *,
        secret: SecretStr | None = None,
        ca: Path | None = None,
    ) -> None:
        self._secret = secret
        self._transport = transport
        self._ca = ca
        self._client: httpx.AsyncClient | None = None

    async def search(self, url: str, asked: PeerSearch, within: Systems, timeout_s: float) -> PeerAnswer:
        content = await self._send("POST", f"{url}/v1/peer/search", asked, within=within, timeout_s=timeout_s)
        return _parsed(url, TypeAdapter(PeerAnswer), content)

    async def event(self, url: str, asked: PeerGet, within: Systems, timeout_s: float) -> PeerEvent:
        content = await self._send("POST", f"{url}/v1/peer/event", asked, within=within, timeout_s=timeout_s)
        return _parsed(url, TypeAdapter(PeerEvent), content)

    async def written(self, url: str, asked: PeerWrites, within: Systems, timeout_s: float) -> PeerWritten:
        content = await self._send("POST", f"{url}/v1/peer/written", asked, within=within, timeout_s=timeout_s)
        return _parsed(url, TypeAdapter(PeerWritten), content)

    async def recent(self, url: str, asked: PeerRecent, within: Systems, timeout_s: float) -> PeerPage:
        content = await self._send("POST", f"{url}/v1/peer/recent", asked, within=within, timeout_s=timeout_s)
        return _parsed(url, TypeAdapter(PeerPage), content)

    async def stats(self, url: str, within: Systems, timeout_s: float) -> Stats:
        return _parsed(
            url, _STATS, await self._send("GET", f"{url}/v1/stats", None, within=within, timeout_s=timeout_s)
        )

    async def figures(self, url: str, timeout_s: float) -> WorkerFigures:
        return _parsed(
            url, _FIGURES, await self._send("GET", f"{url}/v1/worker", None, within=EVERY, timeout_s=timeout_s)
        )

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()

    async def _send(self, method: str, url: str, body: BaseModel | None, *, within: Systems, timeout_s: float) -> bytes:
        """The one place where a worker asks another one: it proves that it is one, and says on whose behalf."""
        if self._client is None:
            # Made when it is needed: a client reads the system's certificates first.
            self._client = httpx.AsyncClient(
                transport=self._transport,
                verify=trusting(self._ca, "http.tls_ca"),
                limits=httpx.Limits(max_keepalive_connections=KEEP_CONNECTIONS, keepalive_expiry=KEEP_IDLE_S),
            )
        content = None if body is None else body.model_dump_json(by_alias=True, exclude_unset=True).encode()
        headers = {} if content is None else {"content-type": "application/json"}
        if self._secret is not None:
            headers["authorization"] = f"Bearer {self._secret.get_secret_value()}"
        if not within.all:
            headers[SYSTEMS_HEADER] = json.dumps(within.patterns())
        try:
            # httpx's time-outs are for each read and write; this one is for all.
            async with asyncio.timeout(timeout_s):
                response = await self._client.request(
                    method, url, content=content, headers=headers, timeout=httpx.Timeout(None, connect=CONNECT_S)
                )
        except (TimeoutError, httpx.TimeoutException) as error:
            raise OwnerUnavailable(f"{url} did not answer within {timeout_s:g} s", "worker_timeout") from error
        except (httpx.TransportError, httpx.InvalidURL) as error:
            why = (
                f"its certificate is not trusted: {wrong} (http.tls_ca)" if (wrong := untrusted(error)) else repr(error)
            )
            raise OwnerUnavailable(f"{url} can't be reached: {why}", "worker_unreachable") from error
        if not response.is_success:
            raise OwnerUnavailable(f"{url} answered: {_why(response)}", "worker_failed")
        return response.content


def _why(response: httpx.Response) -> str:
    if response.headers.get("content-type", "").startswith(MEDIA_TYPE):
        try:
            return Problem.model_validate_json(response.content).detail
        except ValidationError:
            pass
    return f"HTTP {response.status_code}"


def _parsed[M: Any](url: str, adapter: TypeAdapter[M], content: bytes) -> M:
    try:
        return adapter.validate_json(content)
    except ValidationError as error:
        raise OwnerUnavailable(f"{url} answers, and not as a worker of this version does", "worker_failed") from error
