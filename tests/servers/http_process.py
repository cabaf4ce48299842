"""Servers of tests that are one program with one HTTP port."""

from __future__ import annotations

import http.client
from typing import TYPE_CHECKING, ClassVar, Self

from akasha_stream.embedded import ServerProcess
from akasha_stream.embedded.ports import LOOPBACK

if TYPE_CHECKING:
    from pathlib import Path


class HttpProcess(ServerProcess):
    """`ready_path` gets an answer below 500 once the server is up."""

    ready_path: ClassVar[str] = "/"
    start_timeout_s: ClassVar[float] = 60.0

    @classmethod
    def start(cls, data_dir: Path | None = None, *, port: int = 0) -> Self:
        return cls(data_dir, port)._launch()

    @property
    def endpoint_url(self) -> str:
        return f"http://{self.address}"

    def answers(self) -> bool:
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=1)
        try:
            connection.request("GET", self.ready_path)
            return connection.getresponse().status < 500
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
