"""Whether an S3 object can be read now, from what a HEAD says of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from akasha_stream.storage.adapter import RestoreState

ARCHIVE_CLASSES = frozenset({"GLACIER", "DEEP_ARCHIVE"})
"""Those that must be restored before a read; GLACIER_IR needs no restore."""

_EXPIRY = re.compile(r'expiry-date="([^"]+)"')


def restore_state_of(head: Mapping[str, Any]) -> RestoreState:
    """`head["Restore"]` is `ongoing-request="true"`, or `ongoing-request="false", expiry-date="Fri, 21 Dec …"`.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html
    """
    archived = head.get("StorageClass") in ARCHIVE_CLASSES or "ArchiveStatus" in head  # the latter: INTELLIGENT_TIERING
    if not archived:
        return RestoreState("available")
    restore = head.get("Restore")
    if restore is None:
        return RestoreState("archived")
    if 'ongoing-request="true"' in restore:
        return RestoreState("restoring")
    expiry = _EXPIRY.search(restore)
    return RestoreState("restored", parsedate_to_datetime(expiry[1]) if expiry else None)
