"""One YAML file, read to plain values, with the line of every key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from akasha_stream.configuration.interpolation import InterpolationError, interpolate
from akasha_stream.errors import SettingsError

type KeyPath = tuple[str | int, ...]

MOST_VALUES = 100_000
"""Of a file, with aliases (`*a`) written out: ten lines of them can stand for a billion."""
_KEY_SHOWN = 80


@dataclass(frozen=True, slots=True)
class Document:
    """`values`: the top-level mapping. `places`: where each key stands, as `file:line`."""

    path: Path
    values: dict[str, object]
    places: dict[KeyPath, str]


@dataclass(frozen=True, slots=True)
class Unresolved:
    """A value whose ${VAR} is not set: wrong only if nothing that is stronger than the file replaces it."""

    message: str


def dotted(path: KeyPath) -> str:
    """`('config', 'retention.ms')` → `config.retention.ms`; list positions as `[2]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{_word(part)}" if text else _word(part)
    return text


def _word(key: str) -> str:
    """A key as it is where it is one; else on one line, and in short."""
    key = key if key.isprintable() else ascii(key)
    return key if len(key) <= _KEY_SHOWN else f"{key[:_KEY_SHOWN]}…"


def read_document(path: Path, variables: Mapping[str, str]) -> Document:
    """Read a YAML file whose top is a mapping; an empty file is an empty mapping.

    References are replaced after parsing, so that no value can change the structure of the file. A replaced
    value stays text (the model turns it into a number); one that is empty is null; one that can't be replaced is
    Unresolved, see `require_resolved`. Raises SettingsError.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise SettingsError(f"{path}: is not UTF-8 text") from None
    except OSError as error:
        raise SettingsError(f"{path}: can't be read: {error.strerror}") from None
    try:
        loader = yaml.SafeLoader(text)
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise SettingsError(f"{path}:{line}: is not valid YAML: the character U+{error.character:04X}") from None
    try:
        node = loader.get_single_node()
        if node is None:
            return Document(path, {}, {})
        reader = _Reader(path, variables, loader)
        values = reader.read(node, ())
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise SettingsError(f"{path}:{line}: is not valid YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise SettingsError(f"{path}: is not valid YAML: {str(error).splitlines()[0]}") from None
    except RecursionError:
        raise SettingsError(f"{path}: is nested too deeply") from None
    finally:
        loader.dispose()
    if not isinstance(values, dict):
        raise SettingsError(f"{path}:1: the top of the file must be a mapping of keys")
    return Document(path, values, reader.places)


def merge(into: dict[str, object], more: Mapping[str, object]) -> None:
    """Lay an overlay's values over those of `into`, key by key; a section without keys changes nothing."""
    for key, value in more.items():
        present = into.get(key)
        if isinstance(present, dict) and isinstance(value, dict):
            merge(present, value)
        elif value is None and isinstance(present, dict):
            continue
        else:
            into[key] = value


def require_resolved(value: object) -> None:
    """Raise SettingsError for the first value whose variable is not set."""
    match value:
        case Unresolved():
            raise SettingsError(value.message)
        case dict():
            for each in value.values():
                require_resolved(each)
        case list():
            for each in value:
                require_resolved(each)
        case _:
            pass


class _Reader:
    def __init__(self, path: Path, variables: Mapping[str, str], loader: yaml.SafeLoader) -> None:
        self.path = path
        self.variables = variables
        self.loader = loader
        self.places: dict[KeyPath, str] = {}
        self.values = 0

    def read(self, node: yaml.Node, at: KeyPath) -> object:
        self.values += 1
        if self.values > MOST_VALUES:
            raise SettingsError(f"{self._place(node)}: more than {MOST_VALUES} values, with aliases (*) written out")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, at)
        if isinstance(node, yaml.SequenceNode):
            items = []
            for index, item in enumerate(node.value):
                self.places[(*at, index)] = self._place(item)
                items.append(self.read(item, (*at, index)))
            return items
        return self._scalar(node, at)

    def _mapping(self, node: yaml.MappingNode, at: KeyPath) -> dict[str, object]:
        values: dict[str, object] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise SettingsError(f"{self._place(key_node)}: a key must be a word")
            key = key_node.value
            path = (*at, key)
            if key in values:
                # YAML would take the last one and say nothing.
                raise SettingsError(
                    f"{self._place(key_node)}: {dotted(path)}: is given twice (first in line "
                    f"{self.places[path].rpartition(':')[2]})"
                )
            self.places[path] = self._place(key_node)
            values[key] = self.read(value_node, path)
        return values

    def _scalar(self, node: yaml.Node, at: KeyPath) -> object:
        if "${" not in node.value:
            try:
                value: object = self.loader.construct_object(node)
            # What int(), date() and the lookups of PyYAML's constructors raise.
            except (ValueError, LookupError, AttributeError, OverflowError):
                kind = node.tag.rpartition(":")[2]
                raise SettingsError(
                    f"{self._place(node)}: {dotted(at)}: is taken for YAML's type {kind}, and is none; "
                    "in quotes it is text"
                ) from None
            return value
        try:
            return interpolate(node.value, self.variables) or None
        except InterpolationError as error:
            return Unresolved(f"{self._place(node)}: {dotted(at)}: {error}")

    def _place(self, node: yaml.Node) -> str:
        return f"{self.path}:{node.start_mark.line + 1}"
