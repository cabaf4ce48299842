"""Ranges of offsets [start, end), as sorted lists without overlaps."""

from __future__ import annotations

from collections.abc import Iterable

type Span = tuple[int, int]


def union(spans: Iterable[Span]) -> list[Span]:
    """Empty ones are left out."""
    merged: list[Span] = []
    for start, end in sorted(span for span in spans if span[0] < span[1]):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged


def minus(spans: Iterable[Span], less: Iterable[Span]) -> list[Span]:
    """What of `spans` is not in `less`."""
    left: list[Span] = []
    taken = union(less)
    for start, end in union(spans):
        at = start
        for from_, until in taken:
            if from_ < end and at < until:
                left.append((at, from_))
                at = until
        left.append((at, end))
    return union(left)


def size(spans: Iterable[Span]) -> int:
    return sum(end - start for start, end in spans)
