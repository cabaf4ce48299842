"""`akasha-stream replay …` on a stage of tests/worker, inside the test's process."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import yaml

from akasha_stream.cli.root import run as run_root
from tests.cli.running import Ran
from tests.worker.stage import Stage


class Commands:
    """`overrides`: as Stage.make takes them; the settings that the commands are given, besides the stage's."""

    def __init__(self, stage: Stage, capsys: pytest.CaptureFixture[str], **overrides: object) -> None:
        self._capsys = capsys
        changed = {name.replace("__", "."): value for name, value in overrides.items()}
        values: dict[str, dict[str, object]] = {"embedder": {"kind": "none"}}
        for key, value in {**stage.overrides, **changed}.items():
            section, _, name = key.partition(".")
            values.setdefault(section, {})[name] = value
        self.file: Path = stage.folder / f"settings-{len(list(stage.folder.glob('settings-*')))}.yml"
        self.file.write_text(yaml.safe_dump(values))

    async def run(self, *arguments: str, code: int = 0) -> Ran:
        self._capsys.readouterr()
        found = await asyncio.to_thread(run_root, ["--settings", str(self.file), *arguments])
        captured = self._capsys.readouterr()
        assert found == code, captured.err + captured.out
        assert "Traceback" not in captured.err, captured.err
        if "--json" not in arguments:
            assert all(len(line.rstrip()) <= 80 for line in captured.out.splitlines()), captured.out
        return Ran(found, captured.out, captured.err)
