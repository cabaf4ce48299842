"""Errors as RFC 9457 problem details: the one table of which error is which status, for both sides.

`type` is "urn:akasha-stream:problem:<class-in-kebab-case>"; the client turns it back into the class.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, Field
from pydantic import ValidationError as PydanticError

from akasha_stream import errors
from akasha_stream.errors import AkashaError

MEDIA_TYPE = "application/problem+json"
_URN = "urn:akasha-stream:problem:"

# The nearest class in an error's ancestry counts.
_STATUS: dict[type[AkashaError], int] = {
    errors.UsageError: 400,
    errors.LetterNotFound: 404,
    errors.EventError: 400,
    errors.EventNotFound: 404,
    errors.ShardMoved: 409,
    errors.EmbedderMissing: 501,
    errors.EmbedderFailed: 502,
    errors.OwnerUnavailable: 503,
    errors.SearchError: 400,
    errors.ObjectArchived: 409,
    errors.StorageError: 502,
    errors.StorageUnavailable: 503,
    errors.LookupUnavailable: 503,
    errors.BrokerError: 503,
    errors.NotAuthenticated: 401,
    errors.NotAllowed: 403,
    errors.TooManyRequests: 429,
    errors.AnswerTimeout: 504,
    AkashaError: 500,
}


class Place(BaseModel):
    """One wrong field of a request."""

    place: str = Field(examples=["filters.created_after"])
    message: str


class Problem(BaseModel):
    """RFC 9457."""

    type: str = Field(examples=[f"{_URN}event-not-found"])
    title: str
    status: int
    detail: str
    retriable: bool = Field(default=False, description="the same request may succeed later")
    errors: list[Place] | None = Field(default=None, description="fields of the request that are wrong")


def problem(error: AkashaError) -> Problem:
    kind = type(error)
    status = next(_STATUS[c] for c in kind.__mro__ if c in _STATUS)
    return Problem(
        type=_URN + _kebab(kind.__name__),
        title=_title(kind.__name__),
        status=status,
        detail=str(error),
        retriable=error.retriable,
    )


def invalid(error: PydanticError) -> Problem:
    """A request that its model refuses. Never repeats the values: they may be long, or secret."""
    places = [
        Place(place=_path(e["loc"]), message=e["msg"].removeprefix("Value error, "))
        for e in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    return usage("; ".join(f"{p.place}: {p.message}" for p in places[:5]), status=422, places=places)


def usage(detail: str, *, status: int, places: list[Place] | None = None) -> Problem:
    """A request that can't be answered, told before any AkashaError is raised."""
    return Problem(type=f"{_URN}usage-error", title=_title("UsageError"), status=status, detail=detail, errors=places)


def unexpected() -> Problem:
    """A bug of ours; its text stays in the log."""
    return Problem(type="about:blank", title="Internal error", status=500, detail="the server failed; see its log")


def raised(body: Problem) -> AkashaError:
    """The error that a problem tells of; AkashaError itself for one this version does not know."""
    known = {_URN + _kebab(kind.__name__): kind for kind in _tree(AkashaError)}
    kind = known.get(body.type, AkashaError)
    if issubclass(kind, errors.EventError):
        return kind("remote", body.detail)
    error = kind(body.detail)
    error.retriable = body.retriable
    return error


def _path(location: tuple[Any, ...]) -> str:
    """ "filters.metadata.key.op": without the union members that pydantic names on the way."""
    parts = [str(part) for part in location]
    if parts[:2] == ["filters", "metadata"]:
        tag = parts[3:4]
        parts = parts[:3] if tag == ["scalar"] else parts[:3] + parts[4:5]
    return ".".join(parts) or "body"


def _tree(kind: type[AkashaError]) -> Iterator[type[AkashaError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _tree(child)


def _kebab(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower()


def _title(name: str) -> str:
    return _kebab(name).replace("-", " ").capitalize()
