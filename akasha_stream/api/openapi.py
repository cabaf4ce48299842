"""OpenAPI for bodies that the routes read themselves."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

_REF = "#/components/schemas/{model}"


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
            document.setdefault("components", {}).setdefault("schemas", {}).update(schemas["$defs"])
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
