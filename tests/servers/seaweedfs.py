"""SeaweedFS for tests: S3 with conditional writes, without archive classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from akasha_stream.embedded import SeaweedServer
from akasha_stream.errors import ServerStartError
from tests.servers.availability import unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator


def start_seaweedfs() -> SeaweedServer:
    try:
        return SeaweedServer.start()
    except ServerStartError as error:
        unavailable(str(error))


@pytest.fixture(scope="session")
def seaweedfs() -> Iterator[SeaweedServer]:
    """One for the whole run: use buckets of your own."""
    with start_seaweedfs() as server:
        yield server
