"""What do N systems need? Partitions, workers, memory, disks, object storage, money; from measured costs.

    uv run python -m benchmarks.plan
    uv run python -m benchmarks.plan --systems 5000 --set events_per_system_day=400 --set retention_days=90

Prints a table in Markdown, the one of docs/scaling.md without options. Every input has a name that --set takes: what
was measured (with the benchmark that measures it), what is assumed of the load, what was chosen, and example prices.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import numpy as np

DAY_S = 86_400
GB = 1e9


def _figure(value: float, source: str) -> Any:
    return field(default=value, metadata={"source": source})


@dataclass(frozen=True, slots=True)
class Inputs:
    """A name, its value, and where that comes from."""

    # Measured
    ingest_cpu_us: float = _figure(
        41.5, "benchmarks.ingest, cpu_us_per_event + valkey_cpu_us_per_event: 26.5; 15 more as a bundle of one"
    )
    index_cpu_us: float = _figure(
        1_300.0, "benchmarks.ingest, index_build_cpu_s a row: 700 to 2,200; in idle time, at the mean rate"
    )
    kafka_bytes: float = _figure(3_200.0, "an event in the log, in a bundle of one; 1,760 in bundles of 64")
    growing_row_bytes: float = _figure(
        2_500.0, "benchmarks.systems, bytes_per_row: memory of a row before its segment is finished"
    )
    local_row_bytes: float = _figure(2_500.0, "benchmarks.growth, ROW_BYTES: memory of a finished local row, mapped")
    stub_row_bytes: float = _figure(
        150.0, "docs/architecture.md, Leaving: memory and disk of a row that is in the object store"
    )
    local_row_disk_bytes: float = _figure(5_000.0, "akasha-stream doctor, disk: a local row with its index")
    parquet_row_bytes: float = _figure(692.0, "benchmarks.tiers, bytes_per_row")
    identity_bytes: float = _figure(80.0, "akasha_stream/lookups/tables.py: Redis memory of an identity")
    worker_base_bytes: float = _figure(360e6, "benchmarks.ingest, rss_before_mb")
    search_ms: float = _figure(0.6, "benchmarks.search, p50_ms at 100,000 and 400,000 rows: at none")
    search_row_ns: float = _figure(15.3, "the same: each row more")
    one_system_row_ns: float = _figure(1.4, "the same, one_system_p50_ms: a search of one system's events, each row")
    rows_per_event: float = _figure(0.95, "benchmarks.systems, rows of events: what is sent twice is stored once")
    # Assumed
    events_per_system_day: float = _figure(50.0, "the mean; a few systems send most")
    searches_per_system_day: float = _figure(20.0, "")
    searches_of_all: float = _figure(0.05, "the share of searches that ask for no system")
    peak: float = _figure(5.0, "of the mean rates, in the busiest minutes")
    zipf: float = _figure(
        1.1, "benchmarks.simulator: the n-th loudest system sends n^-zipf times what the loudest does"
    )
    # Chosen
    retention_days: float = _figure(365.0, "how long rows are kept")
    local_days: float = _figure(1.0, "tiers.keep_local_s")
    hot_days: float = _figure(30.0, "tier_policy.warm_after_s")
    kafka_days: float = _figure(7.0, "retention.ms in topics/embeddings.yml")
    kafka_replicas: float = _figure(3.0, "replication_factor")
    seal_rows: float = _figure(50_000.0, "hot.seal_rows")
    seal_age_s: float = _figure(3_600.0, "hot.seal_age_s")
    cores: float = _figure(2.0, "of a worker's machine")
    memory_gb: float = _figure(16.0, "of a worker's machine")
    utilisation: float = _figure(0.5, "of the cores at the peak; the rest is for a lost worker's share")
    memory_utilisation: float = _figure(0.7, "")
    broker_disk_gb: float = _figure(1_000.0, "of a broker's machine")
    # Example prices, US dollars a month: put in your own
    worker_price: float = _figure(90.0, "a machine of these cores and this memory")
    broker_price: float = _figure(70.0, "a broker's machine without its disk; three at least")
    disk_gb_price: float = _figure(0.08, "SSD")
    hot_gb_price: float = _figure(0.023, "object storage, hot")
    warm_gb_price: float = _figure(0.0125, "object storage, warm")
    redis_gb_price: float = _figure(8.0, "memory with its machine")


@dataclass(frozen=True, slots=True)
class Plan:
    """Of all cells together, but for what says otherwise. Bytes in GB, 10^9."""

    systems: int
    cells: int
    events_s: float
    peak_events_s: float
    loudest_s: float
    """Of the loudest system, at the peak: one partition takes all of it."""
    rows: float
    partitions: int
    """Of a cell."""
    workers: int
    ingest_cores: float
    search_cores: float
    memory_gb: float
    local_disk_gb: float
    object_gb: float
    kafka_gb: float
    redis_gb: float
    search_ms: float
    """Of all systems of a cell, its workers side by side."""
    one_system_ms: float
    price: float


def plan(systems: int, given: Inputs, cells: int = 1) -> Plan:
    """`cells`: clusters that know nothing of each other, each with its part of the systems.

    Raises ValueError where no number of workers is enough: a search costs each worker `search_ms`, whatever it has.
    """
    mine = math.ceil(systems / cells)
    events = mine * given.events_per_system_day / DAY_S
    peak = events * given.peak
    searches = mine * given.searches_per_system_day / DAY_S * given.peak
    rows = events * DAY_S * given.retention_days * given.rows_per_event
    local = min(rows, events * DAY_S * given.local_days * given.rows_per_event)
    row_ns = given.searches_of_all * given.search_row_ns + (1 - given.searches_of_all) * given.one_system_row_ns
    ingest_cores = peak * given.ingest_cpu_us / 1e6 + events * given.index_cpu_us / 1e6
    scan_cores = searches * rows * row_ns / 1e9
    # What is left of a worker after its part of every search that does not depend on rows.
    free_cores = given.cores * given.utilisation - searches * given.search_ms / 1e3
    if free_cores <= 0:
        raise ValueError(f"{searches:,.0f} searches a second take all of a worker's cores before it has a row")
    by_cpu = math.ceil((ingest_cores + scan_cores) / free_cores)
    workers, partitions, memory = max(1, by_cpu), 0, 0.0
    while True:
        partitions = max(4, 2 ** math.ceil(math.log2(4 * workers)))
        growing = min(local, partitions * given.seal_rows, peak * given.seal_age_s)
        memory = (
            growing * given.growing_row_bytes
            + (local - growing) * given.local_row_bytes
            + (rows - local) * given.stub_row_bytes
        )
        room = given.memory_gb * GB * given.memory_utilisation - given.worker_base_bytes
        needed = max(by_cpu, math.ceil(memory / room), 1)
        if needed <= workers:
            break
        workers = needed
    parquet = rows * given.parquet_row_bytes / GB
    hot = parquet * min(1.0, given.hot_days / given.retention_days)
    kafka = events * DAY_S * given.kafka_days * given.kafka_bytes * given.kafka_replicas / GB
    redis = rows * given.identity_bytes / GB
    disk = (local * given.local_row_disk_bytes + (rows - local) * given.stub_row_bytes) / GB
    brokers = max(3, math.ceil(kafka / given.broker_disk_gb))
    price = (
        workers * given.worker_price
        + brokers * given.broker_price
        + (disk + kafka) * given.disk_gb_price
        + hot * given.hot_gb_price
        + (parquet - hot) * given.warm_gb_price
        + redis * given.redis_gb_price
    )
    return Plan(
        systems=systems,
        cells=cells,
        events_s=events * cells,
        peak_events_s=peak * cells,
        loudest_s=peak * loudest_share(mine, given.zipf),
        rows=rows * cells,
        partitions=partitions,
        workers=workers * cells,
        ingest_cores=ingest_cores * cells,
        search_cores=(scan_cores + workers * searches * given.search_ms / 1e3) * cells,
        memory_gb=(memory + workers * given.worker_base_bytes) / GB * cells,
        local_disk_gb=disk * cells,
        object_gb=parquet * cells,
        kafka_gb=kafka * cells,
        redis_gb=redis * cells,
        search_ms=given.search_ms + rows / workers * given.search_row_ns / 1e6,
        one_system_ms=given.search_ms + rows / workers * given.one_system_row_ns / 1e6,
        price=price * cells,
    )


def loudest_share(systems: int, zipf: float) -> float:
    """Of all events, what the loudest of n systems sends."""
    return float(1.0 / np.sum(np.arange(1, systems + 1, dtype=np.float64) ** -zipf))


ROWS: tuple[tuple[str, str], ...] = (
    ("events a second, mean", "events_s"),
    ("events a second, peak", "peak_events_s"),
    ("… of the loudest system", "loudest_s"),
    ("rows kept", "rows"),
    ("partitions (a cell)", "partitions"),
    ("workers", "workers"),
    ("cores for ingest and indexes", "ingest_cores"),
    ("cores for searches", "search_cores"),
    ("workers' memory, GB", "memory_gb"),
    ("workers' disks, GB", "local_disk_gb"),
    ("object storage, GB", "object_gb"),
    ("Kafka's disks, GB", "kafka_gb"),
    ("Redis, GB", "redis_gb"),
    ("search of all systems, ms", "search_ms"),
    ("search of one system, ms", "one_system_ms"),
    ("a month, example prices, $", "price"),
)


def table(plans: Sequence[Plan]) -> str:
    """Markdown, a column a plan."""
    heads = [f"{p.systems:,} systems" + (f", {p.cells:,} cells" if p.cells > 1 else "") for p in plans]
    lines = [f"| | {' | '.join(heads)} |", f"|---|{'---:|' * len(plans)}"]
    lines += [f"| {label} | {' | '.join(_short(getattr(p, name)) for p in plans)} |" for label, name in ROWS]
    return "\n".join(lines)


def inputs_table(given: Inputs) -> str:
    """Markdown: each input with its source."""
    lines = ["| input | value | from |", "|---|---:|---|"]
    for each in fields(given):
        lines.append(f"| `{each.name}` | {_short(getattr(given, each.name))} | {each.metadata['source']} |")
    return "\n".join(lines)


def _short(value: float) -> str:
    """Two digits that count, or whole thousands."""
    if value == 0:
        return "0"
    if abs(value) >= 1e9:
        return f"{value / 1e9:,.3g} G".replace("e+03", ",000")
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.2g}" if abs(value) < 1 else f"{value:.3g}"


def _given(settings: Sequence[str]) -> Inputs:
    known = {each.name for each in fields(Inputs)}
    changes: dict[str, float] = {}
    for text in settings:
        name, equals, value = text.partition("=")
        if name not in known or not equals:
            raise argparse.ArgumentTypeError(f"--set {text}: name=number, a name of: {', '.join(sorted(known))}")
        changes[name] = float(value)
    return replace(Inputs(), **changes)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="benchmarks.plan", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--systems", type=int, action="append", help="may be repeated; default: 100, 10000, 1000000")
    parser.add_argument("--cell", type=int, default=10_000, help="systems of a cell, for a plan of more than these")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=NUMBER", help="another value of an input")
    parser.add_argument("--inputs", action="store_true", help="the inputs with their sources, instead of a plan")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    try:
        given = _given(options.set)
        plans = []
        for systems in options.systems or (100, 10_000, 1_000_000):
            plans.append(plan(systems, given))
            if systems > options.cell:
                plans.append(plan(systems, given, math.ceil(systems / options.cell)))
    except (ValueError, argparse.ArgumentTypeError) as error:
        parser.error(str(error))
    if options.json:
        print(json.dumps({"inputs": asdict(given), "plans": [asdict(each) for each in plans]}))
    else:
        print(inputs_table(given) if options.inputs else table(plans))


if __name__ == "__main__":
    main()
