"""What does near dedupe cost, and what does it find? Decoding and the shard, without Kafka.

    uv run python -m benchmarks.near_dedupe --events 10000 --json

Real embeddings of different texts are stored first, then a perturbed copy of each (its cosine to the original is some
.96). For each threshold: the CPU of an event, the share of the copies that were dropped (they should be), and the share
of the originals that were (they are other texts).
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from akasha_stream.events.bundles import headers
from akasha_stream.events.decode import Decoder
from akasha_stream.events.records import Record
from akasha_stream.hot.shard import Shard
from akasha_stream.hot.store import ShardStore
from akasha_stream.incarnation import Incarnation
from akasha_stream.settings import DedupeSettings, HotSettings, Limits, Settings
from akasha_stream.stream.window import Outcome
from benchmarks.data import BUNDLE, Corpus, bundles, load
from benchmarks.report import show

BATCH = 16
"""Bundles of a commit: 1,024 events, about what a fetch has."""


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.near_dedupe", description=__doc__)
    parser.add_argument("--events", type=int, default=10_000, help="originals, and as many copies")
    parser.add_argument("--systems", type=int, default=10, help="an event is compared to the rows of its system")
    parser.add_argument("--thresholds", type=float, nargs="+", default=[0.98, 0.95, 0.9])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(argv)


def run(given: argparse.Namespace) -> dict[str, object]:
    corpus = load(given.seed)
    events = min(given.events, len(corpus.vectors))
    if len(corpus.vectors) % given.systems:
        raise SystemExit(f"--systems must divide the {len(corpus.vectors)} rows: a copy is of its original's system")
    figures: dict[str, object] = {"data": corpus.name, "originals": events, "copies": events}
    with tempfile.TemporaryDirectory(prefix="akasha-near-") as folder:
        for number, threshold in enumerate([None, *given.thresholds]):
            name = "off" if threshold is None else f"{threshold:g}"
            measured = _measured(corpus, events, given.systems, threshold, Path(folder) / str(number))
            figures |= {f"{name}_{key}": value for key, value in measured.items()}
    return figures


def _measured(corpus: Corpus, events: int, systems: int, threshold: float | None, folder: Path) -> dict[str, float]:
    settings = Settings(
        hot=HotSettings(data_dir=folder, build_indexes=False),
        limits=Limits(dimensions=corpus.vectors.shape[1]),
        dedupe=DedupeSettings(near_threshold=threshold),
    )
    decoder = Decoder.of(settings)
    offsets = itertools.count()
    store = ShardStore(settings, "benchmark")
    try:
        shard = store.open(0, Incarnation("benchmark"))
        original, cpu = _taken(shard, decoder, _records(corpus.table(0, events, systems), offsets))
        copied, cpu_of_copies = _taken(
            shard, decoder, _records(corpus.table(len(corpus.vectors), events, systems), offsets)
        )
    finally:
        store.close_all()
    return {
        "cpu_us_per_event": round((cpu + cpu_of_copies) / (2 * events) * 1e6, 1),
        "copies_dropped": round(copied / events, 4),
        "originals_dropped": round(original / events, 4),
    }


def _records(table: pa.Table, offsets: Iterator[int]) -> list[Record]:
    at = time.time_ns() // 1_000_000
    return [
        Record(0, next(offsets), at, system.encode(), value, headers("arrow", system, "bundle"))
        for system, value, _ in bundles(table)
    ]


def _taken(shard: Shard, decoder: Decoder, records: list[Record]) -> tuple[int, float]:
    """(near duplicates, CPU seconds) of these bundles of at most BUNDLE events."""
    near, began = 0, time.process_time()
    for start in range(0, len(records), BATCH):
        some = records[start : start + BATCH]
        decoded = decoder.decode(some)
        if decoded.dead or len(decoded.batch) > BATCH * BUNDLE:
            raise RuntimeError(f"{len(decoded.dead)} records are refused: {decoded.dead[:1]}")
        near += sum(int(applied.outcomes[Outcome.DUPLICATE_NEAR]) for applied in shard.apply(some, decoded.batch))
    return near, time.process_time() - began


def main(argv: Sequence[str] | None = None) -> None:
    given = arguments(argv)
    show("near_dedupe", given, run(given), {}, as_json=given.json)


if __name__ == "__main__":
    main()
