"""A schedule, drawn from its seed: who takes part, and what happens in which order. Nothing is done here."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum


class Fault(StrEnum):
    KILL = "worker_killed"
    """kill -9, and started again on its disk."""
    KILL_AT_STEP = "worker_killed_at_step"
    """It kills itself inside a named step (hot.durable.passed)."""
    NEW_DISK = "worker_lost_disk"
    """kill -9; the next one has an empty disk."""
    FREEZE = "worker_frozen"
    """SIGSTOP for longer than its session in the group, then SIGCONT."""
    FREEZE_AT_STEP = "worker_frozen_at_step"
    """The same, inside a named step: it goes on in the middle of it when others own its partitions."""
    LEAVE = "worker_stopped"
    """SIGTERM, and started again."""
    JOIN = "worker_joined"
    """One more, while the others commit: a rebalance."""
    BROKER_KILL = "broker_killed"
    BROKER_FREEZE = "broker_frozen"
    """SIGSTOP for longer than the controller waits, then SIGCONT."""
    LEADER_MOVE = "leader_moved"
    """Every partition's leadership goes to another broker, and its replica there later."""
    STORE = "store_fails"
    """A share of the requests to the object store is refused, torn, lost, doubled …"""
    REDIS_KILL = "redis_killed"
    """It comes back empty."""
    REDIS_FREEZE = "redis_frozen"
    REDIS_FLUSH = "redis_flushed"
    DISK_FULL = "disk_full"
    CLOCK = "clock_jumped"
    """A worker's wall clock."""
    RECREATE = "topic_recreated"
    """Deleted and made again under its name, once all of it was stored."""


@dataclass(frozen=True, slots=True)
class Step:
    """`fault`: None publishes. What `number` and `text` mean depends on it."""

    fault: Fault | None
    worker: int = 0
    number: float = 0
    text: str = ""
    pause_s: float = 0.0
    """Before the next step, which begins while this one's events are still on their way."""

    def __str__(self) -> str:
        words = [f"publish {self.number:g} {self.text}" if self.fault is None else str(self.fault)]
        if self.fault in _OF_A_WORKER:
            words.append(f"worker-{self.worker}")
        if self.fault is not None and self.text:
            words.append(repr(self.text))
        if self.fault is not None and self.number:
            words.append(f"{self.number:g}")
        return " ".join([*words, f"(then {self.pause_s:.2f} s)"])


@dataclass(frozen=True, slots=True)
class Plan:
    seed: int
    brokers: int
    """1 or 3"""
    workers: int
    partitions: int
    tiers: bool
    seal_rows: int
    indexes: bool
    """Whether finished segments get their HNSW index."""
    idempotent: bool
    steps: tuple[Step, ...]
    drawn_with: str = ""
    """The options beside the seed that it was drawn with, as the command has them."""

    def __str__(self) -> str:
        return (
            f"seed {self.seed}: brokers {self.brokers}, workers {self.workers}, partitions {self.partitions}, "
            f"{'tiers' if self.tiers else 'no tiers'}, segments of {self.seal_rows}"
            f"{' with indexes' if self.indexes else ''}, "
            f"producer {'with' if self.idempotent else 'without'} idempotence"
        )


_OF_A_WORKER = frozenset(
    {
        Fault.KILL,
        Fault.KILL_AT_STEP,
        Fault.NEW_DISK,
        Fault.FREEZE,
        Fault.FREEZE_AT_STEP,
        Fault.LEAVE,
        Fault.JOIN,
        Fault.DISK_FULL,
        Fault.CLOCK,
    }
)
COMMIT_STEPS = ("before commit", "committed")
"""Every worker with events comes to these; to the others only now and then."""
SEGMENT_STEPS = ("state written", "next segment created", "sealing", "arrow written", "file closed")
INDEX_STEPS = ("index built", "growing removed")
SPILL_STEPS = ("spill encoded", "state put", "segment put", "stub written", "left to the store", "sealed removed")
CLOCK_JUMPS_S = (-3 * 86_400, -3_600, 3_600, 3 * 86_400)


def plan_of(seed: int, brokers: int | None = None, fault: Fault | None = None) -> Plan:
    """The same arguments give the same plan. `brokers`: instead of those that the seed draws; `fault`: has this one."""
    chance = random.Random(seed)
    drawn = 3 if chance.random() < 0.25 else 1
    count = drawn if brokers is None else brokers
    workers = chance.choice([1, 2, 2, 3])
    tiers = chance.random() < 0.5
    indexes = chance.random() < 0.3
    if fault is Fault.LEADER_MOVE:
        count = 3
    elif fault is Fault.RECREATE:
        workers, tiers = 1, False
    elif fault is not None and fault not in _possible(count, workers, tiers=tiers):
        tiers = True
    kinds = _possible(count, workers, tiers=tiers)
    # Each kind about as often, whatever it needs: a plan begins with one that goes by its seed.
    faults = [fault or kinds[seed % len(kinds)], *(chance.choice(kinds) for _ in range(chance.choice([0, 1, 1, 2])))]
    chance.shuffle(faults)
    steps = [_publish(chance)]
    for each in faults:
        steps += [_step(each, chance, workers, tiers=tiers, indexes=indexes), _publish(chance)]
    return Plan(
        seed=seed,
        brokers=count,
        workers=workers,
        # As many as there are members, at least, so that each fault hits one that has something to do.
        partitions=max(chance.choice([2, 3, 4]), workers + faults.count(Fault.JOIN)),
        tiers=tiers,
        seal_rows=chance.choice([100, 150, 400]),
        indexes=indexes,
        idempotent=chance.random() < 0.5,
        steps=tuple(steps),
        drawn_with=(f" --brokers {brokers}" if brokers else "") + (f" --fault {fault}" if fault else ""),
    )


def _possible(brokers: int, workers: int, *, tiers: bool) -> list[Fault]:
    kinds: list[Fault] = [each for each in Fault if each not in {Fault.LEADER_MOVE, Fault.STORE, Fault.RECREATE}]
    if brokers > 1:
        kinds.append(Fault.LEADER_MOVE)
    if tiers:
        kinds.append(Fault.STORE)
    # Rows of a log that is gone are where they were stored, and nowhere else: they can't change hands.
    if workers == 1 and not tiers:
        kinds = [each for each in kinds if each not in {Fault.NEW_DISK, Fault.JOIN}]
        kinds.append(Fault.RECREATE)
    return kinds


def _publish(chance: random.Random) -> Step:
    """Some events, and now and then something else among them."""
    text = chance.choice(["mixed", "mixed", "mixed", "mixed and malformed", "mixed, then a system is forgotten"])
    return Step(None, number=chance.choice([40, 120, 250]), text=text, pause_s=chance.choice([0, 0, 0.2, 0.7]))


def _step(fault: Fault, chance: random.Random, workers: int, *, tiers: bool, indexes: bool) -> Step:
    number, text = 0.0, ""
    match fault:
        case Fault.KILL_AT_STEP | Fault.FREEZE_AT_STEP:
            rarer = SEGMENT_STEPS + (INDEX_STEPS if indexes else ()) + (SPILL_STEPS if tiers else ())
            text = chance.choice(COMMIT_STEPS if chance.random() < 0.5 else rarer)
        case Fault.STORE:
            number = chance.choice([0.15, 0.3, 0.6, 1.0])
        case Fault.CLOCK:
            number = chance.choice(CLOCK_JUMPS_S)
        case Fault.BROKER_KILL | Fault.BROKER_FREEZE:
            number = chance.randrange(3)
        case _:
            pass
    return Step(fault, chance.randrange(workers), number, text, chance.choice([0, 0.1, 0.5, 1.5]))
