"""./run and .ci/run, with the programs they call replaced: what they call, and what they make of failures."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import tomllib
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, ClassVar

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


class Osv(BaseHTTPRequestHandler):
    """Answers as OSV does: one package has an advisory, or none has."""

    affected: ClassVar[str | None] = None

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        names = [query["package"]["name"] for query in asked["queries"]]
        self._answer({"results": [{"vulns": [{"id": "PYSEC-1"}]} if name == self.affected else {} for name in names]})

    def do_GET(self) -> None:
        self._answer(
            {
                "id": "PYSEC-1",
                "modified": "2026-01-01T00:00:00Z",
                "summary": "a flaw",
                "affected": [{"package": {"ecosystem": "PyPI", "name": self.affected}, "versions": []}],
            }
        )

    def _answer(self, body: object) -> None:
        content = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002


@pytest.mark.parametrize(("affected", "code"), [("numpy", 1), (None, 0)])
def test_an_audit_tells_what_the_service_knows(affected: str | None, code: int) -> None:
    service = HTTPServer(("127.0.0.1", 0), type("Service", (Osv,), {"affected": affected}))
    threading.Thread(target=service.serve_forever, daemon=True).start()
    try:
        done = really("audit", "--service-url", f"http://127.0.0.1:{service.server_port}")
    finally:
        service.shutdown()
        service.server_close()
    assert done.returncode == code, done.stdout + done.stderr
    assert ("PYSEC-1" in done.stdout) == (affected is not None)


def test_an_audit_without_its_service_is_none() -> None:
    done = really("audit", "--service-url", "http://127.0.0.1:1")
    assert done.returncode == 3
    assert "error: not audited" in done.stderr


def test_the_bill_of_materials_has_every_package_that_is_locked(tmp_path: Path) -> None:
    done = really("sbom", str(tmp_path / "made" / "sbom.json"))
    assert done.returncode == 0, done.stderr
    bill = json.loads((tmp_path / "made" / "sbom.json").read_text())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.5")
    there = {(each["name"], each["version"]) for each in bill["components"]}
    locked = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    (ours,) = [each for each in locked if each["name"] == "akasha-stream"]
    needed = {
        each["name"] for extra in [ours["dependencies"], *ours["optional-dependencies"].values()] for each in extra
    }
    assert needed <= {name for name, _ in there}
    assert there <= {(each["name"], each["version"]) for each in locked}
    assert "pytest" not in {name for name, _ in there}
    assert all(each["purl"].startswith("pkg:pypi/") for each in bill["components"])


def really(*command: str) -> subprocess.CompletedProcess[str]:
    """./run with the uv of this machine."""
    environment = {**os.environ, "UV_HTTP_RETRIES": "0"}
    return subprocess.run(
        [ROOT / "run", *command], env=environment, capture_output=True, text=True, check=False, timeout=60
    )


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


def test_ci_tells_what_the_audit_found_and_does_not_fail_by_it(place: Place) -> None:
    place.add("bin/uv", 'case "$1 $2" in "audit --preview-features") exit 1 ;; esac')
    done = place.run(".ci/run")
    assert done.returncode == 0, done.stdout
    assert "== ./run audit: exit code 1" in done.stdout
    assert any(call.startswith("uv audit --preview") for call in place.called())


def test_ci_passes_and_turns_missing_servers_into_failures(place: Place) -> None:
    place.add(".venv/bin/python", f'echo "required $AKASHA_REQUIRE_SERVERS" >> "{place.notes}"')
    assert place.run(".ci/run").returncode == 0
    assert "required 1" in place.called()


def test_this_python_is_one_that_it_would_choose() -> None:
    assert sys.version_info[:2] == (3, 13)
