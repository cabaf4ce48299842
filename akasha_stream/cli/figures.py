"""Figures for people: short, and the same everywhere."""

from __future__ import annotations

from datetime import UTC, datetime


def duration(seconds: float | None) -> str:
    """`0.3 s`, `12 s`, `4 min 10 s`, `3 h 5 min`, `2 d 4 h`; `-` where it is not known."""
    if seconds is None:
        return "-"
    if seconds < 10:
        return f"{seconds:.1f} s" if seconds else "0 s"
    whole = round(seconds)
    for large, small, per_large, per_small in (("d", "h", 86_400, 3_600), ("h", "min", 3_600, 60), ("min", "s", 60, 1)):
        if whole >= per_large:
            rest = whole % per_large // per_small if whole < 10 * 86_400 else 0
            return f"{whole // per_large} {large}" + (f" {rest} {small}" if rest else "")
    return f"{whole} s"


def amount(count: int | None, *, exact: bool = True) -> str:
    """`1,234`, `12.3M`, `~1,234` where it is an estimate, `-` where it is not known."""
    if count is None:
        return "-"
    if count >= 10_000_000:
        return f"{'' if exact else '~'}{count / 1e6:,.1f}M"
    return f"{'' if exact else '~'}{count:,}"


def offset(position: int | None) -> str:
    """Exact, as other commands take it; `-` where there is none."""
    return "-" if position is None else str(position)


def counted(count: int, noun: str) -> str:
    """`1 letter`, `1,234 letters`"""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def size(count: float, *, exact: bool = True) -> str:
    """`512 B`, `3.4 KB`, `1.2 GB`: powers of 1,000; `~3.4 KB` where it is an estimate."""
    about = "" if exact else "~"
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1_000:
            return f"{about}{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{about}{count:.1f} {unit}"
        count /= 1_000
    return f"{about}{count:.1f} TB"


def moment(timestamp_ms: int) -> str:
    """`2026-07-23 10:00:00.123Z`: UTC, as in every log of ours."""
    return datetime.fromtimestamp(timestamp_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + "Z"


def rate(per_second: float | None) -> str:
    return "-" if per_second is None else f"{per_second:,.0f}/s" if per_second >= 10 else f"{per_second:.1f}/s"
