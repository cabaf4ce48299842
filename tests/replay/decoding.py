"""A decoder of the logs of tests/hot/log.py, whose records hold no bundles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from akasha_stream.events.records import DeadLetter, Decoded, Record
from tests.hot.log import Log


class LogDecoder:
    """`refuse`: offsets whose records are no bundles any more."""

    def __init__(self, log: Log, refuse: Sequence[int] = ()) -> None:
        self._log = log
        self._refuse = set(refuse)

    def decode(self, records: Sequence[Record]) -> Decoded:
        wanted = {record.offset for record in records}
        dead = [DeadLetter("x", "x", record) for record in records if record.offset in self._refuse]
        kept = [
            replace(message, events=() if offset in self._refuse or offset not in wanted else message.events)
            for offset, message in zip(self._log.offsets, self._log.messages, strict=True)
        ]
        batch = Log(tuple(kept), self._log.offsets).batch()
        at = {record.offset: number for number, record in enumerate(records)}
        return Decoded(batch, np.array([at[o] for o in batch.offset.tolist()], np.int32), dead, 0)
