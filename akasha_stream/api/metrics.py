"""GET /metrics: the figures of this worker, for Prometheus."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fastapi import FastAPI, Response

from akasha_stream.api.access import needs, open_to_all
from akasha_stream.auth.caller import Scope

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def add_metrics(app: FastAPI, exposition: Callable[[], bytes], *, open_metrics: bool = False) -> None:
    """`exposition`: the text, made in a thread. `open_metrics`: for a scraper that has no key."""

    @app.get(
        "/metrics",
        tags=["operation"],
        summary="Figures of this worker, as Prometheus reads them",
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
        response_class=Response,
    )
    @(open_to_all if open_metrics else needs(Scope.METRICS, all_systems=True))
    async def metrics() -> Response:
        # The media type by hand: FastAPI would add a second charset.
        return Response(await asyncio.to_thread(exposition), headers={"content-type": CONTENT_TYPE})
