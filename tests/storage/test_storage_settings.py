"""settings/akasha-storage.yml: the guide's file and ours, tiers on any provider, one line for what is wrong."""

from __future__ import annotations

import subprocess
import sys
import traceback
from pathlib import Path

import pytest
from pydantic import ValidationError

from akasha_stream import storage
from akasha_stream.configuration.places import shipped
from akasha_stream.errors import SettingsError
from akasha_stream.storage.create import create_adapter
from akasha_stream.storage.settings import (
    AzureBackend,
    LocalBackend,
    RedisCacheSettings,
    S3Backend,
    StorageSettings,
    TierPlace,
)

SHIPPED = shipped("settings") / "akasha-storage.yml"
SECRET = "hunter2-very-secret"
AZURE = {"AZURE_STORAGE_CONNECTION_STRING": f"AccountKey={SECRET}"}
GUIDE = """
storage:
  default_backend: "s3-hot"

  # Hot tier: S3 Standard + Redis cache
  s3-hot:
    provider: "s3"
    bucket_name: "${AKASHA_HOT_BUCKET:akasha-hot-dev}"
    region: "${AWS_REGION:us-east-1}"
    storage_class: "STANDARD"
    tier: "hot"

  redis-cache:
    provider: "redis"
    host: "${REDIS_HOST:localhost}"
    port: 6379
    db: 0
    ttl_seconds: 3600

  # Warm tier: S3 Infrequent Access
  s3-warm:
    provider: "s3"
    bucket_name: "${AKASHA_WARM_BUCKET:akasha-warm-dev}"
    region: "${AWS_REGION:us-east-1}"
    storage_class: "STANDARD_IA"
    tier: "warm"

  # Cold tier: S3 Glacier
  s3-cold:
    provider: "s3"
    bucket_name: "${AKASHA_COLD_BUCKET:akasha-cold-dev}"
    region: "${AWS_REGION:us-east-1}"
    storage_class: "GLACIER"
    tier: "cold"
"""


def written(folder: Path, text: str, name: str = "akasha-storage.yml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_the_guides_file_as_it_is(tmp_path: Path) -> None:
    found = StorageSettings.load(written(tmp_path, GUIDE), variables={"AWS_REGION": "eu-west-1"})
    assert found.backends == {
        "s3-hot": S3Backend(bucket_name="akasha-hot-dev", region="eu-west-1", storage_class="STANDARD", tier="hot"),
        "s3-warm": S3Backend(
            bucket_name="akasha-warm-dev", region="eu-west-1", storage_class="STANDARD_IA", tier="warm"
        ),
        "s3-cold": S3Backend(bucket_name="akasha-cold-dev", region="eu-west-1", storage_class="GLACIER", tier="cold"),
    }
    assert found.tiers == {"hot": "s3-hot", "warm": "s3-warm", "cold": "s3-cold"}
    assert found.default_backend == "s3-hot"
    assert found.redis_cache() == RedisCacheSettings(host="localhost", port=6379, db=0, ttl_seconds=3600)


def test_the_shipped_file_means_what_the_guides_does(tmp_path: Path) -> None:
    guide = StorageSettings.load(written(tmp_path, GUIDE), variables={})
    ours = StorageSettings.load(SHIPPED, variables={})
    assert {name: ours.backends[name] for name in guide.backends} == guide.backends
    assert (ours.tiers, ours.default_backend, ours.cache) == (guide.tiers, guide.default_backend, guide.cache)


def test_hot_on_s3_and_cold_on_azure() -> None:
    found = StorageSettings.load(SHIPPED, variables={"AKASHA_COLD_BACKEND": "azure-cold", **AZURE})
    assert found.tier("hot") == TierPlace("hot", "s3-hot", "s3", "akasha-hot-dev", "")
    assert found.tier("cold") == TierPlace("cold", "azure-cold", "azure", "akasha-cold-dev", "")
    assert isinstance(found.backend("azure-cold"), AzureBackend)


def test_a_provider_is_changed_in_an_entry_too(tmp_path: Path) -> None:
    path = written(tmp_path, "storage: {only: {provider: local, bucket_name: abc, root: /r, prefix: a/b/, tier: warm}}")
    found = StorageSettings.load(path, variables={})
    assert found.tier("warm") == TierPlace("warm", "only", "local", "abc", "a/b/")
    assert found.default_backend == "only"
    with pytest.raises(SettingsError, match=r"storage\.tiers\.hot: is missing"):
        found.tier("hot")
    with pytest.raises(SettingsError, match="no backend 'nope'; known: only"):
        found.backend("nope")
    with pytest.raises(SettingsError, match="redis-cache: is missing"):
        found.redis_cache()


def test_what_nothing_uses_may_lack_its_variables() -> None:
    found = StorageSettings.load(SHIPPED, variables={})
    assert "azure-hot" not in found.backends
    with pytest.raises(SettingsError, match=r"azure-hot\.connection_string: the environment variable AZURE_STORAGE"):
        found.backend("azure-hot")


@pytest.mark.parametrize("environment", ["staging", "prod"])
def test_what_is_used_must_have_been_named_outside_of_dev(environment: str) -> None:
    buckets = {f"AKASHA_{tier}_BUCKET": f"acme-{tier.lower()}" for tier in ("HOT", "WARM", "COLD")}
    found = StorageSettings.load(SHIPPED, environment, variables=buckets)
    assert found.tier("warm").bucket == "acme-warm"
    with pytest.raises(SettingsError, match="REDIS_HOST is not set"):
        found.redis_cache()
    local = {f"AKASHA_{tier}_BACKEND": f"local-{tier.lower()}" for tier in ("HOT", "WARM", "COLD")}
    on_disk = StorageSettings.load(SHIPPED, variables={"AKASHA_ENV": environment, "REDIS_HOST": "r", **local})
    assert on_disk.redis_cache().host == "r"
    with pytest.raises(SettingsError, match=rf"akasha-storage\.{environment}\.yml:5: storage\.s3-hot\.bucket_name"):
        StorageSettings.load(SHIPPED, environment, variables={})


def test_an_overlay_changes_keys_of_an_entry(tmp_path: Path) -> None:
    written(tmp_path, "storage: {s3-warm: {bucket_name: other}}", "akasha-storage.mine.yml")
    found = StorageSettings.load(written(tmp_path, GUIDE), "mine", variables={})
    assert found.backend("s3-warm").bucket_name == "other"
    assert found.backend("s3-warm").storage_class == "STANDARD_IA"
    assert StorageSettings.load(tmp_path / "akasha-storage.yml", "other", variables={}).tier("warm").bucket


def test_which_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    here = tmp_path / "settings"
    here.mkdir()
    entry = "storage: {{{}: {{provider: local, bucket_name: abc}}}}"
    assert "s3-hot" in StorageSettings.load(variables={}).backends
    written(here, entry.format("here"))
    assert list(StorageSettings.load(variables={}).backends) == ["here"]
    other = written(tmp_path, entry.format("named"), "other.yml")
    assert list(StorageSettings.load(variables={"AKASHA_STORAGE_SETTINGS": str(other)}).backends) == ["named"]
    assert list(StorageSettings.load(other, variables={}).backends) == ["named"]
    with pytest.raises(SettingsError, match=r"^AKASHA_STORAGE_SETTINGS: nope: no such file$"):
        StorageSettings.load(variables={"AKASHA_STORAGE_SETTINGS": "nope"})


S3 = "provider: s3, bucket_name: abc"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (
            "storage:\n  s3-hot:\n    provider: s3\n    bucket_nam: x",
            "akasha-storage.yml:2: storage.s3-hot.bucket_name: is missing; allowed: text "
            "(also wrong: storage.s3-hot.bucket_nam)",
        ),
        (
            f"storage:\n  s3-hot:\n    {{{S3},\n     regoin: x}}",
            "akasha-storage.yml:4: storage.s3-hot.regoin: no such key; did you mean storage.s3-hot.region?",
        ),
        (
            "storage: {a: {provider: aws, x: 1}}",
            "akasha-storage.yml:1: storage.a.provider: found 'aws'; allowed: one of s3, gcs, azure, local, redis",
        ),
        (
            "storage: {a: {bucket_name: abc}}",
            "akasha-storage.yml:1: storage.a.provider: is missing; allowed: one of s3, gcs, azure, local, redis",
        ),
        (
            f"storage: {{a: {{{S3}, storage_class: COLD}}}}",
            "akasha-storage.yml:1: storage.a.storage_class: found 'COLD'; allowed: one of STANDARD, STANDARD_IA, "
            "ONEZONE_IA, INTELLIGENT_TIERING, GLACIER_IR, GLACIER, DEEP_ARCHIVE or null",
        ),
        (
            f"storage: {{a: {{{S3}, tier: lukewarm}}}}",
            "akasha-storage.yml:1: storage.a.tier: found 'lukewarm'; allowed: one of hot, warm, cold; "
            "did you mean warm?",
        ),
        (
            f"storage: {{a: {{{S3}, prefix: /x}}}}",
            "akasha-storage.yml:1: storage.a.prefix: found '/x'; allowed: text matching ^([A-Za-z0-9._=-]+/)*$",
        ),
        (
            "storage: {a: {provider: s3, bucket_name: A_B}}",
            "akasha-storage.yml:1: storage.a.bucket_name: 'A_B' can't be a bucket name: 3 to 63 of a-z, 0-9, dot and "
            "hyphen, a letter or digit at both ends, no two dots in a row, no IP address",
        ),
        (
            f"storage: {{a: {{{S3}, secret_access_key: {SECRET}}}}}",
            "akasha-storage.yml:1: storage.a: found only one of access_key_id and secret_access_key; "
            "allowed: both or neither",
        ),
        (
            "storage: {a: {provider: azure, bucket_name: abc}}",
            "akasha-storage.yml:1: storage.a: found both or neither of account_url and connection_string; "
            "allowed: one of them",
        ),
        (
            f"storage: {{a: {{{S3}}}, b: {{{S3}}}}}",
            "akasha-storage.yml:1: storage.tiers.hot: is missing; allowed: one of a, b",
        ),
        (
            f"storage:\n  tiers:\n    warm: a\n  a: {{{S3}}}",
            "akasha-storage.yml:3: storage.tiers.warm: found 'a', whose tier is hot; "
            "there is no backend with tier: warm",
        ),
        (
            f"storage:\n  tiers: {{hot: x}}\n  a: {{{S3}}}",
            "akasha-storage.yml:2: storage.tiers.hot: found 'x'; allowed: a",
        ),
        (
            f"storage:\n  tiers: {{hott: a}}\n  a: {{{S3}}}",
            "akasha-storage.yml:2: storage.tiers.hott: no such key; did you mean storage.tiers.hot?",
        ),
        (
            f"storage:\n  tiers: a\n  a: {{{S3}}}",
            "akasha-storage.yml:2: storage.tiers: found 'a'; allowed: a mapping with the keys hot, warm, cold",
        ),
        (
            f"storage:\n  tiers: {{hot: [a]}}\n  a: {{{S3}}}",
            "akasha-storage.yml:2: storage.tiers.hot: found a list; allowed: text or null",
        ),
        (
            f"storage:\n  default_backend: b\n  a: {{{S3}}}",
            "akasha-storage.yml:2: storage.default_backend: found 'b'; allowed: a",
        ),
        (
            f"storage:\n  default_backed: a\n  a: {{{S3}}}",
            "akasha-storage.yml:2: storage.default_backed: no such key; did you mean storage.default_backend?",
        ),
        (
            "storage: {warm: {provider: local, bucket_name: abc}}",
            "akasha-storage.yml:1: storage.warm: is no name for a backend; allowed: lower-case letters, digits and "
            "'-', and none of hot, warm, cold",
        ),
        (
            "storage: {cache: {provider: redis}}",
            "akasha-storage.yml:1: storage.cache: found provider 'redis'; allowed: redis for redis-cache, and for no "
            "other",
        ),
        (
            "storage: {redis-cache: {provider: redis, port: 0}}",
            "akasha-storage.yml:1: storage.redis-cache.port: found 0; allowed: a whole number ≥ 1, ≤ 65535",
        ),
        (
            "storage: 5",
            "akasha-storage.yml:1: storage: found 5; allowed: a mapping with the keys default_backend, tiers",
        ),
        ("", "akasha-storage.yml: storage: is missing; allowed: a mapping with the keys default_backend, tiers"),
        (
            "storag: {}",
            "akasha-storage.yml: storage: is missing; allowed: a mapping with the keys default_backend, tiers "
            "(also wrong: storag)",
        ),
        (
            f"storage:\n  a: {{{S3}}}\n  a: {{{S3}}}",
            "akasha-storage.yml:3: storage.a: is given twice (first in line 2)",
        ),
        (
            "storage:\n  a:\n    provider: s3\n    bucket_name: ${NOPE}",
            "akasha-storage.yml:4: storage.a.bucket_name: the environment variable NOPE is not set, and ${NOPE} has no "
            "default",
        ),
    ],
)
def test_one_line(tmp_path: Path, text: str, wanted: str) -> None:
    with pytest.raises(SettingsError) as caught:
        StorageSettings.load(written(tmp_path, text), variables={})
    assert str(caught.value).replace(f"{tmp_path}/", "") == wanted
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    text = f"""
storage:
  s3: {{{S3}, access_key_id: AKIA, secret_access_key: "${{KEY}}", session_token: "${{KEY}}"}}
  azure: {{provider: azure, bucket_name: abc, tier: warm, connection_string: "AccountKey=${{KEY}}"}}
  redis-cache: {{provider: redis, password: "${{KEY}}"}}
"""
    found = StorageSettings.load(written(tmp_path, text), variables={"KEY": SECRET})
    backend = found.backend("s3")
    assert isinstance(backend, S3Backend)
    assert backend.secret_access_key is not None
    assert backend.secret_access_key.get_secret_value() == SECRET
    assert SECRET not in repr(found) + str(found) + found.model_dump_json()


def test_settings_made_in_python_are_checked_too() -> None:
    local = LocalBackend(bucket_name="abc")
    assert StorageSettings(backends={"a": local}, tiers={"hot": "a"}).tier("hot").provider == "local"
    with pytest.raises(ValidationError, match=r"tiers.warm: found 'a', whose tier is hot"):
        StorageSettings(backends={"a": local}, tiers={"warm": "a"})
    with pytest.raises(ValidationError, match="default_backend: found 'b'"):
        StorageSettings(backends={"a": local}, default_backend="b")


def test_every_backend_has_an_adapter_that_takes_its_settings() -> None:
    found = StorageSettings.load(SHIPPED, variables=AZURE)
    assert {backend.provider for backend in found.backends.values()} == {"s3", "gcs", "azure", "local"}
    for backend in found.backends.values():
        adapter = create_adapter(backend)
        assert (adapter.provider, adapter.bucket_name, adapter.tier) == (
            backend.provider,
            backend.bucket_name,
            backend.tier,
        )
        assert backend.storage_class in (None, adapter.storage_class)


@pytest.mark.parametrize("name", storage.__all__)
def test_public_names(name: str) -> None:
    assert getattr(storage, name) is not None
    assert name in dir(storage)


def test_other_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Nope'"):
        storage.Nope  # noqa: B018


def test_importing_the_package_and_its_settings_is_cheap() -> None:
    code = (
        "import sys; import akasha_stream.storage as s; s.StorageSettings.load(variables={}); s.StorageTiers;"
        "heavy = {'oneiric', 'aioboto3', 'botocore', 'azure', 'gcloud', 'redis', 'duckdb', 'faust'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
