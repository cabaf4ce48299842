"""GET /v1/map: the embedding space in two dimensions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import FastAPI, Query, Request, Response

from akasha_stream.api.access import needs, systems_of
from akasha_stream.api.openapi import problems
from akasha_stream.api.responses import of_model
from akasha_stream.auth.caller import Scope
from akasha_stream.auth.systems import Systems
from akasha_stream.search.embedding_map import MOST_SAMPLED, EmbeddingMap


def add_map(app: FastAPI, draw: Callable[[int, Systems], Awaitable[EmbeddingMap]]) -> None:
    @app.get(
        "/v1/map",
        tags=["search"],
        summary="A sample of this worker's events in two dimensions",
        description=(
            "The plane in which the sample's vectors differ most (PCA). Drawn anew after some seconds, at the earliest."
        ),
        responses={200: {"model": EmbeddingMap}, **problems(422)},
    )
    @needs(Scope.READ)
    async def map_(
        request: Request,
        sample: Annotated[int, Query(ge=2, le=MOST_SAMPLED, description="events at most")] = 2_000,
    ) -> Response:
        return of_model(await draw(sample, systems_of(request)))
