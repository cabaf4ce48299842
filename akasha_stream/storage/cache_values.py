r"""A cached value as bytes, so that it comes back the same: same type, same value.

bytes       NUL, then the bytes as they are (no JSON begins with NUL)
the rest    JSON, readable by any client. A datetime, a tuple and bytes inside of it are {"$type": …, "value": …}.
            Of a time zone its offset is kept: Europe/Berlin comes back as +02:00 (and `fold` is lost).

The guide stores text bare and reads everything as JSON, so that "123" comes back as a number and "null" as a miss.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from datetime import datetime
from math import isfinite

from akasha_stream.errors import CacheError

_BINARY = b"\0"
_TYPE, _VALUE = "$type", "value"


def encode(value: object) -> bytes:
    """Raises CacheError for what would not come back the same (a set, a model, NaN, a key that is no text)."""
    if type(value) is bytes:
        return _BINARY + value
    try:
        return json.dumps(_tagged(value, "value"), separators=(",", ":"), ensure_ascii=False).encode()
    except RecursionError:
        raise CacheError("value: is nested too deeply, or contains itself") from None
    except ValueError as error:
        raise CacheError(f"value: {error}") from None  # half a surrogate pair, an int of more than 4,300 digits


def decode(stored: bytes) -> object:
    """The value that encode() was given. What another client wrote that is no JSON comes back as text, else bytes."""
    if stored.startswith(_BINARY):
        return stored[1:]
    try:
        return json.loads(stored, object_hook=_untagged)
    except (ValueError, RecursionError):
        try:
            return stored.decode()
        except UnicodeDecodeError:
            return stored


def _tagged(value: object, at: str) -> object:
    # Exact types: a subclass (an enum, a numpy float) would come back as its base.
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return value
    if isinstance(value, float) and kind is float and isfinite(value):
        return value
    if isinstance(value, list) and kind is list:
        return [_tagged(each, f"{at}[{index}]") for index, each in enumerate(value)]
    if isinstance(value, dict) and kind is dict:
        for key in value:
            if type(key) is not str:
                raise CacheError(f"{at}: the key {key!r} is no text, and JSON would make it one")
        plain = {key: _tagged(each, f"{at}.{key}") for key, each in value.items()}
        return {_TYPE: "dict", _VALUE: list(plain.items())} if _TYPE in plain else plain
    if isinstance(value, tuple) and kind is tuple:
        return {_TYPE: "tuple", _VALUE: [_tagged(each, f"{at}[{index}]") for index, each in enumerate(value)]}
    if isinstance(value, datetime) and kind is datetime:
        return {_TYPE: "datetime", _VALUE: value.isoformat()}
    if isinstance(value, bytes) and kind is bytes:
        return {_TYPE: "bytes", _VALUE: b64encode(value).decode()}
    raise CacheError(f"{at}: a {kind.__name__} ({value!r:.60}) can't be cached and come back the same")


def _untagged(found: dict[str, object]) -> object:
    match found:
        case {"$type": "tuple", "value": list(items), **rest} if not rest:
            return tuple(items)
        case {"$type": "dict", "value": list(items), **rest} if not rest:
            return dict(items)
        case {"$type": "datetime", "value": str(text), **rest} if not rest:
            return datetime.fromisoformat(text)
        case {"$type": "bytes", "value": str(text), **rest} if not rest:
            return b64decode(text)
        case _:
            return found
