"""The simulated systems: the same for the same seed, and what they say must be stored is what their events say."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from akasha_stream.events.model import Event
from benchmarks.data import Corpus, load
from benchmarks.simulator import LATE_S, Load, Simulation

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return load(seed=3)


def events(corpus: Corpus, given: Load) -> tuple[list[Event], Simulation]:
    simulation = Simulation(given, corpus, BEGAN)
    return list(simulation), simulation


def test_the_same_seed_gives_the_same_events(corpus: Corpus) -> None:
    given = Load(systems=50, events=300, seed=5)
    assert events(corpus, given)[0] == events(corpus, given)[0]
    assert events(corpus, given)[0] != events(corpus, Load(systems=50, events=300, seed=6))[0]


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 1_000),
    systems=st.integers(1, 40),
    shares=st.tuples(st.floats(0, 0.4), st.floats(0, 0.3), st.floats(0, 0.3)),
)
def test_live_is_what_the_last_event_of_each_identity_says(
    corpus: Corpus, seed: int, systems: int, shares: tuple[float, float, float]
) -> None:
    duplicates, updates, deletes = shares
    load_ = Load(systems, 400, seed=seed, duplicates=duplicates, updates=updates, deletes=deletes)
    sent, simulation = events(corpus, load_)
    last = {(event.source_system, event.event_id): event.op for event in sent}
    assert simulation.live == {identity for identity, op in last.items() if op == "upsert"}
    assert {event.source_system for event in sent} == simulation.seen
    contents = Counter((e.source_system, e.event_id, e.content) for e in sent if e.op == "upsert")
    assert len({content for _, _, content in contents}) == len(contents)  # content dedupe has nothing to do


def test_it_has_everything_that_systems_do(corpus: Corpus) -> None:
    sent, _ = events(corpus, Load(systems=1_000, events=20_000, seed=1))
    assert len(sent) == 20_000
    by_system = Counter(event.source_system for event in sent).most_common()
    assert by_system[0][1] > 50 * by_system[len(by_system) // 2][1]  # few loud ones
    runs = max(len(run) for run in _runs([event.source_system for event in sent]))
    assert runs >= 30  # bursts
    due = [BEGAN + timedelta(seconds=3_600 * number / len(sent)) for number in range(len(sent))]
    ages = [(at - event.created_at).total_seconds() for at, event in zip(due, sent, strict=True)]
    assert 0.01 < sum(age > 60 for age in ages) / len(ages) < 0.1
    assert max(ages) <= LATE_S + 3_600
    assert 0.01 < sum(event.op == "delete" for event in sent) / len(sent) < 0.04
    assert len({id(event) for event in sent}) < len(sent)  # repeated


def _runs(names: list[str]) -> list[list[str]]:
    found: list[list[str]] = []
    for name in names:
        if found and found[-1][0] == name:
            found[-1].append(name)
        else:
            found.append([name])
    return found


def test_what_is_sent_again_is_what_lives(corpus: Corpus) -> None:
    sent, simulation = events(corpus, Load(systems=50, events=2_000, seed=5, updates=0.2, deletes=0.2))
    live = set(simulation.live)
    newest = {(event.source_system, event.event_id): event for event in sent}
    again = list(simulation.again(3_000))
    assert len(again) == 3_000
    assert {(event.source_system, event.event_id) for event in again} == live == simulation.live
    assert all(event is newest[event.source_system, event.event_id] for event in again)
