"""The control message that forgets a system, for any log, any cutting of it into batches, any restarts."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.hot.log import Event, Log, Message, OneShard, counters, cut, live, settings_for, state
from tests.hot.model import Model
from tests.hot.test_model import messages

forgetting = st.builds(Message, events=st.just(()), forgets=st.sampled_from(["a", "b", "nobody"]))
logs = st.lists(messages | forgetting, min_size=1, max_size=25).map(Log.of)


@settings(max_examples=15)
@given(
    log=logs,
    edges=st.lists(st.integers(0, 25), max_size=5),
    others=st.lists(st.integers(0, 25), max_size=5),
    restarts=st.lists(st.booleans(), min_size=6, max_size=6),
    acked=st.integers(0, 2),
)
def test_rows_before_the_message_are_gone_and_later_ones_stay(
    log: Log, edges: list[int], others: list[int], restarts: list[bool], acked: int
) -> None:
    model = Model(settings_for(Path()).dedupe).run(log)
    states = []
    for cuts, again in ((edges, restarts), (others, [False] * 6)):
        with (
            tempfile.TemporaryDirectory() as folder,
            OneShard(settings_for(Path(folder), seal_rows=8)) as one,
        ):
            for (low, high), restart in zip(cut(log, cuts), [*again, True], strict=False):
                log.apply(one.shard, low, high)
                if restart:
                    one.shard.fold_windows()
                    one.shard.digests_acknowledged(len(one.shard.pending_digests(acked)))
                    before = state(one.shard)
                    one.reopen()
                    assert state(one.shard) == before
                    assert log.apply(one.shard, low, high) == []
            log.apply(one.shard)
            assert live(one.shard) == model.expected()
            assert counters(one.shard) == dict(sorted(model.counters.items()))
            names = [str(segment.name) for segment in one.shard.segments]
            one.sealed()
            one.reopen()
            assert live(one.shard) == model.expected()
            states.append((counters(one.shard), names))
    assert states[0] == states[1]


@pytest.mark.parametrize("indexed", [pytest.param(True, marks=pytest.mark.slow), False])
def test_nothing_of_a_forgotten_system_stays_in_the_files(tmp_path: Path, indexed: bool) -> None:
    log = Log.of(
        [
            Message((event("kept", "1"), event("secret-name", "1"), event("secret-name", "2"))),
            Message((event("secret-name", "1"), event("secret-name", "3"))),  # one again: a duplicate
            Message((event("kept", "2"),)),
            Message((), forgets="secret-name"),
            Message((event("kept", "3"), event("secret-name", "9"))),
        ]
    )
    with OneShard(settings_for(tmp_path, seal_rows=1_000, build_indexes=indexed)) as one:
        log.apply(one.shard, 0, 1)
        one.shard.seal()
        one.sealed()
        log.apply(one.shard, 1, 2)
        one.shard.seal()
        log.apply(one.shard)
        one.sealed()
        first, second, third, growing = one.shard.segments
        assert [segment.name.start for segment in one.shard.segments] == [0, 1, 2, 4]
        assert [segment.rows for segment in (first, second, third, growing)] == [1, 0, 1, 2]
        expected = live(one.shard)
        assert set(expected) == {("kept", "1"), ("kept", "2"), ("kept", "3"), ("secret-name", "9")}
        assert one.shard.find("secret-name", "1") is None
        old = [path for path in one.folder.iterdir() if path.name.startswith(str(first.name))]
        files = {f"{first.name}.{kind}" for kind in ("arrow", "state", f"{'sealed' if indexed else 'growing'}.duckdb")}
        assert {path.name for path in old} == files
        old = [path for path in one.folder.iterdir() if not path.name.startswith(str(growing.name))]
        assert [path.name for path in old if b"secret" in path.read_bytes()] == []
        one.reopen()
        assert live(one.shard) == expected
        if indexed:
            assert all(segment.index is not None for segment in one.shard.segments[:-1])


def test_forgotten_again_while_files_are_rewritten(tmp_path: Path) -> None:
    log = Log.of(
        [
            Message((event("a", "1"), event("b", "1"), event("c", "1"))),
            Message((), forgets="a"),
            Message((), forgets="b"),
            Message((event("a", "1"),)),
        ]
    )
    with OneShard(settings_for(tmp_path, seal_rows=1_000)) as one:
        log.apply(one.shard)
        one.sealed()
        assert [segment.rows for segment in one.shard.segments] == [1, 0, 1]
        one.reopen()
        one.sealed()
        assert set(live(one.shard)) == {("c", "1"), ("a", "1")}


def event(system: str, event_id: str) -> Event:
    return Event(system, event_id, content=f"{system} {event_id}", vector=int(event_id))
