"""One resumable upload to GCS, part by part.

https://cloud.google.com/storage/docs/performing-resumable-uploads#chunked-upload: after a part whose answer didn't
come, the session is asked how much it has, and the rest of the part is sent.
"""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from akasha_stream.errors import StorageUnavailable

if TYPE_CHECKING:
    from aiohttp import ClientResponse

_RESUME_INCOMPLETE = 308
_KEPT_IN = 256 << 10  # GCS keeps multiples of this, but for the last part

Request = Callable[..., Awaitable["ClientResponse"]]
"""(client, method, url, **options of aiohttp): a signed request; raises for an answer of 400 or more."""


class ResumableUpload:
    def __init__(self, request: Request, session: str, where: str) -> None:
        self._request = request
        self._session = session
        self._where = where
        self._start = 0  # of the part that is being sent
        self._kept = 0  # what the session has, as far as we know
        self._unsure = False

    async def send(self, client: Any, part: bytes, is_last: bool) -> None:
        """May be called again with the same part when it failed."""
        end = self._start + len(part)
        if self._unsure and await self._finished(client):
            return
        self._unsure = True
        if is_last or self._kept != end:
            rest = memoryview(part)[self._kept - self._start :]
            span = f"{self._kept}-{end - 1}" if rest else "*"
            finished = await self._put(client, io.BytesIO(rest), f"bytes {span}/{end if is_last else '*'}")
            if not finished and (is_last or self._kept != end):
                raise StorageUnavailable(f"{self._where}: the store has {self._kept} bytes of the {end} sent")
        self._start, self._unsure = end, False

    async def _finished(self, client: Any) -> bool:
        """Ask the session how much it has; True when it has ended with the whole object."""
        return await self._put(client, io.BytesIO(), "bytes */*")

    async def _put(self, client: Any, data: io.BytesIO, content_range: str) -> bool:
        answer = await self._request(
            client,
            "PUT",
            self._session,
            data=data,  # not the bytes: aiohttp warns of large ones, and sends them in one go
            headers={"Content-Range": content_range},
            allow_redirects=False,  # 308 means something else here
        )
        await answer.read()
        if answer.status != _RESUME_INCOMPLETE:
            return True
        has = answer.headers.get("Range")  # "bytes=0-N"; missing when it has nothing
        kept = int(has.rpartition("-")[2]) + 1 if has else 0
        self._kept = kept - kept % _KEPT_IN
        return False

    async def cancel(self, client: Any) -> None:
        answer = await self._request(client, "DELETE", self._session, auto_raise_for_status=False)
        answer.release()  # 499 says that it is cancelled
