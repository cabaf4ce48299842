"""Settings files without their secrets: each becomes a reference to an environment variable."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import get_args

import yaml
from pydantic import BaseModel, SecretStr

from akasha_stream.configuration.documents import KeyPath, dotted
from akasha_stream.configuration.secrets import MASK, is_secret_name, secrets_of_urls
from akasha_stream.settings import Settings
from akasha_stream.storage.settings import AzureBackend, GCSBackend, LocalBackend, RedisCacheSettings, S3Backend

# One ${VAR} or ${VAR:} alone: the file has no secret then.
_REFERENCE = re.compile(r"\$\{\w+:?\}", re.ASCII)
_LONG = 6
"""Shorter ones may be a part of any word."""


@dataclass(frozen=True, slots=True)
class Cleaned:
    """`left_out`: the keys whose values were replaced, dotted."""

    text: str
    left_out: tuple[str, ...]


def without_secrets(text: str) -> Cleaned:
    """`text`: YAML that was read before. A value that is a secret by its key, or a URL with a password, is replaced."""
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    found = [] if node is None else list(_secrets(node, ()))
    for path, value in reversed(found):  # from the end: the marks before stay right
        text = f"{text[: value.start_mark.index]}{_replacement(path, value)}{text[value.end_mark.index :]}"
    for _, value in found:  # in a comment too
        for secret in (value.value, *secrets_of_urls(value.value)):
            if len(secret) >= _LONG:
                text = text.replace(secret, MASK)
    return Cleaned(text, tuple(dotted(path) for path, _ in found))


def variable(path: KeyPath) -> str:
    """`AKASHA_S3_HOT_SECRET_ACCESS_KEY`, which a restored file reads."""
    words = [re.sub(r"[^A-Za-z0-9]+", "_", str(part)).strip("_").upper() for part in path if part != "storage"]
    return "_".join(["AKASHA", *words])


def _replacement(path: KeyPath, value: yaml.ScalarNode) -> str:
    reference = "${" + variable(path) + "}"
    # The mark of a block (| or >) ends after its last line break.
    return f'"{reference}"' if value.style not in ("|", ">") else f'"{reference}"\n'


def _secrets(node: yaml.Node, path: KeyPath) -> Iterator[tuple[KeyPath, yaml.ScalarNode]]:
    match node:
        case yaml.MappingNode():
            for key, value in node.value:
                yield from _secrets(value, (*path, key.value))
        case yaml.SequenceNode():
            for index, item in enumerate(node.value):
                yield from _secrets(item, (*path, index))
        case yaml.ScalarNode() if _is_secret(path, node.value):
            yield path, node


def _is_secret(path: KeyPath, value: str) -> bool:
    if not value or value in ("null", "~") or _REFERENCE.fullmatch(value):
        return False
    if secrets_of_urls(value):
        return True
    name = str(path[-1]) if path else ""
    return is_secret_name(name) or (name in _secret_keys() and "://" not in value)


@cache
def _secret_keys() -> frozenset[str]:
    """Every key that a settings model declares to be a secret."""
    models = (Settings, S3Backend, GCSBackend, AzureBackend, LocalBackend, RedisCacheSettings)
    return frozenset(name for model in models for name in _declared(model))


def _declared(model: type[BaseModel]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        for each in (field.annotation, *get_args(field.annotation)):
            if each is SecretStr:
                yield name
            elif isinstance(each, type) and issubclass(each, BaseModel):
                yield from _declared(each)
