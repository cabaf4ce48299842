"""How long until another worker answers for the partitions of one that is killed, or stopped?

    uv run python -m benchmarks.takeover --runs 10 --json

Two workers share the topic's partitions, each with a data directory of its own, new for each run: what the dead one
had, the other reads from Kafka. The clock runs from `kill -9` (or SIGTERM) to the first answer of the other worker
that is complete and has looked through all rows. It is asked every 20 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from akasha_stream.publish.publisher import EventPublisher
from akasha_stream.settings import Settings
from akasha_stream.topics.admin import ensure_topics
from benchmarks.data import Corpus, load
from benchmarks.report import end_on_sigterm, quantiles, show
from benchmarks.servers import Servers, WorkerProcess, servers, settings_for

POLL_S = 0.02
TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Taken:
    owned_s: float
    """Until the other worker has all partitions."""
    complete_s: float
    """Until it answers completely, with all rows."""


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.takeover", description=__doc__)
    parser.add_argument("--runs", type=int, default=10, help="of each kind")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--partitions", type=int, help="default: as topics/embeddings.yml says")
    parser.add_argument("--systems", type=int, default=100)
    parser.add_argument("--session-timeout-s", type=float, default=6.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(argv)
    if given.runs < 1 or given.rows < 1:
        parser.error("--runs and --rows must be at least 1")
    return given


def run(given: argparse.Namespace) -> tuple[dict[str, object], dict[str, str]]:
    corpus = load(given.seed)
    with servers("kafka") as running, tempfile.TemporaryDirectory(prefix="akasha-takeover-") as folder:
        settings = settings_for(running, Path(folder) / "unused", given.partitions)
        asyncio.run(_publish(settings, corpus, given.rows, given.systems))
        vector = corpus.queries[0].tolist()
        found = {
            how: [_once(running, Path(folder) / f"{how}-{number}", given, vector, how) for number in range(given.runs)]
            for how in ("kill", "stop")
        }
    figures: dict[str, object] = {"data": corpus.name, "rows": given.rows}
    for how, taken in found.items():
        figures |= quantiles([each.complete_s * 1e3 for each in taken], f"{how}_complete_")
        figures |= quantiles([each.owned_s * 1e3 for each in taken], f"{how}_owned_")
    return figures, running.versions


async def _publish(settings: Settings, corpus: Corpus, rows: int, systems: int) -> None:
    await ensure_topics(settings)
    async with EventPublisher(settings) as publisher:
        for table in corpus.tables(rows, systems):
            await publisher.publish_table(table)


def _once(running: Servers, folder: Path, given: argparse.Namespace, vector: list[float], how: str) -> Taken:
    folder.mkdir()
    options = {"ingest__session_timeout_s": given.session_timeout_s, "ingest__group": folder.name}
    with (
        WorkerProcess(running, folder / "lost", folder / "lost.log", options) as lost,
        WorkerProcess(running, folder / "other", folder / "other.log", options) as other,
        httpx.Client(base_url=other.url, timeout=30, verify=False) as client,
    ):
        _wait(lambda: bool(_owned(lost)) and len(_owned(lost)) + len(_owned(other)) == _partitions(other), lost, other)
        _wait(lambda: _complete(client, vector, given.rows), lost, other)
        began = time.monotonic()
        if how == "kill":
            lost.kill()
        else:
            lost.process.terminate()
        owned_s = 0.0
        while True:
            if not owned_s and len(_owned(other)) == _partitions(other):
                owned_s = time.monotonic() - began
            if owned_s and _complete(client, vector, given.rows):
                return Taken(owned_s, time.monotonic() - began)
            if time.monotonic() - began > TIMEOUT_S:
                raise RuntimeError(f"not taken over within {TIMEOUT_S:g} s:\n{other.tail()}")
            time.sleep(POLL_S)


def _owned(worker: WorkerProcess) -> list[int]:
    stats = worker.get("/v1/stats")
    return [] if stats is None else list(stats["partitions_owned"])


def _partitions(worker: WorkerProcess) -> int:
    stats = worker.get("/v1/stats")
    return -1 if stats is None else int(stats["partitions"])


def _complete(client: httpx.Client, vector: list[float], rows: int) -> bool:
    answer = client.post("/v1/search", json={"vector": vector, "k": 1}).raise_for_status().json()
    return bool(answer["complete"]) and sum(plan["rows"] for plan in answer["plan"]) >= rows


def _wait(met: Callable[[], bool], *workers: WorkerProcess) -> None:
    began = time.monotonic()
    while True:
        try:
            if met():
                return
        except httpx.TransportError:
            pass  # does not listen yet
        if time.monotonic() - began > TIMEOUT_S:
            raise RuntimeError("the workers did not share the partitions:\n" + "\n".join(w.tail() for w in workers))
        time.sleep(POLL_S)


def main(argv: Sequence[str] | None = None) -> None:
    end_on_sigterm()
    given = arguments(argv)
    figures, versions = run(given)
    show("takeover", given, figures, versions, as_json=given.json)


if __name__ == "__main__":
    main()
