from __future__ import annotations

import os
from pathlib import Path

import pytest

from akasha_stream.configuration.places import shipped


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The shipped settings, whatever the machine's environment says."""
    for name in list(os.environ):
        if name.upper().startswith("AKASHA_") or name in {"KAFKA_BOOTSTRAP_SERVERS", "REDIS_URL", "XDG_CONFIG_HOME"}:
            monkeypatch.delenv(name)
    monkeypatch.setenv("AKASHA_SETTINGS", str(shipped("settings") / "akasha-stream.yml"))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
