"""GET /v1/worker and GET /v1/overview: the figures of this worker, and of all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Response

from akasha_stream.api.access import needs
from akasha_stream.api.responses import of_values
from akasha_stream.auth.caller import Scope
from akasha_stream.operations.overview import Overview
from akasha_stream.telemetry.figures import WorkerFigures


def add_overview(
    app: FastAPI, figures: Callable[[], WorkerFigures], overview: Callable[[], Awaitable[Overview]]
) -> None:
    """`figures`: made in a thread."""

    @app.get(
        "/v1/worker",
        tags=["operation"],
        summary="Figures of this worker: totals, lag, freshness, health and segments",
        description="Totals count since the worker started; a rate is the difference of two answers by their `at_ms`.",
        responses={200: {"model": WorkerFigures}},
    )
    @needs(Scope.READ, all_systems=True)
    async def worker() -> Response:
        return of_values(await asyncio.to_thread(figures))

    @app.get(
        "/v1/overview",
        tags=["operation"],
        summary="Figures of all workers of the cluster, asked by this one",
        responses={200: {"model": Overview}},
    )
    @needs(Scope.READ, all_systems=True)
    async def all_workers() -> Response:
        return of_values(await overview())
