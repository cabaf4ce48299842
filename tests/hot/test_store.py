"""How a worker's shards are opened: once, whoever asks, and ahead of their assignment."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from akasha_stream.errors import ShardError
from akasha_stream.hot.store import ShardStore
from akasha_stream.incarnation import Incarnation
from tests.hot.log import Event, Log, Message, settings_for

LOG = Log.of([Message((Event("a", "1"),)), Message((Event("a", "2"),))])


@contextmanager
def opened(folder: Path) -> Iterator[ShardStore]:
    store = ShardStore(settings_for(folder), "topic")
    try:
        yield store
    finally:
        store.close_all()


def test_a_shard_asked_for_at_once_is_opened_once(tmp_path: Path) -> None:
    """As two seeks of one rebalance do: with two of it, one commits to a file that the other has removed."""
    with opened(tmp_path) as store, ThreadPoolExecutor(8) as threads:
        for partition in range(4):
            shards = list(threads.map(lambda _: store.open(partition, Incarnation()), range(8)))  # noqa: B023
            assert all(shard is shards[0] for shard in shards)


def test_a_shard_opened_ahead_is_owned_and_searched_from_open_on(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        LOG.apply(store.open(0, Incarnation()))
    with opened(tmp_path) as store:
        store.open_ahead(0, Incarnation())
        assert (store.ahead(), store.owned(), store.views(), store.find("a", "1")) == ([0], [], [], None)
        shard = store.open(0, Incarnation())
        assert (store.ahead(), store.owned()) == ([], [0])
        assert store.find("a", "1") is not None
        store.open_ahead(0, Incarnation())
        assert (store.ahead(), store.shard(0)) == ([], shard)


def test_a_shard_opened_ahead_and_never_owned_is_let_go(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        LOG.apply(store.open(0, Incarnation()))
    with opened(tmp_path) as store:
        store.open_ahead(0, Incarnation())
        store.close(0)
        assert store.ahead() == []
        again = store.open(0, Incarnation())
        assert again.next_offset == LOG.end
        store.close(0)
        store.open_ahead(0, Incarnation())
    with pytest.raises(ShardError, match="closed"):
        LOG.apply(again)
    with opened(tmp_path) as store:  # the files of the one that was only ahead are free
        assert store.open(0, Incarnation()).next_offset == LOG.end


def test_nothing_is_created_ahead(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.open_ahead(3, Incarnation())
        assert store.ahead() == []
        assert not (store.folder / "00003").exists()
