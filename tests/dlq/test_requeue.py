"""Dead letters on real brokers: each is published again once, whatever happens in between."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from akasha_stream.dlq import requeue as module
from akasha_stream.dlq.ledger import Choice, Ledger, read_ledger
from akasha_stream.dlq.letter import REQUEUED_FROM, Place
from akasha_stream.dlq.purge import plan_purge, purge
from akasha_stream.dlq.requeue import Requeued, requeue
from akasha_stream.embedded import Broker
from akasha_stream.errors import BrokerError, UsageError
from akasha_stream.events.records import DeadLetter, Record
from akasha_stream.hot import durable
from akasha_stream.settings import Settings
from akasha_stream.stream.outlet import Outlet
from akasha_stream.topics.reader import as_record, reading
from tests.worker.stage import Stage


@pytest.fixture
async def stage(broker: Broker, tmp_path: Path) -> Stage:
    return await Stage.make(broker, tmp_path)


async def kill(settings: Settings, *letters: DeadLetter) -> None:
    """Write letters as a worker does."""
    outlet = Outlet(settings, list)
    await outlet.start()
    await outlet.dead_letters(letters)
    await outlet.stop()


def letter(number: int, reason: str = "json_invalid") -> DeadLetter:
    record = Record(1, number, 1_700_000_000_000, b"laptop", b"bytes %d" % number, [("content-type", b"text/plain")])
    return DeadLetter(reason, "detail", record)


async def ledger_of(settings: Settings) -> Ledger:
    async with reading(settings.broker, settings.topics.dead_letters) as reader:
        return await read_ledger(reader, Choice())


async def published(settings: Settings) -> list[Record]:

    async with reading(settings.broker, settings.topics.embeddings) as reader:
        starts, ends = await reader.beginnings(), await reader.ends()
        return [as_record(record) async for records in reader.between(starts, ends) for record in records]


async def test_the_original_bytes_come_back_once_and_a_second_requeue_names_it(stage: Stage) -> None:
    settings = stage.settings
    await kill(settings, letter(0), letter(1, "null_body"), letter(2))
    dry = await requeue(settings, Choice(), dry_run=True)
    assert (len(dry.sent), dry.skipped, await published(settings)) == (3, [], [])

    chosen = Choice(reasons=frozenset({"json_invalid"}))
    first = await requeue(settings, chosen)
    assert [sent.letter for sent in first.sent] == [Place(0, 0), Place(0, 2)]
    found = await published(settings)
    assert [(each.key, each.value) for each in found] == [(b"laptop", b"bytes 0"), (b"laptop", b"bytes 2")]
    assert dict(found[0].headers)["content-type"] == b"text/plain"
    assert dict(found[0].headers)[REQUEUED_FROM] == f"{settings.topics.dead_letters}/0:0".encode()
    assert not [name for name, _ in found[0].headers if name.startswith("akasha-dlq-")]

    second = await requeue(settings, Choice())
    assert [sent.letter for sent in second.sent] == [Place(0, 1)]
    assert [skipped.letter for skipped in second.skipped] == [Place(0, 0), Place(0, 2)]
    assert first.sent[0].to in second.skipped[0].why
    assert len(await published(settings)) == 3
    assert len((await requeue(settings, Choice(places=frozenset({Place(0, 0)})), again=True)).sent) == 1
    assert (await ledger_of(settings)).total == 3, "marks are no letters"


async def test_what_can_not_be_sent_is_named(stage: Stage) -> None:
    settings = stage.settings
    with pytest.raises(UsageError, match="no letter 0:7"):
        await requeue(settings, Choice(places=frozenset({Place(0, 7)})))


async def test_a_letter_with_neither_key_nor_value_is_written(stage: Stage) -> None:
    """aiokafka sends no such record: the worker would have tried it for ever."""
    settings = stage.settings
    empty = DeadLetter("null_body", "a record without key and value", Record(0, 3, 1_000, None, None))
    await kill(settings, empty)
    [found] = (await ledger_of(settings)).letters
    assert (found.reason, found.key, found.value) == ("null_body", b"", None)


def interrupted_at(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(passing: str) -> None:
        if passing == step:
            raise BrokerError(f"interrupted at {step}")

    monkeypatch.setattr(durable, "on_step", fail)


@pytest.mark.kafka
@pytest.mark.parametrize("broker", ["kafka"], indirect=True)
async def test_interrupted_before_its_mark_nothing_was_sent(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = stage.settings
    await kill(settings, *map(letter, range(3)))
    monkeypatch.setattr(module, "BATCH_LETTERS", 2)
    interrupted_at("letters sent", monkeypatch)
    with pytest.raises(BrokerError, match="interrupted"):
        await requeue(settings, Choice())
    assert await published(settings) == []
    monkeypatch.setattr(durable, "on_step", None)
    assert len((await requeue(settings, Choice())).sent) == 3
    assert len(await published(settings)) == 3


@pytest.mark.kafka
@pytest.mark.parametrize("broker", ["kafka"], indirect=True)
async def test_two_at_once_send_each_letter_once(stage: Stage) -> None:
    settings = stage.settings
    await kill(settings, *map(letter, range(40)))
    results = await asyncio.gather(*(requeue(settings, Choice()) for _ in range(3)), return_exceptions=True)
    for result in results:
        assert isinstance(result, Requeued | BrokerError), result
    # Whoever was shut out can be run again.
    await requeue(settings, Choice())
    found = await published(settings)
    assert sorted(each.value or b"" for each in found) == sorted(b"bytes %d" % number for number in range(40))


@pytest.mark.kafka
@pytest.mark.parametrize("broker", ["kafka"], indirect=True)
async def test_purge_removes_up_to_an_offset_or_a_time(stage: Stage) -> None:
    settings = stage.settings
    await kill(settings, *map(letter, range(4)))
    await requeue(settings, Choice(places=frozenset({Place(0, 0)})))
    plan = await plan_purge(settings, before={0: 2})
    assert (dict(plan.before), plan.letters, plan.not_requeued, plan.kept) == ({0: 2}, 2, 1, 2)
    assert await purge(settings, plan) == {0: 2}
    assert [each.place.offset for each in (await ledger_of(settings)).letters] == [2, 3]

    nothing = await plan_purge(settings, until_ms=1)
    assert (dict(nothing.before), nothing.letters) == ({}, 0)
    assert await purge(settings, nothing) == {}
    with pytest.raises(UsageError, match="ends at"):
        await plan_purge(settings, before={0: 10_000})
    with pytest.raises(UsageError, match="does not exist"):
        await plan_purge(settings, before={7: 0})

    assert await purge(settings, await plan_purge(settings))
    assert (await ledger_of(settings)).letters == []
