"""Settings, object stores' settings and topic files: do they load, and is anything in them risky?"""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

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
    try:
        found.ok("topics", f"{len(definitions(settings))} topic files")
    except SettingsError as error:
        found.fail("topics", str(error), "correct the file; akasha-stream config check tells when it is right")
    host = settings.http.host
    if not _is_loopback(host):
        found.warn(
            "http",
            f"http.host is {host}: whoever reaches it can search, there is no login",
            "put a proxy that has a login before it, or listen on 127.0.0.1",
        )
    return settings


def tiers_enabled(settings: Settings) -> bool:
    """Whether spilled segments go to object stores."""
    return settings.tiers.enabled


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
