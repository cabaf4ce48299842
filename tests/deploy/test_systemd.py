"""deploy/systemd: by systemd's own systemd-analyze, and held against the product."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from akasha_stream import worker as worker_module
from akasha_stream.api import server
from akasha_stream.cli import COMMANDS, exits
from akasha_stream.stream import assignment, outlet
from tests.deploy.tools import ROOT
from tests.servers.debian import unpacked

UNIT = ROOT / "deploy" / "systemd" / "akasha-stream.service"
TEXT = UNIT.read_text()


def values(key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", TEXT, re.MULTILINE)


@pytest.fixture(scope="session")
def systemd_analyze() -> Path:
    installed = shutil.which("systemd-analyze")
    if installed is not None:
        return Path(installed)
    return unpacked("systemd", "systemd", what="systemd", libraries=True) / "usr" / "bin" / "systemd-analyze"


def analyzed(program: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    libraries = ":".join(str(each) for each in program.parents[1].glob("lib/*-linux-gnu*"))
    libraries += "".join(f":{each}" for each in program.parents[1].glob("lib/*-linux-gnu*/systemd"))
    environment = {"PATH": "/usr/bin:/bin", "LD_LIBRARY_PATH": libraries, "LC_ALL": "C.UTF-8"}
    return subprocess.run(
        [program, *arguments], env=environment, capture_output=True, text=True, check=False, timeout=60
    )


def test_systemd_takes_it(systemd_analyze: Path, tmp_path: Path) -> None:
    """With a program that is there, as verify looks for it."""
    program = tmp_path / "akasha-stream"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = tmp_path / UNIT.name
    unit.write_text(TEXT.replace("/opt/akasha-stream/.venv/bin/akasha-stream", str(program)))
    done = analyzed(systemd_analyze, "verify", "--man=no", "--recursive-errors=no", unit)
    assert (done.returncode, ours(done.stderr)) == (0, [])
    unit.write_text(unit.read_text().replace("ProtectHome=", "ProtectHoem="))
    assert any("ProtectHoem" in line for line in ours(analyzed(systemd_analyze, "verify", "--man=no", unit).stderr))


def ours(said: str) -> list[str]:
    """What is said of our unit, not of those of this machine."""
    return [line for line in said.splitlines() if UNIT.name in line]


def test_it_is_locked_down(systemd_analyze: Path) -> None:
    """By systemd's own measure, from 0 (locked) to 10 (open). Most of the rest is that it speaks to the network."""
    done = analyzed(systemd_analyze, "security", "--offline=yes", "--threshold=20", "--no-pager", UNIT)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr


def test_it_starts_what_there_is() -> None:
    (command,) = values("ExecStart")
    program, *arguments = command.split()
    assert Path(program).name == "akasha-stream"
    assert arguments == ["worker"]
    assert arguments[0] in COMMANDS
    assert "AKASHA_DATA_DIR=/var/lib/" + values("StateDirectory")[0] in values("Environment")
    assert values("WorkingDirectory") == ["/var/lib/" + values("StateDirectory")[0]]


def test_it_ends_in_its_time_and_is_not_started_for_nothing() -> None:
    drain_s = worker_module.STOP_S + server.GRACE_S + outlet.STOP_S + assignment.STOP_S
    assert float(values("TimeoutStopSec")[0]) >= 1.5 * drain_s
    assert values("RestartPreventExitStatus") == [str(exits.SETTINGS)]
    assert values("Restart") == ["on-failure"]
