"""What must hold when all is well again: the invariants of docs/guarantees.md, against the model of the log."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import httpx
import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from redis.asyncio import Redis

from akasha_stream.errors import AkashaError
from akasha_stream.events import dead_letters
from akasha_stream.hot.position import unpack
from akasha_stream.lookups.reader import Lookups
from akasha_stream.lookups.tables import Keys
from akasha_stream.stream.digests import from_iso
from tests.chaos.history import DIMENSIONS, read_records
from tests.chaos.model import Digests, Entry, Identity, Model, Upsert
from tests.chaos.nursery import ForkedWorker
from tests.chaos.stage import Stage
from tests.chaos.stored import check_disk, check_store
from tests.chaos.violation import SHOWN, Found, Violation, compare

SOON_S = 120.0
"""Generous: it says only that something never comes to be."""
STUCK_S = 45.0
"""Longer than anything that is tried again waits: a broker's restart, a session, a repair."""
INDEXES_S = 20.0
CLOSE = 1e-3
ALL, FEW = 10_000, 10
QUERIES: tuple[tuple[int, dict[str, str]], ...] = ((ALL, {"index": "exact"}), (ALL, {}), (FEW, {"index": "hnsw"}))
"""How many are asked for, and how. What has no HNSW index is searched by its codes all the same."""
RECALL = 0.8
"""Of an HNSW index over some hundred rows, at the least: they are all but exact."""
SAMPLE = 4


async def check(stage: Stage) -> list[Violation]:
    """Everything, as far as what comes before allows it."""
    found = Found()
    log = await stage.log()
    model = stage.model(log)
    _check_log(found, stage, [entry for partition in log.values() for entry in partition])
    if problem := await until_caught_up(stage):
        found.add("wrong", "not caught up", [problem])
        return found
    if stage.plan.indexes:
        await _give_indexes_time(stage)
    await _check_searches(found, stage, model)
    await _check_events(found, stage, model, log)
    await _check_lookups(found, stage, model, log)
    await _check_digests(found, stage, model.digests)
    await _check_dead_letters(found, stage)
    for worker in stage.running():
        code = await worker.stop()
        found.add("wrong", "a worker did not stop in order", [f"{code}: {worker.logged(1_500)}"] if code else [])
    if stage.plan.tiers:
        await check_store(found, stage)
    else:
        for slot in stage.slots:
            for disk in [slot.disk, *slot.left]:
                await asyncio.to_thread(check_disk, found, stage, disk, log)
    return found


def _check_log(found: Found, stage: Stage, entries: list[Entry]) -> None:
    """The broker has what it acknowledged, where it said."""
    there = dict(entries)
    missing = [place for place, event in stage.acknowledged if place[2] >= 0 and there.get(place) != event]
    found.add("lost", "acknowledged, and not in the log", missing)


async def until(what: Callable[[], Awaitable[str]], timeout_s: float = SOON_S) -> str:
    """Ask until the answer is "", or nothing has changed in it for a long while; the last answer."""
    began = changed = time.monotonic()
    before = ""
    while True:
        try:
            answer = await what()
        except (httpx.HTTPError, KafkaError, OSError) as error:
            answer = repr(error)
        now = time.monotonic()
        if answer != before:
            before, changed = answer, now
        if not answer or now > began + timeout_s or now > changed + STUCK_S:
            return answer
        await asyncio.sleep(0.1)


async def until_caught_up(stage: Stage) -> str:
    """Until each partition is one worker's, which has all of its log; "" or what is missing."""
    consumer = AIOKafkaConsumer(bootstrap_servers=stage.bootstrap_servers, enable_auto_commit=False)
    await consumer.start()
    try:
        places = [TopicPartition(stage.topic, partition) for partition in range(stage.plan.partitions)]
        ends = {place.partition: end for place, end in (await consumer.end_offsets(places)).items()}
    finally:
        await consumer.stop()

    async def behind() -> str:
        owners: Counter[int] = Counter()
        at: dict[int, int] = {}
        for slot in stage.slots:
            worker = slot.worker
            if worker is None or not worker.running:
                stage.notes.append(f"{slot.name} had ended: {'' if worker is None else worker.logged(1_500)}")
                await stage.start(slot)
                worker = slot.worker
            assert worker is not None
            if not worker.url and not await worker.ready():
                return f"{slot.name} is not ready: {worker.logged()}"
            for each in (await worker.get("/v1/partitions")).json()["partitions"]:
                owners[each["partition"]] += 1
                at[each["partition"]] = each["next_offset"]
        if owners != dict.fromkeys(ends, 1):
            return f"partitions and how many workers own them: {dict(owners)}"
        late = {partition: (at[partition], end) for partition, end in ends.items() if at[partition] != end}
        return f"partitions with another next offset than their log's end: {late}" if late else ""

    return await until(behind)


async def _give_indexes_time(stage: Stage) -> None:
    """They get what nobody else wants of the cores, so that on a busy machine they may not come."""

    async def missing() -> str:
        stats = [(await worker.get("/v1/stats")).json() for worker in stage.running()]
        count = sum(each["sealed_segments"] - each["indexed_segments"] for each in stats)
        return f"{count} segments have no index" if count else ""

    await until(missing, INDEXES_S)


# ── searches ─────────────────────────────────────────────────────────────────────────────────────────────


async def _check_searches(found: Found, stage: Stage, model: Model) -> None:
    random = np.random.default_rng(stage.plan.seed)
    vectors = {key: np.frombuffer(row.event.vector, np.float32) for key, row in model.live.items()}
    for k, options in QUERIES:
        query = random.normal(size=DIMENSIONS).astype(np.float32)
        body = {"vector": query.tolist(), "k": k, "fields": ["content", "position"], **options}
        for worker in stage.running():  # each answers for all
            answer: dict[str, Any] = {}

            async def incomplete(worker: ForkedWorker = worker, body: Any = body, answer: Any = answer) -> str:
                answer.update(await worker.search(**body))
                return "" if answer["complete"] else str(answer["incomplete"])

            problem = await until(incomplete)
            found.add("wrong", "a search stays incomplete", [problem] if problem else [])
            hits = answer.get("hits", [])
            rows = _rows_of(found, hits)
            wanted = {key: row for key, row in model.live.items() if k == ALL or key in rows}
            compare(found, f"search {options}", rows, wanted)
            _compare_ranking(found, query, k, hits, vectors)


def _rows_of(found: Found, hits: list[dict[str, Any]]) -> dict[Identity, tuple[Any, str]]:
    rows: dict[Identity, tuple[Any, str]] = {}
    twice = []
    for hit in hits:
        identity, place = (hit["source_system"], hit["event_id"]), hit["position"]
        if identity in rows:
            twice.append(identity)
        rows[identity] = (place["partition"], place["offset"], place["index"]), hit["content"]
    found.add("duplicated", "found twice by a search", twice)
    return rows


def _compare_ranking(
    found: Found, query: Any, k: int, hits: list[dict[str, Any]], vectors: Mapping[Identity, Any]
) -> None:
    def cosine(vector: Any) -> float:
        a, b = query.astype(np.float64), vector.astype(np.float64)
        return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))

    expected = sorted((cosine(vector) for vector in vectors.values()), reverse=True)[:k]
    similar = [hit["similarity"] for hit in hits]
    if len(similar) != len(expected):
        found.add("wrong", "as many hits as brute force has", [f"{len(similar)} instead of {len(expected)}"])
    elif k == ALL:
        far = [(a, b) for a, b in zip(similar, expected, strict=True) if abs(a - b) > CLOSE]
        found.add("wrong", "similarities, or their order, are not those of brute force", far)
    elif expected:
        near = sum(each >= expected[-1] - CLOSE for each in similar)
        low = [f"{near} of {len(expected)}"] if near < RECALL * len(expected) else []
        found.add("wrong", "recall of the nearest", low)
        found.add("wrong", "order of the nearest", [] if similar == sorted(similar, reverse=True) else [similar])
    off = [
        (hit["event_id"], hit["similarity"])
        for hit in hits
        if (vector := vectors.get((hit["source_system"], hit["event_id"]))) is not None
        and abs(hit["similarity"] - cosine(vector)) > CLOSE
    ]
    found.add("wrong", "a hit's similarity is not its vector's", off)


async def _check_events(found: Found, stage: Stage, model: Model, log: Mapping[int, list[Entry]]) -> None:
    """GET of some events that are there, and of some that are no more."""
    gone = sorted(_identities(log) - model.live.keys())
    some = [*sorted(model.live)[:: max(1, len(model.live) // SAMPLE)], *gone[:: max(1, len(gone) // SAMPLE)]]
    for system, event_id in some:
        expected = model.live.get((system, event_id))
        content = None if expected is None else expected.event.content

        async def other(system: str = system, event_id: str = event_id, content: str | None = content) -> str:
            answers = [await worker.get(f"/v1/events/{system}/{event_id}") for worker in stage.running()]
            contents = {answer.json()["content"] for answer in answers if answer.status_code == 200}
            wanted = set() if content is None else {content}
            return "" if contents == wanted else f"{system}/{event_id}: {contents} instead of {wanted}"

        # What a worker says of it may come from Redis, which follows.
        problem = await until(other)
        found.add("wrong", "GET of an event", [problem] if problem else [])


def _identities(log: Mapping[int, list[Entry]]) -> set[Identity]:
    return {
        (entry.system, entry.event_id) for entries in log.values() for _, entry in entries if isinstance(entry, Upsert)
    }


# ── what is beside the rows ──────────────────────────────────────────────────────────────────────────────


async def _check_lookups(found: Found, stage: Stage, model: Model, log: Mapping[int, list[Entry]]) -> None:
    redis = Redis.from_url(stage.valkey.url)
    lookups = Lookups(redis, Keys(stage.topic, stage.topic), lambda: stage.plan.partitions)
    everybody = sorted(_identities(log))

    async def differ() -> str:
        others = []
        for system, event_id in everybody:
            row = model.live.get((system, event_id))
            try:
                at = await lookups.position(system, event_id)
            except AkashaError as error:
                return repr(error)
            place = None if at is None else (at[0], *unpack(at[1]))
            if place != (None if row is None else row.place):
                others.append(f"{system}/{event_id} at {place} instead of {row and row.place}")
        return f"{len(others)} {others[:SHOWN]}" if others else ""

    try:
        problem = await until(differ)
        if problem:
            keys = Keys(stage.topic, stage.topic)
            problem += f"; they go up to {[await redis.get(keys.upto(each)) for each in range(stage.plan.partitions)]}"
            problem += f"; {[(await worker.health())['lookups'] for worker in stage.running()]}"
    finally:
        await redis.aclose()
    found.add("wrong", "the lookups do not agree", [problem] if problem else [])


async def _check_digests(found: Found, stage: Stage, expected: Digests) -> None:
    async def missing() -> str:
        told.clear()
        for record in await read_records(stage.bootstrap_servers, f"{stage.topic}.digests", 1):
            if record.value is not None:
                value = json.loads(record.value)
                key = f"{value['source_system']}|{from_iso(value['window_start'])}"
                told[key][_as_counted(value)].add(record.value)
        late = sorted(expected.due - told.keys())
        return f"{len(late)} {late[:SHOWN]}" if late else ""

    told: dict[str, dict[str, set[bytes]]] = defaultdict(lambda: defaultdict(set))
    problem = await until(missing)
    found.add("lost", "digests of closed windows", [problem] if problem else [])
    other, unequal = [], []
    for key, values in told.items():
        allowed = {json.dumps(each, sort_keys=True) for each in expected.allowed.get(key, [])}
        other += [f"{key}: {value} instead of {sorted(allowed)}" for value in values.keys() - allowed]
        unequal += [f"{key}: {each}" for each in values.values() if len(each) > 1]
    found.add("wrong", "digests other than the model's", other)
    found.add("wrong", "digests of one window with different bytes", unequal)


def _as_counted(value: dict[str, Any]) -> str:
    """What the model knows of a digest."""
    events = value["events"]
    counted = {
        "stored": events["stored"],
        "updated": events["updated"],
        "deleted": events["deleted"],
        "exact": events["duplicates"]["exact"],
        "content": events["duplicates"]["content"],
        "late": events["late"],
        "first_created": from_iso(value["first_created_at"]),
        "last_created": from_iso(value["last_created_at"]),
        "first_offset": value["first_offset"],
        "last_offset": value["last_offset"],
    }
    return json.dumps(counted, sort_keys=True)


async def _check_dead_letters(found: Found, stage: Stage) -> None:
    """One for each malformed record at least, and none for a good one."""
    bad: set[tuple[int, int]] = set()
    for _, records in [*stage.past, (stage.epoch, await stage.records())]:
        bad |= {(each.partition, each.offset) for each in records if (each.key, each.value) in stage.malformed}
    letters: set[tuple[int, int]] = set()
    for record in await read_records(stage.bootstrap_servers, f"{stage.topic}.dlq", 1):
        head = dict(record.headers)
        letters.add((int(head[dead_letters.PARTITION]), int(head[dead_letters.OFFSET])))
    found.add("lost", "malformed records without a dead letter", sorted(bad - letters))
    found.add("wrong", "dead letters of good records", sorted(letters - bad))
