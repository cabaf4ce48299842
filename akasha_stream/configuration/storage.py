"""Reading settings/akasha-storage.yml: file < overlay of the environment (akasha-storage.<environment>.yml).

Below `storage` stand `default_backend`, `tiers`, and any number of backends under names of their own. So the model
that validates a file is made for that file: a field for each name, of the type that its `provider` says. Errors then
come out as for any other settings: place, key, what was found, what is allowed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from akasha_stream.configuration.documents import KeyPath, dotted, merge, read_document, require_resolved
from akasha_stream.configuration.explain import explain, shown
from akasha_stream.configuration.load import DEFAULT_ENVIRONMENT, check_environment
from akasha_stream.configuration.places import overlay_file, storage_file
from akasha_stream.errors import SettingsError
from akasha_stream.settings import Section
from akasha_stream.storage.settings import (
    BACKEND_NAME,
    CACHE_NAME,
    TIERS,
    AzureBackend,
    Backend,
    GCSBackend,
    LocalBackend,
    RedisCacheSettings,
    S3Backend,
    StorageSettings,
    TierName,
    problem_together,
)

_FIXED = ("default_backend", "tiers")
_MODELS: dict[object, type[Section]] = {
    "s3": S3Backend,
    "gcs": GCSBackend,
    "azure": AzureBackend,
    "local": LocalBackend,
    "redis": RedisCacheSettings,
}


class _OfNoProvider(BaseModel):
    """An entry whose `provider` is missing or unknown: says so, and of nothing else."""

    model_config = ConfigDict(extra="ignore")
    provider: Literal["s3", "gcs", "azure", "local", "redis"]


class _Tiers(Section):
    hot: str | None = None
    warm: str | None = None
    cold: str | None = None


class _Storage(Section):
    default_backend: str | None = None
    tiers: _Tiers = _Tiers()


@dataclass(frozen=True, slots=True)
class LoadedStorage:
    """`files`: what was read, in order. `places`: where each key that isn't a default stands."""

    settings: StorageSettings
    files: tuple[Path, ...]
    places: Mapping[KeyPath, str]


def load_storage(
    path: Path | None = None, environment: str | None = None, variables: Mapping[str, str] | None = None
) -> LoadedStorage:
    """Read and validate; see StorageSettings.load. Raises SettingsError: one line that names file, line and key."""
    variables = os.environ if variables is None else variables
    base = storage_file(path, variables)
    chosen = environment or variables.get("AKASHA_ENV") or DEFAULT_ENVIRONMENT
    check_environment(chosen, "--env" if environment else "AKASHA_ENV")
    values: dict[str, object] = {}
    places: dict[KeyPath, str] = {}
    # Not every environment has its own: that of the stream's settings is what must exist.
    overlay = overlay_file(base, chosen, asked=False)
    files = (base,) if overlay is None else (base, overlay)
    for file in files:
        document = read_document(file, variables)
        merge(values, document.values)
        places.update(document.places)

    section = values.get("storage")
    if not isinstance(section, dict):
        section = {}
    if section.get("tiers") is None:  # absent, or `tiers:` with all its keys commented out
        section.pop("tiers", None)
    entries = {name: entry for name, entry in section.items() if name not in _FIXED and isinstance(entry, dict)}
    _check_names(entries, places)
    tiers = _tiers(section, entries, places, str(base))
    used = {name for name in (*tiers.values(), section.get("default_backend")) if isinstance(name, str)}
    unusable = _set_aside(section, entries, used)
    require_resolved(values)
    model = _model_of(entries)
    try:
        storage: _Storage = model.model_validate(values).storage  # type: ignore[attr-defined]
    except ValidationError as error:
        # `from None`: pydantic's own text carries the values, secrets too.
        raise SettingsError(explain(error, model, places, str(base))) from None

    found = {name: getattr(storage, _attribute(number)) for number, name in enumerate(entries)}
    backends = {name: entry for name, entry in found.items() if isinstance(entry, Backend)}
    if problem := problem_together(backends, tiers, storage.default_backend):
        key, text = problem
        raise SettingsError(f"{places.get(('storage', *key.split('.')), base)}: storage.{key}: {text}")
    settings = StorageSettings.model_validate(
        {
            "backends": backends,
            "tiers": tiers,
            "default_backend": storage.default_backend or next(iter(tiers.values()), None),
            "cache": found.get(CACHE_NAME),
            "unusable": unusable,
        }
    )
    return LoadedStorage(settings, files, places)


def _check_names(entries: Mapping[str, dict[str, object]], places: Mapping[KeyPath, str]) -> None:
    for name, entry in entries.items():
        place, key = places["storage", name], dotted(("storage", name))
        if (name == CACHE_NAME) is not (entry.get("provider") == "redis"):
            raise SettingsError(
                f"{place}: {key}: found provider {shown(entry.get('provider'))}; "
                f"allowed: redis for {CACHE_NAME}, and for no other"
            )
        if not re.fullmatch(BACKEND_NAME, name) or name in TIERS:
            raise SettingsError(
                f"{place}: {key}: is no name for a backend; allowed: lower-case letters, digits and '-', "
                f"and none of {', '.join(TIERS)}"
            )


def _tiers(
    section: Mapping[str, object], entries: Mapping[str, dict[str, object]], places: Mapping[KeyPath, str], file: str
) -> dict[TierName, Any]:
    """Tier → name of its backend. One that `tiers` doesn't name has the only backend of that tier (the guide's file
    has no `tiers`)."""
    named = section.get("tiers", {})
    if not isinstance(named, dict):
        return {}  # the model says what is wrong with it
    tiers = {tier: name for tier, name in named.items() if name is not None}
    for tier in TIERS:
        of_tier = [name for name, entry in entries.items() if name != CACHE_NAME and entry.get("tier", "hot") == tier]
        if tier in tiers or not of_tier:
            continue
        if len(of_tier) > 1:
            place = places.get(("storage", "tiers"), places.get(("storage", of_tier[1]), file))
            raise SettingsError(f"{place}: storage.tiers.{tier}: is missing; allowed: one of {', '.join(of_tier)}")
        tiers[tier] = of_tier[0]
    return tiers


def _set_aside(section: dict[str, object], entries: dict[str, dict[str, object]], used: set[str]) -> dict[str, str]:
    """Take out of `section` and `entries` what is not used and lacks a variable; name → what it lacks."""
    unusable: dict[str, str] = {}
    for name in [name for name in entries if name not in used]:
        try:
            require_resolved(entries[name])
        except SettingsError as error:
            unusable[name] = str(error)
            del section[name], entries[name]
    return unusable


def _model_of(entries: Mapping[str, Mapping[str, object]]) -> type[BaseModel]:
    fields: dict[str, Any] = {}
    for number, (name, entry) in enumerate(entries.items()):
        provider = entry.get("provider")
        model = _MODELS.get(provider, _OfNoProvider) if isinstance(provider, str) else _OfNoProvider
        # Under an alias: a backend may be named as no attribute can be.
        fields[_attribute(number)] = (model, Field(alias=name))
    storage = create_model("Storage", __base__=_Storage, **fields)
    return create_model("File", __base__=Section, storage=(storage, ...))


def _attribute(number: int) -> str:
    return f"backend_{number}"
