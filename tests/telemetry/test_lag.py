"""Lag from the log's ends alone, against a log whose times are known."""

from __future__ import annotations

import asyncio
from bisect import bisect_right

from hypothesis import given
from hypothesis import strategies as st

from akasha_stream.errors import BrokerError
from akasha_stream.telemetry.lag import LagHistory, LagWatch


def test_all_read_is_no_lag() -> None:
    history = LagHistory()
    assert history.records(0) == 0
    history.add(100.0, 7)
    assert (history.records(7), history.seconds(105.0, 7, 1.0)) == (0, 0.0)
    assert history.records(9) == 0  # read since the look


def test_a_first_record_after_a_quiet_time_is_not_old() -> None:
    """The last stored record is an hour old: that says nothing about the new one."""
    history = LagHistory()
    history.add(3_600.0, 7)
    history.add(3_605.0, 8)
    assert history.seconds(3_606.0, 7, last_stored_s=1.0) == 1.0


def test_what_was_there_before_the_first_look_is_as_old_as_the_last_stored() -> None:
    history = LagHistory()
    history.add(3_600.0, 1_000)
    assert history.seconds(3_601.0, 500, last_stored_s=1_800.0) == 1_801.0
    assert history.seconds(3_601.0, 0, last_stored_s=None) == 1.0


def test_a_shorter_log_is_another_one() -> None:
    history = LagHistory()
    history.add(10.0, 1_000)
    history.add(15.0, 3)
    assert history.records(0) == 3
    assert history.seconds(16.0, 0, None) == 1.0


@given(
    appended=st.lists(st.floats(0, 1_000), min_size=1, max_size=50).map(sorted),
    looks=st.lists(st.floats(0, 1_000), min_size=2, max_size=50, unique=True).map(sorted),
    read=st.integers(0, 50),
)
def test_the_age_of_the_first_unread_record_is_right_to_one_look(
    appended: list[float], looks: list[float], read: int
) -> None:
    history = LagHistory()
    for at in looks:
        history.add(at, bisect_right(appended, at))
    now, end = looks[-1], bisect_right(appended, looks[-1])
    next_offset = min(read, end)
    last_stored = appended[next_offset - 1] if next_offset else None
    seconds = history.seconds(now, next_offset, last_stored)
    assert history.records(next_offset) == end - next_offset
    if next_offset == end:
        assert seconds == 0
        return
    true_age = now - appended[next_offset]
    if next_offset >= bisect_right(appended, looks[0]):
        # Too low, by no more than what lies between two looks.
        seen = next(at for at in looks if bisect_right(appended, at) > next_offset)
        before = max((at for at in looks if at < seen), default=0.0)
        assert true_age - (seen - before) <= seconds <= true_age
    elif last_stored is not None:
        assert seconds >= now - looks[0]
        assert seconds >= true_age


async def test_it_looks_again_when_woken_and_survives_the_broker() -> None:
    answers: list[dict[int, int] | Exception] = [{}, BrokerError("away"), {0: 5}]
    asked = asyncio.Event()

    async def ends() -> dict[int, int]:
        asked.set()
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    class Shard:
        partition, next_offset = 0, 2

    watch = LagWatch(ends, interval_s=3_600.0)
    running = asyncio.create_task(watch.run())
    for left in (2, 1, 0):
        async with asyncio.timeout(10):
            await asked.wait()
        asked.clear()
        assert len(answers) == left
        watch.wake()
        await asyncio.sleep(0)
        if not left:
            break
    running.cancel()
    assert watch.records([Shard()]) == {0: 3}
    assert watch.seconds(1, 0, None) is None
