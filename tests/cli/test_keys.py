"""`akasha-stream keys`: the secret is shown once, and what it made is what a worker takes."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from akasha_stream.auth.caller import Scope
from akasha_stream.auth.keys import Keys, KeysFile
from tests.cli.running import run


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "keys.yml"
    monkeypatch.setenv("AKASHA_AUTH_KEYS_FILE", str(path))
    monkeypatch.setenv("AKASHA_AUTH__AUDIT_FILE", str(tmp_path / "audit.jsonl"))
    return path


def test_created_listed_and_revoked(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    made = run(
        capsys, "keys", "create", "dashboards", "--system", "team-a-*", "--system", "ops", "--expires", "90d", "--json"
    )
    key = made.json["key"]
    assert made.json["id"] == key.split("_")[1]
    caller = Keys(file).caller(key)
    assert caller is not None
    assert (caller.name, caller.scopes, caller.systems.patterns()) == (
        "dashboards", frozenset({Scope.READ}), ["ops", "team-a-*"],
    )  # fmt: skip
    until = datetime.fromisoformat(made.json["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=89) < until <= timedelta(days=90)

    plain = run(capsys, "keys", "create", "operator", "--scope", "admin", "--scope", "metrics", "--system", "*")
    assert Keys(file).caller(plain.out.strip()) is not None
    assert "shown this once" in plain.err

    listed = run(capsys, "keys", "list", "--json")
    assert [each["name"] for each in listed.json["keys"]] == ["dashboards", "operator"]
    table = run(capsys, "keys", "list").out
    assert all(len(line.rstrip()) <= 80 for line in table.splitlines())
    for text in (listed.out, table):
        assert key.rpartition("_")[2] not in text
        assert "sha256" not in text

    assert run(capsys, "keys", "revoke", made.json["id"]).code == 0
    assert Keys(file).caller(key) is None
    lines = [json.loads(line) for line in (file.parent / "audit.jsonl").read_text().splitlines()]
    assert [(each["what"], each["about"]["id"], each["result"]) for each in lines] == [
        ("keys create", made.json["id"], "ok"),
        ("keys create", plain.out.split("_")[1], "ok"),
        ("keys revoke", made.json["id"], "ok"),
    ]
    assert lines[0]["about"]["systems"] == ["ops", "team-a-*"]
    assert run(capsys, "keys", "revoke", made.json["id"]).code == 2
    assert json.loads((file.parent / "audit.jsonl").read_text().splitlines()[-1])["result"] == "UsageError"
    assert key.rpartition("_")[2] not in str(lines)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["create", "x"], 2, "--system: name at least one"),
        (["create", "x", "--system", "a*b"], 2, "is no pattern"),
        (["create", "x", "--system", "a", "--scope", "node"], 2, "is no scope"),
        (["create", "x", "--system", "a", "--expires", "2020-01-01"], 2, "is over already"),
        (["create", "", "--system", "a"], 2, "name"),
        (["list"], 3, "akasha-stream keys create"),
        (["revoke", "x"], 3, "akasha-stream keys create"),
        (["create", "x", "--system", "a", "--file", "/nonexistent/keys.yml"], 2, "can't write"),
    ],
)
def test_errors(capsys: pytest.CaptureFixture[str], file: Path, *, arguments: list[str], code: int, said: str) -> None:
    ran = run(capsys, "keys", *arguments)
    assert (ran.code, said in ran.err) == (code, True), ran.err
    assert not file.exists()


def test_without_a_file_it_says_how_to_name_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("AKASHA_AUTH_KEYS_FILE", raising=False)
    assert "AKASHA_AUTH_KEYS_FILE" in run(capsys, "keys", "list").err
    given = tmp_path / "given.yml"
    assert run(capsys, "keys", "create", "x", "--system", "a", "--file", str(given)).code == 0
    assert len(KeysFile(given).read()) == 1


def test_secrets_are_in_no_output(
    capsys: pytest.CaptureFixture[str], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = {"AKASHA_NODE_SECRET": "n" * 39 + "1", "AKASHA_API_KEY": "ak_000000000000_" + "f" * 64}
    for variable, value in secrets.items():
        monkeypatch.setenv(variable, value)
    for arguments in (["config", "show"], ["config", "show", "--json"], ["config", "check"], ["doctor", "--json"]):
        ran = run(capsys, *arguments)
        assert not [value for value in secrets.values() if value in ran.out + ran.err]
    monkeypatch.setenv("AKASHA_NODE_SECRET", "too-short-secret")
    ran = run(capsys, "config", "check")
    assert (ran.code, "auth.node_secret" in ran.err, "too-short-secret" in ran.err) == (3, True, False), ran.err


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"AKASHA_HTTP__HOST": "0.0.0.0"}, "no login is set up"),
        ({"AKASHA_HTTP__HOST": "::"}, "no login is set up"),
        ({"AKASHA_HTTP__HOST": "worker-1"}, "no login is set up"),
        ({"AKASHA_AUTH_KEYS_FILE": "k.yml"}, "auth.node_secret: is missing"),
        ({"AKASHA_OIDC_ISSUER": "http://i"}, "auth.node_secret: is missing"),
        (
            {"AKASHA_AUTH_KEYS_FILE": "k.yml", "AKASHA_NODE_SECRET": "s" * 40, "AKASHA_ALLOW_OPEN": "true"},
            "one of both",
        ),
    ],
)
def test_what_would_be_open_by_mistake_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], said: str
) -> None:
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    ran = run(capsys, "config", "check")
    assert (ran.code, said in ran.err) == (3, True), ran.err
    assert len(ran.err.splitlines()) == 1
    worker = run(capsys, "worker")
    assert worker.err.splitlines()[-1] == ran.err.strip()


@pytest.mark.parametrize(
    "variables",
    [{}, {"AKASHA_HTTP__HOST": "::1"}, {"AKASHA_HTTP__HOST": "localhost"},
     {"AKASHA_HTTP__HOST": "0.0.0.0", "AKASHA_ALLOW_OPEN": "true"},
     {"AKASHA_HTTP__HOST": "0.0.0.0", "AKASHA_AUTH_KEYS_FILE": "k.yml", "AKASHA_NODE_SECRET": "s" * 40}],
)  # fmt: skip
def test_what_is_meant_is_not(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    assert run(capsys, "config", "check").code == 0
