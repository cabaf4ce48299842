"""Whom the clients of our HTTP API trust: commands, other workers, programs."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from pathlib import Path

from akasha_stream.connections.tls import trusting


def verify(urls: Iterable[str], ca: Path | None) -> ssl.SSLContext | bool:
    """httpx's `verify` for these URLs. Where none is HTTPS nothing is read: this machine's certificates cost 20 ms.

    Raises SettingsError.
    """
    return trusting(ca, "http.tls_ca") if any(url.startswith("https:") for url in urls) else False
