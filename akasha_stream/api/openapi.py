"""OpenAPI for bodies that the routes read themselves."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from akasha_stream.api.problems import MEDIA_TYPE

_REF = "#/components/schemas/{model}"
_SECURITY = {
    "key": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key (`ak_…`), or an identity provider's token",
    },
    "node": {"type": "http", "scheme": "bearer", "description": "The node secret that all workers share"},
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For a route's `responses`."""
    texts = {
        400: "The request can't be answered as asked",
        401: "No key or token, or one that is not valid (header `WWW-Authenticate`)",
        403: "The key lacks a scope, or does not cover all source systems",
        404: "There is no such event, or dead letter, or the key does not see it",
        408: "The body did not arrive in time (`http.receive_s`)",
        409: "The event's object is archived, and must be restored first",
        413: "The body is larger than `http.body_bytes`",
        422: "A field of the request is wrong; `errors` names it",
        429: "Too many requests of this caller (header `Retry-After`)",
        500: "A fault of the server; its text is in the log",
        501: "A text query, and no embedder is configured",
        502: "The embedder did not answer, or an object store refused",
        503: "Not ready, or an object store or another worker did not answer",
        504: "No answer within `http.timeout_s`",
    }
    schema = {"$ref": "#/components/schemas/Problem"}
    return {s: {"description": texts[s], "content": {MEDIA_TYPE: {"schema": schema}}} for s in statuses}


def request_body(model: type[BaseModel]) -> dict[str, Any]:
    """For a route's `openapi_extra`."""
    examples = {
        f"example {i}": {"value": value}
        for i, value in enumerate(model.model_json_schema().get("examples", []), start=1)
    }
    schema = {"$ref": _REF.format(model=model.__name__)}
    return {
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema, "examples": examples}}}
    }


def with_request_models(app: FastAPI, *models: type[BaseModel]) -> None:
    """Put the schemas of `models` among the components of the app's OpenAPI document."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = generate()
            _, schemas = models_json_schema([(m, "validation") for m in models], ref_template=_REF)
            components = document.setdefault("components", {})
            components.setdefault("schemas", {}).update(schemas["$defs"])
            components["securitySchemes"] = _SECURITY
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
