"""Spans and sizes as people read them."""

from __future__ import annotations

from rich.filesize import decimal

_UNITS = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"))


def span_in_words(seconds: float) -> str:
    """ "45 d", "3 h", "20 s": two digits or more of the largest unit that has one."""
    for unit, name in _UNITS:
        if abs(seconds) >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} s"


def bytes_in_words(size: int) -> str:
    """ "12.3 GB", of 1,000s."""
    return decimal(size)
