"""A body in parts of one size, whatever it comes from."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

from akasha_stream.storage.adapter import Data

PART_BYTES = 8 << 20
"""S3 wants at least 5 MiB and at most 10,000 parts (78 GiB of these), GCS a multiple of 256 KiB."""


async def in_parts(data: Data, size: int = PART_BYTES) -> AsyncGenerator[tuple[bytes, bool]]:
    """Yield (part, is it the last): every part but the last has `size` bytes; an empty body is one empty part."""
    held: bytes | None = None  # one part back, to know the last
    async for part in _cut(data, size):
        if held is not None:
            yield held, False
        held = part
    yield held or b"", True


async def _cut(data: Data, size: int) -> AsyncGenerator[bytes]:
    if isinstance(data, bytes | bytearray | memoryview):
        view = memoryview(data)
        for start in range(0, len(view), size):
            # A whole small body stays the object that it is: no copy.
            yield data if isinstance(data, bytes) and len(data) <= size else bytes(view[start : start + size])
    elif isinstance(data, Path):
        file = await asyncio.to_thread(data.open, "rb")
        try:
            while part := await asyncio.to_thread(file.read, size):
                yield part
        finally:
            file.close()
    else:
        waiting = bytearray()
        async for chunk in data:
            waiting += chunk
            while len(waiting) >= size:
                with memoryview(waiting) as view:  # a slice of the bytearray would be one copy more
                    part = bytes(view[:size])
                del waiting[:size]
                yield part
        if waiting:
            yield bytes(waiting)
