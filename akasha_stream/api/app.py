"""The application: routes over a Cluster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import structlog
from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.telemetry import TelemetryConfig
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

import akasha_stream
from akasha_stream.api.health import Health
from akasha_stream.api.identity import identity_of
from akasha_stream.api.openapi import problems, request_body, with_request_models
from akasha_stream.api.partitions import Partitions
from akasha_stream.api.problems import Problem, invalid, problem, unexpected, usage
from akasha_stream.api.recent import add_recent
from akasha_stream.api.replays import add_replays
from akasha_stream.api.responses import MOST_BODY_BYTES, BodyTooLarge, body_of, of_model, of_problem, of_values
from akasha_stream.cluster.cluster import Cluster
from akasha_stream.cluster.messages import PeerAnswer, PeerEvent, PeerGet, PeerSearch, PeerWrites, PeerWritten
from akasha_stream.cluster.stats import ClusterStats
from akasha_stream.errors import AkashaError
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
) -> FastAPI:
    searches = searches or Searches()
    app = FastAPI(
        title="akasha-stream",
        version=version,
        summary="Search over events that arrived a moment ago",
        description="Errors are RFC 9457 problem details (`application/problem+json`).",
        # Ids may end in a slash; a redirect would drop it.
        redirect_slashes=False,
        telemetry={"logs": False, "operation_spans": False, "auto_configure": False, **(telemetry or {})},
    )

    @app.post(
        "/v1/search",
        tags=["search"],
        summary="Search by vector, by text, or by an event that is stored",
        responses={200: {"model": SearchResponse}, **problems(400, 404, 409, 413, 422, 501, 502, 503)},
        openapi_extra=request_body(SearchRequest),
    )
    async def search(request: Request) -> Response:
        asked = SearchRequest.model_validate_json(await body_of(request))
        with searches.measured() as measured:
            measured.response = await cluster.search(asked)
        return of_model(measured.response)

    add_recent(app, cluster.engine.recent, problems(400, 422, 502, 503))

    @app.get(
        "/v1/events/{system}/{id:path}",
        tags=["events"],
        summary="One event by its identity",
        description="Both parts percent-encoded: a `/` inside one is `%2F`.",
        responses={200: {"model": StoredEvent}, **problems(400, 404, 502, 503)},
    )
    async def event(
        request: Request,
        system: str,
        id: str,  # noqa: A002
        embedding: bool = Query(default=False, description="with its vector"),
    ) -> Response:
        source_system, event_id = identity_of(request.scope)
        return of_model(await cluster.get(source_system, event_id, embedding=embedding))

    @app.get("/v1/events/{rest:path}", include_in_schema=False)
    async def slashes(request: Request, embedding: bool = Query(default=False)) -> Response:
        # Where a decoded part begins with a slash, or is one, the path above does not match.
        return await event(request, "", "", embedding)

    @app.get(
        "/v1/stats",
        tags=["operation"],
        summary="What this worker, or all of them, can search",
        responses={200: {"model": Stats | ClusterStats}},
    )
    async def stats(
        all_workers: bool = Query(alias="cluster", default=False, description="of all workers"),
    ) -> Response:
        return of_values(asdict(await cluster.cluster_stats() if all_workers else cluster.stats()))

    @app.post(
        "/v1/peer/search",
        tags=["between workers"],
        summary="Search this worker's partitions alone, for another worker",
        responses={200: {"model": PeerAnswer}, **problems(400, 413, 422, 502, 503)},
        openapi_extra=request_body(PeerSearch),
    )
    async def peer_search(request: Request) -> Response:
        return of_model(await cluster.here.search(PeerSearch.model_validate_json(await body_of(request))))

    @app.post(
        "/v1/peer/event",
        tags=["between workers"],
        summary="One event, if this worker has it, for another worker",
        responses={200: {"model": PeerEvent}, **problems(400, 413, 422, 502, 503)},
        openapi_extra=request_body(PeerGet),
    )
    async def peer_event(request: Request) -> Response:
        return of_model(await cluster.here.event(PeerGet.model_validate_json(await body_of(request))))

    @app.post(
        "/v1/peer/written",
        tags=["between workers"],
        summary="When events were last written in one of this worker's partitions, for another worker",
        responses={200: {"model": PeerWritten}, **problems(413, 422)},
        openapi_extra=request_body(PeerWrites),
    )
    async def peer_written(request: Request) -> Response:
        return of_model(cluster.here.written(PeerWrites.model_validate_json(await body_of(request))))

    @app.get(
        "/v1/partitions",
        tags=["operation"],
        summary="How far this worker is with each partition that it owns",
        responses={200: {"model": Partitions}},
    )
    async def partitions_() -> Response:
        return of_values(asdict(partitions()))

    @app.get("/health/live", tags=["operation"], summary="The process answers")
    async def live() -> Response:
        return of_values({"status": "ok", "version": version})

    @app.get("/health/ready", tags=["operation"], summary="Searches can be answered", responses=problems(503))
    async def ready() -> Response:
        state = health()
        return of_values(
            {
                "status": "ok" if state.ready else "unavailable",
                "components": {name: asdict(part) for name, part in state.components.items()},
            },
            200 if state.ready else 503,
        )

    models: list[type[BaseModel]] = [SearchRequest, PeerSearch, PeerGet, PeerWrites, Problem]
    if replays is not None:
        add_replays(app, replays)
        models.append(ReplayRequest)
    _handle_errors(app)
    with_request_models(app, *models)
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
