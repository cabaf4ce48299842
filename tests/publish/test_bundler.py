"""The bundler against what it promises, over any sequence of events and clocks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from akasha_stream.publish.bundler import Bundler, OpenBundle

type Item = tuple[int, int]

steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from("abcd"), st.integers(1, 120)),
        st.tuples(st.just("tick"), st.sampled_from([0.0, 0.4, 1.0, 3.0]), st.just(0)),
        st.tuples(st.just("hold"), st.sampled_from("abcd"), st.just(0)),
        st.tuples(st.just("close"), st.sampled_from("abcd"), st.just(0)),
    ),
    max_size=200,
)


@given(steps, st.integers(1, 7), st.integers(50, 300), st.sampled_from([0.0, 0.5, 2.0]))
def test_every_event_leaves_once_in_order_and_within_the_limits(
    steps: list[tuple[str, str | float, int]], max_events: int, max_bytes: int, linger_s: float
) -> None:
    bundler: Bundler[Item] = Bundler(max_events, max_bytes, linger_s)
    given: dict[str, list[Item]] = {}
    opened: dict[Item, float] = {}
    closed: list[OpenBundle[Item]] = []
    now = 0.0
    held: set[str] = set()
    for number, (kind, what, size) in enumerate(steps):
        if kind == "add":
            item = (number, size)
            given.setdefault(str(what), []).append(item)
            opened[item] = now
            closed += bundler.add(str(what), item, size, now)
        elif kind == "tick":
            now += float(what)
            closed += bundler.expired(now, held.__contains__)
            deadline = bundler.next_deadline
            assert deadline is None or deadline >= now
            if not held:
                waiting = [item for items in given.values() for item in items]
                gone = {item for bundle in closed for item in bundle.items}
                assert all(now - opened[item] <= linger_s for item in waiting if item not in gone)
        elif kind == "hold":
            held ^= {str(what)}
        else:
            bundle = bundler.close(str(what))
            closed += [bundle] if bundle else []
    closed += bundler.drain()
    assert bundler.next_deadline is None
    left: dict[str, list[Item]] = {}
    for bundle in closed:
        assert 1 <= len(bundle.items) <= max_events
        assert bundle.size == sum(size for _, size in bundle.items)
        assert bundle.size <= max_bytes or len(bundle.items) == 1
        left.setdefault(bundle.system, []).extend(bundle.items)
    assert left == given


def test_a_full_bundle_does_not_wait() -> None:
    bundler: Bundler[str] = Bundler(2, 100, 1.0)
    assert bundler.add("a", "1", 10, 0.0) == ()
    (full,) = bundler.add("a", "2", 10, 0.0)
    assert full.items == ["1", "2"]


def test_one_that_does_not_fit_closes_the_old_bundle_and_may_fill_its_own() -> None:
    bundler: Bundler[str] = Bundler(9, 100, 1.0)
    bundler.add("a", "small", 30, 0.0)
    old, new = bundler.add("a", "huge", 500, 0.0)
    assert (old.items, new.items) == (["small"], ["huge"])
