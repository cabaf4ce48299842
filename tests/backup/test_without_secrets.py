"""Settings files that may leave the machine."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from akasha_stream.backup.without_secrets import without_secrets
from akasha_stream.configuration.places import shipped

FILE = """\
redis:
  url: redis://:hunter2secret@redis:6379/0   # was hunter2secret before, too
  prefix: akasha
storage:
  tiers: {hot: s3-hot}
  s3-hot:
    provider: s3
    bucket_name: akasha
    access_key_id: AKIAEXAMPLE
    secret_access_key: ${S3_SECRET}
  gcs-hot:
    service_account: |
      {"private_key": "abcdef",
       "type": "service_account"}
    prefix: a/
embedder:
  url: https://host/v1?api_key=qwertz
  api_key: ${KEY:literal-default}
broker:
  bootstrap_servers: kafka:9092
"""


def test_secrets_become_references() -> None:
    cleaned = without_secrets(FILE)
    assert cleaned.left_out == (
        "redis.url",
        "storage.s3-hot.access_key_id",
        "storage.gcs-hot.service_account",
        "embedder.url",
        "embedder.api_key",
    )
    for secret in ("hunter2", "AKIA", "abcdef", "qwertz", "literal-default"):
        assert secret not in cleaned.text
    was, is_ = yaml.safe_load(FILE), yaml.safe_load(cleaned.text)
    assert is_["redis"] == {"url": "${AKASHA_REDIS_URL}", "prefix": "akasha"}
    hot = was["storage"]["s3-hot"]
    assert is_["storage"]["s3-hot"] == {**hot, "access_key_id": "${AKASHA_S3_HOT_ACCESS_KEY_ID}"}
    assert is_["storage"]["gcs-hot"] == {"service_account": "${AKASHA_GCS_HOT_SERVICE_ACCOUNT}", "prefix": "a/"}
    assert is_["broker"] == was["broker"]
    assert without_secrets(cleaned.text).text == cleaned.text


@pytest.mark.parametrize("path", sorted(shipped("settings").glob("*.yml")), ids=lambda path: path.name)
def test_the_shipped_files_stay_as_they_are(path: Path) -> None:
    text = path.read_text()
    assert without_secrets(text) == without_secrets(without_secrets(text).text)
    assert without_secrets(text).text == text
