"""Copies what is published of a Session-Buddy database into Parquet files.

Imported by session_buddy.py, and run by itself with another interpreter when only that one's DuckDB reads
the file (Session-Buddy 0.23 installs DuckDB 2, whose files DuckDB 1.5 can't open). So it needs nothing but
DuckDB, and says what it found as JSON on the last line of stdout.

    python session_buddy_export.py SNAPSHOT.duckdb FOLDER [TIMEZONE]
"""

from __future__ import annotations

import json
import sys
from typing import Any

TABLES = {"conversations_v2": "conversation", "reflections_v2": "reflection"}

# What changes when a row is only read, or repeats another column: no part of the event.
LEFT_OUT = {
    "id",
    "content",
    "embedding",
    "timestamp",
    "created_at",
    "updated_at",
    "access_count",
    "last_accessed",
    "last_accessed_at",
    "usage_count",
    "last_used_at",
    "searchable_content",
    "fingerprint",
}
TIMES = ("timestamp", "created_at", "updated_at")


def export(connection: Any, database: str, folder: str, timezone: str | None) -> dict[str, Any]:
    """Write one Parquet file a table into `folder`; {table: {"rows", "columns"}} and the zone of its times.

    connection: a DuckDB connection in which the snapshot is attached as `database`.
    """
    zone = timezone or connection.execute("SELECT current_setting('TimeZone')").fetchone()[0]
    found = {}
    for table in TABLES:
        described = connection.execute(
            "SELECT column_name, data_type FROM duckdb_columns() WHERE database_name = ? AND table_name = ?",
            [database, table],
        ).fetchall()
        types = dict(described)
        if "id" not in types or "content" not in types:
            continue
        # The time of the event: when it was said. The two code paths that create the tables differ in
        # which columns there are.
        times = [name for name in TIMES if name in types]
        # TIMESTAMP is wall time in the writer's zone; timezone() gives the instant.
        instants = [
            f'"{name}"' if "WITH TIME ZONE" in types[name] else f"timezone('{_quoted(zone)}', \"{name}\")"
            for name in times
        ]
        moment = f"epoch_us(coalesce({', '.join(instants)}))" if instants else "NULL::BIGINT"
        embedding = "embedding::FLOAT[]" if "embedding" in types else "NULL::FLOAT[]"
        others = [name for name in types if name not in LEFT_OUT]
        extra = "".join(
            f", {'to_json' if types[name] == 'VARCHAR[]' else ''}({_name(name)})::VARCHAR AS {_name(name)}"
            for name in others
        )
        target = f"{folder}/{table}.parquet"
        chosen = f"id::VARCHAR AS id, content, {embedding} AS embedding, {moment} AS created_us{extra}"
        rows = f'FROM "{database}".main."{table}"'
        connection.execute(
            f"COPY (SELECT {chosen} {rows} ORDER BY created_us, id) "
            f"TO '{_quoted(target)}' (FORMAT parquet, ROW_GROUP_SIZE 8192)"
        )
        count = connection.execute(f"SELECT count(*) {rows}").fetchone()[0]
        lists = [name for name in others if types[name] == "VARCHAR[]" or types[name] == "JSON"]
        numbers = [name for name in others if types[name] in ("FLOAT", "DOUBLE", "INTEGER", "BIGINT")]
        found[table] = {"rows": count, "json": lists, "numbers": numbers}
    return {"tables": found, "timezone": zone}


def _quoted(text: str) -> str:
    return text.replace("'", "''")


def _name(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'


def main(arguments: list[str]) -> None:
    import duckdb

    snapshot, folder, timezone = arguments[0], arguments[1], (arguments[2] if len(arguments) > 2 else None)
    connection = duckdb.connect()
    connection.execute(f"ATTACH '{_quoted(snapshot)}' AS snapshot")
    print(json.dumps(export(connection, "snapshot", folder, timezone)))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:])
