"""The in-memory broker for quick tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from akasha_stream.embedded import TansuServer
from akasha_stream.errors import ServerStartError
from tests.servers.availability import unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def tansu() -> Iterator[TansuServer]:
    """The embedded broker, one for the whole run."""
    try:
        server = TansuServer.start()
    except ServerStartError as error:
        unavailable(str(error))
    with server:
        yield server
