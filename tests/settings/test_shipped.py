"""The settings files that are shipped."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from akasha_stream.configuration.load import load
from akasha_stream.configuration.places import shipped
from akasha_stream.settings import Settings
from akasha_stream.topics.definition import definitions

SERVERS = {"KAFKA_BOOTSTRAP_SERVERS": "k1:9092,k2:9092", "REDIS_URL": "redis://r:6379/0"}
BASE = shipped("settings") / "akasha-stream.yml"
# They hold no value by default, so that the file shows them in a comment.
UNSET = {
    ("topics", "definitions"),
    ("dedupe", "near_threshold"),
    ("ingest", "instance_id"),
    ("retention", "days"),
    ("tier_policy", "cold_after_s"),
    ("tier_policy", "hot_max_bytes"),
    ("tier_policy", "warm_max_bytes"),
    ("embedder", "url"),
    ("embedder", "factory"),
    ("http", "advertised_url"),
    ("http", "rate_per_s"),
    ("auth", "audit_file"),
    ("oidc", "jwks_url"),
}


def test_the_file_has_every_key_and_the_default_of_each() -> None:
    written = yaml.safe_load(BASE.read_text(encoding="utf-8"))
    for section, keys in Settings().model_dump().items():
        if isinstance(keys, dict):
            assert {key for key in keys if (section, key) not in UNSET} == set(written[section]), section
    assert load(BASE, variables={"AKASHA_ENV": "dev"}).settings.redis == Settings().redis
    without_overlay = load(BASE, variables={}).settings.model_dump()
    for section in ("windows", "hot"):  # what the dev overlay changes
        without_overlay[section] = {**without_overlay[section], **written[section]}
    defaults = Settings().model_dump()
    defaults["hot"]["data_dir"] = without_overlay["hot"]["data_dir"]
    assert without_overlay == defaults


def test_every_key_says_what_it_is_or_costs() -> None:
    for file in sorted(shipped("settings").glob("*.yml")):
        lines = file.read_text(encoding="utf-8").splitlines()
        commented = [line for line in lines if line.startswith("  ") and "#" in line]
        keys = [line for line in lines if line.startswith("  ") and ":" in line]
        assert len(commented) >= 0.75 * len(keys), file


@pytest.mark.parametrize("environment", ["dev", "staging", "prod"])
def test_overlays_load(environment: str) -> None:
    found = load(BASE, environment, variables=SERVERS)
    assert found.settings.environment == environment
    assert found.files[1].name == f"akasha-stream.{environment}.yml"
    assert definitions(found.settings, {})


def test_staging_and_prod_have_no_servers_by_default() -> None:
    for environment in ("staging", "prod"):
        settings = load(BASE, environment, variables=SERVERS).settings
        assert settings.broker.bootstrap_servers == "k1:9092,k2:9092"
        assert settings.hot.data_dir == Path("/var/lib/akasha-stream")
        assert settings.logging.format == "json"


@pytest.mark.slow
def test_the_wheel_carries_settings_and_topics(tmp_path: Path) -> None:
    """An installed wheel runs where no checkout is."""
    root = Path(__file__).parents[2]
    subprocess.run(["uv", "build", "--wheel", "--out-dir", str(tmp_path), str(root)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    code = (
        "import akasha_stream.settings as s; from akasha_stream.topics.definition import definitions;"
        "from akasha_stream.storage import StorageSettings;"
        "print(s.__file__); print(len(definitions(s.Settings.load()))); print(*StorageSettings.load().tiers.values())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "installed"), "PATH": "/usr/bin", "HOME": str(tmp_path)},
        check=True,
        capture_output=True,
        text=True,
    )
    file, count, *tiers = done.stdout.split()
    assert file.startswith(str(tmp_path / "installed"))
    assert count == "3"
    assert tiers == ["s3-hot", "s3-warm", "s3-cold"]
