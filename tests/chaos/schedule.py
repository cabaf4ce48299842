"""Carries a plan out: faults while events are on their way, then everything is mended, then it is checked."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from akasha_stream.embedded import KafkaServer
from tests.chaos.check import check, until_caught_up
from tests.chaos.nursery import Nursery
from tests.chaos.plan import Fault, Plan, Step
from tests.chaos.servers import Servers, mend
from tests.chaos.stage import SESSION_S, Slot, Stage
from tests.chaos.violation import Violation
from tests.servers.fault_proxy import Fault as RequestFault
from tests.servers.fault_proxy import FaultProxy, no_faults, seeded
from tests.servers.kafka_cluster import move_leaders, restore_replicas
from tests.worker.test_disk_full import fill

AWAY_S = SESSION_S + 1.5
"""So long that the group has given its partitions to others."""
MOST_WORKERS = 4
QUIET = 60
"""Twentieths of a second without events, after which a step that was waited for will not come."""


class Schedule:
    """One plan on one stage. `done`: what it did, in words; `faults`: what happened, by kind."""

    def __init__(self, plan: Plan, stage: Stage) -> None:
        self.plan = plan
        self.stage = stage
        self.done: list[str] = []
        self.faults: Counter[str] = Counter()
        self._began = time.monotonic()
        self._publishing: list[asyncio.Task[None]] = []
        self._recoveries: list[asyncio.Task[None]] = []
        self._brokers: asyncio.Task[None] | None = None
        self._redis: asyncio.Task[None] | None = None
        self._store: asyncio.Task[None] | None = None

    async def run(self) -> list[Violation]:
        stage = self.stage
        await stage.create_topics()
        stage.mount_small_disks()
        for slot in stage.slots:
            await stage.start(slot)
        first = [slot.worker.ready() for slot in stage.slots if slot.worker is not None]
        if not all(await asyncio.gather(*first)):
            return [Violation("wrong", "a worker did not start, before any fault")]
        for number, step in enumerate(self.plan.steps):
            self._say(str(step))
            await self._do(step, number)
            await asyncio.sleep(step.pause_s)
        await self._mend()
        self._say("mended")
        found = await check(stage)
        self._say("checked")
        return found

    async def close(self) -> None:
        for task in [*self._recoveries, *self._publishing]:
            task.cancel()
        await asyncio.gather(*self._recoveries, *self._publishing, return_exceptions=True)
        self.stage.proxy.schedule = no_faults
        for server in [*self.stage.nodes, self.stage.valkey]:
            await asyncio.to_thread(mend, server)
        await self.stage.close()

    def _say(self, text: str) -> None:
        self.done.append(f"{time.monotonic() - self._began:6.1f} s  {text}")

    def _later(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._recoveries.append(task)
        return task

    async def _do(self, step: Step, number: int) -> None:
        stage = self.stage
        match step.fault:
            case None:
                self._publishing.append(asyncio.create_task(stage.publish(int(step.number), step.text)))
            case Fault.BROKER_KILL | Fault.BROKER_FREEZE | Fault.LEADER_MOVE:
                await _done(self._brokers)
                self.faults[step.fault] += 1
                self._brokers = self._later(self._broker_fault(step))
            case Fault.REDIS_KILL | Fault.REDIS_FREEZE | Fault.REDIS_FLUSH:
                await _done(self._redis)
                self.faults[step.fault] += 1
                self._redis = self._later(self._redis_fault(step.fault))
            case Fault.STORE:
                await _done(self._store)
                self._store = self._later(self._store_fault(step, number))
            case Fault.RECREATE:
                await self._settled()
                await until_caught_up(stage)
                await stage.recreate_topic()
                self.faults[step.fault] += 1
            case Fault.JOIN:
                if len(stage.slots) < MOST_WORKERS:
                    slot = Slot(len(stage.slots), stage.folder / f"disk-{len(stage.slots)}")
                    stage.slots.append(slot)
                    await stage.start(slot)
                    self.faults[step.fault] += 1
            case _:
                slot = stage.slots[step.worker]
                await _done(slot.recovery)
                slot.recovery = self._later(self._worker_fault(step, slot))
                await asyncio.sleep(0)  # so that it has begun

    async def _worker_fault(self, step: Step, slot: Slot) -> None:
        stage, worker, fault = self.stage, slot.worker, step.fault
        assert fault is not None
        if worker is None or not worker.running:
            self._say(f"{slot.name} is not running")
            await stage.start(slot)
            return
        if fault not in {Fault.KILL_AT_STEP, Fault.FREEZE_AT_STEP}:
            self.faults[fault] += 1
        match fault:
            case Fault.KILL:
                await worker.kill()
                await asyncio.sleep(step.pause_s)
            case Fault.NEW_DISK:
                await worker.kill()
                slot.left.append(slot.disk)
                slot.disk = stage.folder / f"disk-{slot.number}.{slot.starts}"
                slot.mounted = False
            case Fault.LEAVE:
                code = await worker.stop()
                if code != 0:
                    stage.notes.append(f"{slot.name} stopped with {code}")
            case Fault.FREEZE:
                worker.freeze()
                await asyncio.sleep(AWAY_S)
                worker.thaw()
            case Fault.KILL_AT_STEP | Fault.FREEZE_AT_STEP:
                await self._at_step(step, slot)
            case Fault.DISK_FULL:
                await self._disk_full(slot)
            case Fault.CLOCK:
                worker.clock(step.number)
                await asyncio.sleep(AWAY_S)
                worker.clock(0)
            case _:
                raise AssertionError(fault)
        if worker.ended.done():
            await stage.start(slot)

    async def _at_step(self, step: Step, slot: Slot) -> None:
        """Until it has come there, or nothing more is published that could bring it there."""
        worker = slot.worker
        assert worker is not None
        worker.arm("kill" if step.fault is Fault.KILL_AT_STEP else "freeze", step.text)
        quiet = 0
        while worker.running and not worker.fired and quiet < QUIET:
            quiet = 0 if any(not task.done() for task in self._publishing) else quiet + 1
            await asyncio.sleep(0.05)
        if not worker.fired:
            worker.disarm()
            return
        assert step.fault is not None
        self.faults[step.fault] += 1
        self._say(f"{slot.name} came to {step.text!r}")
        if step.fault is Fault.FREEZE_AT_STEP:
            await asyncio.sleep(AWAY_S)
            worker.thaw()
        else:
            await worker.ended

    async def _disk_full(self, slot: Slot) -> None:
        worker, ballast = slot.worker, slot.disk / "ballast"
        assert worker is not None
        if slot.mounted:
            await asyncio.to_thread(fill, ballast)
            await asyncio.sleep(2)
            ballast.unlink()
        else:
            worker.full(is_full=True)
            await asyncio.sleep(2)
            worker.full(is_full=False)

    async def _broker_fault(self, step: Step) -> None:
        nodes = self.stage.nodes
        node: KafkaServer = nodes[int(step.number) % len(nodes)]
        match step.fault:
            case Fault.BROKER_KILL:
                await asyncio.to_thread(node.kill)
                await asyncio.sleep(1)
                await asyncio.to_thread(node.restart)
            case Fault.BROKER_FREEZE:
                node.pause()
                await asyncio.sleep(AWAY_S)
                node.resume()
            case Fault.LEADER_MOVE:
                await move_leaders(self.stage.bootstrap_servers, self.stage.topic)
                await asyncio.sleep(1.5)
                await restore_replicas(self.stage.bootstrap_servers, self.stage.topic)
            case _:
                raise AssertionError(step)

    async def _redis_fault(self, fault: Fault) -> None:
        server = self.stage.valkey
        match fault:
            case Fault.REDIS_KILL:
                await asyncio.to_thread(server.kill)
                await asyncio.sleep(1)
                await asyncio.to_thread(server.restart)
            case Fault.REDIS_FREEZE:
                server.pause()
                await asyncio.sleep(2.5)
                server.resume()
            case Fault.REDIS_FLUSH:
                redis = Redis.from_url(server.url)
                with suppress(OSError):
                    await redis.flushall()
                await redis.aclose()
            case _:
                raise AssertionError(fault)

    async def _store_fault(self, step: Step, number: int) -> None:
        proxy = self.stage.proxy
        spoil = seeded(self.plan.seed * 1_000 + number, rate=step.number, faults=tuple(RequestFault))
        spoilt = 0

        def counted(method: str, path: str) -> RequestFault | None:
            nonlocal spoilt
            fault = spoil(method, path)
            spoilt += fault is not None
            return fault

        proxy.schedule = counted
        await asyncio.sleep(4)
        for _ in range(QUIET):  # nothing is spilled before a segment is full
            if spoilt:
                break
            await asyncio.sleep(0.1)
        proxy.schedule = no_faults
        if spoilt:
            self.faults[Fault.STORE] += 1
            self._say(f"{spoilt} requests to the store were spoilt")

    async def _settled(self) -> None:
        """All that was published is there or failed, and what was broken so far is whole."""
        await asyncio.gather(*self._publishing)
        while waiting := [task for task in self._recoveries if not task.done()]:
            await asyncio.gather(*waiting)

    async def _mend(self) -> None:
        """No more faults. A worker that ended by itself is started again, as whatever supervises it would."""
        await self._settled()
        for task in self._recoveries:
            task.result()
        await self.stage.end_producers()


async def _done(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        await task


async def run_schedule(
    plan: Plan, servers: Servers, nursery: Nursery, folder: Path
) -> tuple[Schedule, list[Violation]]:
    """Whatever goes wrong is a violation."""
    upstream = servers.seaweed().endpoint_url if plan.tiers else "http://127.0.0.1:9"
    async with WatchedProxy(upstream, slow_s=0.1, hang_s=1.0) as proxy:
        stage = Stage(plan, servers, nursery, proxy, folder)
        schedule = Schedule(plan, stage)
        try:
            found = await schedule.run()
            found += [Violation("wrong", f"{path} was overwritten") for path in proxy.overwritten]
        except Exception as error:
            found = [Violation("wrong", f"{type(error).__name__}: {error}")]
        else:
            for worker in stage.launched:
                if worker.crashed:
                    found.append(Violation("wrong", f"a worker crashed: {worker.ended.result()}"))
                    stage.notes.append(worker.crash())
        finally:
            await schedule.close()
    return schedule, found


class WatchedProxy(FaultProxy):
    """Knows which segments were put once more under a key that was taken."""

    def __init__(self, upstream: str, *, slow_s: float, hang_s: float) -> None:
        super().__init__(upstream, slow_s=slow_s, hang_s=hang_s)
        self._there: set[str] = set()
        self.overwritten: list[str] = []

    async def _forward(self, request: Any, body: Any, length: int) -> tuple[int, dict[str, str], bytes]:
        status, headers, answer = await super()._forward(request, body, length)
        path = request.path
        if path.endswith(".parquet") and 200 <= status < 300:
            if request.method == "PUT" and isinstance(body, bytes):
                if path in self._there:
                    self.overwritten.append(path)
                self._there.add(path)
            elif request.method == "DELETE":
                self._there.discard(path)
        return status, headers, answer
