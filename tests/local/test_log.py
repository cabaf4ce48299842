"""The local log against a dictionary: what it says last about each identity, over restarts and kills."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from akasha_stream.errors import ShardWriteError, ValidationError
from akasha_stream.events.model import Event
from akasha_stream.local.log import Identity, LocalLog, as_events, exists
from akasha_stream.settings import HotSettings, Limits, Settings

D = 8


def settings_for(folder: Path) -> Settings:
    hot = HotSettings(data_dir=folder, build_indexes=False).model_copy(update={"seal_rows": 6})
    return Settings(hot=hot, limits=Limits(dimensions=D, bundle_events=4))


def upsert(system: str, event_id: str, content: str) -> Event:
    return Event(event_id, system, content, np.arange(1, D + 1, dtype=np.float32), metadata={"n": len(content)})


def said(log: LocalLog) -> dict[Identity, str | None]:
    """identity → its content, None where it was deleted; as they would be published."""
    writes = log.last_writes()
    events = list(as_events(writes.items()))
    assert [(event.source_system, event.event_id) for event in events] == list(writes)
    return {(event.source_system, event.event_id): None if event.op == "delete" else event.content for event in events}


def found(log: LocalLog) -> dict[Identity, str]:
    """What a search of its views has."""
    rows: dict[Identity, str] = {}
    for view in log.views():
        for stored in view.texts([row for row in range(view.rows) if view.live[row]]):
            assert (stored.source_system, stored.event_id) not in rows
            rows[stored.source_system, stored.event_id] = stored.content or ""
    return rows


identities = st.tuples(st.sampled_from(["s", "t"]), st.sampled_from(["a", "b", "c"]))
write = st.tuples(identities, st.one_of(st.none(), st.text("xyz", max_size=3)))


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(write, min_size=1, max_size=9), max_size=6), st.integers(0, 6))
def test_it_says_what_was_written_last(
    tmp_path_factory: pytest.TempPathFactory, calls: list[list[tuple[Identity, str | None]]], reopen_after: int
) -> None:
    """Across segments, calls of several bundles, and a restart; equal contents are kept apart."""
    configured = settings_for(tmp_path_factory.mktemp("log"))
    expected: dict[Identity, str | None] = {}
    log = LocalLog(configured)
    try:
        for number, writes in enumerate(calls):
            if number == reopen_after:
                log.close()
                log = LocalLog(configured)
            log.write(
                [
                    Event.delete(system, name) if content is None else upsert(system, name, content)
                    for (system, name), content in writes
                ]
            )
            expected |= dict(writes)
        assert said(log) == expected
        assert found(log) == {key: content for key, content in expected.items() if content is not None}
    finally:
        log.close()


@pytest.fixture
def log(tmp_path: Path) -> Iterator[LocalLog]:
    log = LocalLog(settings_for(tmp_path))
    yield log
    log.close()


def test_what_breaks_a_limit_is_refused_with_all_that_came_with_it(log: LocalLog) -> None:
    with pytest.raises(ValidationError, match="bad"):
        log.write([upsert("s", "good", "x"), Event("bad", "s", "x", np.zeros(D, np.float32))])
    assert said(log) == {}


def test_a_clock_set_back_does_not_make_later_writes_earlier(log: LocalLog, monkeypatch: pytest.MonkeyPatch) -> None:
    log.write([upsert("s", "a", "x")])
    now = time.time()
    monkeypatch.setattr("akasha_stream.local.log.time.time", lambda: now - 3600)
    log.write([upsert("s", "b", "x")])
    times = {name: written.at_ms for (_, name), written in log.last_writes().items()}
    assert times["b"] == times["a"]


def test_a_commit_that_failed_in_doubt_takes_no_later_write_with_it(
    log: LocalLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The transaction took place, and its answer was an error: the next write must not be taken for the same."""

    file = log._shard._file
    assert file is not None
    transaction = file.transaction

    def in_doubt(nbytes: int = 0) -> object:
        class Doubt:
            def __enter__(self) -> None:
                self.inner = transaction(nbytes)
                self.inner.__enter__()

            def __exit__(self, *error: object) -> None:
                self.inner.__exit__(*error)  # type: ignore[arg-type]
                raise ShardWriteError("no answer")

        return Doubt()

    monkeypatch.setattr(file, "transaction", in_doubt)
    with pytest.raises(ShardWriteError):
        log.write([upsert("s", "a", "first")])
    log.write([upsert("s", "b", "second")])
    assert said(log) == {("s", "a"): "first", ("s", "b"): "second"}


def test_discarded_it_is_gone_and_a_new_one_is_empty(tmp_path: Path) -> None:
    configured = settings_for(tmp_path)
    assert not exists(configured)
    log = LocalLog(configured)
    log.write([upsert("s", "a", "x")])
    assert exists(configured)
    log.discard()
    assert not exists(configured)
    log = LocalLog(configured)
    assert said(log) == {}
    log.close()


WRITER = """
import sys
from pathlib import Path
from akasha_stream.local.log import LocalLog
from tests.local.test_log import settings_for, upsert

log = LocalLog(settings_for(Path(sys.argv[1])))
for number in range(10_000):
    log.write([upsert("s", f"e{number}", f"text {number}")])
    print(number, flush=True)
"""


def test_killed_while_writing_it_has_all_that_was_acknowledged(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    )
    assert process.stdout is not None
    acknowledged = -1
    while acknowledged < 40:
        line = process.stdout.readline()
        assert line, "the writer ended"
        acknowledged = int(line)
    process.kill()
    process.stdout.close()
    process.wait()
    log = LocalLog(settings_for(tmp_path))
    numbers = sorted(int(name[1:]) for _, name in said(log))
    log.close()
    assert numbers == list(range(len(numbers)))
    assert len(numbers) > acknowledged
