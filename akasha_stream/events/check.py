"""The rules of an event for one event, before it is published: what passes here is no dead letter later."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta

import numpy as np
import orjson

from akasha_stream.errors import ValidationError
from akasha_stream.events.metadata import canonical_value
from akasha_stream.events.model import Event
from akasha_stream.events.validation import LARGEST_SQUARE, SMALLEST_SQUARE, vector_problem
from akasha_stream.settings import Limits

_STRICT_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f]")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def check_event(event: Event, limits: Limits) -> None:
    """Check the limits that decoding will check, with this machine's clock for the record's timestamp.

    Raises:
        ValidationError: with a reason of `akasha_stream.events.reasons`.
    """
    _check_string("source_system", event.source_system, 1, limits.source_system_bytes, _STRICT_CONTROL)
    _check_allowed(event.source_system, limits)
    _check_string("event_id", event.event_id, 1, limits.event_id_bytes, _STRICT_CONTROL)
    ticks = (event.created_at - _EPOCH) // _MICROSECOND
    if not 0 <= ticks <= (time.time() + limits.future_s) * 1e6:
        ahead = f"{limits.future_s:g} s from now"
        raise ValidationError("created_at_range", f"created_at is {event.created_at}, allowed is 1970 to {ahead}")
    if event.op == "delete":
        return
    if event.op != "upsert":
        raise ValidationError("op_unknown", f"op is {event.op!a}, not upsert or delete")
    _check_string("model", event.model, 1, limits.model_bytes, _STRICT_CONTROL)
    _check_string("content", event.content, 0, limits.content_bytes, _CONTROL)
    vector = event.embedding
    if len(vector) != limits.dimensions:
        wanted = limits.dimensions
        raise ValidationError("vector_length", f"the embedding has {len(vector)} numbers, wanted are {wanted}")
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        square = float(np.dot(vector, vector))
    if not SMALLEST_SQUARE <= square <= LARGEST_SQUARE:
        raise ValidationError(*vector_problem(vector))
    if event.metadata:
        _check_metadata(event, limits)


def _check_allowed(system: str, limits: Limits) -> None:
    allowed = limits.source_systems
    if allowed and not any(system.startswith(each[:-1]) if each.endswith("*") else system == each for each in allowed):
        raise ValidationError("source_system_not_allowed", f"this topic does not carry the source_system {system!a}")


def _check_metadata(event: Event, limits: Limits) -> None:
    metadata = event.metadata
    canonical = canonical_value(metadata if type(metadata) is dict else dict(metadata), limits.metadata_depth)
    if b"\\" in canonical or canonical.count(b"{") + canonical.count(b"[") > limits.metadata_depth:
        # What Python calls a tuple or an Enum is an array or a string once it is JSON.
        canonical_value(orjson.loads(canonical), limits.metadata_depth)
    if len(canonical) > limits.metadata_bytes:
        size = len(canonical)
        raise ValidationError("metadata_size", f"metadata has {size} bytes, allowed are 2 to {limits.metadata_bytes}")


def _check_string(name: str, text: str, least: int, most: int, forbidden: re.Pattern[str]) -> None:
    if type(text) is not str:
        raise ValidationError("field_type", f"{name} is a {type(text).__name__}, not a string")
    try:
        size = len(text) if text.isascii() else len(text.encode())
    except UnicodeEncodeError:
        raise ValidationError("utf8_invalid", f"{name} has a lone surrogate and can't be written as UTF-8") from None
    if not least <= size <= most:
        raise ValidationError(f"{name}_size", f"{name} has {size} bytes, allowed are {least} to {most}")
    if found := forbidden.search(text):
        raise ValidationError("control_characters", f"{name} has the control character U+{ord(found[0]):04X}")
