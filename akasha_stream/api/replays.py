"""Replays over HTTP: `akasha-stream replay` drives them. They read a whole partition again: admins alone."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import FastAPI, Path, Request, Response

from akasha_stream.api.access import needs, note
from akasha_stream.api.openapi import problems, request_body
from akasha_stream.api.responses import body_of, of_json
from akasha_stream.auth.caller import Scope
from akasha_stream.events.bundles import ARROW_TYPE
from akasha_stream.replay.job import ReplayRequest, ReplayState, dump, dump_all
from akasha_stream.replay.queue import Replays

_TAG: Any = {"tags": ["replay"], "responses": {200: {"model": ReplayState}, **problems(400, 408, 409, 413, 422)}}


type Partition = Annotated[int, Path(ge=0, le=2**31 - 1, examples=[0])]


def add_replays(app: FastAPI, replays: Replays) -> None:
    admin = needs(Scope.ADMIN, all_systems=True)

    @app.post(
        "/v1/replays",
        summary="Read a part of a partition's log again; the same request again goes on with it",
        openapi_extra=request_body(ReplayRequest),
        **_TAG,
    )
    @admin
    async def start(request: Request) -> Response:
        asked = ReplayRequest.model_validate_json(await body_of(request))
        note(request, **asked.model_dump(exclude_defaults=True))
        return of_json(dump(replays.start(asked)))

    @app.get("/v1/replays", tags=["replay"], summary="The last replay of each partition that this worker owns")
    @needs(Scope.READ, all_systems=True)
    async def states() -> Response:
        return of_json(dump_all(replays.states()))

    @app.get(
        "/v1/partitions/{partition}/rows",
        tags=["replay"],
        summary="Identity, position and payload hash of each live row, as an Arrow stream",
        response_class=Response,
        responses={200: {"content": {ARROW_TYPE: {}}}, **problems(409, 422)},
    )
    @admin
    async def rows(partition: Partition) -> Response:
        return Response(await replays.rows(partition), media_type=ARROW_TYPE)

    @app.post("/v1/replays/{partition}/pause", summary="Stop reading until it is resumed", **_TAG)
    @admin
    async def pause(partition: Partition) -> Response:
        return of_json(dump(replays.pause(partition)))

    @app.post("/v1/replays/{partition}/resume", summary="Go on reading", **_TAG)
    @admin
    async def resume(partition: Partition) -> Response:
        return of_json(dump(replays.resume(partition)))

    @app.post("/v1/replays/{partition}/cancel", summary="End it, and change nothing", **_TAG)
    @admin
    async def cancel(partition: Partition) -> Response:
        return of_json(dump(await replays.cancel(partition)))
