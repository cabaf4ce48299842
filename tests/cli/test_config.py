from __future__ import annotations

from pathlib import Path

import pytest

from akasha_stream.configuration.places import shipped
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
    paths = [line for line in ran.out.splitlines() if line.endswith(".yml")]
    assert [line.rpartition("/")[2] for line in paths] == [
        "akasha-stream.yml", "akasha-stream.dev.yml", "akasha-storage.yml",
    ]  # fmt: skip
    assert all(len(line.rstrip()) <= 80 for line in ran.out.splitlines() if line not in paths)


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


def test_a_variable_that_nothing_reads(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AKASHA_DATA_DRI", "/data")
    said = "AKASHA_DATA_DRI: nothing reads this variable; did you mean AKASHA_DATA_DIR?"
    assert f"note: {said}\n" in run(capsys, "config", "show").err
    assert run(capsys, "config", "check") == (3, "", f"error: {said}\n")
    found = run(capsys, "keys", "list")
    assert found.err.count(said) == 1
    assert '"level": "warning"' in found.err


def test_wrong_settings_are_3_and_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AKASHA_HOT__SEAL_ROWS", "many")
    wanted = "error: AKASHA_HOT__SEAL_ROWS: hot.seal_rows: found 'many'; allowed: a whole number ≥ 100\n"
    for command in (["config", "check"], ["config", "show", "--json"], ["topics", "list"]):
        assert run(capsys, *command) == (3, "", wanted)
    assert run(capsys, "--settings", str(tmp_path / "no.yml"), "config", "check").code == 3
    assert run(capsys, "--env", "nope", "config", "check").code == 3


@pytest.fixture
def storage_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """settings/akasha-storage.yml of the working directory: a copy of the shipped one."""
    file = tmp_path / "settings" / "akasha-storage.yml"
    file.parent.mkdir()
    file.write_text((shipped("settings") / "akasha-storage.yml").read_text())
    return file


def test_show_has_the_object_stores(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, storage_file: Path
) -> None:
    monkeypatch.setenv("AKASHA_WARM_BACKEND", "local-warm")
    monkeypatch.delenv("AZURE_STORAGE_CONNECTION_STRING", raising=False)
    ran = run(capsys, "config", "show")
    assert ran.code == 0
    lines = {line.split()[0]: line.split()[1:] for line in ran.out.splitlines() if line.strip()}
    number = next(n for n, line in enumerate(storage_file.read_text().splitlines(), 1) if line.startswith("    warm: "))
    assert lines["storage.tiers.warm"] == ["local-warm", f"akasha-storage.yml:{number}"]
    assert lines["storage.s3-hot.storage_class"][0] == "STANDARD"
    assert lines["storage.s3-hot.prefix"][-1] == "default"
    assert lines["storage.redis-cache.ttl_seconds"][0] == "3600"
    assert lines["storage.azure-hot"][:2] == ["not", "used"]
    shown = run(capsys, "config", "show", "--json").json
    assert "AZURE_STORAGE_CONNECTION_STRING is not set" in shown["unused"]["azure-hot"]
    assert shown["storage"]["tiers"]["warm"] == "local-warm"
    assert [Path(file).name for file in shown["storage_files"]] == ["akasha-storage.yml"]


@pytest.mark.parametrize("as_json", [False, True])
def test_show_hides_secrets_of_the_object_stores(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, as_json: bool
) -> None:
    secret = "hunter2-very-secret"
    monkeypatch.setenv("REDIS_PASSWORD", secret)
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", f"AccountName=a;AccountKey={secret}")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://user:{secret}@localhost:9000")
    ran = run(capsys, "config", "show", *(["--json"] if as_json else []))
    assert ran.code == 0
    assert "redis-cache" in ran.out
    assert secret not in ran.out + ran.err


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("ttl_seconds: 3600", "ttl_seconds: soon", "storage.redis-cache.ttl_seconds: found 'soon'; allowed: a whole"),
        ("storage_class: STANDARD ", "storage_klass: STANDARD ", "storage.s3-hot.storage_klass: no such key; did you"),
        ("provider: gcs ", "provider: gsc ", "storage.gcs-hot.provider: found 'gsc'; allowed: one of s3, gcs, azure"),
        ("warm: ${AKASHA_WARM_BACKEND:s3-warm}", "warm: s3-cold", "storage.tiers.warm: found 's3-cold', whose tier is"),
        ("bucket_name: ${AKASHA_HOT_BUCKET:akasha-hot-dev}", "bucket_name: ${NOT_SET}", "storage.s3-hot.bucket_name:"),
        ("password: ${REDIS_PASSWORD:}", "password: [hunter2]", "storage.redis-cache.password: a value that is not"),
    ],
)
def test_wrong_object_stores_are_3_and_one_line_that_names_the_key(
    capsys: pytest.CaptureFixture[str], storage_file: Path, old: str, new: str, says: str
) -> None:
    text = storage_file.read_text()
    assert old in text
    storage_file.write_text(text.replace(old, new, 1))
    line = 1 + text[: text.index(old)].count("\n")
    for command in (["config", "check"], ["config", "check", "--json"], ["config", "show"]):
        ran = run(capsys, *command)
        assert (ran.code, ran.out) == (3, "")
        assert ran.err.startswith(f"error: settings/akasha-storage.yml:{line}: {says}")
        assert ran.err.count("\n") == 1
        assert "hunter2" not in ran.err


def test_check_reads_the_object_stores_of_the_environment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "k:9092")
    monkeypatch.setenv("REDIS_URL", "redis://r/0")
    ran = run(capsys, "--env", "prod", "config", "check")
    assert ran.code == 3
    assert "akasha-storage.prod.yml:5: storage.s3-hot.bucket_name: " in ran.err
    for tier in ("HOT", "WARM", "COLD"):
        monkeypatch.setenv(f"AKASHA_{tier}_BACKEND", f"local-{tier.lower()}")
    assert run(capsys, "--env", "prod", "config", "check", "--json").json["tiers"]["cold"] == "local-cold"
