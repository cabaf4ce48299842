"""One event by its identity, wherever it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from akasha_stream.auth.systems import Systems
from akasha_stream.cluster.ask import Asked, ask_owners
from akasha_stream.cluster.here import Here
from akasha_stream.cluster.messages import PeerEvent, PeerGet
from akasha_stream.cluster.owners import Owners
from akasha_stream.cluster.peers import Peers
from akasha_stream.errors import EventNotFound, OwnerUnavailable
from akasha_stream.partitioner import partition_of
from akasha_stream.search.query import EventRef, Incomplete, StoredEvent


class Events:
    """Asks first for the partition that the partitioner names, which has the newest version of all that it has.

    Elsewhere are only systems whose key has moved, as the topic has grown, or whose producer partitions otherwise.
    """

    def __init__(self, here: Here, owners: Owners, peers: Peers, timeout_s: float) -> None:
        self._here = here
        self._owners = owners
        self._peers = peers
        self._timeout_s = timeout_s

    async def find(
        self,
        ref: EventRef,
        embedding: bool,
        within: Systems,
        tokens: Mapping[int, int] | None = None,
        after_timeout_s: float = 0.0,
    ) -> StoredEvent:
        """`tokens`: waited for first, that of its partition. Raises EventNotFound, OwnerUnavailable."""
        partitions = self._here.engine.store.partitions()
        home = partition_of(ref.source_system, partitions)
        after = f"{home}:{tokens[home]}" if tokens and home in tokens else None
        first = PeerGet(event=ref, embedding=embedding, after=after, after_timeout_s=after_timeout_s)
        then = PeerGet(event=ref, embedding=embedding)
        mine = set(self._here.owned())
        rest = set(range(partitions)) - mine
        answers: list[PeerEvent] = []
        failures: dict[int, OwnerUnavailable] = {}
        if home in mine:
            answers.append(await self._here.event(first, within))
        else:
            asked = await self._ask(first, within, {home}, after_timeout_s if after else 0.0)
            answers += asked.answers
            failures |= asked.failures
            # Each has looked through all that it has.
            rest = rest.difference({home}, *(each.owned for each in asked.answers))
        for each in answers:
            if each.event is not None and each.event.position.partition == home and home in each.owned:
                return _with(each.event, each.incomplete)
        asked = await self._ask(then, within, rest, 0.0)
        answers += asked.answers
        failures |= asked.failures
        if home not in mine:
            answers.append(await self._here.event(then, within))
        found = _newest(answers)
        behind = [entry for each in answers for entry in each.incomplete]
        if found is None:
            raise _not_found(ref, home, failures, behind)
        if not any(home in each.owned for each in answers):
            behind.append(lapsed(home))
        return _with(found, behind)

    async def _ask(self, question: PeerGet, within: Systems, partitions: set[int], waits_s: float) -> Asked[PeerEvent]:
        async def ask(url: str, _: list[int], timeout_s: float) -> PeerEvent:
            return await self._peers.event(url, question, within, timeout_s)

        return await ask_owners(self._owners, partitions, ask, self._timeout_s + waits_s)


def _newest(answers: Sequence[PeerEvent]) -> StoredEvent | None:
    """Of a partition that its owner has answered for, what another worker still has of it does not count.

    Nor do versions that are older than what was deleted in the partition that the partitioner names.
    """
    owned = {partition for each in answers for partition in each.owned}
    gone_at = max((each.gone_at for each in answers if each.gone_at is not None), default=-1)
    counting = [
        (each.appended_at, each.event)
        for each in answers
        if each.event is not None
        and each.appended_at > gone_at
        and (each.event.position.partition in each.owned or each.event.position.partition not in owned)
    ]
    return max(counting, key=lambda found: found[0])[1] if counting else None


def _with(event: StoredEvent, incomplete: list[Incomplete]) -> StoredEvent:
    return event.model_copy(update={"incomplete": incomplete}) if incomplete else event


def lapsed(partition: int) -> Incomplete:
    """Only somebody has answered for the partition who may have lost it."""
    detail = (
        f"partition {partition}: the group has not confirmed lately that it belongs to the worker that answered; "
        "another one may have it by now, and newer events"
    )
    return Incomplete(reason="ownership_lapsed", partition=partition, detail=detail)


def _not_found(
    ref: EventRef, home: int, failures: Mapping[int, OwnerUnavailable], behind: Sequence[Incomplete]
) -> EventNotFound | OwnerUnavailable:
    what = f"event {ref.event_id!r} of source system {ref.source_system!r}"
    if home in failures:
        why = failures[home]
        return OwnerUnavailable(f"{what} belongs into partition {home}, which could not be asked: {why}", why.reason)
    unasked = [f"partitions {sorted(failures)} could not be asked"] if failures else []
    notes = "; ".join(unasked + [each.detail for each in behind])
    return EventNotFound(f"no {what} is stored" + (f" ({notes})" if notes else ""))
