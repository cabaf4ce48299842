"""One dead letter, whole."""

from __future__ import annotations

from akasha_stream.auth.systems import EVERY, Systems
from akasha_stream.dlq.ledger import Choice, read_ledger, visible
from akasha_stream.dlq.letter import Letter, Mark, Place, read
from akasha_stream.errors import LetterNotFound
from akasha_stream.topics.reader import TopicReader, as_record


async def find_letter(reader: TopicReader, place: Place, within: Systems = EVERY) -> tuple[Letter, Mark | None]:
    """With its mark where it was published again; one outside `within` is none. Raises LetterNotFound, BrokerError."""
    record = await reader.one(place.partition, place.offset)
    letter = None if record is None else read(as_record(record))
    if not isinstance(letter, Letter) or not visible(letter, within):
        raise LetterNotFound(f"there is no letter {place} in {reader.topic}; see: akasha-stream dlq list")
    ledger = await read_ledger(reader, Choice(places=frozenset({place})))
    return letter, ledger.mark_of(letter)
