from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.running import run


def test_show_says_where_each_value_is_from(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AKASHA_HTTP__PORT", "99")
    ran = run(capsys, "config", "show")
    assert ran.code == 0
    lines = {line.split()[0]: line.split()[1:] for line in ran.out.splitlines() if line.strip()}
    assert lines["http.port"] == ["99", "AKASHA_HTTP__PORT"]
    assert lines["windows.size_s"][0] == "300.0"
    assert lines["windows.size_s"][1].startswith("akasha-stream.dev.yml:")
    assert lines["topics.definitions"] == ["-", "default"]
    assert all(len(line.rstrip()) <= 80 for line in ran.out.splitlines() if not line.startswith("read:"))


@pytest.mark.parametrize("as_json", [False, True])
def test_show_hides_secrets(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, as_json: bool) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://u:pw123@h/0")
    monkeypatch.setenv("AKASHA_EMBEDDER__API_KEY", "sk-123")
    ran = run(capsys, "config", "show", *(["--json"] if as_json else []))
    assert ran.code == 0
    assert "redis://u:******" in ran.out  # the rest may stand on the next line of its cell
    assert "pw123" not in ran.out + ran.err
    assert "sk-123" not in ran.out + ran.err


def test_show_json_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    ran = run(capsys, "--env", "dev", "config", "show", "--json")
    assert len(ran.out.splitlines()) == 1
    assert ran.json["settings"]["windows"]["size_s"] == 300
    assert [Path(file).name for file in ran.json["files"]] == ["akasha-stream.yml", "akasha-stream.dev.yml"]


def test_check(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(capsys, "config", "check").out.startswith("ok: ")
    assert run(capsys, "config", "check", "--json").json["ok"] is True
    monkeypatch.setenv("AKASHA_PARTITIONS", "many")
    ran = run(capsys, "config", "check")
    assert ran.code == 3
    assert "embeddings.yml:5: partitions: found 'many'; allowed: a whole number ≥ 1" in ran.err


def test_wrong_settings_are_3_and_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AKASHA_HOT__SEAL_ROWS", "many")
    wanted = "error: AKASHA_HOT__SEAL_ROWS: hot.seal_rows: found 'many'; allowed: a whole number ≥ 100\n"
    for command in (["config", "check"], ["config", "show", "--json"], ["topics", "list"]):
        assert run(capsys, *command) == (3, "", wanted)
    assert run(capsys, "--settings", str(tmp_path / "no.yml"), "config", "check").code == 3
    assert run(capsys, "--env", "nope", "config", "check").code == 3
