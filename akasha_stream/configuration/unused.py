"""AKASHA_ variables that nothing reads: a wrong name, most likely, whose setting keeps its default.

Said as a warning, not refused: a prefix is nobody's property, and a worker must not stay down because a shell has a
variable of its own. `config check` refuses them. (Names with a double underscore can only be meant as settings, and
environment.py refuses unknown ones at once.)

Known are the settings' own variables, those that the product reads by name, those that a `${…}` of any of our files
refers to, whether it is read in this environment or not, and what Kubernetes sets for a service that is called akasha…
(https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path

from akasha_stream.configuration.environment import PREFIX, names
from akasha_stream.configuration.places import shipped, storage_file
from akasha_stream.errors import SettingsError
from akasha_stream.settings import Settings

BY_NAME = frozenset(
    {"AKASHA_SETTINGS", "AKASHA_STORAGE_SETTINGS", "AKASHA_ENV", "AKASHA_API_KEY", "AKASHA_REQUIRE_SERVERS"}
)
"""The last one is the tests'."""
_REFERENCE = re.compile(rf"\$\{{({PREFIX}\w+)")
_OF_A_SERVICE = re.compile(r"\w+_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)")
_ADDRESS = re.compile(r"(tcp|udp|sctp)://")
"""AKASHA_PORT of a service; a port as one would set it is a number."""


def unused(variables: Mapping[str, str], settings_folder: Path, topics_folder: Path | None) -> list[str]:
    """One text each: which it is, and the nearest name that is read. The folders are those that are in use."""
    found = [name for name, value in variables.items() if _asks(name, value)]
    if not found:
        return []
    folders = {settings_folder, topics_folder or shipped("topics"), shipped("topics"), shipped("settings")}
    with suppress(SettingsError):  # said where it is read
        folders.add(storage_file(None, variables).parent)
    referred = {name for folder in folders for file in _yaml(folder) for name in _REFERENCE.findall(_text(file))}
    known = BY_NAME | referred | set(names(Settings))
    return [f"{name}: nothing reads this variable{_hint(name, known)}" for name in sorted(found) if name not in known]


def _asks(name: str, value: str) -> bool:
    """Whether it is set, could be meant for us, and is not known by its name alone."""
    return (
        bool(value)
        and name.startswith(PREFIX)
        and "__" not in name
        and name not in BY_NAME
        and not _OF_A_SERVICE.fullmatch(name)
        and not (name.endswith("_PORT") and _ADDRESS.match(value))
    )


def _yaml(folder: Path) -> Iterable[Path]:
    yield from folder.glob("*.yml")
    yield from folder.glob("*.yaml")


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _hint(name: str, known: Iterable[str]) -> str:
    bare = sorted(each.removeprefix(PREFIX) for each in known)
    close = get_close_matches(name.removeprefix(PREFIX), bare, n=1, cutoff=0.7)
    return f"; did you mean {PREFIX}{close[0]}?" if close else "; `akasha-stream config show` has those that are"
