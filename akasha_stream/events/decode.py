"""Bytes to events: the records of one fetch in, columns out, and a dead letter for all that is bad."""

from __future__ import annotations

from akasha_stream.events.records import DeadLetter, Decoded, Record

__all__ = ["DeadLetter", "Decoded", "Record"]
