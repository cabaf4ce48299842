"""Real workers that ask for keys, of each other too: no secret in their logs, and a stop that is announced."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from akasha_stream.auth.caller import Scope
from akasha_stream.auth.keys import KeysFile, NewKey
from akasha_stream.client import AkashaClient
from akasha_stream.embedded import Broker
from akasha_stream.errors import EventNotFound, NotAuthenticated
from akasha_stream.operations.workers import find_workers
from akasha_stream.settings import AuthSettings
from tests.publish.events import make_events
from tests.worker.process import WorkerProcess
from tests.worker.stage import Stage

SECRET = "f3" * 24


async def until_stopped(worker: WorkerProcess) -> list[int]:
    """SIGTERM; what its readiness says until nobody answers."""
    stopping = asyncio.create_task(worker.stop())
    seen: list[int] = []
    async with httpx.AsyncClient(base_url=worker.url) as http:
        while not stopping.done():
            try:
                seen.append((await http.get("/health/ready")).status_code)
            except httpx.TransportError:
                break
            await asyncio.sleep(0.05)
    await stopping
    return seen


async def test_workers_that_ask_for_keys(tansu: Broker, tmp_path: Path) -> None:
    keys = KeysFile(tmp_path / "keys.yml")

    def key(name: str, scopes: Sequence[Scope], systems: Sequence[str]) -> str:
        made = NewKey.make(name, scopes, systems)
        keys.add(made)
        return made.secret

    events = make_events(80)
    systems = sorted({event.source_system for event in events})
    admin, bound = key("admin", [Scope.ADMIN], ["*"]), key("bound", [Scope.READ], systems[:1])
    stage = await Stage.make(
        tansu,
        tmp_path,
        partitions=4,
        auth__keys_file=str(keys.path),
        auth__node_secret=SECRET,
        auth__audit_file=str(tmp_path / "audit.jsonl"),
        logging__level="debug",
        http__drain_s=1.0,
    )
    two_data = {"hot__data_dir": str(tmp_path / "two"), "auth__audit_file": None}
    async with stage.worker("one") as one, stage.worker("two", **two_data) as two:
        await stage.publish(events)
        async with asyncio.timeout(90):
            while True:
                async with AkashaClient(one.url, key=admin) as client:
                    found = await client.search(vector=[1.0] * 384, k=200, threshold=-1.0, after=stage.token)
                if found.complete and len(found.hits) == 80:
                    break
                await asyncio.sleep(0.2)
        # Each answers for both, and for both only what the key sees.
        own = [event for event in events if event.source_system == systems[0]]
        for worker in (one, two):
            async with AkashaClient(worker.url, key=bound) as client:
                hits = (await client.search(vector=[1.0] * 384, k=200, threshold=-1.0)).hits
                assert {hit.event_id for hit in hits} == {event.event_id for event in own}
                foreign = next(event for event in events if event.source_system == systems[1])
                with pytest.raises(EventNotFound):
                    await client.get(foreign.source_system, foreign.event_id)
            async with AkashaClient(worker.url) as client:
                with pytest.raises(NotAuthenticated):
                    await client.stats()
        headers = {"authorization": f"Bearer {admin}"}
        async with httpx.AsyncClient(base_url=one.url, headers=headers) as http:
            overview = (await http.get("/v1/overview")).raise_for_status().json()
            assert [each["error"] for each in overview["workers"]] == [None, None]
            assert (await http.get("/metrics")).status_code == 200
            asked = {"partition": 99, "start": 0, "dry_run": True}
            assert (await http.post("/v1/replays", json=asked)).status_code == 409
        # Commands show the key of the settings.
        for shown, errors in ((admin, [None]), (bound, ["refuses"]), (None, ["refuses"])):
            auth = AuthSettings(key=None if shown is None else SecretStr(shown))
            workers = (await find_workers(stage.settings.model_copy(update={"auth": auth}), [one.url])).workers
            assert [each.error and each.error.split(":")[0] for each in workers] == errors
            assert [each.refused for each in workers] == [error is not None for error in errors]
        seen = await until_stopped(one)
        assert 503 in seen, seen
        assert seen.index(503) < len(seen) - 1, seen  # it was answered for a while
        logs = one.logged() + two.logged() + (tmp_path / "audit.jsonl").read_text()
    line = json.loads((tmp_path / "audit.jsonl").read_text().splitlines()[0])
    assert (line["who"], line["what"], line["result"]) == ("admin", "POST /v1/replays", "ShardMoved")
    assert line["about"] == asked
    assert "audit" in one.logged()
    for secret in (SECRET, admin.rpartition("_")[2], bound.rpartition("_")[2]):
        assert secret not in logs
