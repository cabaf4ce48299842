"""The command line, `akasha-stream`.

How to add a command
--------------------
1. Write akasha_stream/cli/<name>.py with a module-level `command`: a function (one command) or a `typer.Typer`
   (a group like `topics`). Its parameters are Typer's; take `ctx: typer.Context` to get at the settings.
2. Add one line to COMMANDS below: name, module, one line of help. `akasha-stream --help` prints that line and
   imports no command; it must stay under 0.3 s.
3. Inside: `settings(ctx, {"hot.seal_rows": rows})` gives the validated settings (and sets up logging), and
   `output(json)` prints: tables and lines for people, or with --json one object on the last line of stdout.
   Both are in akasha_stream/cli/context.py. Progress and logs go to stderr.
4. Raise errors of akasha_stream.errors and nothing else on purpose; main() prints them as `error: …` and turns them
   into the exit code (akasha_stream/cli/exits.py). Import what is heavy (pyarrow, duckdb, faust) inside functions.

A module's docstring or the function's is the long help (`akasha-stream <name> --help`).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NamedTuple, NoReturn


class Entry(NamedTuple):
    module: str
    help: str


COMMANDS: dict[str, Entry] = {
    "demo": Entry("akasha_stream.cli.demo", "Publish a sample, search it, show the figures; starts its own servers."),
    "up": Entry("akasha_stream.cli.up", "Run a worker with its search API, and on request the servers it needs."),
    "worker": Entry("akasha_stream.cli.worker", "Run one worker: ingest its partitions and answer searches."),
    "publish": Entry("akasha_stream.cli.publish", "Publish events from Parquet, JSON lines or Session-Buddy."),
    "search": Entry("akasha_stream.cli.search", "Search by text, by vector or by an event that is stored."),
    "get": Entry("akasha_stream.cli.get", "Show one stored event."),
    "mcp": Entry("akasha_stream.cli.mcp", "Offer the memory to assistants, as tools (Model Context Protocol)."),
    "status": Entry("akasha_stream.cli.status", "Show the cluster: broker, topics, workers, who owns what."),
    "lag": Entry("akasha_stream.cli.lag", "Show how far behind the log its readers are, and until when."),
    "tail": Entry("akasha_stream.cli.tail", "Follow events, dead letters or digests as they are appended."),
    "replay": Entry("akasha_stream.cli.replay", "Read a part of the log again: into the shards, or a side store."),
    "dlq": Entry("akasha_stream.cli.dlq", "List, show, requeue and purge dead letters."),
    "doctor": Entry("akasha_stream.cli.doctor", "Check the surroundings, and say what to do about each fault."),
    "forget": Entry("akasha_stream.cli.forget", "Remove every row of a source system, from everywhere."),
    "tiers": Entry("akasha_stream.cli.tiers", "What is stored in which tier; move, restore, compact and clean it."),
    "segments": Entry("akasha_stream.cli.segments", "Check the stored segments: gaps, overlaps, damage."),
    "rebuild": Entry("akasha_stream.cli.rebuild", "Make again what is derived: a shard, the lookups, the catalog."),
    "backup": Entry("akasha_stream.cli.backup", "Back up what can't be derived, compare it with what is, restore it."),
    "keys": Entry("akasha_stream.cli.keys", "Make, list and revoke API keys."),
    "topics": Entry("akasha_stream.cli.topics", "Create the Kafka topics, and compare them with their definitions."),
    "config": Entry("akasha_stream.cli.config", "Show and check the settings."),
    "completion": Entry("akasha_stream.cli.completion", "Print the completion script of a shell."),
}


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command line (default: sys.argv) and exit with its code, see akasha_stream/cli/exits.py."""
    try:
        from akasha_stream.cli.root import run

        code = run(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt:  # during the imports; Typer sees those during a command
        code = 130
    sys.exit(code)
