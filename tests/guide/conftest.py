"""Where the guide's tests and examples run: the checkout's folder, S3 and Redis on real servers."""

from __future__ import annotations

from pathlib import Path

import pytest

from akasha_stream.embedded import SeaweedServer, ValkeyServer


@pytest.fixture(autouse=True)
def servers(seaweedfs: SeaweedServer, valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The guide's code names no server: it is all in the variables that the files in settings/ read."""
    monkeypatch.chdir(Path(__file__).parents[2])
    for name, value in {
        "AWS_ENDPOINT_URL": seaweedfs.endpoint_url,
        "AWS_ACCESS_KEY_ID": seaweedfs.access_key_id,
        "AWS_SECRET_ACCESS_KEY": seaweedfs.secret_access_key,
        "AKASHA_CREATE_BUCKETS": "true",
        "REDIS_HOST": "127.0.0.1",
        "REDIS_PORT": str(valkey.port),
        "AKASHA_DATA_DIR": str(tmp_path),
    }.items():
        monkeypatch.setenv(name, value)
