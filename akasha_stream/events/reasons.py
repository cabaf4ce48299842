"""Why a record or an event becomes a dead letter: stable words, for headers, metrics and alerts.

docs/wire-format.md lists the same words; a test compares the two.
"""

from __future__ import annotations

from typing import Final

REASONS: Final[dict[str, str]] = {
    # The whole record
    "null_body": "the record has no value (a Kafka tombstone)",
    "bundle_too_large": "the value, or what it decodes to, is larger than limits.bundle_bytes",
    "content_type_unknown": "the content-type header names no format of ours",
    "record_timestamp": "the record's Kafka timestamp is negative or after the year 9999",
    "bundle_empty": "the value is empty, or holds no events",
    "bundle_too_many_events": "more events than limits.bundle_events",
    "arrow_invalid": "the value is no Arrow IPC stream, or a truncated or corrupt one",
    "arrow_compressed": "the Arrow record batches have compressed buffers (compress the Kafka record instead)",
    "arrow_schema": "a column is missing or has a type that can't be read",
    "json_invalid": "the value is not JSON in UTF-8",
    "json_too_deep": "JSON nested deeper than 1,024 levels",
    "json_too_complex": "more than 1,048,576 opening braces and brackets in one JSON value",
    "json_shape": "the JSON value, or an element of its array, is not an object",
    "forget_invalid": "a control message akasha.forget that is none",
    # One event (or all events of a record)
    "key_mismatch": "the record's key is null, or is not the event's source_system",
    "field_missing": "a required field is absent or null",
    "field_type": "a field has the wrong type",
    "duplicate_key": "the JSON object of the event names a field twice",
    "op_unknown": "op is neither upsert nor delete",
    "utf8_invalid": "a string is not UTF-8",
    "source_system_not_allowed": "the topic does not carry this source_system (limits.source_systems)",
    "source_system_size": "source_system is empty or longer than limits.source_system_bytes",
    "event_id_size": "event_id is empty or longer than limits.event_id_bytes",
    "model_size": "model is empty or longer than limits.model_bytes",
    "content_size": "content is longer than limits.content_bytes",
    "control_characters": "a control character where none is allowed",
    "vector_length": "the embedding has not limits.dimensions numbers",
    "vector_not_finite": "the embedding holds NaN, an infinity or a null",
    "vector_zero": "the embedding is all zeros",
    "vector_magnitude": "the embedding is longer than 1e18 or shorter than 1e-18",
    "created_at_naive": "created_at has no time zone",
    "created_at_invalid": "created_at is not an RFC 3339 time",
    "created_at_range": "created_at lies before 1970, or more than limits.future_s after the record's timestamp",
    "metadata_size": "metadata, as canonical JSON, is longer than limits.metadata_bytes",
    "metadata_invalid": "metadata is not JSON",
    "metadata_not_object": "metadata is JSON, and not an object",
    "metadata_too_deep": "metadata is nested deeper than limits.metadata_depth",
    "metadata_duplicate_key": "an object in metadata names a key twice",
    "metadata_number": "an integer in metadata lies outside of [-2^63, 2^64)",
}
"""Reason → what it means."""
