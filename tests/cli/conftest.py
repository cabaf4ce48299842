from __future__ import annotations

import os
from pathlib import Path

import pytest

from akasha_stream.cli.context import Output
from akasha_stream.configuration.places import shipped
from tests.cli.documented import fields


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The shipped settings, whatever the machine's environment says."""
    for name in list(os.environ):
        if name.upper().startswith("AKASHA_") or name in {"KAFKA_BOOTSTRAP_SERVERS", "REDIS_URL", "XDG_CONFIG_HOME"}:
            monkeypatch.delenv(name)
    monkeypatch.setenv("AKASHA_SETTINGS", str(shipped("settings") / "akasha-stream.yml"))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def documented_json(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a command prints for programs is on the page."""
    from typer._click.globals import get_current_context

    result, documented = Output.result, fields()

    def checked(self: Output, values: object) -> None:
        context = get_current_context(silent=True)
        if context is not None and isinstance(values, dict):
            command = context.command_path.partition(" ")[2]
            assert not values.keys() - documented[command], f"docs/json.md: {command}"
        result(self, values)

    monkeypatch.setattr(Output, "result", checked)
