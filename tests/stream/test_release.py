"""What a backlog took of memory is given back."""

from __future__ import annotations

import asyncio
import platform
import subprocess
import sys
from types import SimpleNamespace
from typing import Any, cast

import pytest

from akasha_stream.stream import ingest
from akasha_stream.stream.ingest import Ingest

FREED = """
from pathlib import Path

from akasha_stream.stream.ingest import release_free_memory


def own() -> int:
    # rss would count the libraries' files too: a call into one can map megabytes of it, where they lie in large folios
    sizes = dict(line.split(":") for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:])
    return int(sizes["Anonymous"].split()[0]) * 1024


empty = own()
blocks = [bytes(2_000) for _ in range(100_000)]
blocks = blocks[::25]  # one in 25 stays: free() alone never finds a free end of the heap to give back
freed = own()
release_free_memory()
print(empty, freed, own())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc_trim is glibc's")
def test_free_memory_goes_back_to_the_system() -> None:
    done = subprocess.run([sys.executable, "-c", FREED], check=True, capture_output=True, text=True, timeout=60)
    empty, freed, released = (int(size) / 1e6 for size in done.stdout.split())
    assert freed - empty > 190
    assert released - empty < 50


async def test_once_after_the_last_large_round(monkeypatch: pytest.MonkeyPatch) -> None:
    released = 0

    def release() -> None:
        nonlocal released
        released += 1

    monkeypatch.setattr(ingest, "release_free_memory", release)
    monkeypatch.setattr(ingest, "TRIM_AFTER_S", 0.05)
    nothing = cast("Any", None)
    taking = Ingest(nothing, nothing, nothing, on_applied=nothing, on_replaced=nothing, retry_max_s=1.0)
    try:
        for _ in range(3):
            taking._trim_later()
        async with asyncio.timeout(30):
            while not released:
                await asyncio.sleep(0.01)
        assert released == 1
        taking._trim_later()
    finally:
        taking.close()
    await asyncio.sleep(0.3)
    assert released == 1


async def test_small_rounds_count_together(monkeypatch: pytest.MonkeyPatch) -> None:
    async def stored(*_: object) -> bool:
        return True

    monkeypatch.setattr(ingest, "TRIM_BYTES", 1_000)
    monkeypatch.setattr(ingest, "TRIM_AFTER_S", 3_600.0)
    nothing = cast("Any", None)
    taking = Ingest(nothing, nothing, nothing, on_applied=nothing, on_replaced=nothing, retry_max_s=1.0)
    monkeypatch.setattr(taking, "_store_part", stored)
    small = cast("Any", SimpleNamespace(bytes=400))
    try:
        for expected in (False, False, True):
            await taking._store_parts([nothing], [small])
            assert (taking._trim is not None) == expected
        first = taking._trim
        await taking._store_parts([nothing], [small])
        assert taking._trim is first
    finally:
        taking.close()
