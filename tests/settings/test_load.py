"""Which source wins, and where it is looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from akasha_stream.configuration.load import load
from akasha_stream.configuration.places import shipped
from akasha_stream.errors import SettingsError
from akasha_stream.settings import Settings


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty settings folder in the working directory; the process environment is left out by `variables`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "settings").mkdir()
    return tmp_path / "settings"


def write(folder: Path, text: str, environment: str = "") -> Path:
    path = folder / f"akasha-stream{'.' if environment else ''}{environment}.yml"
    path.write_text(text, encoding="utf-8")
    return path


def test_an_empty_file_gives_the_defaults(folder: Path) -> None:
    write(folder, "")
    assert load(variables={}).settings == Settings()


def test_each_source_beats_the_one_before(folder: Path) -> None:
    write(folder, "hot: {seal_rows: 1001, hnsw_m: 11}\nhttp: {port: 1}\nsearch: {threads: 11}")
    write(folder, "hot: {seal_rows: 1002}\nhttp: {port: 2}\nsearch: {threads: 12}", "staging")
    variables = {"AKASHA_ENV": "staging", "AKASHA_HTTP__PORT": "3", "AKASHA_SEARCH__THREADS": "13"}

    found = load(variables=variables, overrides={"search.threads": 14})

    settings = found.settings
    assert settings.environment == "staging"
    assert (settings.hot.hnsw_m, settings.hot.seal_rows, settings.http.port, settings.search.threads) == (
        11,
        1002,
        3,
        14,
    )
    assert settings.broker == Settings().broker
    assert found.places["hot", "hnsw_m"] == "settings/akasha-stream.yml:1"
    assert found.places["hot", "seal_rows"] == "settings/akasha-stream.staging.yml:1"
    assert found.places["http", "port"] == "AKASHA_HTTP__PORT"
    assert found.places["search", "threads"] == "override"


def test_the_argument_beats_the_variable_for_the_environment(folder: Path) -> None:
    write(folder, "")
    write(folder, "", "dev")
    write(folder, "http: {port: 5}", "prod")
    assert load(environment="prod", variables={"AKASHA_ENV": "dev"}).settings.http.port == 5


def test_the_file_may_name_the_environment(folder: Path) -> None:
    write(folder, "environment: ${STAGE:prod}")
    write(folder, "http: {port: 5}", "prod")
    assert load(variables={}).settings.http.port == 5
    assert load(variables={"AKASHA_ENV": ""}).settings.environment == "prod"


def test_an_environment_without_overlay_is_an_error_only_if_asked_for(folder: Path) -> None:
    write(folder, "")
    write(folder, "", "prod")
    assert load(variables={}).settings.environment == "dev"
    with pytest.raises(SettingsError, match=r"'production': there is no .*; did you mean prod\?$"):
        load(variables={"AKASHA_ENV": "production"})
    with pytest.raises(SettingsError, match="allowed: letters"):
        load(environment="../x", variables={})


def test_mappings_are_merged_and_lists_of_names_are_open(folder: Path) -> None:
    write(folder, "redaction: {patterns: {one: a+}}")
    write(folder, "redaction: {patterns: {two: b+}}", "dev")
    assert load(variables={}).settings.redaction.patterns == {"one": "a+", "two": "b+"}
    from_variable = load(variables={"AKASHA_REDACTION__PATTERNS": '{"three": "c+"}'})
    assert from_variable.settings.redaction.patterns == {"three": "c+"}


def test_sections_with_all_keys_commented_out_are_left_alone(folder: Path) -> None:
    write(folder, "hot:\n  # seal_rows: 5\nhttp: {port: 5}")
    write(folder, "http:\n", "dev")
    assert load(variables={}).settings.http.port == 5


def test_values_from_the_environment_take_their_types(folder: Path) -> None:
    write(folder, "redis: {enabled: '${ON:no}'}\nhot: {seal_rows: '${ROWS:500}'}\ndedupe: {near_threshold: '${NEAR:}'}")
    settings = load(variables={"AKASHA_DEDUPE__NEAR_THRESHOLD": "0.9", "AKASHA_HTTP__PORT": ""}).settings
    assert settings.redis.enabled is False
    assert settings.hot.seal_rows == 500
    assert settings.dedupe.near_threshold == 0.9
    assert settings.http.port == Settings().http.port
    assert load(variables={"NEAR": ".5"}).settings.dedupe.near_threshold == 0.5
    assert (
        load(variables={"NEAR": ".5", "AKASHA_DEDUPE__NEAR_THRESHOLD": "null"}).settings.dedupe.near_threshold is None
    )


def test_a_missing_variable_does_no_harm_where_something_stronger_gives_the_value(folder: Path) -> None:
    write(folder, "redis: {url: '${REDIS_URL}'}")
    settings = load(variables={"AKASHA_REDIS__URL": "redis://h/1"}).settings
    assert settings.redis.url.get_secret_value() == "redis://h/1"
    with pytest.raises(
        SettingsError, match=r"akasha-stream.yml:1: redis.url: the environment variable REDIS_URL is not"
    ):
        load(variables={})


def test_the_order_of_places(folder: Path, tmp_path: Path) -> None:
    given = tmp_path / "given.yml"
    given.write_text("http: {port: 1}", encoding="utf-8")
    named = tmp_path / "named.yml"
    named.write_text("http: {port: 2}", encoding="utf-8")
    personal = tmp_path / "xdg" / "akasha-stream" / "akasha-stream.yml"
    personal.parent.mkdir(parents=True)
    personal.write_text("http: {port: 4}", encoding="utf-8")
    variables = {"AKASHA_SETTINGS": str(named), "XDG_CONFIG_HOME": str(tmp_path / "xdg")}
    here = write(folder, "http: {port: 3}")

    assert load(given, variables=variables).settings.http.port == 1
    assert load(variables=variables).settings.http.port == 2
    del variables["AKASHA_SETTINGS"]
    assert load(variables=variables).settings.http.port == 3
    here.unlink()
    assert load(variables=variables).settings.http.port == 4
    personal.unlink()
    assert load(variables=variables).files[0] == shipped("settings") / "akasha-stream.yml"
    for asked in ({"AKASHA_SETTINGS": "nowhere.yml"}, {"AKASHA_SETTINGS": str(tmp_path)}):
        with pytest.raises(SettingsError, match=r"^AKASHA_SETTINGS: "):
            load(variables=asked)
    with pytest.raises(SettingsError, match=r"^--settings: nowhere.yml: no such file$"):
        load(Path("nowhere.yml"), variables={})


def test_a_file_of_another_name_has_overlays_of_that_name(tmp_path: Path) -> None:
    (tmp_path / "mine.yml").write_text("", encoding="utf-8")
    (tmp_path / "mine.prod.yml").write_text("http: {port: 9}", encoding="utf-8")
    assert load(tmp_path / "mine.yml", "prod", variables={}).settings.http.port == 9


def test_load_reads_the_process_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AKASHA_HTTP__PORT", "77")
    monkeypatch.setenv("AKASHA_ENV", "dev")
    assert Settings.load(shipped("settings") / "akasha-stream.yml").http.port == 77
