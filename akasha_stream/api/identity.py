"""An event's identity in a URL: any characters, slashes too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from akasha_stream.errors import UsageError

PREFIX = "/v1/events/"


def path_of(source_system: str, event_id: str) -> str:
    """The URL path of an event."""
    return f"{PREFIX}{_quoted(source_system)}/{_quoted(event_id)}"


def identity_of(scope: Mapping[str, Any]) -> tuple[str, str]:
    """(source_system, event_id) of an ASGI scope's raw path. Raises UsageError.

    The decoded path does not tell a/b + c from a + b/c; servers give the raw one besides.
    """
    raw: bytes = scope["raw_path"]
    rest = raw.partition(PREFIX.encode())[2].partition(b"?")[0]
    parts = rest.split(b"/")
    if len(parts) != 2 or not all(parts):
        raise UsageError(f"path: {PREFIX}{{system}}/{{id}} takes two parts; write a slash inside one as %2F")
    try:
        system, event_id = (unquote_to_bytes(part).decode() for part in parts)
    except UnicodeDecodeError as error:
        raise UsageError("path: system and id must be UTF-8") from error
    return system, event_id


def _quoted(part: str) -> str:
    # Clients take "." and ".." for steps in the tree.
    return quote(part, safe="").replace(".", "%2E") if part.strip(".") == "" else quote(part, safe="")
