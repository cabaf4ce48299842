"""A schedule for each kind of fault; and the harness finds the product broken that was broken on purpose."""

from __future__ import annotations

import itertools
import re
from collections import Counter

import pytest

from tests.chaos.__main__ import Report, parser, run
from tests.chaos.broken import BROKEN
from tests.chaos.history import Maker, as_upsert
from tests.chaos.plan import COMMIT_STEPS, Fault, plan_of
from tests.chaos.violation import Violation

SEEDS = range(1, 200)


def test_a_seed_always_gives_the_same_plan_and_the_same_events() -> None:
    assert [plan_of(seed) for seed in SEEDS] == [plan_of(seed) for seed in SEEDS]
    assert len({str(plan_of(seed).steps) for seed in SEEDS}) == len(SEEDS)
    first, second = Maker(3).mixed(50), Maker(3).mixed(50)
    assert [as_upsert(event) for event in first] == [as_upsert(event) for event in second]


def test_every_kind_is_drawn_and_the_one_that_is_asked_for_is_there() -> None:
    drawn = {step.fault for seed in SEEDS for step in plan_of(seed).steps}
    assert drawn == {None, *Fault}
    for fault in Fault:
        assert all(fault in {step.fault for step in plan_of(seed, fault=fault).steps} for seed in SEEDS)


def test_a_topic_is_recreated_only_where_its_rows_change_no_hands() -> None:
    for seed in SEEDS:
        plan = plan_of(seed, fault=Fault.RECREATE)
        assert plan.workers == 1
        assert not {Fault.JOIN, Fault.NEW_DISK} & {step.fault for step in plan.steps}


# ── with real servers ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.kafka
@pytest.mark.valkey
@pytest.mark.slow
@pytest.mark.timeout(1_800)
async def test_nothing_is_lost_doubled_or_wrong_after_any_kind_of_fault() -> None:
    """A schedule for each kind at least; docs/testing.md says how to run more of them."""
    report = await run(plan_of(seed_for(fault), fault=fault) for fault in Fault)
    assert report.found == []
    assert report.faults.keys() == set(Fault)
    assert report.events > 1_000


@pytest.mark.kafka
@pytest.mark.valkey
@pytest.mark.slow
@pytest.mark.timeout(1_800)
async def test_workers_that_hand_over_to_each_other_lose_double_and_falsify_nothing() -> None:
    """Eight short ones of several workers, whatever their faults are."""
    plans = (plan_of(seed) for seed in itertools.count(1_000))
    short = (plan for plan in plans if plan.workers > 1 and plan.brokers == 1 and plan.tiers and len(plan.steps) <= 5)
    report = await run(itertools.islice(short, 8))
    assert report.found == []
    assert report.events > 1_000


def seed_for(fault: Fault) -> int:
    """Of a short one that surely comes about: at a step of every batch, with segments to spill."""
    brokers = 3 if fault in {Fault.LEADER_MOVE, Fault.BROKER_FREEZE} else 1
    first = 20 * list(Fault).index(fault)  # so that they differ in all else too
    for seed in range(first, first + 200):
        plan = plan_of(seed, fault=fault)
        texts = {step.text for step in plan.steps if step.fault is fault}
        match fault:
            case Fault.KILL_AT_STEP | Fault.FREEZE_AT_STEP:
                sure = texts <= set(COMMIT_STEPS)
            case Fault.STORE:
                events = sum(step.number for step in plan.steps if step.fault is None)
                sure = events > 100 * plan.partitions and plan.seal_rows == 100
                sure = sure and all(step.number == 1 for step in plan.steps if step.fault is fault)
            case _:
                sure = True
        if sure and plan.brokers == brokers and len(plan.steps) <= 5:
            return seed
    raise AssertionError(fault)


FOUND_BY = {
    "ack_before_commit": (Fault.KILL, "missing|digests other than the model's"),
    "no_fencing": (Fault.JOIN, "how many workers own them"),
    "offset_outside_the_transaction": (Fault.KILL_AT_STEP, "missing"),
    "put_without_condition": (Fault.STORE, "was overwritten"),
    "stale_cache": (Fault.REDIS_FLUSH, "the lookups do not agree"),
}
"""Which fault shows it, and as what: anything else that is found would say nothing of it."""


@pytest.mark.kafka
@pytest.mark.valkey
@pytest.mark.slow
@pytest.mark.timeout(1_800)
@pytest.mark.long
@pytest.mark.parametrize("broken", FOUND_BY)
async def test_what_is_broken_on_purpose_is_found(broken: str) -> None:
    fault, shown = FOUND_BY[broken]
    plans = [plan_of(seed, brokers=1, fault=fault) for seed in range(1, 60)]
    if broken == "offset_outside_the_transaction":  # between the two it has
        plans = [plan for plan in plans if any(step.text == "before commit" for step in plan.steps)]
    report = await run(plans[:8], broken=broken, until_found=True)
    assert any(re.search(shown, each.text) for each in report.found), report.found


def test_a_seed_that_fails_can_be_run_again_as_it_was() -> None:
    for options in ((None, None), (3, None), (None, Fault.STORE), (1, Fault.LEAVE)):
        plan = plan_of(7, *options)
        given = parser().parse_args(["--seed", "7", *plan.drawn_with.split()])
        assert plan_of(given.seed, given.brokers, given.fault) == plan


def test_the_report_has_these_fields() -> None:
    report = Report(
        schedules=2, failed=[3], faults=Counter(b=1, a=2), found=[Violation("lost", "x", 5), Violation("wrong", "y")]
    )
    assert report.as_json() == {
        "schedules": 2,
        "failed_seeds": [3],
        "faults_by_kind": {"a": 2, "b": 1},
        "events": 0,
        "lost": 5,
        "duplicated": 0,
        "wrong": 1,
        "seconds": 0.0,
    }


def test_each_way_of_breaking_it_is_looked_for() -> None:
    assert FOUND_BY.keys() == BROKEN.keys()
