"""Settings from all their sources, later ones winning:

1. the defaults of the model (akasha_stream/settings.py)
2. the settings file (see places.py), with ${VAR:default} references
3. its overlay for the environment: akasha-stream.<environment>.yml beside it
4. environment variables AKASHA_<SECTION>__<KEY>
5. overrides (flags of a command)

Relative paths in settings (hot.data_dir, topics.definitions) are relative to the working directory of the
process, wherever the file stands.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from akasha_stream.configuration.documents import KeyPath, dotted, merge, read_document, require_resolved
from akasha_stream.configuration.environment import from_environment
from akasha_stream.configuration.explain import explain, sections, shown
from akasha_stream.configuration.places import overlay_file, settings_file
from akasha_stream.configuration.together import problem_together
from akasha_stream.configuration.unused import unused
from akasha_stream.errors import SettingsError
from akasha_stream.settings import Settings

DEFAULT_ENVIRONMENT = "dev"
_LONGEST_ENVIRONMENT = 60


@dataclass(frozen=True, slots=True)
class Loaded:
    """`files`: what was read, in order. `places`: where each key that isn't a default comes from. `unused`: a text for
    each AKASHA_ variable that nothing reads."""

    settings: Settings
    files: tuple[Path, ...]
    places: Mapping[KeyPath, str]
    unused: list[str]


def load(
    path: Path | None = None,
    environment: str | None = None,
    overrides: Mapping[str, object] | None = None,
    variables: Mapping[str, str] | None = None,
) -> Loaded:
    """Read and validate. `overrides`: dotted keys (`hot.seal_rows`); `variables`: instead of os.environ.

    Raises SettingsError: one line that names the file and line, variable or flag, the key, what was found and
    what is allowed.
    """
    variables = os.environ if variables is None else variables
    base = settings_file(path, variables)
    values: dict[str, object] = {}
    places: dict[KeyPath, str] = {}

    document = read_document(base, variables)
    merge(values, document.values)
    places.update(document.places)
    files = [base]

    asked = environment or variables.get("AKASHA_ENV") or None
    in_file = values.get("environment")
    chosen = asked or (in_file if isinstance(in_file, str) else None) or DEFAULT_ENVIRONMENT
    check_environment(chosen, "--env" if environment else "AKASHA_ENV" if asked else str(base))
    overlay = overlay_file(base, chosen, asked=asked is not None)
    if overlay is not None:
        document = read_document(overlay, variables)
        merge(values, document.values)
        places.update(document.places)
        files.append(overlay)
    if asked or in_file is None or isinstance(in_file, str):
        values["environment"] = chosen
    if asked:
        places["environment",] = "--env" if environment else "AKASHA_ENV"

    for (section, key), (value, variable) in from_environment(Settings, variables).items():
        _put(values, (section, key), value)
        places[section, key] = variable
    for name, value in (overrides or {}).items():
        keys: KeyPath = tuple(name.split("."))
        _put(values, keys, value)
        places[keys] = "override"

    for section in sections(Settings):
        if section in values and values[section] is None:
            del values[section]  # `section:` with all its keys commented out

    require_resolved(values)
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        # `from None`: pydantic's own text carries the values, secrets too.
        raise SettingsError(explain(error, Settings, places, str(base))) from None
    if problem := problem_together(settings):
        concerned, text = problem
        where = next((places[key] for key in concerned if key in places), str(base))
        raise SettingsError(f"{where}: {dotted(concerned[0])}: {text}")
    return Loaded(settings, tuple(files), places, unused(variables, base.parent, settings.topics.definitions))


def _put(values: dict[str, object], path: KeyPath, value: object) -> None:
    here = values
    for part in path[:-1]:
        inner = here.get(str(part))
        if not isinstance(inner, dict):
            inner = {}
            here[str(part)] = inner
        here = inner
    here[str(path[-1])] = value


def check_environment(environment: str, place: str) -> None:
    """Raise SettingsError unless the name can stand in a file's name. `place`: where it was given."""
    if len(environment) > _LONGEST_ENVIRONMENT or not environment.replace("-", "").replace("_", "").isalnum():
        raise SettingsError(
            f"{place}: environment: found {shown(environment)}; "
            f"allowed: letters, digits, - and _, at most {_LONGEST_ENVIRONMENT}"
        )
