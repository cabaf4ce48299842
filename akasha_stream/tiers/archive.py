"""Storage classes that can't be read as they are: what is in them must be restored first."""

from __future__ import annotations

from akasha_stream.storage.s3_restore import ARCHIVE_CLASSES

_ARCHIVES = {"s3": ARCHIVE_CLASSES, "azure": frozenset({"Archive"})}
ALL = ARCHIVE_CLASSES | {"Archive"}
"""Of every provider; no other class has one of these names."""

# Of the retrieval that restore() asks for, Standard on both.
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/restoring-objects-retrieval-options.html
# https://learn.microsoft.com/azure/storage/blobs/archive-rehydrate-overview
_TAKES = {
    ("s3", "GLACIER"): "3 to 5 hours",
    ("s3", "DEEP_ARCHIVE"): "up to 12 hours",
    ("azure", "Archive"): "up to 15 hours",
}


def is_archive(provider: str, storage_class: str) -> bool:
    """Google's ARCHIVE is none: it is read at once, for a fee."""
    return storage_class in _ARCHIVES.get(provider, frozenset())


def restore_takes(provider: str, storage_class: str) -> str:
    """How long the provider says that restoring takes, in words; "" for what needs no restoring."""
    return _TAKES.get((provider, storage_class), "")
