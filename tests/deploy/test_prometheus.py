"""deploy/prometheus and deploy/grafana: by Prometheus' own promtool, and by a Prometheus that scrapes a worker."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from akasha_stream.telemetry import catalog
from tests.deploy.tools import ROOT
from tests.publish.events import make_events
from tests.servers.prometheus import SHIPPED, PrometheusServer, scraping
from tests.telemetry.names import prometheus_name
from tests.worker.stage import Stage

if TYPE_CHECKING:
    from akasha_stream.embedded import Broker, ValkeyServer

BOARD = ROOT / "deploy" / "grafana" / "dashboards" / "akasha-stream.json"
OPERATING = (ROOT / "docs" / "operating.md").read_text()
OTHERS = {"up", "process_cpu_seconds_total", "process_resident_memory_bytes"}
SUFFIX = re.compile(r"_(bucket|count|sum)$")

on_prometheus = contextmanager(scraping)


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((SHIPPED / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(BOARD.read_text())["panels"]
    return [panel for panel in found if panel["type"] != "row"]


def expressions() -> list[str]:
    """Of the alerts and the board, with its variables filled in."""
    board = [target["expr"] for panel in panels() for target in panel["targets"]]
    filled = [
        each.replace("$__rate_interval", "1m").replace("$job", "akasha-stream").replace("$instance", ".*")
        for each in board
    ]
    return [rule["expr"] for rule in rules()] + filled


def metrics_of(expression: str) -> set[str]:
    """Names in a PromQL expression: what is followed by no bracket, and stands in none."""
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\b(?:by|without)\s*\([^)]*\)", " ", expression)
    return {
        name for name in re.findall(r"(?<![\w.])([a-z_:][\w:]*)(?!\w*\s*\()", bare) if name not in {"and", "or", "e6"}
    }


@pytest.mark.parametrize(
    "command",
    [["check", "config", "prometheus.yml"], ["check", "rules", "alerts.yml"], ["test", "rules", "alerts.test.yml"]],
)
def test_promtool_finds_nothing_wrong(promtool: Path, command: list[str]) -> None:
    done = subprocess.run([promtool, *command], cwd=SHIPPED, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout


def test_each_alert_is_seen_firing_and_quiet() -> None:
    tests = yaml.safe_load((SHIPPED / "alerts.test.yml").read_text())["tests"]
    seen: dict[str, set[bool]] = {}
    for test in tests:
        (case,) = test["alert_rule_test"]
        seen.setdefault(case["alertname"], set()).add(bool(case["exp_alerts"]))
    assert seen == {rule["alert"]: {True, False} for rule in rules()}


def test_each_alert_has_its_runbook_and_each_runbook_its_alert() -> None:
    alerts = [rule["alert"] for rule in rules()]
    assert re.findall(r"^### (Akasha\w+)$", OPERATING, re.MULTILINE) == alerts
    for rule in rules():
        assert rule["annotations"]["runbook_url"] == f"docs/operating.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in {"warning", "critical"}


def test_alerts_and_board_name_metrics_that_there_are() -> None:
    known = {prometheus_name(metric) for metric in catalog.ALL} | OTHERS
    named = {
        SUFFIX.sub("", name) if name not in OTHERS else name for each in expressions() for name in metrics_of(each)
    }
    assert len(named) > 40
    assert named <= known


def test_the_board_leaves_out_nothing_that_an_operator_asks_for() -> None:
    named = {SUFFIX.sub("", name) for each in expressions() for name in metrics_of(each)}
    # Figures that others contain.
    left_out = {
        catalog.NEXT_OFFSET, catalog.LAG_RECORDS, catalog.SPILL_BACKLOG_ROWS, catalog.SPILLED_IO, catalog.SPILL_TIME,
        catalog.STORAGE_RETRIES,
    }  # fmt: skip
    missing = {metric for metric in catalog.ALL if prometheus_name(metric) not in named}
    assert missing <= left_out


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(BOARD.read_text())["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells


@pytest.mark.valkey
async def test_a_prometheus_scrapes_a_worker(tansu: Broker, valkey: ValkeyServer, tmp_path: Path) -> None:
    stage = await Stage.spilling(
        tansu,
        tmp_path,
        partitions=2,
        valkey=valkey.url,
    )
    async with stage.worker() as worker:
        await stage.publish(make_events(20))
        await stage.until_searchable(worker)
        with on_prometheus(worker.url.removeprefix("http://")) as prometheus:
            await asyncio.to_thread(wait_for_scrape, prometheus)
            there = prometheus.get("label/__name__/values")
            assert isinstance(there, list)
            named = {name for each in expressions() for name in metrics_of(each)}
            assert named - set(there) == set()
            (stored,) = result(prometheus, 'sum(akasha_ingest_events_total{akasha_outcome="stored"})')
            assert stored["value"][1] == "20"
            for each in expressions():
                result(prometheus, each)  # fails where Prometheus does not take it
            loaded: Any = prometheus.get("rules")
            health = {rule["name"]: rule["health"] for group in loaded["groups"] for rule in group["rules"]}
            assert set(health) == {rule["alert"] for rule in rules()}
            assert "err" not in health.values()
            # A worker that goes away is noticed: the alert waits for its minute.
            await worker.stop()
            await asyncio.to_thread(wait_for_alert, prometheus, "AkashaWorkerDown")


def result(prometheus: PrometheusServer, query: str) -> list[Any]:
    data = prometheus.get("query", query=query)
    assert isinstance(data, dict)
    found: list[Any] = data["result"]
    return found


def wait_for_scrape(prometheus: PrometheusServer) -> None:
    """Until the worker's segments are spilled, as Prometheus sees it; then every metric has a sample."""
    waited = asyncio.run(until(lambda: bool(result(prometheus, "akasha_spill_segments_total > 0"))))
    assert waited


def wait_for_alert(prometheus: PrometheusServer, name: str) -> None:
    def pending() -> bool:
        alerts: Any = prometheus.get("alerts")
        return name in {alert["labels"]["alertname"] for alert in alerts["alerts"]}

    assert asyncio.run(until(pending))


async def until(found: Any, timeout_s: float = 60.0) -> bool:
    async with asyncio.timeout(timeout_s):
        while not found():
            await asyncio.sleep(0.2)
    return True
