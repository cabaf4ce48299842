"""Ingest's rules for an event, applied by the producer; and how large the event is."""

from __future__ import annotations

from akasha_stream.errors import ValidationError
from akasha_stream.events.bundles import canonical_json
from akasha_stream.events.check import check_event
from akasha_stream.events.model import Event
from akasha_stream.settings import Limits


def checked_size(event: Event, limits: Limits) -> int:
    """Bytes of its content and metadata.

    Raises:
        ValidationError: the event breaks a limit; the message names it.
    """
    try:
        check_event(event, limits)
        content = event.content
        size = len(content) if content.isascii() else len(content.encode())
        return size + (len(canonical_json(event.metadata)) if event.metadata else 2)
    except ValidationError as error:
        name = f"{event.source_system}/{event.event_id}"[:200]
        raise ValidationError(error.reason, f"event {name!a}: {error}") from None
