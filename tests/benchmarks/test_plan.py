"""The plan on paper: docs/scaling.md has what the script prints, and its inputs are those of the product."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from akasha_stream.settings import Settings
from akasha_stream.topics.definition import definitions
from benchmarks.plan import Inputs, loudest_share, main, plan, table
from benchmarks.simulator import Load

TEXT = (Path(__file__).parents[2] / "docs" / "scaling.md").read_text()


def test_the_tables_of_the_docs_are_what_the_script_prints(capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    assert capsys.readouterr().out in TEXT
    main(["--inputs"])
    assert capsys.readouterr().out in TEXT
    assert table([plan(100, Inputs())]) not in TEXT


def test_chosen_inputs_are_those_of_the_shipped_settings() -> None:
    settings, given = Settings(), Inputs()
    assert settings.tiers.keep_local_s == given.local_days * 86_400
    assert settings.tier_policy.warm_after_s == given.hot_days * 86_400
    assert (settings.hot.seal_rows, settings.hot.seal_age_s) == (given.seal_rows, given.seal_age_s)
    embeddings = next(each for each in definitions(settings) if each.role == "embeddings")
    assert int(embeddings.config["retention.ms"]) == given.kafka_days * 86_400_000
    assert Load(systems=1, events=1).zipf == given.zipf


def test_by_hand() -> None:
    """100,000 systems of one event a day, kept for 10 days, all of them in the store; one search each a day."""
    given = replace(
        Inputs(), events_per_system_day=1, searches_per_system_day=1, peak=1, retention_days=10, local_days=0,
        rows_per_event=1, hot_days=5,
    )  # fmt: skip
    found = plan(100_000, given)
    assert found.rows == pytest.approx(1e6)
    assert found.object_gb == pytest.approx(0.692)
    assert found.redis_gb == pytest.approx(0.08)
    assert found.kafka_gb == pytest.approx(1e5 * 7 * 3_200 * 3 / 1e9)
    assert found.memory_gb == pytest.approx(1e6 * 150 / 1e9 + 0.36)
    assert (found.workers, found.partitions) == (1, 4)
    assert found.search_ms == pytest.approx(0.6 + 15.3)
    per_search = 1e6 * (0.05 * 15.3 + 0.95 * 1.4) / 1e9 + 0.6e-3
    assert found.search_cores == pytest.approx(1e5 / 86_400 * per_search)
    split = plan(100_000, given, cells=10)
    assert split.rows == pytest.approx(found.rows)
    assert split.workers == 10
    assert split.search_ms < found.search_ms


def test_a_larger_load_never_needs_less() -> None:
    small, large = plan(20_000, Inputs()), plan(40_000, Inputs())
    for name in ("workers", "partitions", "memory_gb", "object_gb", "kafka_gb", "price"):
        assert getattr(large, name) >= getattr(small, name), name
    assert large.workers > small.workers
    assert loudest_share(1, 1.1) == 1
    assert loudest_share(1_000, 0) == pytest.approx(0.001)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--set", "nonsense=1"], "name=number, a name of: broker_disk_gb"),
        (["--set", "peak=much"], "could not convert"),
        (["--set", "searches_per_system_day=1000", "--systems", "1000000"], "before it has a row"),
    ],
)
def test_what_can_not_be_planned_is_said(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert said in capsys.readouterr().err
