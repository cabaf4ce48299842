"""The HTTP API of a worker."""

from __future__ import annotations

from akasha_stream.api.app import create_app
from akasha_stream.api.health import ComponentHealth, Health
from akasha_stream.api.server import serve

__all__ = ["ComponentHealth", "Health", "create_app", "serve"]
