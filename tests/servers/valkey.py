"""Valkey for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from akasha_stream.embedded import ValkeyServer
from akasha_stream.errors import ServerStartError
from tests.servers.availability import unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator


def start_valkey() -> ValkeyServer:
    try:
        return ValkeyServer.start()
    except ServerStartError as error:
        unavailable(str(error))


@pytest.fixture(scope="session")
def valkey() -> Iterator[ValkeyServer]:
    """One for the whole run: use a key prefix of your own. Tests that use it carry the marker `valkey`."""
    with start_valkey() as server:
        yield server


@pytest.fixture
def valkey_killable() -> Iterator[ValkeyServer]:
    """One of one's own, to be killed, paused and restarted (each some 50 ms). It starts anew empty."""
    with start_valkey() as server:
        yield server
