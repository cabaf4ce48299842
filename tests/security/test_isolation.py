"""A key sees its own source systems: of others neither rows nor names, counts nor whether something exists."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from akasha_stream.api.identity import path_of
from akasha_stream.auth.caller import Scope
from akasha_stream.auth.systems import SYSTEMS_HEADER
from akasha_stream.dlq.ledger import Choice, read_ledger
from akasha_stream.dlq.letter import Place
from akasha_stream.dlq.requeue import Requeued, _due
from akasha_stream.errors import LetterNotFound
from akasha_stream.topics.reader import TopicReader
from tests.cluster.fleet import DIMENSIONS
from tests.security.tenants import PER_SYSTEM, SECRET, TENANTS, Asked, Asker, Bearer, Letters, Tenancy, tenancy

LIKE_ANYTHING = {"vector": [1.0] * DIMENSIONS, "k": 1000, "threshold": -1.0}


@pytest.fixture
async def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Tenancy]:
    async with tenancy(tmp_path, monkeypatch) as made:
        yield made


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("requests", [800, pytest.param(10_000, marks=pytest.mark.long)])
async def test_no_answer_has_a_foreign_row_or_name(site: Tenancy, requests: int) -> None:
    asker = Asker(site, seed=requests)
    answered: Counter[tuple[str, int]] = Counter()
    for _ in range(requests):
        bearer, asked = await asker.ask()
        assert foreign_canaries(bearer, asked) == [], f"{asked.what}\n{asked.said[:2000]}"
        assert_counts(bearer, asked)
        answered[asked.kind.split("/v1/events/")[0], asked.status] += 1
    # The requests were understood: an answer of refusals alone would prove nothing.
    for kind in ("/v1/search", "/v1/events", "/v1/stats", "/v1/map", "/v1/dead-letters", "mcp recent", "mcp stats"):
        assert answered[kind, 200] > 0, answered
    assert not [each for each in answered if each[1] >= 500 and each[1] != 501], answered


def foreign_canaries(bearer: Bearer, asked: Asked) -> list[str]:
    """Those in the answer that the asker did not say itself."""
    return [
        canary
        for tenant in bearer.foreign()
        for canary in tenant.canaries
        if canary in asked.said and canary not in asked.what
    ]


def assert_counts(bearer: Bearer, asked: Asked) -> None:
    """No figure counts more than the caller's own."""
    if asked.status != 200 or asked.kind not in {"/v1/search", "/v1/stats", "/v1/map", "/v1/dead-letters"}:
        return
    own = len(bearer.own())
    found: dict[str, Any] = json.loads(asked.said.splitlines()[-1])
    match asked.kind:
        case "/v1/search":
            assert len(found["hits"]) <= own * PER_SYSTEM
            assert sum(part["rows"] for part in found["plan"]) <= own * PER_SYSTEM
        case "/v1/stats" if "workers" in found:
            assert found["rows"] == found["live_rows"] == own * PER_SYSTEM
        case "/v1/stats" | "/v1/map":
            assert found["rows"] <= own * PER_SYSTEM
        case "/v1/dead-letters":
            assert found["total"] == own


async def test_its_own_a_key_sees_whole(site: Tenancy) -> None:
    for bearer in [*site.bearers, site.everything]:
        own = {(tenant.name, tenant.event_id(number)) for tenant in bearer.own() for number in range(PER_SYSTEM)}
        for node in range(len(site.fleet.nodes)):
            async with site.http(node, bearer) as http:
                hits = (await http.post("/v1/search", json=LIKE_ANYTHING)).json()["hits"]
                assert {(hit["source_system"], hit["event_id"]) for hit in hits} == own
        for system, event_id in sorted(own)[:3]:
            async with site.http(0, bearer) as http:
                assert (await http.get(path_of(system, event_id))).json()["event_id"] == event_id


async def test_a_foreign_event_is_answered_as_a_missing_one(site: Tenancy) -> None:
    """To the byte, with the names that were asked for left out."""
    for bearer in site.bearers:
        for tenant in bearer.foreign():
            ghost = tenant.event_id(PER_SYSTEM + 1)
            async with site.http(1, bearer) as http:
                for path, body in ((None, None), ("/v1/search", "like")):
                    answers = []
                    for event_id in (tenant.event_id(3), ghost):
                        if path is None or body is None:
                            answer = await http.get(path_of(tenant.name, event_id))
                        else:
                            like = {"source_system": tenant.name, "event_id": event_id}
                            answer = await http.post(path, json={"like": like})
                        answers.append((answer.status_code, answer.text.replace(event_id, "ID")))
                    assert answers[0][0] == 404
                    assert answers[0] == answers[1]


async def test_a_foreign_letter_is_answered_as_a_missing_one(site: Tenancy) -> None:
    bearer = site.bearers[0]
    async with site.http(0, bearer) as http:
        there = await http.get(f"/v1/dead-letters/0/{2}")
        missing = await http.get(f"/v1/dead-letters/0/{2 * len(TENANTS) + 3}")
        own = await http.get("/v1/dead-letters/0/0")
    assert there.status_code == missing.status_code == 404
    assert there.text.replace("0:2 ", "") == missing.text.replace(f"0:{2 * len(TENANTS) + 3} ", "")
    assert own.json()["system"] == bearer.own()[0].name


async def test_a_foreign_letter_is_not_published_again(site: Tenancy) -> None:
    """Letters 0 and 1 have the first system's key; the event of 1 names the second one, whose key letter 2 has."""
    within = site.bearers[0].systems
    for offset, found in ((0, True), (1, False), (2, False), (10_000, False)):
        choice = Choice(places=frozenset({Place(0, offset)}), within=within)
        ledger = await read_ledger(cast("TopicReader", Letters()), choice)
        done = Requeued(dry_run=True)
        if found:
            assert [letter.place.offset for letter in _due(ledger, choice, done, again=False)] == [offset]
        else:
            with pytest.raises(LetterNotFound, match=f"there is no letter 0:{offset} that"):
                _due(ledger, choice, done, again=False)


async def test_other_workers_narrow_for_whom_they_are_asked(site: Tenancy) -> None:
    """The owner looks for nothing else: it does not leave that to the worker that asks."""
    tenant = TENANTS[0]
    url = site.fleet.nodes[0].url
    asked = {"request": {**LIKE_ANYTHING, "fields": ["position"]}, "partitions": list(range(6))}
    seen = set()
    for node in site.fleet.nodes:
        bearer = Bearer(SECRET, site.everything.systems, frozenset({Scope.NODE}))
        async with site.http(site.fleet.nodes.index(node), bearer) as http:
            headers = {SYSTEMS_HEADER: json.dumps([tenant.name])}
            found = (await http.post("/v1/peer/search", json=asked, headers=headers)).json()
            seen |= {hit["source_system"] for hit in found["response"]["hits"]}
            event = {"source_system": TENANTS[4].name, "event_id": TENANTS[4].event_id(0)}
            answer = (await http.post("/v1/peer/event", json={"event": event}, headers=headers)).json()
            assert (answer["event"], answer["gone_at"]) == (None, None)
            questions = {"partition": 0, "events": [event]}
            written = (await http.post("/v1/peer/written", json=questions, headers=headers)).json()
            assert written["written_at"] == [None]
            page = (await http.post("/v1/peer/recent", json={"request": {"limit": 100}}, headers=headers)).json()
            assert {each["source_system"] for each in page["events"]} <= {tenant.name}
    assert seen == {tenant.name}
    # And the header is what the worker that was asked sends on.
    site.fleet.network.asked.clear()
    async with site.http(0, site.bearers[0]) as http:
        assert len((await http.post("/v1/search", json=LIKE_ANYTHING)).json()["hits"]) == PER_SYSTEM
    assert {asked_url for asked_url, _ in site.fleet.network.asked} == {each.url for each in site.fleet.nodes} - {url}


async def test_what_shows_all_systems_together_is_for_keys_of_all(site: Tenancy) -> None:
    bearer = next(each for each in site.bearers if Scope.ADMIN in each.scopes)
    async with site.http(0, bearer) as http:
        for path in ("/v1/worker", "/v1/overview", "/v1/partitions", "/metrics"):
            answer = await http.get(path)
            assert answer.status_code == 403
            assert "all source systems" in answer.json()["detail"]
