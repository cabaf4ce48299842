"""Settings from environment variables: AKASHA_<SECTION>__<KEY>.

A variable that is empty counts as not set; `null` sets an optional key to nothing. A key that holds a mapping
or a list takes JSON. Other AKASHA_ names (one underscore) are free for `${…}` references in the files; one that no file
refers to is told (unused.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from difflib import get_close_matches
from typing import get_origin

from pydantic import BaseModel

from akasha_stream.configuration.explain import sections
from akasha_stream.errors import SettingsError

PREFIX = "AKASHA_"
_JSON: dict[object, str] = {dict: "a JSON object", tuple: "a JSON array"}


def from_environment(model: type[BaseModel], variables: Mapping[str, str]) -> dict[tuple[str, str], tuple[object, str]]:
    """(section, key) → (value, variable) of the variables that are set. Raises SettingsError for an unknown one."""
    known = names(model)
    found: dict[tuple[str, str], tuple[object, str]] = {}
    for variable in sorted(variables):
        name = variable.upper()
        if not name.startswith(PREFIX) or "__" not in name.removeprefix(PREFIX):
            continue
        if name not in known:
            raise SettingsError(f"{variable}: no such setting{_hint(name, known)}")
        text = variables[variable]
        if not text:
            continue
        section, key = known[name]
        annotation = sections(model)[section].model_fields[key].annotation
        value: object = None if text == "null" else text
        shape = _JSON.get(get_origin(annotation))
        if shape is not None and value is not None:
            try:
                value = json.loads(text)
            except (ValueError, RecursionError):
                raise SettingsError(f"{variable}: {section}.{key}: is not valid JSON; allowed: {shape}") from None
        found[section, key] = (value, variable)
    return found


def names(model: type[BaseModel]) -> dict[str, tuple[str, str]]:
    """Variable → (section, key) that it sets."""
    return {
        f"{PREFIX}{section}__{key}".upper(): (section, key)
        for section, of_section in sections(model).items()
        for key in of_section.model_fields
    }


def _hint(name: str, known: Mapping[str, tuple[str, str]]) -> str:
    close = get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]}?"
    sections_of = sorted({section.upper() for section, _ in known.values()})
    return f"; allowed: {PREFIX}<SECTION>__<KEY> with a section of {', '.join(sections_of)}"
