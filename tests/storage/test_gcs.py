"""The behaviours, on two emulators of GCS. What neither has is checked by the requests that are sent."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest
from pydantic import SecretStr

from akasha_stream.errors import SettingsError
from akasha_stream.storage.gcs_adapter import GCSStorageAdapter
from akasha_stream.storage.parts import PART_BYTES
from tests.behaviours.storage import StorageBehaviour
from tests.behaviours.storage_fixtures import Connect, sample, unique_bucket
from tests.behaviours.storage_lifecycle import LifecycleBehaviour
from tests.behaviours.storage_network import NetworkBehaviour
from tests.servers.fault_proxy import FaultProxy, Seen

if TYPE_CHECKING:
    from akasha_stream.storage.guarded import GuardedAdapter
    from tests.servers.gcs import FakeGcsServer, GcpStorageEmulator

RESUMABLE = "fake-gcs-server takes no notice of ifGenerationMatch on resumable uploads; see test_the_requests_that…"


def connect_to(endpoint_url: str) -> Connect:
    def connect(bucket: str, **options: Any) -> GuardedAdapter[Any]:
        return GCSStorageAdapter(bucket, **{"endpoint_url": endpoint_url, "project": "tests", **options})

    return connect


class TestFakeGcsServer(StorageBehaviour, NetworkBehaviour):
    schedule_has_large = False  # see the last of these
    lacks: ClassVar[dict[str, str]] = {
        "test_put_if_absent_of_a_large_object": RESUMABLE,
        "test_of_several_large_ones_at_once_one_creates": RESUMABLE,
        "test_a_large_upload_survives_faults_in_each_of_its_requests": (
            "fake-gcs-server appends a part that comes twice; runs on gcp-storage-emulator"
        ),
    }

    @pytest.fixture
    def endpoint_url(self, fake_gcs: FakeGcsServer) -> str:
        return fake_gcs.endpoint_url

    @pytest.fixture
    def connect(self, fake_gcs: FakeGcsServer) -> Connect:
        return connect_to(fake_gcs.endpoint_url)

    async def test_the_requests_that_no_emulator_answers_as_gcs_does(
        self, far: GuardedAdapter[Any], bucket: str, proxy: FaultProxy
    ) -> None:
        """A conditional resumable upload, and a change of class."""
        await far.put_if_absent(bucket, "a/object", sample(PART_BYTES + 1))
        start, *chunks = proxy.seen
        assert (start.method, urlsplit(start.path).path) == ("POST", f"/upload/storage/v1/b/{bucket}/o")
        assert query(start) == {"uploadType": "resumable", "name": "a/object", "ifGenerationMatch": "0"}
        body = json.loads(start.body)
        assert body["storageClass"] == "STANDARD"
        assert set(body["metadata"]) == {"akasha-write-id"}
        assert [each.headers["Content-Range"] for each in chunks] == [
            f"bytes 0-{PART_BYTES - 1}/*",
            f"bytes {PART_BYTES}-{PART_BYTES}/{PART_BYTES + 1}",
        ]
        before = await far.stat(bucket, "a/object")
        assert before is not None
        proxy.seen.clear()
        await far.set_storage_class(bucket, "a/object", "NEARLINE")
        rewrite = proxy.seen[-1]
        assert urlsplit(rewrite.path).path == f"/storage/v1/b/{bucket}/o/a%2Fobject/rewriteTo/b/{bucket}/o/a%2Fobject"
        assert query(rewrite) == {"ifSourceGenerationMatch": before.etag}
        # The metadata go along, else a rewrite with a body would drop them.
        assert json.loads(rewrite.body) == {"storageClass": "NEARLINE", "metadata": body["metadata"]}

    async def test_a_new_object_has_the_class_of_the_tier(self, open_store: Connect, bucket: str) -> None:
        store = open_store(bucket, tier="warm")
        await store.upload(bucket, "object", b"x")
        info = await store.stat(bucket, "object")
        assert info is not None
        assert info.storage_class == "NEARLINE"


class TestGcpStorageEmulator(StorageBehaviour, NetworkBehaviour, LifecycleBehaviour):
    pages = 1  # it takes no notice of maxResults
    lacks: ClassVar[dict[str, str]] = dict.fromkeys(
        (
            "test_put_if_absent",
            "test_put_if_absent_of_a_large_object",
            "test_of_several_at_once_one_creates",
            "test_of_several_large_ones_at_once_one_creates",
            "test_an_object_replaced_while_it_is_read_is_an_error",
            "test_one_create_is_told_once",
            "test_under_a_seeded_schedule",
            "test_what_a_retry_can_not_help_is_asked_once",
        ),
        "gcp-storage-emulator takes no notice of preconditions; runs on fake-gcs-server",
    ) | {
        "test_odd_paths_come_back_as_they_were": "gcp-storage-emulator cuts a path at `;`; runs on fake-gcs-server",
        "test_a_request_cut_off_leaves_no_half_object": (
            "gcp-storage-emulator stores what came of a body; runs on fake-gcs-server"
        ),
    }

    @pytest.fixture
    def endpoint_url(self, gcp_emulator: GcpStorageEmulator) -> str:
        return gcp_emulator.endpoint_url

    @pytest.fixture
    def connect(self, gcp_emulator: GcpStorageEmulator) -> Connect:
        return connect_to(gcp_emulator.endpoint_url)


def query(request: Seen) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(request.path).query).items()}


async def test_a_key_that_can_not_be_read_is_not_shown() -> None:
    adapter = GCSStorageAdapter("bucket", service_account=SecretStr('{"private_key": "top-secret"'))
    with pytest.raises(SettingsError, match="service account can't be read") as caught:
        await adapter.init()
    assert "top-secret" not in f"{caught.value} {caught.value.__cause__} {vars(adapter)}"


async def test_a_new_bucket_needs_a_project(fake_gcs: FakeGcsServer) -> None:
    name = unique_bucket()
    adapter = GCSStorageAdapter(name, endpoint_url=fake_gcs.endpoint_url)
    with pytest.raises(SettingsError, match="project"):
        await adapter.ensure_bucket(name)
    await adapter.cleanup()
