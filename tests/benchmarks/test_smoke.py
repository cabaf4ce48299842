"""Each benchmark runs at a small size and gives its figures."""

from __future__ import annotations

import pytest

from tests.benchmarks.running import benchmark


@pytest.mark.valkey
@pytest.mark.parametrize("form", ["arrow", "json"])
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


def test_search_idle() -> None:
    result = benchmark("search", "--rows", "1280", "--queries-n", "20", "--busy-rate", "0", "--systems", "10")
    assert result["recall_at_10"] >= 0.99
    assert 0 < result["p50_ms"] <= result["p99_ms"]
    assert 0 < result["http_p50_ms"] <= result["http_p99_ms"]


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
@pytest.mark.parametrize("probe", ["after", "poll"])
def test_freshness(probe: str) -> None:
    result = benchmark("freshness", "--rate", "200", "--seconds", "2", "--probes", "10", "--probe", probe)
    assert result["missed"] == 0
    assert result["probes"] > 5
    assert 0 < result["p50_ms"] <= result["p99_ms"] <= result["max_ms"]
    assert result["stored"] == result["sent"] > 400


@pytest.mark.slow
@pytest.mark.kafka
@pytest.mark.valkey
@pytest.mark.parametrize("end", ["stop", "kill"])
def test_startup(end: str) -> None:
    result = benchmark("startup", "--rows", "1280", "--systems", "10", "--end", end)
    assert 0 < result["ready_s"] < 60
    assert 0 < result["import_s"] < 60
