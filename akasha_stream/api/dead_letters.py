"""Dead letters over HTTP: listed, shown, and published again."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import FastAPI, Path, Query, Request, Response

from akasha_stream.api.access import needs, note, systems_of
from akasha_stream.api.openapi import problems, request_body, with_request_models
from akasha_stream.api.responses import body_of, of_model
from akasha_stream.auth.caller import Scope
from akasha_stream.dlq.answers import DeadLetters, DeadLetterWithBytes, RequeueAnswer, RequeueRequest
from akasha_stream.dlq.ledger import Choice, read_ledger
from akasha_stream.dlq.letter import Place
from akasha_stream.dlq.one import find_letter
from akasha_stream.dlq.requeue import requeue
from akasha_stream.settings import Settings
from akasha_stream.topics.reader import reading

MOST_LETTERS = 1_000


def add_dead_letters(app: FastAPI, settings: Settings) -> None:
    topic = settings.topics.dead_letters
    # Each of these reads the topic from its start: one at a time, however many pages ask.
    turn = asyncio.Lock()

    @app.get(
        "/v1/dead-letters",
        tags=["dead letters"],
        summary="The latest dead letters, with their reasons",
        responses={200: {"model": DeadLetters}, **problems(422, 503)},
    )
    @needs(Scope.READ)
    async def letters(
        request: Request,
        limit: Annotated[int, Query(ge=1, le=MOST_LETTERS)] = 100,
        reason: Annotated[
            list[str] | None, Query(description="only this reason; may be repeated", max_length=100)
        ] = None,
        system: Annotated[
            list[str] | None, Query(description="only records with this key; may be repeated", max_length=100)
        ] = None,
    ) -> Response:
        choice = Choice(reasons=frozenset(reason or ()), systems=frozenset(system or ()), within=systems_of(request))
        async with turn, reading(settings.broker, topic) as reader:
            return of_model(DeadLetters.of(await read_ledger(reader, choice), limit))

    @app.get(
        "/v1/dead-letters/{partition}/{offset}",
        tags=["dead letters"],
        summary="One dead letter with its bytes",
        responses={200: {"model": DeadLetterWithBytes}, **problems(404, 422, 503)},
    )
    @needs(Scope.READ)
    async def letter(
        request: Request,
        partition: Annotated[int, Path(ge=0, le=2**31 - 1, examples=[0])],
        offset: Annotated[int, Path(ge=0, le=2**63 - 1, examples=[17])],
    ) -> Response:
        async with turn, reading(settings.broker, topic) as reader:
            return of_model(
                DeadLetterWithBytes.of(*await find_letter(reader, Place(partition, offset), systems_of(request)))
            )

    @app.post(
        "/v1/dead-letters/requeue",
        tags=["dead letters"],
        summary="Publish dead letters again, with their original bytes",
        description=(
            "Each goes to the embeddings topic once: it is marked in the same transaction, and a second request "
            "skips it unless `again` is true."
        ),
        responses={200: {"model": RequeueAnswer}, **problems(400, 404, 408, 413, 422, 503)},
        openapi_extra=request_body(RequeueRequest),
    )
    @needs(Scope.WRITE)
    async def publish_again(request: Request) -> Response:
        asked = RequeueRequest.model_validate_json(await body_of(request))
        note(request, letters=asked.letters, again=asked.again)
        choice = Choice(places=frozenset(map(Place.parse, asked.letters)), within=systems_of(request))
        async with turn:
            return of_model(RequeueAnswer.of(await requeue(settings, choice, again=asked.again)))

    with_request_models(app, RequeueRequest)
