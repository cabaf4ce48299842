"""Settings, object stores' settings and topic files: do they load, and is anything in them risky?"""

from __future__ import annotations

from pathlib import Path

from akasha_stream.auth.exposure import asks_for_keys, exposure_problem, is_loopback
from akasha_stream.auth.keys import KeysFile
from akasha_stream.configuration.load import load
from akasha_stream.doctor.finding import Findings
from akasha_stream.errors import SettingsError
from akasha_stream.settings import Settings
from akasha_stream.topics.definition import definitions


def check_settings(found: Findings, path: Path | None, environment: str | None) -> Settings | None:
    """The settings, or None where they don't load: nothing else can be checked then."""
    try:
        loaded = load(path, environment)
    except SettingsError as error:
        found.fail("settings", str(error), "correct the key; akasha-stream config check tells when it is right")
        return None
    settings = loaded.settings
    found.ok("settings", f"{', '.join(map(str, loaded.files))} ({settings.environment})")
    for text in loaded.unused:
        found.warn("variables", text, "correct its name, or unset it: what it was meant to set has its default")
    try:
        found.ok("topics", f"{len(definitions(settings))} topic files")
    except SettingsError as error:
        found.fail("topics", str(error), "correct the file; akasha-stream config check tells when it is right")
    _check_access(found, settings)
    return settings


def _check_access(found: Findings, settings: Settings) -> None:
    if (problem := exposure_problem(settings)) is not None:
        found.fail("http", ": ".join(problem), "no worker starts so; docs/security.md has the ways")
    elif asks_for_keys(settings):
        if settings.auth.keys_file is not None:
            try:
                keys = KeysFile(settings.auth.keys_file).read()
            except SettingsError as error:
                found.fail("http", str(error), "correct the file, or make it with: akasha-stream keys create")
                return
            found.ok("http", f"keys are asked for; {settings.auth.keys_file} has {len(keys)}")
        else:
            found.ok("http", f"tokens of {settings.oidc.issuer} are asked for")
    elif not is_loopback(settings.http.host):
        found.warn(
            "http",
            f"http.host is {settings.http.host}: whoever reaches it can search, auth.open is true",
            "set auth.keys_file, put a proxy that has a login before it, or listen on 127.0.0.1",
        )


def tiers_enabled(settings: Settings) -> bool:
    """Whether spilled segments go to object stores."""
    return settings.tiers.enabled
