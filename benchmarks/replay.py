"""How fast is a replay into shards that have the events? Nothing may change.

    uv run python -m benchmarks.replay --events 500000 --json

N events are published in bundles of 64 and stored by a worker process, with its Redis tables. When its segments are
sealed, a replay of everything is asked for over HTTP, as `akasha-stream replay` does it. The clock runs from the
request to the first answer that says that all partitions are done. `--indexes no` leaves the building of indexes out,
which is what the worker's second core does for some minutes after such a load.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from benchmarks.data import BUNDLE, load
from benchmarks.ingest import publish
from benchmarks.report import end_on_sigterm, show
from benchmarks.servers import Servers, WorkerProcess, cpu_of, servers, settings_for

POLL_S = 0.05


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.replay", description=__doc__)
    parser.add_argument("--events", type=int, default=500_000)
    parser.add_argument("--broker", choices=["kafka", "embedded"], default="kafka")
    parser.add_argument("--partitions", type=int, help="default: as topics/embeddings.yml says")
    parser.add_argument("--systems", type=int, default=100)
    parser.add_argument("--indexes", choices=["yes", "no"], default="no")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(argv)
    if given.events < 1 or given.systems < 1:
        parser.error("--events and --systems must be at least 1")
    return given


def run(given: argparse.Namespace) -> tuple[dict[str, object], dict[str, str]]:
    corpus = load(given.seed)
    with servers(given.broker) as running, tempfile.TemporaryDirectory(prefix="akasha-replay-") as folder:
        settings = settings_for(running, Path(folder) / "data", given.partitions, publish__bundle_events=BUNDLE)
        bundles, _, _ = asyncio.run(publish(settings, corpus, given.events, given.systems))
        indexes = {"hot__build_indexes": str(given.indexes == "yes").lower()}
        with WorkerProcess(running, Path(folder) / "data", Path(folder) / "worker.log", indexes) as worker:
            worker.wait_ready()
            _until_stored(worker, given.events)
            figures = _replay(worker, running)
        return {"data": corpus.name, "bundles": bundles, **figures}, running.versions


def _until_stored(worker: WorkerProcess, events: int) -> None:
    while True:
        stats = worker.get("/v1/stats")
        if stats is not None and stats["live_rows"] >= events:
            return
        time.sleep(0.5)


def _replay(worker: WorkerProcess, running: Servers) -> dict[str, object]:
    with httpx.Client(base_url=worker.url, timeout=60, verify=False) as client:
        owned = [each["partition"] for each in client.get("/v1/partitions").json()["partitions"]]
        before = client.get("/v1/stats").json()
        began, cpu = time.perf_counter(), cpu_of(worker.process)
        for partition in owned:
            client.post("/v1/replays", json={"partition": partition, "start": 0}).raise_for_status()
        while True:
            replays: list[dict[str, Any]] = client.get("/v1/replays").json()["replays"]
            if all(each["phase"] in {"done", "failed", "cancelled"} for each in replays):
                break
            time.sleep(POLL_S)
        wall_s, after = time.perf_counter() - began, cpu_of(worker.process)
        failed = [each["error"] for each in replays if each["phase"] != "done"]
        if failed:
            raise RuntimeError(f"the replay failed: {failed[0]}")
        events = sum(each["effect"]["events"] for each in replays)
        stats = client.get("/v1/stats").json()
        changed = sum(sum(each["changed"].values()) for each in replays if each["changed"] is not None)
        spent = (after - cpu).own
        return {
            "partitions": len(owned),
            "events": events,
            "seconds": round(wall_s, 3),
            "events_per_s": round(events / wall_s),
            "worker_cpu_us_per_event": round(spent / max(events, 1) * 1e6, 2),
            "rows_before": before["live_rows"],
            "rows_after": stats["live_rows"],
            "differences": sum(
                each["effect"][name] for each in replays for name in ("new", "replaced", "removed", "deleted")
            ),
            "rows_changed": changed,
        }


def main(argv: Sequence[str] | None = None) -> None:
    end_on_sigterm()
    given = arguments(argv)
    figures, versions = run(given)
    show("replay", given, figures, versions, as_json=given.json)


if __name__ == "__main__":
    main()
