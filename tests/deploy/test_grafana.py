"""deploy/grafana, by Grafana's own model of a board; test_prometheus.py asks a real Prometheus its queries."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from akasha_stream.telemetry import catalog
from tests.deploy.test_prometheus import BOARD, metrics_of
from tests.deploy.tools import ROOT
from tests.telemetry.names import prometheus_name

PROVISIONING = ROOT / "deploy" / "grafana" / "provisioning"
EDITOR_S = {"definition", "builtIn"}
"""What Grafana's editor writes, and its model has not."""


@pytest.fixture(scope="module")
def board() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(BOARD.read_text())
    return found


def through_grafana(board: dict[str, Any]) -> Any:
    """The board as Grafana's model reads it and writes it again. Raises for a value of a wrong type."""
    register_default_plugins()
    return json.loads(JSONEncoder().encode(Dashboard.from_json(board)))


def differences(ours: Any, theirs: Any, path: str = "") -> Iterator[str]:
    """Where it does not come back as it went in."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key, value in ours.items():
            if key not in theirs:
                yield f"{path}/{key}"
            else:
                yield from differences(value, theirs[key], f"{path}/{key}")
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for number, pair in enumerate(zip(ours, theirs, strict=True)):
            yield from differences(*pair, f"{path}/{number}")
    elif ours != theirs:
        yield path


def test_grafana_s_model_knows_every_key_of_the_board(board: dict[str, Any]) -> None:
    unknown = [path for path in differences(board, through_grafana(board)) if path.rpartition("/")[2] not in EDITOR_S]
    assert unknown == []


@pytest.mark.parametrize("where", [("options",), ("fieldConfig", "defaults"), ("targets", 0), ()])
def test_a_misspelt_key_would_be_noticed(where: tuple[Any, ...]) -> None:
    spoilt: dict[str, Any] = json.loads(BOARD.read_text())
    here: Any = next(panel for panel in spoilt["panels"] if panel["type"] == "stat")
    for step in where:
        here = here[step]
    here["colorMoed"] = "value"
    assert any(path.endswith("/colorMoed") for path in differences(spoilt, through_grafana(spoilt)))


def test_panels_ask_the_data_source_that_is_chosen(board: dict[str, Any]) -> None:
    (provisioned,) = yaml.safe_load((PROVISIONING / "datasources" / "prometheus.yml").read_text())["datasources"]
    chosen = {variable["name"]: variable for variable in board["templating"]["list"]}["datasource"]
    assert chosen["query"] == provisioned["type"] == "prometheus"
    for panel in board["panels"]:
        for each in [panel, *panel.get("targets", [])]:
            assert panel["type"] == "row" or each["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_variables_are_filled_from_metrics_that_there_are(board: dict[str, Any]) -> None:
    known = {prometheus_name(metric) for metric in catalog.ALL}
    asked = [each["query"]["query"] for each in board["templating"]["list"] if each["type"] == "query"]
    assert len(asked) == 2
    for query in asked:
        inside = query.removeprefix("label_values(").removesuffix(")")
        metric, label = inside.rsplit(", ", 1)
        assert metrics_of(metric) <= known
        assert label in {"job", "instance"}


def test_the_provider_reads_where_compose_puts_the_board() -> None:
    (provider,) = yaml.safe_load((PROVISIONING / "dashboards" / "akasha-stream.yml").read_text())["providers"]
    compose = (ROOT / "docker-compose.yml").read_text()
    assert f"./deploy/grafana/dashboards:{provider['options']['path']}:ro" in compose
    assert f"{provider['options']['path']}/{BOARD.name}" in compose
