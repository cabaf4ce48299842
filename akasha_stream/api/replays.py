"""Replays over HTTP: `akasha-stream replay` drives them, and anybody may look."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request, Response

from akasha_stream.api.openapi import request_body
from akasha_stream.api.responses import body_of, of_json
from akasha_stream.events.bundles import ARROW_TYPE
from akasha_stream.replay.job import ReplayRequest, ReplayState, dump, dump_all
from akasha_stream.replay.queue import Replays

_TAG: Any = {"tags": ["replay"], "responses": {200: {"model": ReplayState}}}


def add_replays(app: FastAPI, replays: Replays) -> None:
    @app.post(
        "/v1/replays",
        summary="Read a part of a partition's log again; the same request again goes on with it",
        openapi_extra=request_body(ReplayRequest),
        **_TAG,
    )
    async def start(request: Request) -> Response:
        return of_json(dump(replays.start(ReplayRequest.model_validate_json(await body_of(request)))))

    @app.get("/v1/replays", tags=["replay"], summary="The last replay of each partition that this worker owns")
    async def states() -> Response:
        return of_json(dump_all(replays.states()))

    @app.get(
        "/v1/partitions/{partition}/rows",
        tags=["replay"],
        summary="Identity, position and payload hash of each live row, as an Arrow stream",
        response_class=Response,
    )
    async def rows(partition: int) -> Response:
        return Response(await replays.rows(partition), media_type=ARROW_TYPE)

    @app.post("/v1/replays/{partition}/pause", summary="Stop reading until it is resumed", **_TAG)
    async def pause(partition: int) -> Response:
        return of_json(dump(replays.pause(partition)))

    @app.post("/v1/replays/{partition}/resume", summary="Go on reading", **_TAG)
    async def resume(partition: int) -> Response:
        return of_json(dump(replays.resume(partition)))

    @app.post("/v1/replays/{partition}/cancel", summary="End it, and change nothing", **_TAG)
    async def cancel(partition: int) -> Response:
        return of_json(dump(await replays.cancel(partition)))
