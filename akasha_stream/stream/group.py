"""What this worker knows of its consumer group: what it may still call its own, and who has the rest.

A worker that was stopped (SIGSTOP, a suspended machine, a long pause of the disk) does not notice that the group gave
its partitions to others meanwhile. So a partition is its own only for as long as the group can't have given it away:
`ingest.session_timeout_s` after the sending of the last heartbeat that the group accepted, as a lease. The clock goes
on while the process, or the machine, is stopped.

Nor is a partition that was assigned its own before its shard was made ready for that: it may be open from before others
had it, and nobody knows yet how far it is behind. What it had in the generation just before has been nobody else's.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from aiokafka.protocol.group import JoinGroupRequest
from faust.types import TP

if TYPE_CHECKING:
    from akasha_stream.stream.app import IngestApp


def now_s() -> float:
    """Seconds, of a clock that goes on while the machine is suspended, where there is one."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Group:
    """Read in the event loop and in search threads, written in the consumer's thread."""

    def __init__(self, topic: str, session_timeout_s: float) -> None:
        self._topic = topic
        self._session_timeout_s = session_timeout_s
        self._confirmed_at = -float("inf")
        self._app: IngestApp | None = None
        self._certain: tuple[int, frozenset[int]] = (-1, frozenset())
        """Generation of the group, and the partitions that are this worker's in it."""
        self._members: Mapping[str, Mapping[str, Sequence[int]]] = {}

    def follow(self, app: IngestApp | None) -> None:
        """The app that is now the member; None: there is none."""
        self._app = app

    # ── told by the consumer ─────────────────────────────────────────────────────────────────────────────

    def watch(self, coordinator: Any) -> None:
        """Hear of the heartbeats of an aiokafka GroupCoordinator, in its thread."""
        beat, rejoin = coordinator._do_heartbeat, coordinator._do_rejoin_group

        async def heard() -> bool:
            sent_at = now_s()
            accepted = bool(await beat())
            if accepted:
                self._confirmed_at = sent_at
            elif coordinator.member_id == JoinGroupRequest.UNKNOWN_MEMBER_ID:
                self._confirmed_at = -float("inf")
            return accepted

        async def joined(subscription: Any) -> bool:
            before = coordinator.generation, coordinator.member_id
            done = bool(await rejoin(subscription))
            if done:
                self._carry_over(before, (coordinator.generation, coordinator.member_id))
                # Not a heartbeat's interval later: searches ask at once whether the new partitions are ours.
                await heard()
            return done

        coordinator._do_heartbeat, coordinator._do_rejoin_group = heard, joined

    def _carry_over(self, before: tuple[int, str], after: tuple[int, str]) -> None:
        generation, partitions = self._certain
        if generation != after[0]:
            following = generation == before[0] == after[0] - 1 and before[1] == after[1]
            self._certain = after[0], partitions if following else frozenset()

    def generation(self) -> int:
        """Of the group, as this member has it; -1: it is none."""
        consumer = self._consumer()
        return -1 if consumer is None else int(consumer._coordinator.generation)

    def ready(self, generation: int, partitions: Iterable[int]) -> None:
        """The shards of what was assigned in this generation are open, and how far they are behind is known."""
        self._certain = generation, frozenset(partitions)

    # ── asked by searches ────────────────────────────────────────────────────────────────────────────────

    def confirmed(self) -> bool:
        """Whether the group can't have put this worker out yet."""
        return self._app is not None and now_s() - self._confirmed_at < self._session_timeout_s

    def holds(self, partition: int) -> bool:
        """Whether a partition is certainly still this worker's."""
        consumer = self._consumer()
        if consumer is None or not self.confirmed():
            return False
        generation, certain = self._certain
        return (
            partition in certain
            and generation == consumer._coordinator.generation
            and TP(self._topic, partition) in consumer.assignment()
        )

    def _consumer(self) -> Any:
        """aiokafka's; None where there is none at the moment."""
        return None if self._app is None else cast("Any", self._app.consumer)._thread._consumer

    def owners(self) -> dict[int, str]:
        """Partition → URL of its owner, as of the last assignment."""
        return {
            partition: url for url, topics in self._distribution().items() for partition in topics.get(self._topic, ())
        }

    def urls(self) -> list[str]:
        """Of the members, as of the last assignment."""
        return list(self._distribution())

    def _distribution(self) -> Mapping[str, Mapping[str, Sequence[int]]]:
        if self._app is not None:
            # Replaced as a whole by each assignment; empty before the first.
            self._members = cast("Any", self._app.assignor).external_topic_distribution or self._members
        return self._members
