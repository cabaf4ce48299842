"""Who gets which partition."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from akasha_stream.stream.sticky import sticky

MEMBERS = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=8, unique=True)
SETS = st.sets(st.integers(0, 19))


@given(st.data(), MEMBERS, st.integers(0, 16))
def test_each_partition_has_one_owner_and_the_shares_are_even(
    data: st.DataObject, members: list[str], partitions: int
) -> None:
    """Whatever the members claim, partitions that the topic does not have too."""
    has = {member: data.draw(SETS) for member in members}
    had = {member: data.draw(SETS) for member in members}
    given_ = sticky(has, had, partitions)
    assert sorted(p for mine in given_.values() for p in mine) == list(range(partitions))
    assert all(abs(len(a) - len(b)) <= 1 for a, b in combinations(given_.values(), 2))
    assert sticky(has, had, partitions) == given_


@given(st.data(), MEMBERS, st.integers(1, 16))
def test_no_more_moves_than_must(data: st.DataObject, members: list[str], partitions: int) -> None:
    place = [data.draw(st.sampled_from([*members, ""])) for _ in range(partitions)]
    has = {member: [p for p in range(partitions) if place[p] == member] for member in members}
    had = {member: data.draw(SETS) for member in members}
    given_ = sticky(has, had, partitions)
    moved = sum(p not in given_[member] for member in members for p in has[member])
    most = -(-partitions // len(members))
    odd = partitions - (partitions // len(members)) * len(members)
    sizes = sorted((len(each) for each in has.values()), reverse=True)
    must = sum(max(0, size - (most if number < odd or odd == 0 else most - 1)) for number, size in enumerate(sizes))
    assert moved == must


@given(st.data(), st.integers(2, 5), st.integers(1, 16))
def test_a_rolling_restart_ends_as_it_began(data: st.DataObject, count: int, partitions: int) -> None:
    """Each leaves, and comes back under another name in the group with the files of what it had."""
    now = sticky({f"worker-{n}": () for n in range(count)}, {}, partitions)
    first = {worker: list(mine) for worker, mine in now.items()}
    for worker in data.draw(st.permutations(sorted(first))):
        files = now.pop(worker)
        now = sticky(now, {}, partitions)
        before = {name: set(mine) for name, mine in now.items()}
        now = sticky({**now, worker: ()}, {worker: files}, partitions)
        if partitions % count == 0:
            assert now[worker] == files
        for name, mine in before.items():
            assert mine.issuperset(now[name]), "what stays moves from no one to another"
    if partitions % count == 0:
        assert now == first
