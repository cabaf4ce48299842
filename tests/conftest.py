"""Real servers for every test; how each starts is in tests/servers/."""

from __future__ import annotations

pytest_plugins = [
    "tests.servers.kafka",
    "tests.servers.tansu",
    "tests.servers.valkey",
    "tests.servers.topics",
]
