"""The application: routes over a Cluster."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict

import structlog
from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.telemetry import TelemetryConfig
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

import akasha_stream
from akasha_stream.api.access import Guard, caller_of, guard_routes, more_time, needs, open_to_all, systems_of
from akasha_stream.api.health import Health, shown
from akasha_stream.api.identity import identity_of
from akasha_stream.api.openapi import problems, request_body, with_request_models
from akasha_stream.api.partitions import Partitions
from akasha_stream.api.problems import Problem, invalid, problem, unexpected, usage
from akasha_stream.api.recent import add_recent
from akasha_stream.api.replays import add_replays
from akasha_stream.api.responses import BodyTooLarge, BodyTooSlow, body_of, of_model, of_problem, of_values
from akasha_stream.auth.caller import Scope
from akasha_stream.cluster.cluster import Cluster
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
from akasha_stream.cluster.stats import ClusterStats
from akasha_stream.errors import AkashaError, NotAuthenticated, TooManyRequests
from akasha_stream.replay.job import ReplayRequest
from akasha_stream.replay.queue import Replays
from akasha_stream.search.engine import Stats
from akasha_stream.search.query import SearchRequest, SearchResponse, StoredEvent
from akasha_stream.telemetry.searches import Searches

log = structlog.get_logger(__name__)


def create_app(
    cluster: Cluster,
    *,
    health: Callable[[], Health] = Health,
    partitions: Callable[[], Partitions] = Partitions,
    replays: Replays | None = None,
    version: str = akasha_stream.__version__,
    telemetry: TelemetryConfig | None = None,
    searches: Searches | None = None,
    guard: Guard | None = None,
) -> FastAPI:
    """`guard`: who may ask what; None: everybody everything."""
    searches = searches or Searches()
    app = FastAPI(
        title="akasha-stream",
        version=version,
        summary="Search over events that arrived a moment ago",
        description="Errors are RFC 9457 problem details (`application/problem+json`).",
        # Ids may end in a slash; a redirect would drop it.
        redirect_slashes=False,
        # Their pages take scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        telemetry={"logs": False, "operation_spans": False, "auto_configure": False, **(telemetry or {})},
    )

    guard_routes(app, guard or Guard())

    @app.post(
        "/v1/search",
        tags=["search"],
        summary="Search by vector, by text, or by an event that is stored",
        responses={200: {"model": SearchResponse}, **problems(400, 404, 408, 409, 413, 422, 501, 502, 503)},
        openapi_extra=request_body(SearchRequest),
    )
    @needs(Scope.READ)
    async def search(request: Request) -> Response:
        asked = SearchRequest.model_validate_json(await body_of(request))
        more_time(request, cluster.engine.after_timeout_s(asked) if asked.after else 0.0)
        with searches.measured() as measured:
            measured.response = await cluster.search(asked, systems_of(request))
        return of_model(measured.response)

    add_recent(app, cluster.recent)

    @app.get(
        "/v1/events/{system}/{id:path}",
        tags=["events"],
        summary="One event by its identity",
        description="Both parts percent-encoded: a `/` inside one is `%2F`.",
        responses={200: {"model": StoredEvent}, **problems(400, 404, 422, 502, 503)},
    )
    @needs(Scope.READ)
    async def event(
        request: Request,
        system: str,
        id: str,  # noqa: A002
        embedding: bool = Query(default=False, description="with its vector"),
    ) -> Response:
        source_system, event_id = identity_of(request.scope)
        return of_model(await cluster.get(source_system, event_id, systems_of(request), embedding=embedding))

    @app.get("/v1/events/{rest:path}", include_in_schema=False)
    @needs(Scope.READ)
    async def slashes(request: Request, embedding: bool = Query(default=False)) -> Response:
        # Where a decoded part begins with a slash, or is one, the path above does not match.
        return await event(request, "", "", embedding)

    @app.get(
        "/v1/stats",
        tags=["operation"],
        summary="What this worker, or all of them, can search",
        responses={200: {"model": Stats | ClusterStats}, **problems(422)},
    )
    @needs(Scope.READ)
    async def stats(
        request: Request,
        all_workers: bool = Query(alias="cluster", default=False, description="of all workers"),
    ) -> Response:
        within = systems_of(request)
        return of_values(asdict(await cluster.cluster_stats(within) if all_workers else cluster.stats(within)))

    @app.post(
        "/v1/peer/search",
        tags=["between workers"],
        summary="Search this worker's partitions alone, for another worker",
        responses={200: {"model": PeerAnswer}, **problems(400, 404, 408, 409, 413, 422, 501, 502, 503)},
        openapi_extra=request_body(PeerSearch),
    )
    @needs(Scope.NODE)
    async def peer_search(request: Request) -> Response:
        asked = PeerSearch.model_validate_json(await body_of(request))
        more_time(request, asked.request.after_timeout_s or 0.0)
        return of_model(await cluster.here.search(asked, systems_of(request)))

    @app.post(
        "/v1/peer/event",
        tags=["between workers"],
        summary="One event, if this worker has it, for another worker",
        responses={200: {"model": PeerEvent}, **problems(400, 408, 413, 422, 502, 503)},
        openapi_extra=request_body(PeerGet),
    )
    @needs(Scope.NODE)
    async def peer_event(request: Request) -> Response:
        asked = PeerGet.model_validate_json(await body_of(request))
        more_time(request, asked.after_timeout_s)
        return of_model(await cluster.here.event(asked, systems_of(request)))

    @app.post(
        "/v1/peer/written",
        tags=["between workers"],
        summary="When events were last written in one of this worker's partitions, for another worker",
        responses={200: {"model": PeerWritten}, **problems(400, 408, 413, 422)},
        openapi_extra=request_body(PeerWrites),
    )
    @needs(Scope.NODE)
    async def peer_written(request: Request) -> Response:
        asked = PeerWrites.model_validate_json(await body_of(request))
        return of_model(cluster.here.written(asked, systems_of(request)))

    @app.post(
        "/v1/peer/recent",
        tags=["between workers"],
        summary="The newest events of this worker's partitions alone, for another worker",
        responses={200: {"model": PeerPage}, **problems(400, 408, 413, 422, 502, 503)},
        openapi_extra=request_body(PeerRecent),
    )
    @needs(Scope.NODE)
    async def peer_recent(request: Request) -> Response:
        asked = PeerRecent.model_validate_json(await body_of(request))
        return of_model(await cluster.here.recent(asked, systems_of(request)))

    @app.get(
        "/v1/partitions",
        tags=["operation"],
        summary="How far this worker is with each partition that it owns",
        responses={200: {"model": Partitions}},
    )
    @needs(Scope.READ, all_systems=True)
    async def partitions_() -> Response:
        return of_values(asdict(partitions()))

    @app.get("/livez", include_in_schema=False)
    @app.get("/health/live", tags=["operation"], summary="The process answers")
    @open_to_all
    async def live() -> Response:
        return of_values({"status": "ok", "version": version})

    @app.get("/readyz", include_in_schema=False)
    @app.get(
        "/health/ready",
        tags=["operation"],
        summary="Searches can be answered",
        description="What is wrong with a component is told to keys for all source systems.",
        responses={503: {"description": "Not ready, or about to stop: the same body"}},
    )
    @open_to_all
    async def ready(request: Request) -> Response:
        state = health()
        return of_values(shown(state, details=caller_of(request).sees_all), 200 if state.ready else 503)

    @app.get("/startupz", include_in_schema=False)
    @app.get(
        "/health/startup",
        tags=["operation"],
        summary="It was ready once",
        description="Stays so until the process ends, whatever becomes of its components.",
        responses={503: {"description": "Still starting: the same body"}},
    )
    @open_to_all
    async def startup(request: Request) -> Response:
        state = health()
        body = shown(state, details=caller_of(request).sees_all)
        return of_values(body | {"status": "ok" if state.started else "starting"}, 200 if state.started else 503)

    models: list[type[BaseModel]] = [SearchRequest, PeerSearch, PeerGet, PeerWrites, PeerRecent, Problem]
    if replays is not None:
        add_replays(app, replays)
        models.append(ReplayRequest)
    _handle_errors(app)
    with_request_models(app, *models)
    return app


def _handle_errors(app: FastAPI) -> None:
    @app.exception_handler(AkashaError)
    async def akasha(_request: Request, error: AkashaError) -> Response:
        response = of_problem(problem(error))
        if isinstance(error, NotAuthenticated):
            response.headers["www-authenticate"] = 'Bearer realm="akasha-stream"'
        if isinstance(error, TooManyRequests):
            response.headers["retry-after"] = str(math.ceil(error.retry_after_s))
        return response

    @app.exception_handler(ValidationError)
    async def validation(_request: Request, error: ValidationError) -> Response:
        # Only requests are validated in the routes; answers are built without.
        return of_problem(invalid(error))

    @app.exception_handler(RequestValidationError)
    async def parameter(_request: Request, error: RequestValidationError) -> Response:
        return of_problem(usage("; ".join(f"{e['loc'][-1]}: {e['msg']}" for e in error.errors()), status=422))

    @app.exception_handler(BodyTooLarge)
    async def too_large(_request: Request, error: BodyTooLarge) -> Response:
        return of_problem(usage(str(error), status=413))

    @app.exception_handler(BodyTooSlow)
    async def too_slow(_request: Request, error: BodyTooSlow) -> Response:
        return of_problem(usage(str(error), status=408))

    @app.exception_handler(HTTPException)
    async def routing(request: Request, error: HTTPException) -> Response:
        response = of_problem(usage(f"{request.method} {request.url.path}: {error.detail}", status=error.status_code))
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(Exception)
    async def bug(request: Request, error: Exception) -> Response:
        log.error("request_failed", path=request.url.path, exc_info=error)
        return of_problem(unexpected())
