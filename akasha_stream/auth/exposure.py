"""What a worker must be told before others may reach it: nothing is open by mistake, and no secret has a default."""

from __future__ import annotations

from ipaddress import ip_address

from akasha_stream.settings import Settings

type Problem = tuple[str, str]
"""(dotted key of the setting, what is wrong with it and the way out)"""


def asks_for_keys(settings: Settings) -> bool:
    """Whether callers have to show who they are."""
    return settings.auth.keys_file is not None or settings.oidc.issuer is not None


def exposure_problem(settings: Settings) -> Problem | None:
    """Why a worker may not start with these settings."""
    auth, host = settings.auth, settings.http.host
    if asks_for_keys(settings):
        if auth.open:
            return "auth.open", "found true, and auth.keys_file or oidc.issuer is set; allowed: one of both"
        if auth.node_secret is None:
            return (
                "auth.node_secret",
                "is missing; workers that ask for keys show it to one another, the same on all of them: "
                "set AKASHA_NODE_SECRET to what `openssl rand -hex 32` prints",
            )
    elif not auth.open and not is_loopback(host):
        return (
            "http.host",
            f"found {host}, which others reach, and no login is set up; allowed: 127.0.0.1, or set auth.keys_file "
            "(akasha-stream keys create) or oidc.issuer; or AKASHA_ALLOW_OPEN=true to answer anybody",
        )
    return None


def is_loopback(host: str) -> bool:
    """A name counts as one that others reach, whatever it may resolve to."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
