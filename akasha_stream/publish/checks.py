"""The rules of an event for a producer: what ingest would refuse is refused before it is sent."""

from __future__ import annotations

import re
import time

import numpy as np

from akasha_stream.errors import ValidationError
from akasha_stream.events.bundles import canonical_json
from akasha_stream.events.metadata import canonical_object
from akasha_stream.events.model import Event
from akasha_stream.events.validation import LARGEST_SQUARE, SMALLEST_SQUARE
from akasha_stream.settings import Limits

_NAME_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_TEXT_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")


def check_event(event: Event, limits: Limits) -> int:
    """Bytes of its content and metadata. Some 2 µs; the same words as in dead letters.

    Raises:
        ValidationError: the event breaks a limit; the message names it.
    """
    try:
        return _check(event, limits)
    except ValidationError as error:
        name = f"{event.source_system}/{event.event_id}"[:200]
        raise ValidationError(error.reason, f"event {name!a}: {error}") from None


def _check(event: Event, limits: Limits) -> int:
    _check_name("source_system", event.source_system, limits.source_system_bytes)
    _check_name("event_id", event.event_id, limits.event_id_bytes)
    if not 0 <= event.created_at.timestamp() <= time.time() + limits.future_s:
        raise ValidationError("created_at_range", f"created_at {event.created_at} lies before 1970 or too far ahead")
    if event.op == "delete":
        return 0
    if event.op != "upsert":
        raise ValidationError("op_unknown", f"op is {event.op!r}, neither upsert nor delete")
    _check_name("model", event.model, limits.model_bytes)
    size = _text_size("content", event.content)
    if size > limits.content_bytes:
        raise ValidationError("content_size", f"content has {size} bytes, allowed are {limits.content_bytes}")
    if not event.content.isprintable() and (found := _TEXT_CONTROL.search(event.content)):
        raise ValidationError("control_characters", f"content has the control character U+{ord(found[0]):04X}")
    _check_vector(event, limits)
    if not event.metadata:
        return size + 2
    metadata = canonical_object(canonical_json(event.metadata), limits.metadata_depth)
    if len(metadata) > limits.metadata_bytes:
        raise ValidationError(
            "metadata_size", f"metadata has {len(metadata)} bytes as JSON, allowed are {limits.metadata_bytes}"
        )
    return size + len(metadata)


def _check_name(field: str, value: object, most: int) -> None:
    size = _text_size(field, value)
    if not 1 <= size <= most:
        raise ValidationError(f"{field}_size", f"{field} has {size} bytes, allowed are 1 to {most}")
    assert isinstance(value, str)
    if not value.isprintable() and _NAME_CONTROL.search(value):
        raise ValidationError("control_characters", f"{field} has a control character")


def _text_size(field: str, value: object) -> int:
    if not isinstance(value, str):
        raise ValidationError("field_type", f"{field} is {type(value).__name__}, not a string")
    if value.isascii():
        return len(value)
    try:
        return len(value.encode())
    except UnicodeEncodeError:
        raise ValidationError("utf8_invalid", f"{field} can't be written as UTF-8") from None


def _check_vector(event: Event, limits: Limits) -> None:
    vector = event.embedding
    if len(vector) != limits.dimensions:
        detail = f"the embedding has {len(vector)} numbers, wanted are {limits.dimensions}"
        raise ValidationError("vector_length", detail)
    # One product finds NaN, infinities, zeros and magnitudes: each leaves the range.
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        square = float(vector @ vector)
    if SMALLEST_SQUARE <= square <= LARGEST_SQUARE:
        return
    if not np.isfinite(vector).all():
        raise ValidationError("vector_not_finite", "the embedding has NaN or infinite values")
    if not vector.any():
        raise ValidationError("vector_zero", "the embedding is all zeros")
    raise ValidationError("vector_magnitude", "the embedding is longer than 1e18 or shorter than 1e-18")
