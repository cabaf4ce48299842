"""The dead-letter topic read from its start: which letters there are, and which were published again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from akasha_stream.auth.systems import EVERY, Systems
from akasha_stream.dlq.letter import Letter, Mark, Place, read
from akasha_stream.topics.reader import TopicReader, as_record

PREVIEW_BYTES = 256
"""Of a letter's bytes so many are kept while the topic is read; all of them could be more than the memory."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which letters are meant. What is None or empty chooses all."""

    places: frozenset[Place] = frozenset()
    reasons: frozenset[str] = frozenset()
    systems: frozenset[str] = frozenset()
    since_ms: int | None = None
    """Written at or after."""
    until_ms: int | None = None
    """Written before."""
    origin_partition: int | None = None
    origin_offset: int | None = None
    within: Systems = EVERY
    """For whoever sees only these, there are no other letters."""

    def sees(self, letter: Letter) -> bool:
        return visible(letter, self.within)

    def __contains__(self, letter: object) -> bool:
        return (
            isinstance(letter, Letter)
            and self.sees(letter)
            and (not self.places or letter.place in self.places)
            and (not self.reasons or letter.reason in self.reasons)
            and (not self.systems or letter.system in self.systems)
            and (self.since_ms is None or letter.timestamp_ms >= self.since_ms)
            and (self.until_ms is None or letter.timestamp_ms < self.until_ms)
            and (self.origin_partition is None or letter.origin_partition == self.origin_partition)
            and (self.origin_offset is None or letter.origin_offset == self.origin_offset)
        )


@dataclass(slots=True)
class Ledger:
    """`letters`: those that were chosen, in the order of the topic, with the first PREVIEW_BYTES of their values."""

    letters: list[Letter] = field(default_factory=list)
    marks: dict[Place, Mark] = field(default_factory=dict)
    total: int = 0
    """Letters in the topic that may be seen, chosen or not."""
    firsts: Mapping[int, int] = field(default_factory=dict)
    ends: Mapping[int, int] = field(default_factory=dict)

    def mark_of(self, letter: Letter) -> Mark | None:
        """The latest, where it was published again."""
        return self.marks.get(letter.place)


async def read_ledger(reader: TopicReader, choice: Choice, report: Callable[[int, int], None] | None = None) -> Ledger:
    """`report(done, of)` is told how many of how many offsets were read. Raises BrokerError."""
    firsts, ends = await reader.beginnings(), await reader.ends()
    ledger = Ledger(firsts=firsts, ends=ends)
    of = sum(ends[partition] - firsts[partition] for partition in ends)
    done = 0
    async for records in reader.between(firsts, ends):
        for record in records:
            match read(as_record(record)):
                case Mark() as mark:
                    ledger.marks[mark.letter] = mark
                case letter:
                    ledger.total += choice.sees(letter)
                    if letter in choice:
                        ledger.letters.append(_shortened(letter))
        done += len(records)
        if report is not None:
            report(min(done, of), of)
    ledger.letters.sort(key=lambda letter: letter.place)
    return ledger


def visible(letter: Letter, within: Systems) -> bool:
    """Whether who sees these systems sees the letter: by its key. One whose key is not what its event says tells of
    another system, and is for those who see all."""
    return within.all or (letter.system in within and letter.reason != "key_mismatch")


def _shortened(letter: Letter) -> Letter:
    if letter.value is None or len(letter.value) <= PREVIEW_BYTES:
        return letter
    return replace(letter, value=letter.value[:PREVIEW_BYTES], full_size=len(letter.value))
