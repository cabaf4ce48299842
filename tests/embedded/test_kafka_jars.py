from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from akasha_stream.embedded.kafka_jars import jars_folder, jars_present, kafka_jars
from akasha_stream.errors import ServerStartError

JAVA = Path("/opt/java/bin/java")

# Stands for Maven: takes a while, notes that it ran, and writes a jar.
MAVEN = """#!/bin/sh
echo run >> {notes}
for argument; do case $argument in -DoutputDirectory=*) folder=${{argument#*=}};; esac; done
{script}
"""
FETCHES = 'mkdir -p "$folder"; sleep 0.3; touch "$folder/kafka_2.13-0.jar"'


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where each run of the false Maven leaves a line; the cache is empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    maven(tmp_path, FETCHES)
    return tmp_path / "notes"


def maven(tmp_path: Path, script: str) -> None:
    mvn = tmp_path / "bin" / "mvn"
    mvn.parent.mkdir(exist_ok=True)
    mvn.write_text(MAVEN.format(notes=tmp_path / "notes", script=script))
    mvn.chmod(0o755)


def test_they_are_fetched_once(notes: Path) -> None:
    assert not jars_present()
    folder = kafka_jars(JAVA)
    assert folder == kafka_jars(JAVA) == jars_folder()
    assert jars_present()
    assert [path.name for path in folder.iterdir()] == ["kafka_2.13-0.jar"]
    assert notes.read_text() == "run\n"
    assert sorted(path.name for path in folder.parent.iterdir()) == sorted([folder.name, f"{folder.name}.lock"])


def test_two_processes_at_once_fetch_once(notes: Path) -> None:
    program = "from pathlib import Path; from akasha_stream.embedded.kafka_jars import *; print(kafka_jars(Path('/j')))"
    both = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [each.communicate(timeout=30)[0].strip() for each in both] == [str(jars_folder())] * 2
    assert notes.read_text() == "run\n"


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("echo '[ERROR] no route to the repository'; exit 1", r"exit code 1\):\n\[ERROR\] no route to the repository"),
        ('mkdir -p "$folder"', r"exit code 0"),
        ('mkdir -p "$folder"; touch "$folder/half.jar"; kill -9 $$', r"exit code -9"),
    ],
)
@pytest.mark.usefixtures("notes")
def test_a_failed_fetch_leaves_nothing_and_is_told(tmp_path: Path, script: str, told: str) -> None:
    maven(tmp_path, script)
    with pytest.raises(ServerStartError, match=told):
        kafka_jars(JAVA)
    assert not jars_present()
    assert [path.suffix for path in jars_folder().parent.iterdir()] == [".lock"]
    maven(tmp_path, FETCHES)
    assert kafka_jars(JAVA).is_dir()


@pytest.mark.usefixtures("notes")
def test_without_maven_the_way_out_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("MAVEN_HOME", raising=False)
    monkeypatch.delenv("M2_HOME", raising=False)
    with pytest.raises(ServerStartError, match=r"`mvn` is not on the PATH: install it \(Debian: maven\)"):
        kafka_jars(JAVA)


def test_a_cache_that_can_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(ServerStartError, match=r"can't be written.*set XDG_CACHE_HOME"):
        kafka_jars(JAVA)


def test_a_relative_xdg_cache_home_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    monkeypatch.setenv("HOME", "/home/someone")
    assert jars_folder().parent == Path("/home/someone/.cache/akasha-stream")
