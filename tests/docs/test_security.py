"""docs/security.md: each test that it names is there, and its commands do what it says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from akasha_stream.api.access import GuardedRoute
from akasha_stream.auth.caller import GRANTED
from akasha_stream.auth.keys import Keys
from akasha_stream.search.engine import SearchEngine
from tests.api.conftest import SETTINGS
from tests.api.test_access import whole_app
from tests.cli.running import run
from tests.search.memory_store import MemoryStore

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "security.md").read_text()


def test_every_threat_names_a_test_that_is_there() -> None:
    rows = re.findall(r"^\| .+ \| .+ \| (.+) \|$", TEXT.partition("## Threats")[2], re.MULTILINE)[2:]
    assert len(rows) > 12
    for row in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row)
        assert named, row
        for file, test in named:
            assert re.search(rf"^(async )?def {test}\(", (ROOT / file).read_text(), re.MULTILINE), (file, test)


def test_the_commands(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AKASHA_AUTH_KEYS_FILE", "keys.yml")
    commands = re.findall(r"^\$ akasha-stream (keys .+)$", TEXT, re.MULTILINE)
    made: list[str] = []
    for command in commands:
        arguments = [each.strip("'") for each in command.split()]
        if arguments[1] == "revoke":
            arguments[2] = made[0].split("_")[1]
        ran = run(capsys, *arguments)
        assert ran.code == 0, ran.err
        if arguments[1] == "create":
            made.append(ran.out.strip())
    keys = Keys(tmp_path / "keys.yml")
    assert [keys.caller(each) is not None for each in made] == [False, True, True]


def test_a_worker_on_an_open_address_says_what_the_page_says(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AKASHA_HTTP__HOST", "0.0.0.0")
    ran = run(capsys, "worker")
    assert ran.err.strip() in TEXT


def test_the_commands_that_are_audited_are_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = TEXT.partition("## Audit")[2].partition("##")[0]
    sources = "".join(path.read_text() for path in (ROOT / "akasha_stream" / "cli").glob("*.py"))
    audited = set(re.findall(r'audited\(\s*[\w.]+, f?"([a-z ]+)[{"]', sources))
    assert len(audited) > 12
    assert [what for what in audited if f"`{what.strip()}" not in section] == []
    shown = json.loads(re.findall(r"^\{.*\}$", section, re.MULTILINE)[0])
    monkeypatch.setenv("AKASHA_AUTH__AUDIT_FILE", str(tmp_path / "audit.jsonl"))
    monkeypatch.setenv("AKASHA_HOT_BACKEND", "local-hot")
    monkeypatch.setenv("AKASHA_WARM_BACKEND", "local-warm")
    monkeypatch.setenv("AKASHA_COLD_BACKEND", "local-cold")
    monkeypatch.setenv("AKASHA_OBJECTS_DIR", str(tmp_path))
    assert run(capsys, "tiers", "clean").code == 0
    line = json.loads((tmp_path / "audit.jsonl").read_text())
    varying = {"at": shown["at"], "who": shown["who"]}
    assert (line | varying, list(line)) == (shown, list(shown))


def test_the_tables_are_complete() -> None:
    assert [name for name in GRANTED if f"| `{name}` |" not in TEXT] == []
    engine = SearchEngine(MemoryStore(1), SETTINGS)
    of_all = {r.path for r in whole_app(engine).routes if isinstance(r, GuardedRoute) and r.rule.all_systems}
    engine.close()
    told = TEXT.partition("What can't be narrowed")[2].partition("the console's overview")[0]
    assert [path for path in of_all if path not in told and "replays" not in path and "rows" not in path] == []
