"""./run and .ci/run, with the programs they call replaced: what they call, and what they make of failures."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.deploy.tools import ROOT

if TYPE_CHECKING:
    from pathlib import Path

NOTES = 'echo "$(basename "$0") $*" >> "{notes}"\n'


class Place:
    """A folder with the scripts, a PATH of its own, and programs that only note how they were called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.notes = folder / "notes"
        self.bin.mkdir()
        (folder / ".ci").mkdir()
        shutil.copy(ROOT / "run", folder / "run")
        shutil.copy(ROOT / ".ci" / "run", folder / ".ci" / "run")
        for name in ("sh", "bash", "dirname", "basename", "mkdir", "sed"):
            (self.bin / name).symlink_to(str(shutil.which(name)))
        for name in ("akasha-stream", "python", "ruff", "mypy"):
            self.add(f".venv/bin/{name}")
        self.add("bin/uv")

    def add(self, name: str, then: str = "exit 0") -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\n" + NOTES.format(notes=self.notes) + then + "\n")
        path.chmod(0o755)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.folder / command[0]), *command[1:]],
            cwd="/",
            env={"PATH": str(self.bin), "HOME": str(self.folder / "home")},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def called(self) -> list[str]:
        return self.notes.read_text().splitlines() if self.notes.exists() else []


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.parametrize(
    ("command", "call"),
    [
        (["demo", "--json"], "akasha-stream demo --json"),
        (["test"], "python -m pytest -n auto --dist worksteal"),
        (["test", "-k", "a b"], "python -m pytest -n auto --dist worksteal -k a b"),
        (
            ["test", "--quick", "-x"],
            "python -m pytest -n auto --dist worksteal -m not slow --hypothesis-profile quick -x",
        ),
    ],
)
def test_it_makes_the_environment_then_runs_the_command(place: Place, command: list[str], call: str) -> None:
    done = place.run("run", *command)
    assert done.returncode == 0, done.stderr
    assert place.called() == ["uv --version", "uv sync --locked --compile-bytecode", call]


def test_check_runs_all_three_and_fails_if_one_does(place: Place) -> None:
    place.add(".venv/bin/ruff", "exit 1")
    assert place.run("run", "check").returncode == 1
    assert place.called()[2:] == ["ruff check .", "ruff format --check .", "mypy "]


def test_a_lock_file_out_of_date_ends_it(place: Place) -> None:
    place.add("bin/uv", '[ "$1" != sync ]')
    assert place.run("run", "test").returncode != 0
    assert place.called() == ["uv --version", "uv sync --locked --compile-bytecode"]


def test_without_uv_it_makes_one_in_an_environment_of_its_own(place: Place) -> None:
    place.add("bin/uv", "exit 127")  # as pyenv's shim does
    false_python = f"""
case "$*" in
    "-c import sys; print"*) echo "$0" ;;
    "-m venv .venv-tools") mkdir -p .venv-tools/bin
        printf '#!/bin/sh\\necho "tools pip $*" >> {place.notes}\\n' > .venv-tools/bin/python
        printf '#!/bin/sh\\necho "tools uv $*" >> {place.notes}\\n' > .venv-tools/bin/uv
        {shutil.which("chmod")} +x .venv-tools/bin/python .venv-tools/bin/uv ;;
esac
exit 0"""
    place.add("bin/python3.13", false_python)
    done = place.run("run", "test")
    assert done.returncode == 0, done.stderr
    assert "putting it into .venv-tools" in done.stderr
    assert [call for call in place.called() if call.startswith("tools")] == [
        "tools pip -m pip install --quiet --disable-pip-version-check uv>=0.8",
        "tools uv sync --locked --compile-bytecode",
    ]
    place.notes.unlink()
    assert place.run("run", "test").returncode == 0
    assert not any("pip install" in call for call in place.called())


def test_with_neither_uv_nor_python_the_way_out_is_named(place: Place) -> None:
    (place.bin / "uv").unlink()
    done = place.run("run", "demo")
    assert done.returncode == 1
    assert "install Python 3.13" in done.stderr


@pytest.mark.parametrize(("arguments", "code"), [([], 2), (["tset"], 2), (["--help"], 0)])
def test_usage(place: Place, arguments: list[str], code: int) -> None:
    done = place.run("run", *arguments)
    assert done.returncode == code
    assert "./run demo" in done.stdout + done.stderr
    assert place.called() == []


@pytest.mark.parametrize("failing", ["ruff", "mypy", "python"])
def test_ci_fails_if_any_part_does_and_runs_the_rest(place: Place, failing: str) -> None:
    place.add(f".venv/bin/{failing}", "exit 1")
    done = place.run(".ci/run")
    assert done.returncode == 1
    assert {call.split()[0] for call in place.called()} == {"uv", "ruff", "mypy", "python"}
    assert "failed: ./run" in done.stdout


def test_ci_passes_and_turns_missing_servers_into_failures(place: Place) -> None:
    place.add(".venv/bin/python", f'echo "required $AKASHA_REQUIRE_SERVERS" >> "{place.notes}"')
    assert place.run(".ci/run").returncode == 0
    assert "required 1" in place.called()


def test_this_python_is_one_that_it_would_choose() -> None:
    assert sys.version_info[:2] == (3, 13)
