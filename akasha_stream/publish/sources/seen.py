"""Which rows of a database were published, and what they were: an SQLite file of 16-byte fingerprints."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path


class Seen:
    """(table, id) → fingerprint. Changes are kept by `save`, in one transaction with the token."""

    def __init__(self, path: Path | None) -> None:
        """path: None remembers nothing beyond this run."""
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        # The chunks are read in one thread and acknowledged in another; never at once for the same rows.
        self._database = sqlite3.connect(path or ":memory:", check_same_thread=False, isolation_level=None)
        self._database.executescript(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
            "CREATE TABLE IF NOT EXISTS seen"
            " (part TEXT, id TEXT, fingerprint BLOB, PRIMARY KEY (part, id)) WITHOUT ROWID;"
            "CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;"
        )
        self._put: list[tuple[str, str, bytes]] = []
        self._gone: list[tuple[str, str]] = []

    def all(self, part: str) -> dict[str, bytes]:
        rows: Iterable[tuple[str, bytes]] = self._database.execute(
            "SELECT id, fingerprint FROM seen WHERE part = ?", (part,)
        )
        return dict(rows)

    @property
    def token(self) -> str:
        row = self._database.execute("SELECT value FROM state WHERE name = 'token'").fetchone()
        return row[0] if row else ""

    def put(self, rows: Iterable[tuple[str, str, bytes]]) -> None:
        self._put.extend(rows)

    def forget(self, rows: Iterable[tuple[str, str]]) -> None:
        self._gone.extend(rows)

    def save(self, token: str) -> None:
        self._database.execute("BEGIN IMMEDIATE")
        self._database.executemany("INSERT OR REPLACE INTO seen VALUES (?, ?, ?)", self._put)
        self._database.executemany("DELETE FROM seen WHERE part = ? AND id = ?", self._gone)
        self._database.execute("INSERT OR REPLACE INTO state VALUES ('token', ?)", (token,))
        self._database.execute("COMMIT")
        self._put.clear()
        self._gone.clear()

    def clear(self) -> None:
        self._database.execute("DELETE FROM seen")

    def close(self) -> None:
        self._database.close()
