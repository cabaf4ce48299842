"""A bucket's lifecycle rules on GCS.

They have no names there, so a rule counts as ours when it has the form that ours have: one prefix, an age, and
nothing else. Others stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from akasha_stream.storage.adapter import LifecycleRule


def merged(found: Sequence[dict[str, Any]], rules: Sequence[LifecycleRule]) -> Sequence[dict[str, Any]]:
    return [*(rule for rule in found if _from_gcs(rule) is None), *(_to_gcs(rule) for rule in rules)]


def ours(found: Sequence[dict[str, Any]]) -> Sequence[LifecycleRule]:
    return [rule for each in found if (rule := _from_gcs(each)) is not None]


def _to_gcs(rule: LifecycleRule) -> dict[str, Any]:
    if rule.abort_uploads:
        action = {"type": "AbortIncompleteMultipartUpload"}
    elif rule.storage_class is None:
        action = {"type": "Delete"}
    else:
        action = {"type": "SetStorageClass", "storageClass": rule.storage_class}
    return {"action": action, "condition": {"age": rule.after_days, "matchesPrefix": [rule.prefix]}}


def _from_gcs(rule: dict[str, Any]) -> LifecycleRule | None:
    action, condition = rule.get("action", {}), rule.get("condition", {})
    prefixes, age = condition.get("matchesPrefix", []), condition.get("age")
    if set(condition) != {"age", "matchesPrefix"} or len(prefixes) != 1 or not age:
        return None
    match action:
        case {"type": "Delete"}:
            return LifecycleRule(prefixes[0], age, expire=True)
        case {"type": "AbortIncompleteMultipartUpload"}:
            return LifecycleRule(prefixes[0], age, abort_uploads=True)
        case {"type": "SetStorageClass", "storageClass": storage_class}:
            return LifecycleRule(prefixes[0], age, storage_class=storage_class)
        case _:
            return None
