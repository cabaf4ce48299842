"""Real servers for every test; how each starts is in tests/servers/."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# What the tests share asserts too, and shall say what it found.
pytest.register_assert_rewrite(*(f"tests.{each.name}" for each in Path(__file__).parent.iterdir() if each.is_dir()))

pytest_plugins = [
    "tests.servers.kafka",
    "tests.servers.tansu",
    "tests.servers.valkey",
    "tests.servers.seaweedfs",
    "tests.servers.moto",
    "tests.servers.gcs",
    "tests.servers.azurite",
    "tests.servers.prometheus",
    "tests.servers.topics",
]

# Tests run side by side: how long an example takes, or its data, says nothing about the code.
settings.register_profile("full", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("quick", settings.get_profile("full"), max_examples=25)
settings.load_profile("full")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """For `-n auto`: half of the time a test waits for a server, so two processes keep a core busy.

    Each has servers of its own, 1 GB with Kafka; with more than eight their starts take longer than they save.
    """
    return min(2 * len(os.sched_getaffinity(0)), 8)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those with a time-out of their own first: they are the longest, and none may begin when all others are done."""
    items.sort(key=lambda item: item.get_closest_marker("timeout") is None)
