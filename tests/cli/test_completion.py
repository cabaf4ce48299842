"""The scripts are what their shells take, and what they ask for is answered."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from akasha_stream.cli import COMMANDS
from akasha_stream.cli.root import COMPLETE
from tests.cli.running import run


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_of_its_shell(capsys: pytest.CaptureFixture[str], shell: str) -> None:
    ran = run(capsys, "completion", shell)
    assert (ran.code, ran.err) == (0, "")
    assert COMPLETE in ran.out
    assert "akasha-stream" in ran.out
    if program := shutil.which(shell):
        subprocess.run([program, "-n"], input=ran.out, text=True, check=True)


def test_another_shell_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "completion", "tcsh").code == 2


@pytest.mark.parametrize(
    ("words", "expected"),
    [("akasha-stream ", "status"), ("akasha-stream dlq ", "requeue"), ("akasha-stream lag --w", "--watch")],
)
def test_what_bash_asks_is_answered(words: str, expected: str) -> None:
    asked = {COMPLETE: "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)}
    done = subprocess.run(
        [sys.executable, "-m", "akasha_stream.cli"],
        env={**os.environ, **asked}, check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert expected in done.stdout.split()
    if words == "akasha-stream ":
        assert set(COMMANDS) <= set(done.stdout.split())
