"""Reading bodies and writing answers with as little between the socket and the engine as possible."""

from __future__ import annotations

import asyncio

import orjson
from fastapi import Request, Response
from pydantic import BaseModel

from akasha_stream.api.problems import MEDIA_TYPE, Problem
from akasha_stream.settings import HttpSettings


class BodyTooLarge(Exception):
    """A request's body is larger than http.body_bytes."""


class BodyTooSlow(Exception):
    """A request's body did not arrive within http.receive_s."""


async def body_of(request: Request) -> bytes:
    """The body, read no further than the limit, whatever its Content-Length says."""
    limits: HttpSettings = request.state.http
    claimed = request.headers.get("content-length", "0")
    if claimed.isdecimal() and int(claimed) > limits.body_bytes:
        raise BodyTooLarge(f"the body is larger than {limits.body_bytes} bytes (http.body_bytes)")
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(limits.receive_s):
            async for part in request.stream():
                size += len(part)
                if size > limits.body_bytes:
                    raise BodyTooLarge(f"the body is larger than {limits.body_bytes} bytes (http.body_bytes)")
                parts.append(part)
    except TimeoutError:
        raise BodyTooSlow(f"the body did not arrive within {limits.receive_s:g} s (http.receive_s)") from None
    return b"".join(parts)


def of_model(model: BaseModel) -> Response:
    """Fields that were not set (outside the projection) are absent."""
    # Past FastAPI's response_model: it would validate and copy what the engine has just built.
    return Response(model.__pydantic_serializer__.to_json(model, exclude_unset=True), media_type="application/json")


def of_values(values: object, status: int = 200) -> Response:
    return Response(orjson.dumps(values, option=orjson.OPT_UTC_Z), status, media_type="application/json")


def of_json(body: bytes) -> Response:
    return Response(body, media_type="application/json")


def of_problem(body: Problem) -> Response:
    return Response(body.model_dump_json(exclude_none=True), body.status, media_type=MEDIA_TYPE)
