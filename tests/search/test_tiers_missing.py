"""What a search says of segments that it can't read: archived, unreachable, damaged, moved."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from akasha_stream.errors import ObjectArchived
from akasha_stream.search.query import EventRef, SearchRequest, SearchResponse
from akasha_stream.search.remote import estimated_cosine
from akasha_stream.storage import StorageSettings
from akasha_stream.storage.settings import S3Backend
from tests.search.test_tiers import QUERY, brute_force, engine_over, local_settings, tiered
from tests.servers.fault_proxy import Fault, FaultProxy, always
from tests.tiers.segments import Change

if TYPE_CHECKING:
    from akasha_stream.embedded import SeaweedServer
    from akasha_stream.search.engine import SearchEngine
    from tests.servers.moto import MotoServer

FAR = [Change(n, 0, "a", f"far-{n}", f"far {n}", seed=n, metadata='{"k":1}') for n in range(20)]
NEAR = [Change(n, 0, "b", f"near-{n}", f"near {n}", seed=n, metadata='{"k":1}') for n in range(20, 40)]


def s3(bucket: str, server: SeaweedServer | MotoServer, url: str, **more: str) -> S3Backend:
    keys = {"access_key_id": "akasha", "secret_access_key": "akasha-on-this-machine-only"}
    return S3Backend.model_validate(
        {"bucket_name": bucket, "create_bucket": True, "endpoint_url": url, "prefix": "akasha/", **keys, **more}
    )


async def ask(engine: SearchEngine, k: int = 10, **more: object) -> SearchResponse:
    return await engine.search(SearchRequest.model_validate({"vector": QUERY.tolist(), "k": k, **more}))


async def test_archived_rows_are_answered_from_their_codes_until_they_are_restored(
    moto: MotoServer, tmp_path: Path
) -> None:
    cold = s3("tiers-archived", moto, moto.endpoint_url, storage_class="GLACIER", tier="cold")
    warm = s3("tiers-archived-warm", moto, moto.endpoint_url, tier="warm")
    storage = StorageSettings(backends={"cold": cold, "warm": warm}, tiers={"cold": "cold", "warm": "warm"})
    async with tiered(storage, tmp_path / "cache") as store, engine_over(store) as engine:
        archived = await store.spill(FAR, 0, 20, "cold")
        await store.spill(NEAR, 20, 40, "warm")

        every = await ask(engine, 40)
        assert every.complete
        assert {hit.event_id for hit in every.hits} == {c.event_id for c in (*FAR, *NEAR)}
        unit = QUERY / np.linalg.norm(QUERY)
        estimates = estimated_cosine(archived.view().codes, np.packbits(unit > 0)[None])
        for hit in every.hits:
            if hit.source_system == "a":
                assert (hit.needs_restore, hit.content, hit.metadata) == (True, None, None)
                assert hit.similarity == pytest.approx(estimates[int(hit.event_id[4:])], abs=1e-6)
                assert hit.created_at is not None
                assert hit.position is not None
            else:
                assert (hit.needs_restore, hit.content) == (False, hit.event_id.replace("-", " "))
        assert [part.note for part in every.plan if part.tier == "cold"] == [
            "archived: similarities are estimated from the bit codes"
        ]

        # The third hit is so far before the next estimate that no archived row is likely to belong between them.
        assert (await ask(engine, 3)).complete
        close = await ask(engine, 15)
        assert [(i.reason, i.tier, i.path) for i in close.incomplete] == [
            ("needs_restore", "cold", archived.stored.path)
        ]
        filtered = await ask(engine, 40, filters={"metadata": {"k": 1}})
        assert {hit.source_system for hit in filtered.hits} == {"b"}
        assert [i.reason for i in filtered.incomplete] == ["needs_restore"]
        event = await engine.get("a", "far-3", embedding=True)
        assert (event.needs_restore, event.content, event.embedding) == (True, None, None)
        with pytest.raises(ObjectArchived):
            await engine.search(SearchRequest(like=EventRef(source_system="a", event_id="far-3")))

        place = await store.segments.place("cold")
        await place.adapter.restore(place.bucket, archived.stored.path, 1)
        whole = await ask(engine, 40)
        assert whole.complete
        assert not any(hit.needs_restore for hit in whole.hits)
        assert [(h.source_system, h.event_id, h.content) for h in whole.hits] == [
            each[:3] for each in brute_force([*FAR, *NEAR], 40)
        ]
        assert (await engine.get("a", "far-3")).content == "far 3"


@pytest.mark.parametrize("fault", [Fault.ERROR, Fault.DROPPED, Fault.HANG])
async def test_a_tier_that_does_not_answer_is_named_and_the_rest_answers(
    fault: Fault, seaweedfs: SeaweedServer, tmp_path: Path
) -> None:
    async with FaultProxy(seaweedfs.endpoint_url, hang_s=60) as proxy:
        backends = {
            "warm": s3(f"unreachable-{fault.replace('_', '-')}", seaweedfs, proxy.url, tier="warm"),
            "hot": local_settings(tmp_path / "objects").backends["hot"],
        }
        storage = StorageSettings(backends=backends, tiers={"warm": "warm", "hot": "hot"})
        async with tiered(storage, tmp_path / "cache", timeout_s=1.0) as store, engine_over(store) as engine:
            gone = await store.spill(FAR, 0, 20, "warm")
            await store.spill(NEAR, 20, 40, "hot")
            proxy.schedule = always(fault)
            response = await ask(engine, 40)
            assert {hit.event_id for hit in response.hits} == {c.event_id for c in NEAR}
            assert not response.complete
            assert [(i.reason, i.tier, i.path) for i in response.incomplete] == [
                ("tier_unreachable", "warm", gone.stored.path)
            ]
            proxy.schedule = lambda method, path: None
            async with tiered(storage, tmp_path / "cache-2", timeout_s=20.0) as other, engine_over(other) as again:
                other.spilled, other.codes = store.spilled, store.codes
                for segment in other.spilled:
                    segment.bodies = other.bodies
                assert (await ask(again, 40)).complete


async def test_a_damaged_object_is_named_and_the_rest_answers(tmp_path: Path) -> None:
    async with tiered(local_settings(tmp_path / "objects"), None) as store, engine_over(store) as engine:
        damaged = await store.spill(FAR, 0, 20, "warm")
        await store.spill(NEAR, 20, 40, "hot")
        opened = await store.segments.open(damaged.stored)
        chunk = next(each for each in opened.chunks if each.column == "embedding")
        path = tmp_path / "objects" / "warm" / damaged.stored.path
        data = bytearray(path.read_bytes())
        data[chunk.start + chunk.length // 2] ^= 1
        path.write_bytes(data)
        response = await ask(engine, 40)
        assert {hit.event_id for hit in response.hits} == {c.event_id for c in NEAR}
        assert [(i.reason, i.tier, i.path) for i in response.incomplete] == [
            ("segment_corrupt", "warm", damaged.stored.path)
        ]


async def test_an_object_that_was_moved_is_found_in_its_new_tier(tmp_path: Path) -> None:
    async with tiered(local_settings(tmp_path / "objects"), None) as store, engine_over(store) as engine:
        moved = await store.spill(FAR, 0, 20, "hot")
        assert (await ask(engine, 40)).complete
        new = tmp_path / "objects" / "warm" / moved.stored.path
        new.parent.mkdir(parents=True)
        shutil.move(tmp_path / "objects" / "hot" / moved.stored.path, new)
        response = await ask(engine, 40)
        assert response.complete
        assert len(response.hits) == 20
        assert moved.tier == "warm"


async def test_an_object_that_is_gone_makes_the_answer_incomplete(tmp_path: Path) -> None:
    async with tiered(local_settings(tmp_path / "objects"), None) as store, engine_over(store) as engine:
        gone = await store.spill(FAR, 0, 20, "hot")
        (tmp_path / "objects" / "hot" / gone.stored.path).unlink()
        response = await ask(engine, 40)
        assert response.hits == []
        assert [i.reason for i in response.incomplete] == ["tier_unreachable"]
