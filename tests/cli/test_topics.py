from __future__ import annotations

import pytest

from akasha_stream.embedded import Broker
from tests.cli.running import run
from tests.servers.topics import unique_name


@pytest.fixture
def names(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Topics of one's own on `broker`, by role."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", broker.bootstrap_servers)
    stem = unique_name("t")
    found = {role: f"{stem}.{role}" for role in ("embeddings", "dead_letters", "digests")}
    for role, name in found.items():
        monkeypatch.setenv(f"AKASHA_TOPICS__{role.upper()}", name)
    return found


def test_from_nothing_to_as_defined(capsys: pytest.CaptureFixture[str], names: dict[str, str]) -> None:
    ran = run(capsys, "topics", "check")
    assert ran.code == 5
    assert ran.err.startswith("error: ")
    assert all(f"{name}: missing" in ran.err for name in names.values())

    dry = run(capsys, "topics", "apply", "--dry-run", "--json")
    assert (dry.code, dry.json["dry_run"], len(dry.json["changes"])) == (0, True, 3)
    assert run(capsys, "topics", "check").code == 5, "a dry run changes nothing"

    assert run(capsys, "topics", "apply").code == 0
    assert run(capsys, "topics", "apply", "--json").json == {"dry_run": False, "changes": [], "notes": []}
    assert run(capsys, "topics", "check").out == "The topics are as defined.\n"
    assert run(capsys, "topics", "check", "--json").json["ok"] is True
    listed = {
        each["role"]: each["partitions_on_broker"] for each in run(capsys, "topics", "list", "--json").json["topics"]
    }
    assert listed == {"embeddings": 4, "dead_letters": 1, "digests": 1}


@pytest.mark.kafka
@pytest.mark.parametrize("broker", ["kafka"], indirect=True)
def test_drift(capsys: pytest.CaptureFixture[str], names: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    run(capsys, "topics", "apply")
    monkeypatch.setenv("AKASHA_PARTITIONS", "9")

    ran = run(capsys, "topics", "check", "--json")
    assert ran.code == 5
    assert ran.json["ok"] is False
    assert f"error: {names['embeddings']}: partitions is 4, wanted 9\n" in ran.err

    refused = run(capsys, "topics", "apply")
    assert refused.code == 5
    assert "pass --grow" in refused.err
    assert run(capsys, "topics", "apply", "--grow").code == 0
    assert run(capsys, "topics", "check").code == 0


def test_no_broker_is_4(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    for command in ("apply", "check", "list"):
        ran = run(capsys, "topics", command)
        assert ran.code == 4
        assert "error: broker 127.0.0.1:1: can't be reached\n" in ran.err
