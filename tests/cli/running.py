"""Running a command line inside the test's process."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest

from akasha_stream.cli.root import run as run_root


class Ran(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The object on the last line of stdout."""
        return json.loads(self.out.splitlines()[-1])


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> Ran:
    capsys.readouterr()
    code = run_root(arguments)
    captured = capsys.readouterr()
    return Ran(code, captured.out, captured.err)
