"""GET /v1/events: the newest events, in pages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import FastAPI, Query, Request, Response

from akasha_stream.api.access import needs, systems_of
from akasha_stream.api.openapi import problems
from akasha_stream.api.responses import of_model
from akasha_stream.auth.caller import Scope
from akasha_stream.auth.systems import Systems
from akasha_stream.search.query import MOST_RECENT, RecentEvents, RecentRequest


def add_recent(app: FastAPI, recent: Callable[[RecentRequest, Systems], Awaitable[RecentEvents]]) -> None:
    @app.get(
        "/v1/events",
        tags=["events"],
        summary="The newest events, by their own time",
        description="The newest first, in pages: `next` is the `cursor` of the one behind.",
        responses={200: {"model": RecentEvents}, **problems(400, 422, 502, 503)},
    )
    @needs(Scope.READ)
    async def events(
        request: Request,
        system: Annotated[
            list[str] | None, Query(description="only of this source system; may be repeated", max_length=100)
        ] = None,
        limit: Annotated[int, Query(ge=1, le=MOST_RECENT)] = 20,
        cursor: Annotated[str | None, Query(description="`next` of the page before", max_length=64)] = None,
    ) -> Response:
        asked = RecentRequest(systems=system or [], limit=limit, cursor=cursor)
        return of_model(await recent(asked, systems_of(request)))
