from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from akasha_stream.storage import LifecycleRule, StorageSettings, StorageTiers
from akasha_stream.storage.settings import GCSBackend
from akasha_stream.tiers.bucket_rules import ABORT_AFTER_DAYS, apply_rules
from akasha_stream.tiers.segment_store import SegmentStore
from tests.behaviours.storage_fixtures import unique_bucket
from tests.tiers.places import on_folders, on_moto

if TYPE_CHECKING:
    from tests.servers.gcs import GcpStorageEmulator


def on_gcp_emulator(server: GcpStorageEmulator) -> StorageSettings:
    """fake-gcs-server keeps no rules."""
    backend = GCSBackend(
        bucket_name=unique_bucket(),
        endpoint_url=server.endpoint_url,
        project="tests",
        prefix="akasha/",
        create_bucket=True,
    )
    return StorageSettings(backends={"a": backend}, tiers={"hot": "a"})


@pytest.mark.parametrize("kind", ["moto", "moto, one bucket", "gcp_emulator"])
async def test_applied_twice_it_changes_nothing(kind: str, request: pytest.FixtureRequest) -> None:
    server = request.getfixturevalue(kind.partition(",")[0])
    settings = on_gcp_emulator(server) if kind == "gcp_emulator" else on_moto(server, shared="," in kind)
    rule = LifecycleRule("akasha/", ABORT_AFTER_DAYS, abort_uploads=True)
    left = LifecycleRule("akasha/", 30, expire=True)
    async with StorageTiers(settings) as tiers:
        store = SegmentStore(tiers)
        hot = await store.place("hot")
        await hot.adapter.apply_lifecycle(hot.bucket, [left])
        for dry_run in (True, False):
            found = await apply_rules(store, dry_run=dry_run)
            assert len(found) == (3 if kind == "moto" else 1)
            assert (found[0].added, found[0].removed, found[0].kept) == ([rule], [left], [])
            assert all(each.added == [rule] for each in found)
        again = await apply_rules(store)
        assert [(each.differs, each.kept) for each in again] == [(False, [rule])] * len(found)
        assert list(await hot.adapter.lifecycle(hot.bucket)) == [rule]


async def test_where_a_bucket_takes_no_rules_it_says_what_to_do(tmp_path: Path) -> None:
    async with StorageTiers(on_folders(tmp_path)) as tiers:
        found = await apply_rules(SegmentStore(tiers))
    assert all("tier policy" in each.unsupported and not each.differs for each in found)
