"""What was changed or refused, by whom: a line each in the log (logger `audit`), and in a file where one is set."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import orjson
import structlog

from akasha_stream.auth.caller import Caller
from akasha_stream.errors import SettingsError
from akasha_stream.times import rfc3339

_log = structlog.get_logger("audit")


@dataclass(frozen=True, slots=True)
class Action:
    """`what`: method and route; `about`: what in particular, such as letters and partitions."""

    what: str
    path: str
    about: Mapping[str, object]
    client: str | None
    """Address that it came from."""


class Audit:
    """The key itself is in no line: its id and name are. A file that can't be written any more is logged, and stops
    nothing: the log has each line too."""

    def __init__(self, file: Path | None = None) -> None:
        """Raises SettingsError where the file can't be opened."""
        self._file: int | None = None
        if file is not None:
            try:
                self._file = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            except OSError as error:
                raise SettingsError(f"auth.audit_file: can't write {file}: {error.strerror}") from error

    def record(self, caller: Caller, action: Action, result: str) -> None:
        """`result`: `ok`, or the kind of problem."""
        line = {
            "at": rfc3339(datetime.now(UTC), "milliseconds"),
            "who": caller.name,
            "key_id": caller.key_id,
            "from": action.client,
            "what": action.what,
            "path": action.path,
            "about": dict(action.about),
            "result": result,
        }
        _log.info("audit", **{name: value for name, value in line.items() if name != "at"})
        if self._file is not None:
            try:
                os.write(self._file, orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS) + b"\n")
            except OSError as error:
                _log.error("audit_file_not_written", error=str(error))

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
