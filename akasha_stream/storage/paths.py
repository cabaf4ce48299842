"""Which bucket names and object paths are accepted: those that mean the same on S3, GCS, Azure and a file system.

A segment must be able to move from any provider to any other, so what one of them can't hold is refused by all.
"""

from __future__ import annotations

import re
import unicodedata

from akasha_stream.errors import ObjectPathRefused

PATH_BYTES = 1024
"""S3's and GCS's limit; Azure's is 1,024 characters."""
SEGMENT_BYTES = 255
"""ext4's and XFS's limit; Azure's is 254 segments of any length."""
SEGMENTS = 254

# S3's rules, the narrowest: https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+")


def check_bucket(bucket: str) -> None:
    """Raises ObjectPathRefused."""
    if not _BUCKET.fullmatch(bucket) or ".." in bucket or _ADDRESS.fullmatch(bucket):
        raise ObjectPathRefused(
            f"{bucket!r} can't be a bucket name: 3 to 63 of a-z, 0-9, dot and hyphen, "
            "a letter or digit at both ends, no two dots in a row, no IP address"
        )


def check_path(path: str) -> None:
    """Raises ObjectPathRefused."""
    if not path:
        raise ObjectPathRefused("an object's path must not be empty")
    _check_characters(path)
    segments = path.split("/")
    if len(segments) > SEGMENTS:
        raise ObjectPathRefused(f"{_short(path)} has more than {SEGMENTS} segments")
    for segment in segments:
        _check_segment(segment, path)


def check_prefix(prefix: str) -> None:
    """A prefix is the start of a path: its last segment may be cut anywhere. Raises ObjectPathRefused."""
    _check_characters(prefix)
    for segment in prefix.split("/")[:-1]:
        _check_segment(segment, prefix)


def _check_characters(path: str) -> None:
    try:
        size = len(path.encode())
    except UnicodeEncodeError as error:
        raise ObjectPathRefused(f"{_short(path)} is no valid Unicode: {error.reason}") from None
    if size > PATH_BYTES:
        raise ObjectPathRefused(f"{_short(path)} has {size} bytes as UTF-8; {PATH_BYTES} is the limit")
    for character in path:
        if unicodedata.category(character) == "Cc" or character in "￾￿":
            raise ObjectPathRefused(f"{_short(path)} holds a control character ({character!r})")
    if "\\" in path:  # Azure turns it into a slash
        raise ObjectPathRefused(f"{_short(path)} holds a backslash")


def _check_segment(segment: str, path: str) -> None:
    if segment in ("", ".", ".."):
        raise ObjectPathRefused(f"{_short(path)} has a segment {segment!r}: a path is relative, without '.' and '..'")
    if segment.endswith("."):  # Azure drops it
        raise ObjectPathRefused(f"{_short(path)} has a segment that ends with a dot")
    if len(segment.encode()) > SEGMENT_BYTES:
        raise ObjectPathRefused(f"{_short(path)} has a segment of more than {SEGMENT_BYTES} bytes")


def _short(path: str) -> str:
    return ascii(path if len(path) <= 80 else path[:77] + "...")
