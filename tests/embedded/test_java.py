from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from akasha_stream.embedded import java as java_module
from akasha_stream.embedded.java import find_java, java_version
from akasha_stream.errors import ServerStartError

if TYPE_CHECKING:
    from pathlib import Path


def fake_java(home: Path, says: str) -> Path:
    java = home / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(f"#!/bin/sh\necho '{says}' >&2\n")
    java.chmod(0o755)
    return java


@pytest.mark.parametrize(
    ("says", "version"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('java version "1.8.0_292"', 8),
        ('openjdk version "25-ea" 2025-09-16', 25),
        ('Picked up JAVA_TOOL_OPTIONS: -Xint\nopenjdk version "21" 2023-09-19', 21),
        ("no java here", None),
    ],
)
def test_the_version_is_read(tmp_path: Path, says: str, version: int | None) -> None:
    assert java_version(fake_java(tmp_path, says)) == version


def test_java_home_comes_first_and_an_old_one_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = fake_java(tmp_path / "old", 'openjdk version "11.0.1"')
    new = fake_java(tmp_path / "new", 'openjdk version "21.0.1"')
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "new"))
    monkeypatch.setenv("PATH", f"{old.parent}:/usr/bin:/bin")
    assert find_java() == new
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "old"))
    monkeypatch.setenv("PATH", f"{new.parent}:/usr/bin:/bin")
    assert find_java() == new


def test_what_was_found_and_the_way_out_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = fake_java(tmp_path, 'openjdk version "11.0.1"')
    monkeypatch.setattr(java_module, "_candidates", lambda: [old])
    with pytest.raises(ServerStartError, match=r"found only .*java \(version 11\): install .*openjdk-17-jre-headless"):
        find_java()
    monkeypatch.setattr(java_module, "_candidates", list)
    with pytest.raises(ServerStartError, match="none was found: install"):
        find_java()
