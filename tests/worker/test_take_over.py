"""A worker that starts in the data folder of one that was killed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from akasha_stream.embedded import Broker
from akasha_stream.stream.membership import Membership
from tests.worker.model import Maker
from tests.worker.stage import Stage
from tests.worker.test_group import until_owned

pytestmark = [pytest.mark.kafka]


async def test_the_next_worker_ends_the_membership_of_a_killed_one(kafka: Broker, tmp_path: Path) -> None:
    """With a session of five minutes it would not be ready before the test's time is up."""
    stage = await Stage.make(kafka, tmp_path, ingest__session_timeout_s=300.0)
    maker = Maker(3)
    for name in ("first", "second"):
        async with stage.worker(name) as worker:
            await stage.publish(maker.mixed(200))
            await stage.until_searchable(worker)
            worker.kill()
    async with stage.worker("third") as worker:
        await stage.until_searchable(worker)
        assert "last worker had not left the group" in worker.logged()
        await worker.stop()
    async with stage.worker("after an orderly end") as worker:
        assert "last worker had not left the group" not in worker.logged()
        await worker.stop()
    await stage.assert_stored()


@pytest.mark.slow
async def test_shards_that_another_worker_has_now_are_let_go(kafka: Broker, tmp_path: Path) -> None:
    """The first one had all four, is killed, and gets two of them back."""
    stage = await Stage.make(kafka, tmp_path)
    maker = Maker(4)
    first = stage.worker("first", hot__data_dir=str(tmp_path / "first"))
    second = stage.worker("second", hot__data_dir=str(tmp_path / "second"))
    async with first:
        await stage.publish(maker.mixed(400))
        await stage.until_searchable(first)
        first.kill()
    async with second:
        await stage.until_searchable(second)
        async with first:
            await until_owned(second, 2)
            await until_owned(first, 2)
            await stage.publish(maker.mixed(200))
            await asyncio.gather(stage.until_searchable(first), stage.until_searchable(second))
            await first.stop()
        await until_owned(second, 4)
        await stage.until_searchable(second)
        await second.stop()
    stage.overrides["hot.data_dir"] = str(tmp_path / "second")
    await stage.assert_stored()


@pytest.mark.parametrize("damaged", [b"", b"{", b'{"group": "g", "member_id": 3, "partitions": "x"}'])
def test_a_membership_that_cannot_be_read_is_none(tmp_path: Path, damaged: bytes) -> None:
    (tmp_path / "membership.json").write_bytes(damaged)
    assert Membership.read(tmp_path) is None
    member = Membership(group="g", member_id="m", partitions=(0, 3))
    member.write(tmp_path)
    assert Membership.read(tmp_path) == member
