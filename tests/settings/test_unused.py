"""AKASHA_ variables that nothing reads are told, with the nearest name; those that something reads never are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from akasha_stream.configuration.load import load
from akasha_stream.configuration.unused import unused

ROOT = Path(__file__).parents[2]


def told(**variables: str) -> list[str]:
    return load(variables=variables).unused


def test_a_wrong_name_is_told_with_the_nearest_one() -> None:
    assert told(AKASHA_DATA_DRI="x", AKASHA_HTTP_PORT="1", AKASHA_FOO="3", OTHER="1") == [
        "AKASHA_DATA_DRI: nothing reads this variable; did you mean AKASHA_DATA_DIR?",
        "AKASHA_FOO: nothing reads this variable; `akasha-stream config show` has those that are",
        "AKASHA_HTTP_PORT: nothing reads this variable; did you mean AKASHA_HTTP__PORT?",
    ]


@pytest.mark.parametrize("service", ["AKASHA", "AKASHA_STREAM", "AKASHA_HTTP"])
def test_what_kubernetes_sets_for_a_service_is_not_told(service: str) -> None:
    address = "tcp://10.0.0.11:8470"
    names = {
        "SERVICE_HOST": "10.0.0.11",
        "SERVICE_PORT": "8470",
        "SERVICE_PORT_HTTP": "8470",
        "PORT": address,
        "PORT_8470_TCP": address,
        "PORT_8470_TCP_PROTO": "tcp",
        "PORT_8470_TCP_PORT": "8470",
        "PORT_8470_TCP_ADDR": "10.0.0.11",
    }
    assert told(**{f"{service}_{name}": value for name, value in names.items()}) == []


def test_whatever_our_files_and_deployments_use_is_known() -> None:
    """Also what only another environment's overlay, the object stores' file or a topic refers to."""
    files = [ROOT / name for name in ("docker-compose.yml", ".env.example", "Dockerfile", "README.md")]
    files += [each for each in (ROOT / "deploy").rglob("*") if each.is_file() and each.suffix != ".json"]
    files += (ROOT / "settings").glob("*.yml")
    found = set(re.findall(r"\bAKASHA_[A-Z0-9]+(?:_[A-Z0-9]+)*\b(?!_)", "".join(each.read_text() for each in files)))
    assert len(found) > 15
    assert unused(dict.fromkeys(found, "x") | {"AKASHA_EMPTY": ""}, ROOT / "settings", None) == []


def test_a_reference_in_a_file_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "akasha-stream.yml"
    file.write_text("hot: {seal_rows: '${AKASHA_MY_ROWS:5000}'}\n")
    variables = {"AKASHA_MY_ROWS": "6000", "AKASHA_MY_ROW": "1", "AKASHA_SETTINGS": str(file)}
    found = load(variables=variables)
    assert found.settings.hot.seal_rows == 6_000
    assert found.unused == ["AKASHA_MY_ROW: nothing reads this variable; did you mean AKASHA_MY_ROWS?"]
