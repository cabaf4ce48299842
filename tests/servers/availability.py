"""What becomes of a test whose server can't be had on this machine."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

REQUIRE = "AKASHA_REQUIRE_SERVERS"


def unavailable(reason: str) -> NoReturn:
    """Skip with the reason; with AKASHA_REQUIRE_SERVERS=1 (as in .ci/run) fail instead."""
    if os.environ.get(REQUIRE) == "1":
        pytest.fail(f"{reason} ({REQUIRE}=1)", pytrace=False)
    pytest.skip(reason)
