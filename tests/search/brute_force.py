"""What a search must find, said without any of its machinery."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tests.search.memory_store import Row

OPERATORS = {"gt": lambda a, b: a > b, "gte": lambda a, b: a >= b, "lt": lambda a, b: a < b, "lte": lambda a, b: a <= b}
NOTHING = object()


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    return "number" if isinstance(value, int | float) else type(value).__name__


def _equal(a: Any, b: Any) -> bool:
    return _kind(a) == _kind(b) and bool(a == b)


def meets(metadata: Mapping[str, Any], conditions: Mapping[str, Any]) -> bool:
    for key, condition in conditions.items():
        value: Any = metadata
        for part in key.split("."):
            value = value.get(part, NOTHING) if isinstance(value, dict) else NOTHING
        for op, operand in (condition if isinstance(condition, dict) else {"eq": condition}).items():
            match op:
                case "eq":
                    good = value is not NOTHING and _equal(value, operand)
                case "ne":
                    good = value is NOTHING or not _equal(value, operand)
                case "in":
                    good = value is not NOTHING and any(_equal(value, x) for x in operand)
                case "exists":
                    good = (value is not NOTHING) == operand
                case _:
                    same = value is not NOTHING and _kind(value) == _kind(operand) != "bool"
                    good = same and OPERATORS[op](value, operand)
            if not good:
                return False
    return True


def expected(
    rows: Sequence[Row],
    query: Sequence[float],
    k: int,
    *,
    threshold: float | None = None,
    filters: Mapping[str, Any] | None = None,
) -> list[tuple[str, str, float]]:
    """(system, id, cosine) of the best k of `rows`, where a later row replaces one of the same identity."""
    filters = filters or {}
    latest = {(r.source_system, r.event_id): r for r in rows}
    q = np.array(query, np.float64)
    found = []
    for (system, event_id), row in latest.items():
        v = np.array(row.vector, np.float64)
        cosine = round(float(q @ v / np.linalg.norm(q) / np.linalg.norm(v)), 6)
        if threshold is not None and cosine < threshold:
            continue
        if "systems" in filters and system not in filters["systems"]:
            continue
        if "created_after" in filters and row.created_at < filters["created_after"]:
            continue
        if "created_before" in filters and row.created_at >= filters["created_before"]:
            continue
        if not meets(row.metadata, filters.get("metadata", {})):
            continue
        found.append((system, event_id, cosine))
    found.sort(key=lambda f: (-f[2], f[0], f[1]))
    return found[:k]
