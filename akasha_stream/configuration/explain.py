"""A pydantic error as one line: place: key: what was found; allowed: what is allowed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo

from akasha_stream.configuration.documents import KeyPath, dotted
from akasha_stream.configuration.secrets import mask_urls

_SHOWN = 60
_MOST_BITS = 1_000


def sections(model: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """The fields of `model` that are models themselves."""
    return {
        name: field.annotation
        for name, field in model.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    }


def explain(error: ValidationError, model: type[BaseModel], places: Mapping[KeyPath, str], fallback: str) -> str:
    """The first problem in full, and the keys of the others. Values of secrets and of unknown keys are not shown.

    `places`: where each key was given; `fallback`: the place of a key that was not.
    """
    problems = error.errors(include_url=False)
    first = problems[0]
    path: KeyPath = tuple(first["loc"])
    field = _field(model, path)
    place = _nearest(places, path, fallback)
    kind = first["type"]
    key = dotted(path)
    if kind == "extra_forbidden":
        text = f"{key}: no such key{_did_you_mean(model, path)}"
    elif kind == "missing":
        text = f"{key}: is missing; allowed: {describe(field)}"
    elif kind == "value_error":
        text = f"{key}: {first['ctx']['error']}" if key else str(first["ctx"]["error"])
    else:
        found = "a value that is not allowed" if _secret(field) else f"found {shown(first['input'])}"
        text = f"{key}: {found}; allowed: {describe(field)}"
        if kind == "literal_error" and isinstance(first["input"], str):
            text += _close(first["input"], [str(choice) for choice in _choices(field)])
    others = list(dict.fromkeys(dotted(tuple(problem["loc"])) for problem in problems[1:]))
    if others:
        text += f" (also wrong: {', '.join(others[:5])}{', …' if len(others) > 5 else ''})"
    return f"{place}: {text}"


def shown(value: object) -> str:
    """A found value, short, without the password of a URL, on one line."""
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "a list"
    if value is None:
        return "nothing"
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        return "a huge number"  # Python writes none of more than 4,300 digits
    text = ascii(mask_urls(value)) if isinstance(value, str) and not value.isprintable() else None
    text = text or (repr(mask_urls(value)) if isinstance(value, str) else str(value))
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def describe(field: FieldInfo | None) -> str:
    """What a field takes: 'a whole number ≥ 100', 'one of auto, hnsw', 'text or null'."""
    if field is None:
        return "a key that exists"
    return _describe(field.annotation, field.metadata)


def _describe(annotation: object, metadata: Sequence[object]) -> str:
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *more = get_args(annotation)
        return _describe(inner, [*metadata, *more])
    if origin is Literal:
        return f"one of {', '.join(str(choice) for choice in get_args(annotation))}"
    if origin in (Union, UnionType):
        kinds = [_describe(each, metadata) for each in get_args(annotation) if each is not NoneType]
        return " or ".join([*kinds, *(["null"] if NoneType in get_args(annotation) else [])])
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"a mapping with the keys {', '.join(annotation.model_fields)}"
    if origin in (list, tuple):
        return "a list"
    if origin is dict or annotation is dict:
        return "a mapping of names to values"
    names: dict[object, str] = {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "text",
        SecretStr: "text",
        Path: "a path",
    }
    return names.get(annotation, "text") + _bounds(metadata)


def _bounds(metadata: Sequence[object]) -> str:
    parts: list[str] = []
    for item in metadata:
        match item:
            case annotated_types.Gt(gt=bound):
                parts.append(f"> {bound}")
            case annotated_types.Ge(ge=bound):
                parts.append(f"≥ {bound}")
            case annotated_types.Lt(lt=bound):
                parts.append(f"< {bound}")
            case annotated_types.Le(le=bound):
                parts.append(f"≤ {bound}")
            case annotated_types.MultipleOf(multiple_of=step):
                parts.append(f"a multiple of {step}")
            case annotated_types.MinLen(min_length=1):
                parts.append("not empty")
            case annotated_types.MinLen(min_length=least):
                parts.append(f"of {least} characters or more")
            case _ if pattern := getattr(item, "pattern", None):
                parts.append(f"matching {pattern}")
            case _:
                pass
    return f" {', '.join(parts)}" if parts else ""


def _field(model: type[BaseModel], path: KeyPath) -> FieldInfo | None:
    """The field that a key path leads to; inside a mapping or list, one made for its values."""
    here: object = model
    field: FieldInfo | None = None
    for part in path:
        here = _without_none(here)
        if isinstance(here, type) and issubclass(here, BaseModel):
            field = here.model_fields.get(str(part)) or _by_alias(here, str(part))
            if field is None:
                return None
            here = field.annotation
        elif get_origin(here) in (dict, list, tuple):
            if part == "[key]":
                return field
            here = get_args(here)[1 if get_origin(here) is dict else 0]
            field = FieldInfo(annotation=here)  # type: ignore[arg-type]
        else:
            return field
    return field


def _by_alias(model: type[BaseModel], alias: str) -> FieldInfo | None:
    return next((field for field in model.model_fields.values() if field.alias == alias), None)


def _without_none(annotation: object) -> object:
    if get_origin(annotation) is Annotated:
        return _without_none(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return next((each for each in get_args(annotation) if each is not NoneType), annotation)
    return annotation


def _choices(field: FieldInfo | None) -> tuple[object, ...]:
    annotation = _without_none(field.annotation) if field else None
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def _secret(field: FieldInfo | None) -> bool:
    return field is not None and _without_none(field.annotation) is SecretStr


def _did_you_mean(model: type[BaseModel], path: KeyPath) -> str:
    parent = _field(model, path[:-1])
    owner = _without_none(parent.annotation) if parent else model
    if not (isinstance(owner, type) and issubclass(owner, BaseModel)):
        return ""
    names = [field.alias or name for name, field in owner.model_fields.items()]
    wrong = str(path[-1])
    if close := get_close_matches(wrong.lower().replace("-", "_"), names, n=1, cutoff=0.6):
        return f"; did you mean {dotted((*path[:-1], close[0]))}?"
    # A key put into the wrong section, or at the top.
    for section, of_section in sections(model).items():
        if wrong in of_section.model_fields:
            return f"; did you mean {section}.{wrong}?"
    return f"; allowed: {', '.join(names)}"


def _close(wrong: str, names: Sequence[str]) -> str:
    close = get_close_matches(wrong.lower().replace("-", "_"), names, n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


def _nearest(places: Mapping[KeyPath, str], path: KeyPath, fallback: str) -> str:
    for length in range(len(path), 0, -1):
        if path[:length] in places:
            return places[path[:length]]
    # An unknown section has no place of its own when only a key in it was given (a variable, an override).
    return next((place for key, place in places.items() if key[: len(path)] == path), fallback)
