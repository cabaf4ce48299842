"""The control message that forgets a source system, on the embeddings topic: one to each partition.

    key      the SHA-256 of the source system's name, in hex
    value    {"format": 1, "system_sha256": "…", "requested_at": "…"}
    headers  content-type application/json, CloudEvents 1.0 with ce_type akasha.forget

It goes through the log like any event, so that each shard applies it between the same two records, whoever owns the
partition then and however often the log is read again: rows of the system before it are forgotten, rows after it are
new ones. It names the system by its hash, so that the name does not stay in the log because of it.

Whoever may publish events may publish this: it takes no more than deleting each event of the system would.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from datetime import datetime

import orjson

from akasha_stream.errors import DecodeError
from akasha_stream.events.bundles import JSON_TYPE
from akasha_stream.events.records import Record
from akasha_stream.times import rfc3339

FORGET_TYPE = "akasha.forget"
FORMAT = 1

_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_MOST_BYTES = 4_096


@dataclass(frozen=True, slots=True)
class Forget:
    """`system_sha256`: tiers.forgotten.system_hash of the source system whose rows before this record are forgotten."""

    system_sha256: str
    requested_at: datetime


def encode_forget(request: Forget) -> tuple[bytes, bytes, list[tuple[str, bytes]]]:
    """(key, value, headers) of the record; the same to each partition."""
    at = rfc3339(request.requested_at, "microseconds")
    value = orjson.dumps({"format": FORMAT, "system_sha256": request.system_sha256, "requested_at": at})
    headers = [
        ("content-type", JSON_TYPE.encode()),
        ("ce_specversion", b"1.0"),
        ("ce_type", FORGET_TYPE.encode()),
        ("ce_id", uuid.uuid4().hex.encode()),
        ("ce_source", b"/akasha-stream/forget"),
        ("ce_time", at.encode()),
    ]
    return request.system_sha256.encode(), value, headers


def is_forget(record: Record) -> bool:
    """Whether a record says that it is such a message; cheap, and asked of every record."""
    return any(name == "ce_type" and content == FORGET_TYPE.encode() for name, content in record.headers)


def forgets(record: Record) -> str | None:
    """The hash of the system that a record forgets; None: it is no such message, or one that can't be read."""
    if not is_forget(record):
        return None
    try:
        return decode_forget(record).system_sha256
    except DecodeError:
        return None


def decode_forget(record: Record) -> Forget:
    """Of a record that is_forget().

    Raises:
        DecodeError: it is none, with reason `forget_invalid`: a dead letter. Nothing is forgotten then.
    """
    value = record.value or b""
    try:
        if len(value) > _MOST_BYTES:
            raise ValueError(f"{len(value)} bytes")
        document = orjson.loads(value)
        hashed, version = document["system_sha256"], document["format"]
        at = datetime.fromisoformat(document["requested_at"])
        if version != FORMAT:
            raise ValueError(f"format {version!r}, this release reads {FORMAT}")
        if type(hashed) is not str or not _SHA256.fullmatch(hashed) or at.tzinfo is None:
            raise ValueError("system_sha256 is no SHA-256 in hex, or requested_at has no time zone")
    except (ValueError, KeyError, TypeError) as error:
        why = str(error)[:200]  # it may quote a value of any length
        raise DecodeError("forget_invalid", f"the control message {FORGET_TYPE} can't be read: {why}") from None
    if record.key != hashed.encode():
        raise DecodeError("forget_invalid", "the record's key is not the hash that its value has")
    return Forget(hashed, at)
