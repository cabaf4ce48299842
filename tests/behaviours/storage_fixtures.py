"""What the suites of object stores share: buckets, adapters, paths, bytes."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any, ClassVar

import pytest

from akasha_stream.storage import RetryPolicy, StorageAdapter
from akasha_stream.storage.guarded import GuardedAdapter
from akasha_stream.storage.parts import PART_BYTES

Connect = Callable[..., GuardedAdapter[Any]]
"""(bucket, **options of the adapter) → an adapter that is not open yet. `endpoint_url` replaces the server's."""

QUICK = RetryPolicy(attempts=5, first_wait_s=0.01, longest_wait_s=0.05, jitter_s=0.01, attempt_s=20, health_s=2)
LARGE = PART_BYTES * 2 + 4_321_987  # three parts, 20 MB

ODD_PATHS = [
    "a b/c d.txt",
    "ä/ü ß.txt",
    "e\u0301 decomposed, é composed",
    "emoji-😀/日本語",
    "q?a=b&c=d",
    "h#ash",
    "per%cent/%20/%2F",
    "plus+plus",
    " leading and trailing ",
    "~'\"<>|*:;,@$!^`{}[]()=",
    "dots.in.the.middle/.hidden",
    "system=session-buddy-001/2026-01-25/00000000000000000000-00000000000000050000.parquet",
    "x" * 255,
    "/".join(["segment"] * 40),
]
REFUSED_PATHS = [
    "",
    "/absolute",
    "a//b",
    "a/",
    ".",
    "..",
    "../up",
    "a/../b",
    "a/./b",
    "a/..",
    "back\\slash",
    "nul\0",
    "line\nbreak",
    "\x7f",
    "\x85",
    "\ud800",
    "ends-with-dot.",
    "folder./x",
    "x" * 256,
    "/".join(["x" * 200] * 6),
]


def unique_bucket() -> str:
    return f"akasha-{uuid.uuid4().hex[:16]}"


def sample(size: int) -> bytes:
    """Bytes in which a shifted or repeated part shows."""
    return b"".join(number.to_bytes(8, "little") for number in range(size // 8 + 1))[:size]


async def paths(store: StorageAdapter, bucket: str, prefix: str = "") -> list[str]:
    return [info.path async for info in store.list(bucket, prefix)]


class StorageFixtures:
    """Inherit, and give the fixture `connect`."""

    lacks: ClassVar[dict[str, str]] = {}
    """Tests that a server can't run → why, and where they run instead."""

    @pytest.fixture
    def connect(self) -> Connect:
        raise NotImplementedError

    @pytest.fixture(autouse=True)
    def skip_what_the_server_lacks(self, request: pytest.FixtureRequest) -> None:
        name = request.node.originalname
        if name in self.lacks:
            pytest.skip(self.lacks[name])

    @pytest.fixture
    async def open_store(self, connect: Connect) -> AsyncIterator[Connect]:
        """`connect` whose adapters are closed after the test."""
        opened: list[GuardedAdapter[Any]] = []

        def open_one(bucket: str, **options: Any) -> GuardedAdapter[Any]:
            opened.append(connect(bucket, **{"retry": QUICK, **options}))
            return opened[-1]

        yield open_one
        for each in opened:
            await each.cleanup()

    @pytest.fixture
    async def bucket(self, open_store: Connect) -> str:
        name = unique_bucket()
        await open_store(name).ensure_bucket(name)
        return name

    @pytest.fixture
    def store(self, open_store: Connect, bucket: str) -> GuardedAdapter[Any]:
        return open_store(bucket)
