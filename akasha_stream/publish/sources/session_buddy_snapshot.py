"""A readable copy of a Session-Buddy database, whoever has it open and whichever DuckDB wrote it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import structlog

from akasha_stream.errors import SourceError
from akasha_stream.publish.sources import session_buddy_export

log = structlog.get_logger(__name__)

COPIES = 5
EXPORT_S = 600.0


def copy_database(path: Path, folder: Path) -> Path:
    """Copy a database and its write-ahead log: a live writer blocks even those who only want to read.

    The main file changes only at a checkpoint, which also empties the log. A copy during which that happened
    is made again.
    """
    target = folder / "snapshot.duckdb"
    log_file = path.with_name(path.name + ".wal")
    for _ in range(COPIES):
        try:
            before = path.stat()
            shutil.copyfile(path, target)
            wal = target.with_name(target.name + ".wal")
            wal.unlink(missing_ok=True)
            try:
                shutil.copyfile(log_file, wal)
            except FileNotFoundError:
                pass
            after = path.stat()
        except OSError as error:
            raise SourceError(f"{path}: {error.strerror}") from error
        if (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns):
            return target
    raise SourceError(f"{path} is rewritten faster than it can be copied; try again when Session-Buddy is quieter")


def export_tables(snapshot: Path, folder: Path, timezone: str | None, interpreter: str | None) -> dict[str, Any]:
    """Write the tables of a copied database into `folder`; what `session_buddy_export.export` returns."""
    if interpreter is not None:
        return _export_elsewhere([interpreter], snapshot, folder, timezone)
    import duckdb

    connection = duckdb.connect()
    try:
        if timezone is not None:
            _check_zone(connection, timezone)
        try:
            _attach(connection, snapshot)
        except duckdb.Error as error:
            if "newer version of DuckDB" not in str(error) and "version number" not in str(error):
                version = duckdb.__version__
                raise SourceError(f"not a database that DuckDB {version} can read: {_line(error)}") from error
            log.info("session_buddy_newer_duckdb", ours=duckdb.__version__)
            return _export_elsewhere(_uv_python(duckdb.__version__), snapshot, folder, timezone)
        try:
            return dict(session_buddy_export.export(connection, "snapshot", str(folder), timezone))
        except duckdb.Error as error:
            raise SourceError(f"the database can't be read: {_line(error)}") from error
    finally:
        connection.close()


def _attach(connection: Any, snapshot: Path) -> None:
    import duckdb

    attach = f"ATTACH '{str(snapshot).replace(chr(39), chr(39) * 2)}' AS snapshot"
    try:
        connection.execute(attach)
    except duckdb.Error as error:
        # Session-Buddy makes HNSW indexes where it can get the extension; replaying its log needs it too.
        if "HNSW" not in str(error) and "index" not in str(error).lower():
            raise
        import duckdb_extension_vss

        extensions = Path(duckdb_extension_vss.__file__).parent / "extensions"
        binary = next(extensions.glob(f"v{duckdb.__version__}/vss.duckdb_extension"))
        connection.execute(f"LOAD '{binary}'")
        connection.execute(attach)


def _check_zone(connection: Any, timezone: str) -> None:
    if not connection.execute("SELECT count(*) FROM pg_timezone_names() WHERE name = ?", [timezone]).fetchone()[0]:
        raise SourceError(f"--timezone {timezone}: no such zone")


def _uv_python(ours: str) -> list[str]:
    uv = shutil.which("uv")
    if uv is None:
        raise SourceError(
            f"the database was written by a newer DuckDB than ours ({ours}); say with --duckdb-python which Python "
            "has it (that of Session-Buddy does), or install uv, which fetches one"
        )
    isolated = ["--quiet", "--no-project", "--isolated", "--python", sys.executable]
    return [uv, "run", *isolated, "--with", "duckdb>=2", "python"]


def _export_elsewhere(python: list[str], snapshot: Path, folder: Path, timezone: str | None) -> dict[str, Any]:
    script = Path(session_buddy_export.__file__)
    arguments = [*python, str(script), str(snapshot), str(folder), *([timezone] if timezone else [])]
    try:
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=EXPORT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SourceError(f"{python[0]}: {error}") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no output"]
        raise SourceError(f"the database can't be read with {' '.join(python)}: {lines[-1]}")
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def _line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
