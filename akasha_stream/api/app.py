"""The application: routes over a SearchEngine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import structlog
from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException

import akasha_stream
from akasha_stream.api.health import Health
from akasha_stream.api.identity import identity_of
from akasha_stream.api.openapi import request_body, with_request_models
from akasha_stream.api.problems import MEDIA_TYPE, Problem, invalid, problem, unexpected, usage
from akasha_stream.api.responses import MOST_BODY_BYTES, BodyTooLarge, body_of, of_model, of_problem, of_values
from akasha_stream.errors import AkashaError
from akasha_stream.search.engine import SearchEngine, Stats
from akasha_stream.search.query import SearchRequest, SearchResponse, StoredEvent

log = structlog.get_logger(__name__)


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    texts = {
        400: "The request can't be answered as asked",
        404: "No such event is stored",
        413: f"The body is larger than {MOST_BODY_BYTES} bytes",
        422: "A field of the request is wrong; `errors` names it",
        501: "A text query, and no embedder is configured",
        502: "The embedder did not answer",
        503: "Not ready",
    }
    schema = {"$ref": "#/components/schemas/Problem"}
    return {s: {"description": texts[s], "content": {MEDIA_TYPE: {"schema": schema}}} for s in statuses}


def create_app(
    engine: SearchEngine,
    *,
    health: Callable[[], Health] = Health,
    version: str = akasha_stream.__version__,
) -> FastAPI:
    app = FastAPI(
        title="akasha-stream",
        version=version,
        summary="Search over events that arrived a moment ago",
        description="Errors are RFC 9457 problem details (`application/problem+json`).",
        # Ids may end in a slash; a redirect would drop it.
        redirect_slashes=False,
    )

    @app.post(
        "/v1/search",
        tags=["search"],
        summary="Search by vector, by text, or by an event that is stored",
        responses={200: {"model": SearchResponse}, **_problems(400, 404, 413, 422, 501, 502)},
        openapi_extra=request_body(SearchRequest),
    )
    async def search(request: Request) -> Response:
        asked = SearchRequest.model_validate_json(await body_of(request))
        return of_model(await engine.search(asked))

    @app.get(
        "/v1/events/{system}/{id:path}",
        tags=["events"],
        summary="One event by its identity",
        description="Both parts percent-encoded: a `/` inside one is `%2F`.",
        responses={200: {"model": StoredEvent}, **_problems(400, 404)},
    )
    async def event(
        request: Request,
        system: str,
        id: str,  # noqa: A002
        embedding: bool = Query(default=False, description="with its vector"),
    ) -> Response:
        source_system, event_id = identity_of(request.scope)
        return of_model(await engine.get(source_system, event_id, embedding=embedding))

    @app.get("/v1/events/{rest:path}", include_in_schema=False)
    async def slashes(request: Request, embedding: bool = Query(default=False)) -> Response:
        # Where a decoded part begins with a slash, or is one, the path above does not match.
        return await event(request, "", "", embedding)

    @app.get("/v1/stats", tags=["operation"], summary="What this worker can search", responses={200: {"model": Stats}})
    async def stats() -> Response:
        return of_values(asdict(engine.stats()))

    @app.get("/health/live", tags=["operation"], summary="The process answers")
    async def live() -> Response:
        return of_values({"status": "ok", "version": version})

    @app.get("/health/ready", tags=["operation"], summary="Searches can be answered", responses=_problems(503))
    async def ready() -> Response:
        state = health()
        return of_values(
            {
                "status": "ok" if state.ready else "unavailable",
                "components": {name: asdict(part) for name, part in state.components.items()},
            },
            200 if state.ready else 503,
        )

    _handle_errors(app)
    with_request_models(app, SearchRequest, Problem)
    return app


def _handle_errors(app: FastAPI) -> None:
    @app.exception_handler(AkashaError)
    async def akasha(_request: Request, error: AkashaError) -> Response:
        return of_problem(problem(error))

    @app.exception_handler(ValidationError)
    async def validation(_request: Request, error: ValidationError) -> Response:
        # Only requests are validated in the routes; answers are built without.
        return of_problem(invalid(error))

    @app.exception_handler(RequestValidationError)
    async def parameter(_request: Request, error: RequestValidationError) -> Response:
        return of_problem(usage("; ".join(f"{e['loc'][-1]}: {e['msg']}" for e in error.errors()), status=422))

    @app.exception_handler(BodyTooLarge)
    async def too_large(_request: Request, _error: BodyTooLarge) -> Response:
        return of_problem(usage(f"the body is larger than {MOST_BODY_BYTES} bytes", status=413))

    @app.exception_handler(HTTPException)
    async def routing(request: Request, error: HTTPException) -> Response:
        response = of_problem(usage(f"{request.method} {request.url.path}: {error.detail}", status=error.status_code))
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(Exception)
    async def bug(request: Request, error: Exception) -> Response:
        log.error("request_failed", path=request.url.path, exc_info=error)
        return of_problem(unexpected())
