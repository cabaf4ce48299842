"""Whether the workers have nothing left of a forgotten system in their files."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import monotonic

from akasha_stream.operations.workers import find_workers
from akasha_stream.settings import Settings

LOOK_S = 0.5


@dataclass(frozen=True, slots=True)
class Unforgotten:
    partition: int
    why: str
    what_to_do: str


async def await_forgotten(
    settings: Settings, offsets: Mapping[int, int], urls: Sequence[str], wait_s: float
) -> list[Unforgotten]:
    """The partitions whose workers are not done after `wait_s`.

    `offsets`: partition → offset of the control message (events/forget.py). A worker is done when it has read it, and
    has rewritten its finished segments without the system's rows. `urls`: of workers that are in no registry.
    """
    deadline = monotonic() + wait_s
    while True:
        workers = await find_workers(settings, urls)
        states = {each.partition: each for worker in workers.workers for each in worker.partitions}
        left: list[Unforgotten] = []
        for partition, offset in sorted(offsets.items()):
            state = states.get(partition)
            if state is None:
                why = "no worker that can be found has it"
                left.append(Unforgotten(partition, why, "it forgets when it starts; then forget again to see"))
            elif state.next_offset <= offset:
                why = f"its worker has read up to offset {state.next_offset}, and the message is at {offset}"
                left.append(Unforgotten(partition, why, "forget again when it has caught up"))
            elif state.forgetting_segments:
                why = f"{state.forgetting_segments} segments are still to be rewritten"
                left.append(Unforgotten(partition, why, "forget again in a while"))
        if not left or monotonic() >= deadline:
            return left
        await asyncio.sleep(LOOK_S)
