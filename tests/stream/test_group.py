"""What a worker may still call its own, whatever happens to its process and its group."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from akasha_stream.stream import group as module
from akasha_stream.stream.group import Group

SESSION_S = 6.0


class Member:
    """A worker's place in the group; what the broker says, and when, is the test's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000.0
        monkeypatch.setattr(module, "now_s", lambda: self.now)
        self.group = Group("events", SESSION_S)
        self.accepts = True
        self.assigned: list[int] = []
        self.next: tuple[int, str, list[int]] = (1, "member-1", [0, 1])
        self.coordinator: Any = SimpleNamespace(
            generation=-1, member_id="", _do_heartbeat=self._beat, _do_rejoin_group=self._rejoin
        )
        consumer = SimpleNamespace(
            _coordinator=self.coordinator, assignment=lambda: {TP("events", p) for p in self.assigned}
        )
        app: Any = SimpleNamespace(
            consumer=SimpleNamespace(_thread=SimpleNamespace(_consumer=consumer)),
            assignor=SimpleNamespace(external_topic_distribution={"http://b": {"events": [2], "others": [0]}}),
        )
        self.group.follow(app)
        self.group.watch(self.coordinator)

    async def _beat(self) -> bool:
        return self.accepts

    async def _rejoin(self, _subscription: Any) -> bool:
        self.coordinator.generation, self.coordinator.member_id, self.assigned = self.next
        return True

    async def join(self, generation: int, member_id: str, partitions: list[int]) -> None:
        self.next = generation, member_id, partitions
        await self.coordinator._do_rejoin_group(None)

    def held(self) -> list[int]:
        return [partition for partition in range(4) if self.group.holds(partition)]


@pytest.fixture
def member(monkeypatch: pytest.MonkeyPatch) -> Member:
    return Member(monkeypatch)


async def test_a_partition_is_ours_when_its_shard_is_ready(member: Member) -> None:
    await member.join(1, "m", [0, 1])
    assert member.held() == []
    member.group.ready(1, [0, 1])
    assert member.held() == [0, 1]


async def test_it_is_ours_for_a_session_after_the_last_heartbeat(member: Member) -> None:
    await member.join(1, "m", [0, 1])
    member.group.ready(1, [0, 1])
    member.now += SESSION_S - 0.1
    assert member.held() == [0, 1]
    member.now += 0.2
    assert member.held() == []
    assert not member.group.confirmed()
    await member.coordinator._do_heartbeat()
    assert member.held() == [0, 1]


async def test_a_heartbeat_counts_from_when_it_was_sent(member: Member, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process may stand still between the answer and the note of it."""
    await member.join(1, "m", [0])
    member.group.ready(1, [0])

    async def slow() -> bool:
        member.now += 2 * SESSION_S
        return True

    coordinator: Any = SimpleNamespace(generation=1, member_id="m", _do_heartbeat=slow, _do_rejoin_group=None)
    member.group.watch(coordinator)
    await coordinator._do_heartbeat()
    assert member.held() == []


async def test_who_is_put_out_of_the_group_has_nothing_at_once(member: Member) -> None:
    await member.join(1, "m", [0, 1])
    member.group.ready(1, [0, 1])
    member.accepts, member.coordinator.member_id = False, ""
    await member.coordinator._do_heartbeat()
    assert member.held() == []


async def test_a_heartbeat_that_fails_is_waited_for(member: Member) -> None:
    await member.join(1, "m", [0, 1])
    member.group.ready(1, [0, 1])
    member.accepts = False
    await member.coordinator._do_heartbeat()
    assert member.held() == [0, 1]


async def test_what_stays_over_a_rebalance_stays_ours_meanwhile(member: Member) -> None:
    await member.join(1, "m", [0, 1])
    member.group.ready(1, [0, 1])
    await member.join(2, "m", [1, 2])
    assert member.held() == [1]
    member.group.ready(2, [1, 2])
    assert member.held() == [1, 2]


@pytest.mark.parametrize(("generation", "member_id"), [(3, "m"), (2, "another")])
async def test_what_others_may_have_had_meanwhile_is_not_ours_before_it_is_ready(
    member: Member, generation: int, member_id: str
) -> None:
    await member.join(1, "m", [0, 1])
    member.group.ready(1, [0, 1])
    await member.join(generation, member_id, [0, 1])
    assert member.held() == []
    member.group.ready(generation, [0, 1])
    assert member.held() == [0, 1]


async def test_the_assignment_tells_who_has_the_rest(member: Member) -> None:
    assert member.group.owners() == {2: "http://b"}
    member.group.follow(None)
    assert member.group.owners() == {2: "http://b"}, "the last that was heard"
    assert member.held() == []
