"""Seeded fault schedules: spill, compaction, moves, restarts and lost disks, on an S3 server behind a bad network.

    python -m tests.tiers.schedules --schedules 200 --seed 1 --json

Each seed makes a log, and a sequence of actions while requests to the store fail, hang, are torn, lost or doubled. Then
the network is good again, and: a search is brute force over what the log says, the ranges tile it, and after the
clean-up the store holds nothing but the current segments. A failing seed says what it did.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from contextlib import nullcontext, suppress
from pathlib import Path

import numpy as np

from akasha_stream.embedded import SeaweedServer
from akasha_stream.errors import AkashaError
from akasha_stream.search.engine import SearchEngine
from akasha_stream.search.query import SearchRequest
from akasha_stream.settings import CompactionSettings, Settings, TierPolicy
from akasha_stream.tiers.compact import compact_logs
from akasha_stream.tiers.run_policy import run_policy
from tests.hot.log import Event, Log, Message, vector_of
from tests.hot.model import Model
from tests.servers.fault_proxy import Fault, FaultProxy, no_faults, seeded
from tests.tiers.rewriting import assert_clean
from tests.tiers.spoiled import spoiled
from tests.tiers.tiered import LOG, Tiered, positions, tiered_settings

ACTIONS = ("apply", "apply", "spill", "spill", "follow", "compact", "move", "restart", "new disk")


def random_log(chance: random.Random) -> Log:
    messages = []
    for at in range(chance.randint(40, 90)):
        if chance.random() < 0.03:
            messages.append(Message((), appended_s=at, forgets=chance.choice(["s0", "s1"])))
            continue
        events = tuple(
            Event(
                system=chance.choice(["s0", "s1", "s2"]),
                event_id=str(chance.randint(0, 30)),
                content=f"text {chance.randint(0, 60)}",
                vector=chance.randint(0, 90),
                created_s=at * 2,
                delete=chance.random() < 0.12,
            )
            for _ in range(chance.choice([0, 1, 1, 2, 3]))
        )
        messages.append(Message(events, appended_s=at, gap=chance.choice([0, 0, 0, 2])))
    return Log.of(messages)


def settings_of(folder: Path, chance: random.Random) -> Settings:
    settings = tiered_settings(folder, seal_rows=chance.choice([8, 12, 20]), keep_rows=chance.choice([0, 0, 25]))
    more = {
        "compaction": CompactionSettings(fan_in=2, grace_s=0, target_bytes=200_000),
        "tier_policy": TierPolicy(age_of="object", warm_after_s=0.001, keep_searches=0, grace_s=0),
    }
    return settings.model_copy(update=more)


def on_disk(settings: Settings, folder: Path) -> Settings:
    return settings.model_copy(update={"hot": settings.hot.model_copy(update={"data_dir": folder})})


class Schedule:
    """One seed. `done` is what it did, in words."""

    def __init__(self, seed: int, server: SeaweedServer, folder: Path) -> None:
        self.seed = seed
        self.chance = random.Random(seed)
        self.server = server
        self.folder = folder
        self.log = random_log(self.chance)
        self.done: list[str] = []
        self.faults: Counter[str] = Counter()

    async def run(self) -> None:
        """Raises AssertionError where something does not hold."""
        chance = self.chance
        async with (
            FaultProxy(self.server.endpoint_url, slow_s=0.02, hang_s=0.7) as proxy,
            spoiled(proxy, self.server) as tiers,
        ):
            await tiers.be_impatient(0.5)
            settings = settings_of(self.folder / "disk-0", chance)
            disks, applied = 1, 0
            worker = await Tiered(settings, tiers).__aenter__()
            try:
                for number in range(chance.randint(10, 18)):
                    rate = chance.choice([0.0, 0.15, 0.3])
                    proxy.schedule = seeded(self.seed * 1_000 + number, rate=rate, faults=tuple(Fault), longest_run=4)
                    action = chance.choice(ACTIONS)
                    if action == "apply":
                        applied = min(len(self.log), applied + chance.randint(3, 25))
                        self.log.apply(worker.shard, 0, applied)
                    elif action in {"restart", "new disk"}:
                        await worker.__aexit__(None, None, None)
                        if action == "new disk":
                            settings = on_disk(settings, self.folder / f"disk-{disks}")
                            disks += 1
                        worker = await Tiered(settings, tiers).__aenter__()
                        self.log.apply(worker.shard, 0, applied)
                    else:
                        await self._store(worker, settings, action)
                    self.done.append(f"{action} (faults {rate:g}) to {applied}")
                    if worker.taken:
                        await worker.reopen()
                        self.log.apply(worker.shard, 0, applied)
                proxy.schedule = no_faults
                await tiers.be_patient()
                self.log.apply(worker.shard)
                for action in ("spill", "compact", "move", "compact", "move", "follow"):
                    await self._store(worker, settings, action, strict=True)
                self.faults.update(str(each.fault) for each in proxy.seen if each.fault is not None)
                await self._check(worker, settings)
                await worker.__aexit__(None, None, None)
                worker = await Tiered(on_disk(settings, self.folder / "fresh"), tiers).__aenter__()
                self.log.apply(worker.shard)
                await self._check(worker, settings)
                # A put that was given up may arrive after its object was deleted: the next clean-up deletes that.
                await self._store(worker, settings, "compact", strict=True)
                await assert_clean(worker.tiering.segments, LOG)
            finally:
                await worker.__aexit__(None, None, None)

    async def _store(self, worker: Tiered, settings: Settings, action: str, *, strict: bool = False) -> None:
        segments = worker.tiering.segments
        with nullcontext() if strict else suppress(AkashaError, OSError):
            match action:
                case "spill":
                    await worker.spill()
                case "compact":
                    await compact_logs(segments, [LOG], dry_run=False, settings=settings)
                case "move":
                    await run_policy(
                        segments, [LOG], worker.tiering.access, settings.tier_policy, now=time.time() + 3_600
                    )
                case "follow":
                    await worker.tiering.follow()
                case _:
                    raise AssertionError(action)

    async def _check(self, worker: Tiered, settings: Settings) -> None:
        model = Model(settings.dedupe).run(self.log)
        wanted = {identity: position for identity, (position, *_) in model.expected().items()}
        assert positions(worker.shard) == wanted
        engine = SearchEngine(worker.store, settings)
        worker.tiering.bodies.timeout_s = 60.0  # a busy machine is no fault
        try:
            query = vector_of(7)
            request = SearchRequest(vector=query.tolist(), k=1_000, index="exact", fields=["content", "position"])
            answer = await engine.search(request)
        finally:
            engine.close()
        assert answer.incomplete == [], answer.incomplete
        found = [(hit.source_system, hit.event_id, hit.content) for hit in answer.hits]
        expected = {
            (system, event_id): (_cosine(query, event.vector), event.content)
            for (system, event_id), (event, _) in model.live.items()
        }
        assert {(system, event_id): content for system, event_id, content in found} == {
            identity: content for identity, (_, content) in expected.items()
        }
        for hit in answer.hits:
            assert abs(hit.similarity - expected[hit.source_system, hit.event_id][0]) < 1e-4
        similarities = [hit.similarity for hit in answer.hits]
        assert similarities == sorted(similarities, reverse=True)


def _cosine(query: np.ndarray[tuple[int], np.dtype[np.float32]], number: int) -> float:
    other = vector_of(number).astype(np.float64)
    return float(query.astype(np.float64) @ other / (np.linalg.norm(query) * np.linalg.norm(other)))


async def main(schedules: int, seed: int, as_json: bool) -> int:
    faults: Counter[str] = Counter()
    failed: dict[int, str] = {}
    started = time.monotonic()
    with SeaweedServer.start() as server:
        for number in range(seed, seed + schedules):
            with tempfile.TemporaryDirectory() as folder:
                schedule = Schedule(number, server, Path(folder))
                try:
                    await schedule.run()
                except Exception as error:  # the rest of the seeds is run all the same
                    place = traceback.extract_tb(error.__traceback__)[-1]
                    failed[number] = f"{type(error).__name__} in line {place.lineno} of {place.name}: {error}"
                    sys.stderr.write(f"seed {number}: {failed[number][:2000]}\n  " + "\n  ".join(schedule.done) + "\n")
                faults += schedule.faults
    report = {
        "schedules": schedules,
        "failed": sorted(failed),
        "faults_by_kind": dict(sorted(faults.items())),
        "seconds": round(time.monotonic() - started, 1),
    }
    sys.stdout.write(json.dumps(report, indent=None if as_json else 2) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schedules", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    sys.exit(asyncio.run(main(given.schedules, given.seed, given.json)))
