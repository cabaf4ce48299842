"""What reading a part of the log again changes, in numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Effect:
    """Of the events of a range, as today's settings would have them."""

    records: int = 0
    events: int = 0
    bytes: int = 0
    refused: int = 0
    """Dead letters that today's settings make of it. None is sent: those of the first reading are in the topic."""
    first_ms: int | None = None
    last_ms: int | None = None
    """When the log took the first and the last record, milliseconds since 1970."""
    unchanged: int = 0
    """Events that are stored, replaced, deleted or dropped as today's settings would have it."""
    new: int = 0
    """Events that should be live rows, and are none."""
    replaced: int = 0
    """Rows that should hold something else: other redaction, other vectors."""
    removed: int = 0
    """Live rows that should be none: they would be dropped as duplicates today, or refused."""
    deleted: int = 0
    """Deletes whose identity is still live."""
    first_difference: int | None = None
    """Offset of the first record of which something else would have become, be it replaced since or not."""

    @property
    def changes(self) -> int:
        return self.new + self.replaced + self.removed + self.deleted
