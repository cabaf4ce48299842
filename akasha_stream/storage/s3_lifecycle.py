"""A bucket's lifecycle rules on S3: ours are told from others' by their id."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from akasha_stream.storage.adapter import LifecycleRule

_OURS = "akasha-"
_ABORT: dict[str, Any] = {
    # Parts of uploads that nobody will complete: our process was killed, or the store couldn't be reached to abort.
    "ID": f"{_OURS}abort-uploads",
    "Filter": {"Prefix": ""},
    "Status": "Enabled",
    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
}


async def apply(client: Any, bucket: str, rules: Sequence[LifecycleRule]) -> None:
    """Putting a configuration replaces all of it, so others' rules are read first and put back."""
    others = [rule for rule in await _rules(client, bucket) if not rule.get("ID", "").startswith(_OURS)]
    ours = [_to_s3(number, rule) for number, rule in enumerate(rules)]
    aborts = any(rule.abort_uploads for rule in rules)
    wanted = [*others, *ours, *([_ABORT] if ours and not aborts else [])]
    if wanted:
        await client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": wanted})
    else:
        await client.delete_bucket_lifecycle(Bucket=bucket)


async def read(client: Any, bucket: str) -> Sequence[LifecycleRule]:
    ours = [
        rule
        for rule in await _rules(client, bucket)
        if rule.get("ID", "").startswith(_OURS) and rule["ID"] != _ABORT["ID"]
    ]
    return [_from_s3(rule) for rule in sorted(ours, key=lambda rule: str(rule["ID"]))]


async def _rules(client: Any, bucket: str) -> list[dict[str, Any]]:
    try:
        answer = await client.get_bucket_lifecycle_configuration(Bucket=bucket)
    except client.exceptions.ClientError as error:
        if error.response["Error"]["Code"] == "NoSuchLifecycleConfiguration":
            return []
        raise
    rules: list[dict[str, Any]] = answer["Rules"]
    return rules


def _to_s3(number: int, rule: LifecycleRule) -> dict[str, Any]:
    what: dict[str, Any]
    if rule.abort_uploads:
        what = {"AbortIncompleteMultipartUpload": {"DaysAfterInitiation": rule.after_days}}
    elif rule.expire:
        what = {"Expiration": {"Days": rule.after_days}}
    else:
        what = {"Transitions": [{"Days": rule.after_days, "StorageClass": rule.storage_class}]}
    return {"ID": f"{_OURS}{number:04d}", "Filter": {"Prefix": rule.prefix}, "Status": "Enabled", **what}


def _from_s3(rule: dict[str, Any]) -> LifecycleRule:
    prefix = rule.get("Filter", {}).get("Prefix", "")
    if "AbortIncompleteMultipartUpload" in rule:
        return LifecycleRule(prefix, rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"], abort_uploads=True)
    if "Expiration" in rule:
        return LifecycleRule(prefix, rule["Expiration"]["Days"], expire=True)
    (transition,) = rule["Transitions"]
    return LifecycleRule(prefix, transition["Days"], storage_class=transition["StorageClass"])
