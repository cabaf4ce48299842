"""Each benchmark runs at a small size and gives its figures."""

from __future__ import annotations

import pytest

from tests.benchmarks.running import benchmark


@pytest.mark.valkey
@pytest.mark.parametrize("form", ["arrow", pytest.param("json", marks=pytest.mark.slow)])
def test_ingest(form: str) -> None:
    result = benchmark("ingest", "--events", "1280", "--broker", "embedded", "--format", form, "--systems", "10")
    assert result["stored"] == 1280
    assert result["bundles"] == 20
    for figure in (
        "events_per_s", "first_100k_events_per_s", "last_100k_events_per_s", "duckdb_only_events_per_s",
        "kafka_only_events_per_s", "of_duckdb_only", "of_kafka_only", "rss_mb", "rss_anon_mb", "rss_file_mb",
    ):  # fmt: skip
        assert result[figure] > 0, figure
    assert {"cpu_us_per_event", "kafka_cpu_us_per_event", "index_build_cpu_s", "rss_bytes_per_row"} <= result.keys()


@pytest.mark.valkey
def test_replay() -> None:
    result = benchmark("replay", "--events", "1280", "--broker", "embedded", "--systems", "10")
    assert result["events"] == result["rows_before"] == result["rows_after"] == 1280
    assert result["differences"] == result["rows_changed"] == 0
    assert result["events_per_s"] > 0
    assert result["worker_cpu_us_per_event"] > 0


@pytest.mark.slow
@pytest.mark.valkey
def test_load() -> None:
    result = benchmark(
        "load", "--rows", "640", "--searchers", "8", "--rate", "200", "--seconds", "3", "--broker", "embedded"
    )
    assert result["statuses"] == {"200": result["searches"]}
    assert result["errors"] == {}
    assert result["incomplete"] == result["failed"] == 0
    assert result["sent"] > 0
    assert 0 < result["p50_ms"] <= result["p99_ms"]


@pytest.mark.slow
def test_search_idle() -> None:
    result = benchmark("search", "--rows", "1280", "--queries-n", "20", "--busy-rate", "0", "--systems", "10")
    assert result["recall_at_10"] >= 0.99
    assert 0 < result["p50_ms"] <= result["p99_ms"]
    assert 0 < result["http_p50_ms"] <= result["http_p99_ms"]


@pytest.mark.slow
def test_tiers() -> None:
    result = benchmark("tiers", "--rows", "1280", "--first", "2", "--warmed", "20", "--systems", "10")
    assert result["warm_recall_at_10"] >= 0.98
    assert result["warm_first_p99_ms"] > 0
    assert 0 < result["warm_p50_ms"] <= result["warm_p99_ms"]
    assert result["bytes_read_per_search"] == 0 < result["first_bytes_read_per_search"]
    assert result["ingest_segments_spilled"] > 0
    for figure in ("spill_rows_per_s", "bytes_per_row", "catalog_rebuild_s", "plan_ms", "ingest_rows_per_s_spilling"):
        assert result[figure] > 0, figure
    assert result["ingest_slowdown"] < 1


def test_search_with_the_index_forced() -> None:
    result = benchmark(
        "search", "--rows", "1280", "--queries-n", "20", "--busy-rate", "0", "--systems", "10", "--index", "hnsw",
        "--partitions", "1",
    )  # fmt: skip
    assert result["explain_says_hnsw"] is True
    assert result["plan"] == {"hnsw": 1}
    assert result["recall_at_10"] >= 0.95


@pytest.mark.slow
@pytest.mark.kafka
@pytest.mark.valkey
def test_search_busy() -> None:
    result = benchmark("search", "--rows", "1280", "--queries-n", "20", "--busy-rate", "300", "--systems", "10")
    assert 0 < result["busy_p50_ms"] <= result["busy_p99_ms"]
    assert result["busy_rows_at_end"] > 1280
    assert "kafka" in result["versions"]


@pytest.mark.slow
@pytest.mark.kafka
@pytest.mark.valkey
@pytest.mark.parametrize(("probe", "broker"), [("after", "kafka"), ("poll", "embedded")])
def test_freshness(probe: str, broker: str) -> None:
    options = ("--rate", "200", "--seconds", "2", "--probes", "10", "--probe", probe, "--broker", broker)
    result = benchmark("freshness", *options)
    assert result["missed"] == 0
    assert result["probes"] > 5
    assert 0 < result["p50_ms"] <= result["p99_ms"] <= result["max_ms"]
    assert result["stored"] == result["sent"] > 400


@pytest.mark.slow
@pytest.mark.kafka
@pytest.mark.valkey
@pytest.mark.parametrize(("end", "broker"), [("stop", "embedded"), ("kill", "kafka")])
def test_startup(end: str, broker: str) -> None:
    result = benchmark("startup", "--rows", "1280", "--systems", "10", "--end", end, "--broker", broker)
    assert 0 < result["ready_s"] < 60
    assert 0 < result["import_s"] < 60


@pytest.mark.long
@pytest.mark.kafka
@pytest.mark.valkey
def test_systems() -> None:
    result = benchmark("systems", "--systems", "200", "--events", "4000", "--rate", "2000", "--partitions", "4")
    assert 0 < result["live_rows"] <= result["rows"] <= result["events"] == 4000
    assert 20 < result["systems_seen"] <= 200
    assert len(result["beyond_rows_mb"]) == 4
    assert result["longest_wait_s"] >= 0


@pytest.mark.long
@pytest.mark.kafka
@pytest.mark.valkey
def test_takeover() -> None:
    result = benchmark("takeover", "--rows", "1280", "--systems", "10", "--runs", "1", "--session-timeout-s", "3")
    for how in ("kill", "stop"):
        assert 0 < result[f"{how}_owned_p50_ms"] <= result[f"{how}_complete_p50_ms"] <= result[f"{how}_complete_max_ms"]


@pytest.mark.long
@pytest.mark.kafka
@pytest.mark.valkey
def test_scale() -> None:
    result = benchmark("scale", "--events", "2560", "--systems", "10")
    for figure in ("one_events_per_s", "two_events_per_s", "speedup", "cpu_ratio"):
        assert result[figure] > 0, figure


def test_near_dedupe() -> None:
    result = benchmark("near_dedupe", "--events", "200", "--systems", "1", "--thresholds", "0.9")
    assert result["off_copies_dropped"] == result["off_originals_dropped"] == 0
    assert result["0.9_copies_dropped"] > 0.9
    assert 0 <= result["0.9_originals_dropped"] < 0.5
    assert result["0.9_cpu_us_per_event"] > 0
