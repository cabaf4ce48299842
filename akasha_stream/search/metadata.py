"""Metadata conditions: a vectorised prefilter on canonical JSON text, and the exact test of a parsed value.

The prefilter only ever lets too much through: it looks for `"key":` or `"key":"value"` as a substring,
which canonical JSON (sorted keys, no spaces) holds wherever the condition does. What passes is parsed
and tested exactly, and only for rows that rank high enough to be returned.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from akasha_stream.search.query import Condition, Scalar

_MISSING = object()
_IN_PATTERNS = 8  # beyond this many alternatives the key alone is looked for


class MetadataFilter:
    """All metadata conditions of one search."""

    def __init__(self, conditions: Mapping[str, Condition | Scalar]) -> None:
        self._conditions = [(key, c if isinstance(c, Condition) else Condition(eq=c)) for key, c in conditions.items()]
        self._patterns = [
            "|".join(_escaped(p) for p in alternatives)
            for key, c in self._conditions
            if (alternatives := _substrings(key, c))
        ]

    def __bool__(self) -> bool:
        return bool(self._conditions)

    def possible(self, column: pa.ChunkedArray[pa.StringScalar]) -> NDArray[np.bool_] | None:
        """(len(column),) False where a row certainly fails; None: nothing can be said."""
        mask: NDArray[np.bool_] | None = None
        for pattern in self._patterns:
            # RE2 takes 6.4 ms per 100 k rows of 49 bytes, match_substring 8.2.
            found = pc.match_substring_regex(column, pattern).to_numpy(zero_copy_only=False).astype(bool, copy=False)
            mask = found if mask is None else mask & found
        return mask

    def holds(self, text: str | bytes) -> bool:
        """Whether a row's canonical JSON meets every condition."""
        value = orjson.loads(text)
        return all(_holds(_reach(value, key), c) for key, c in self._conditions)


def _substrings(key: str, c: Condition) -> list[str]:
    """Substrings of which a matching row's JSON has at least one; [] where no substring is certain."""
    last = key.rsplit(".", 1)[-1]
    if not _plain(last):
        return []
    # A dotted key may also be a literal one ("a.b":), hence no opening quote then.
    head = f'{last}":' if "." in key else f'"{last}":'
    given = c.model_fields_set
    if "eq" in given:
        return [head + _literal(c.eq)]
    if c.in_ is not None:
        return [head + _literal(v) for v in c.in_] if len(c.in_) <= _IN_PATTERNS else [head]
    if given & {"gt", "gte", "lt", "lte"} or c.exists:
        return [head]
    return []


def _literal(value: Scalar) -> str:
    """The value's JSON where only one spelling is possible, else as much of it as is certain."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"' if _plain(value) else '"'
    return ""  # 5, 5.0 and 5e0 are one number


def _escaped(text: str) -> str:
    """As an RE2 literal (re.escape also escapes spaces, which RE2 refuses)."""
    return re.sub(r"([^A-Za-z0-9_ ])", r"\\\1", text)


def _plain(text: str) -> bool:
    return text.isascii() and text.isprintable() and '"' not in text and "\\" not in text


def _reach(value: Any, key: str) -> Any:
    """The value at a dotted key; a literal key of that name goes first. _MISSING where there is none."""
    if not isinstance(value, dict):
        return _MISSING
    if key in value:
        return value[key]
    head, dot, rest = key.partition(".")
    while dot:
        if head in value and (found := _reach(value[head], rest)) is not _MISSING:
            return found
        more, dot, rest = rest.partition(".")
        head = f"{head}.{more}"
    return _MISSING


def _same(a: Any, b: Scalar) -> bool:
    # In Python True == 1; in JSON they differ.
    return isinstance(a, bool) == isinstance(b, bool) and bool(a == b)


def _ordered(compare: Callable[[Any, Any], bool], a: Any, b: str | float) -> bool:
    if isinstance(b, str):
        return isinstance(a, str) and compare(a, b)
    return isinstance(a, int | float) and not isinstance(a, bool) and compare(a, b)


def _holds(value: Any, c: Condition) -> bool:
    given = c.model_fields_set
    present = value is not _MISSING
    if c.exists is not None and c.exists != present:
        return False
    if "eq" in given and not (present and _same(value, c.eq)):
        return False
    if "ne" in given and present and _same(value, c.ne):
        return False
    if c.in_ is not None and not (present and any(_same(value, v) for v in c.in_)):
        return False
    for bound, compare in ((c.gt, operator.gt), (c.gte, operator.ge), (c.lt, operator.lt), (c.lte, operator.le)):
        if bound is not None and not (present and _ordered(compare, value, bound)):
            return False
    return True
