"""The Python client of the HTTP API: AkashaClient (async) and SyncAkashaClient.

    async with AkashaClient("http://localhost:8470") as client:
        found = await client.search(text="retries with back-off", k=5)

Errors are those of akasha_stream.errors, as the server raised them; `ServiceUnreachable` when no
answer came.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import httpx
from pydantic import BaseModel, SecretStr, TypeAdapter, ValidationError

from akasha_stream.api.identity import path_of
from akasha_stream.api.problems import MEDIA_TYPE, Problem, invalid, raised
from akasha_stream.connections.http import verify
from akasha_stream.connections.tls import untrusted
from akasha_stream.errors import AkashaError, ServiceUnreachable, TooManyRequests, UsageError
from akasha_stream.search.query import (
    EventRef,
    FieldName,
    Filters,
    Index,
    RecentEvents,
    SearchRequest,
    SearchResponse,
    StoredEvent,
)
from akasha_stream.settings import HttpSettings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from akasha_stream.search.engine import Stats

_LAST_PORT = 65_535
DEFAULT_URL = "http://127.0.0.1:8470"


def local_url(http: HttpSettings) -> str:
    """Where a worker with these settings listens, as its own machine reaches it."""
    if http.tls_certificate is not None and http.advertised_url is not None:
        return http.advertised_url.rstrip("/")  # the name that its certificate is for
    scheme = "http" if http.tls_certificate is None else "https"
    host = "127.0.0.1" if http.host in {"0.0.0.0", "::"} else http.host  # noqa: S104 - compared, not bound
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{http.port}"


def key_header(key: str | SecretStr | None) -> dict[str, str]:
    """What a request shows the worker. Raises UsageError for what can't be a key."""
    text = key.get_secret_value() if isinstance(key, SecretStr) else key
    if not text:
        return {}
    if not (text.isascii() and text.isprintable()) or " " in text:
        raise UsageError("the API key has characters that no key has; it looks like ak_…, without spaces")
    return {"authorization": f"Bearer {text}"}


def build_request(
    *,
    vector: Sequence[float] | NDArray[Any] | None = None,
    text: str | None = None,
    like: EventRef | tuple[str, str] | None = None,
    k: int = 10,
    threshold: float | None = None,
    filters: Filters | Mapping[str, Any] | None = None,
    after: str | Sequence[str] | None = None,
    after_timeout_s: float | None = None,
    as_of: str | None = None,
    fields: Sequence[FieldName] | None = None,
    index: Index | None = None,
) -> SearchRequest:
    """Arrays and tuples are taken too. Raises UsageError naming the wrong field."""
    values = {
        "vector": None if vector is None else [float(x) for x in vector],
        "text": text,
        "like": {"source_system": like[0], "event_id": like[1]} if isinstance(like, tuple) else like,
        "k": k,
        "threshold": threshold,
        "filters": filters,
        "after": after if after is None or isinstance(after, str) else ",".join(after),
        "after_timeout_s": after_timeout_s,
        "as_of": as_of,
        "fields": None if fields is None else list(fields),
        "index": index,
    }
    try:
        return SearchRequest.model_validate({name: value for name, value in values.items() if value is not None})
    except ValidationError as error:
        raise UsageError(invalid(error).detail) from error


class AkashaClient:
    """`key`: an API key, where the worker asks for one. `timeout_s` is added to what a search waits for freshness.
    `ca`: PEM file of whom to trust with https://; None: whom this machine trusts."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        key: str | SecretStr | None = None,
        timeout_s: float = 30.0,
        headers: Mapping[str, str] | None = None,
        ca: Path | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._url = checked_url(url)
        self._timeout_s = timeout_s
        self._http = httpx.AsyncClient(
            base_url=self._url,
            timeout=timeout_s,
            headers=key_header(key) | dict(headers or {}),
            verify=verify([self._url], ca),
            transport=transport,
        )

    async def search(
        self,
        request: SearchRequest | None = None,
        *,
        vector: Sequence[float] | NDArray[Any] | None = None,
        text: str | None = None,
        like: EventRef | tuple[str, str] | None = None,
        k: int = 10,
        threshold: float | None = None,
        filters: Filters | Mapping[str, Any] | None = None,
        after: str | Sequence[str] | None = None,
        after_timeout_s: float | None = None,
        as_of: str | None = None,
        fields: Sequence[FieldName] | None = None,
        index: Index | None = None,
    ) -> SearchResponse:
        """A ready `request`, or its parts. `after`: tokens that publishing returned."""
        if request is None:
            request = build_request(
                vector=vector,
                text=text,
                like=like,
                k=k,
                threshold=threshold,
                filters=filters,
                after=after,
                after_timeout_s=after_timeout_s,
                as_of=as_of,
                fields=fields,
                index=index,
            )
        return _parsed(
            SearchResponse,
            await self._send(
                "POST", "/v1/search", content=_body(request), timeout=self._timeout_s + (request.after_timeout_s or 0)
            ),
        )

    async def get(self, source_system: str, event_id: str, *, embedding: bool = False) -> StoredEvent:
        """Raises EventNotFound."""
        response = await self._send("GET", path_of(source_system, event_id), params=_flags(embedding))
        return _parsed(StoredEvent, response)

    async def recent(self, *systems: str, limit: int = 20, cursor: str | None = None) -> RecentEvents:
        """The newest events, of these source systems or of all. `cursor`: `next` of the page before."""
        return _parsed(RecentEvents, await self._send("GET", "/v1/events", params=_page(systems, limit, cursor)))

    async def stats(self) -> Stats:
        """What the worker can search."""
        return _stats(await self._send("GET", "/v1/stats"))

    async def ready(self) -> bool:
        """Whether the worker can answer searches now; False as well when nothing answers."""
        try:
            return (await self._http.get("/health/ready")).status_code == 200
        except httpx.TransportError:
            return False

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            response = await self._http.request(method, path, headers=_trace_headers(), **options)
        except httpx.TransportError as error:
            raise _unreachable(self._url, error) from error
        return checked(response)


class SyncAkashaClient:
    """The same without async, for scripts and notebooks."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        key: str | SecretStr | None = None,
        timeout_s: float = 30.0,
        headers: Mapping[str, str] | None = None,
        ca: Path | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._url = checked_url(url)
        self._timeout_s = timeout_s
        self._http = httpx.Client(
            base_url=self._url,
            timeout=timeout_s,
            headers=key_header(key) | dict(headers or {}),
            verify=verify([self._url], ca),
            transport=transport,
        )

    def search(
        self,
        request: SearchRequest | None = None,
        *,
        vector: Sequence[float] | NDArray[Any] | None = None,
        text: str | None = None,
        like: EventRef | tuple[str, str] | None = None,
        k: int = 10,
        threshold: float | None = None,
        filters: Filters | Mapping[str, Any] | None = None,
        after: str | Sequence[str] | None = None,
        after_timeout_s: float | None = None,
        as_of: str | None = None,
        fields: Sequence[FieldName] | None = None,
        index: Index | None = None,
    ) -> SearchResponse:
        """See AkashaClient.search."""
        if request is None:
            request = build_request(
                vector=vector,
                text=text,
                like=like,
                k=k,
                threshold=threshold,
                filters=filters,
                after=after,
                after_timeout_s=after_timeout_s,
                as_of=as_of,
                fields=fields,
                index=index,
            )
        return _parsed(
            SearchResponse,
            self._send(
                "POST", "/v1/search", content=_body(request), timeout=self._timeout_s + (request.after_timeout_s or 0)
            ),
        )

    def get(self, source_system: str, event_id: str, *, embedding: bool = False) -> StoredEvent:
        """Raises EventNotFound."""
        response = self._send("GET", path_of(source_system, event_id), params=_flags(embedding))
        return _parsed(StoredEvent, response)

    def recent(self, *systems: str, limit: int = 20, cursor: str | None = None) -> RecentEvents:
        """See AkashaClient.recent."""
        return _parsed(RecentEvents, self._send("GET", "/v1/events", params=_page(systems, limit, cursor)))

    def stats(self) -> Stats:
        """See AkashaClient.stats."""
        return _stats(self._send("GET", "/v1/stats"))

    def ready(self) -> bool:
        """See AkashaClient.ready."""
        try:
            return self._http.get("/health/ready").status_code == 200
        except httpx.TransportError:
            return False

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            response = self._http.request(method, path, headers=_trace_headers(), **options)
        except httpx.TransportError as error:
            raise _unreachable(self._url, error) from error
        return checked(response)


def _trace_headers() -> dict[str, str]:
    """So that the worker's spans are children of the caller's."""
    if "opentelemetry.trace" not in sys.modules:
        return {}  # nobody has a span
    from akasha_stream.telemetry.tracing import http_headers

    return http_headers()


def _body(request: SearchRequest) -> bytes:
    return request.model_dump_json(by_alias=True, exclude_unset=True).encode()


def _flags(embedding: bool) -> dict[str, str]:
    return {"embedding": "true"} if embedding else {}


def _page(systems: Sequence[str], limit: int, cursor: str | None) -> dict[str, Any]:
    return {"system": list(systems), "limit": limit} | ({} if cursor is None else {"cursor": cursor})


def _stats(response: httpx.Response) -> Stats:
    from akasha_stream.search.engine import Stats

    try:
        return TypeAdapter(Stats).validate_json(response.content)
    except ValidationError as error:
        raise AkashaError(f"{response.request.url} answered something else than Stats") from error


def checked(response: httpx.Response) -> httpx.Response:
    """A good answer; else the error that it tells of is raised."""
    if response.is_success:
        return response
    if response.headers.get("content-type", "").startswith(MEDIA_TYPE):
        try:
            body = Problem.model_validate_json(response.content)
        except ValidationError:
            pass
        else:
            error = raised(body)
            if isinstance(error, TooManyRequests):
                error.retry_after_s = float(response.headers.get("retry-after", error.retry_after_s))
            raise error
    raise AkashaError(f"{response.request.url} answered HTTP {response.status_code}: {response.text[:200]}")


def _parsed[M: BaseModel](model: type[M], response: httpx.Response) -> M:
    try:
        return model.model_validate_json(response.content)
    except ValidationError as error:
        raise AkashaError(f"{response.request.url} answered something else than a {model.__name__}") from error


def checked_url(url: str) -> str:
    """Without a slash at its end. Raises UsageError where it can be no URL."""
    try:
        port = httpx.URL(url).port
    except httpx.InvalidURL as error:
        raise UsageError(f"{url[:80]!a} is no URL: {ascii(str(error))[1:-1][:200]}") from None
    if port is not None and port > _LAST_PORT:
        raise UsageError(f"{url[:80]!a} is no URL: there is no port {port}")
    return url.rstrip("/")


def _unreachable(url: str, error: httpx.TransportError) -> ServiceUnreachable:
    if isinstance(error, httpx.TimeoutException):
        return ServiceUnreachable(f"{url} did not answer in time")
    if wrong := untrusted(error):
        return ServiceUnreachable(f"{url} shows a certificate that is not trusted: {wrong} (http.tls_ca)")
    return ServiceUnreachable(
        f"nothing answers at {url} ({error}); start a worker with: akasha-stream up --embedded, or name another --url"
    )
