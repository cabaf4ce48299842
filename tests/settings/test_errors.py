"""A wrong setting: one line with place, key, what was found and what is allowed; no secret in it."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from akasha_stream.configuration.load import load
from akasha_stream.errors import SettingsError

SECRET = "hunter2-very-secret"


def error_of(tmp_path: Path, text: str, variables: dict[str, str] | None = None) -> str:
    path = tmp_path / "akasha-stream.yml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(SettingsError) as caught:
        load(path, variables=variables or {})
    said = str(caught.value)
    assert "\n" not in said
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    return said.replace(f"{tmp_path}/", "")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("hot:\n  seal_row: 5", "akasha-stream.yml:2: hot.seal_row: no such key; did you mean hot.seal_rows?"),
        ("seal_rows: 5", "akasha-stream.yml:1: seal_rows: no such key; did you mean hot.seal_rows?"),
        ("hott: {}", "akasha-stream.yml:1: hott: no such key; did you mean hot?"),
        ("windows: {zzz: 1}", "akasha-stream.yml:1: windows.zzz: no such key; allowed: size_s, allowed_lateness_s"),
        ("hot:\n  seal_rows: many", "akasha-stream.yml:2: hot.seal_rows: found 'many'; allowed: a whole number ≥ 100"),
        ("hot: {seal_rows: 5}", "akasha-stream.yml:1: hot.seal_rows: found 5; allowed: a whole number ≥ 100"),
        ("hot: {seal_rows: 100.5}", "akasha-stream.yml:1: hot.seal_rows: found 100.5; allowed: a whole number ≥ 100"),
        ("hot: {seal_rows:}", "akasha-stream.yml:1: hot.seal_rows: found nothing; allowed: a whole number ≥ 100"),
        ("hot: {seal_rows: [1]}", "akasha-stream.yml:1: hot.seal_rows: found a list; allowed: a whole number ≥ 100"),
        ("windows: {size_s: .inf}", "akasha-stream.yml:1: windows.size_s: found inf; allowed: a number > 0"),
        (
            "search: {index: hnws}",
            "akasha-stream.yml:1: search.index: found 'hnws'; allowed: one of auto, hnsw, codes, exact; "
            "did you mean hnsw?",
        ),
        (
            "dedupe: {near_threshold: 2}",
            "akasha-stream.yml:1: dedupe.near_threshold: found 2; allowed: a number > 0, ≤ 1 or null",
        ),
        (
            "windows: 8470",
            "akasha-stream.yml:1: windows: found 8470; allowed: a mapping with the keys size_s, allowed_lateness_s",
        ),
        ("redaction: {patterns: {a: 1}}", "akasha-stream.yml:1: redaction.patterns.a: found 1; allowed: text"),
        ("redis: {enabled: maybe}", "akasha-stream.yml:1: redis.enabled: found 'maybe'; allowed: true or false"),
        (
            "http: {port: -1, hots: x}\nhot: {seal_rows: 1}",
            "akasha-stream.yml:2: hot.seal_rows: found 1; allowed: a whole number ≥ 100 "
            "(also wrong: http.port, http.hots)",
        ),
        (
            "limits: {dimensions: 385}",
            "akasha-stream.yml:1: limits.dimensions: found 385; allowed: a whole number ≥ 8, ≤ 4096, a multiple of 8",
        ),
        (
            "publish: {bundle_events: 5000}",
            "akasha-stream.yml:1: publish.bundle_events: found 5000; allowed: at most limits.bundle_events (4096), "
            "else workers refuse what is published",
        ),
        (
            "ingest: {heartbeat_s: 3}",
            "akasha-stream.yml:1: ingest.heartbeat_s: found 3.0; allowed: at most a third of "
            "ingest.session_timeout_s (6.0), else one late heartbeat costs the partitions",
        ),
        ("embedder: {kind: openai}", "akasha-stream.yml:1: embedder.url: is missing; embedder.kind openai needs it"),
        (
            "topics: {digests: akasha.embeddings.v1}",
            "akasha-stream.yml:1: topics.digests: found 'akasha.embeddings.v1', which topics.embeddings is too",
        ),
        (
            "topics: {digests: 'a b'}",
            "akasha-stream.yml:1: topics.digests: found 'a b'; allowed: up to 249 letters, digits, '.', '_' and '-'",
        ),
        ("hot:\n  seal_rows: ${ROWS}", "akasha-stream.yml:2: hot.seal_rows: the environment variable ROWS is not set, "
         "and ${ROWS} has no default"),
        ("hot: {}\nhot: {}", "akasha-stream.yml:2: hot: is given twice (first in line 1)"),
        ("- a\n- b", "akasha-stream.yml:1: the top of the file must be a mapping of keys"),
        ("a: [1", "akasha-stream.yml:1: is not valid YAML: expected ',' or ']', but got '<stream end>'"),
        ("a:\n\t- x", "akasha-stream.yml:2: is not valid YAML: found character '\\t' that cannot start any token"),
        ("a: !!python/object:os.system x", "akasha-stream.yml:1: is not valid YAML: could not determine a constructor "
         "for the tag 'tag:yaml.org,2002:python/object:os.system'"),
        ("a: \udcff", "akasha-stream.yml: is not UTF-8 text"),
        ("? [a]\n: b", "akasha-stream.yml:1: a key must be a word"),
        ("hot: {}\na: \x07", "akasha-stream.yml:2: is not valid YAML: the character U+0007"),
        ("hot: {seal_rows: 2026-13-45}", "akasha-stream.yml:1: hot.seal_rows: is taken for YAML's type timestamp, and "
         "is none; in quotes it is text"),
        ("hot: {seal_rows: !!bool x}", "akasha-stream.yml:1: hot.seal_rows: is taken for YAML's type bool, and is "
         "none; in quotes it is text"),
        (f"hot: {{seal_rows: -0x{'f' * 5_000}}}", "akasha-stream.yml:1: hot.seal_rows: found a huge number; allowed: a "
         "whole number ≥ 100"),
        ('windows: {"a\\nb": 1}', "akasha-stream.yml:1: windows.'a\\nb': no such key; allowed: size_s, "
         "allowed_lateness_s"),
    ],
)  # fmt: skip
def test_one_line(tmp_path: Path, text: str, wanted: str) -> None:
    assert error_of(tmp_path, text) == wanted


@pytest.mark.parametrize(
    ("variable", "value", "wanted"),
    [
        (
            "AKASHA_HOT__SEAL_ROW",
            "5",
            "AKASHA_HOT__SEAL_ROW: no such setting; did you mean AKASHA_HOT__SEAL_ROWS?",
        ),
        (
            "AKASHA_HOT__SEAL_ROWS",
            "x",
            "AKASHA_HOT__SEAL_ROWS: hot.seal_rows: found 'x'; allowed: a whole number ≥ 100",
        ),
        (
            "akasha_hot__seal_rows",
            "5",
            "akasha_hot__seal_rows: hot.seal_rows: found '5'; allowed: a whole number ≥ 100",
        ),
        (
            "AKASHA_REDACTION__PATTERNS",
            "x",
            "AKASHA_REDACTION__PATTERNS: redaction.patterns: is not valid JSON; allowed: a JSON object",
        ),
    ],
)
def test_variables_are_named(tmp_path: Path, variable: str, value: str, wanted: str) -> None:
    assert error_of(tmp_path, "", {variable: value}) == wanted


def test_a_variable_of_no_section_lists_the_sections(tmp_path: Path) -> None:
    said = error_of(tmp_path, "", {"AKASHA_ZZZZZZ__QQQQQQQQQ": "1"})
    assert said.startswith("AKASHA_ZZZZZZ__QQQQQQQQQ: no such setting; allowed: AKASHA_<SECTION>__<KEY>")


@pytest.mark.parametrize("text", [
    f"redis: {{url: [redis://:{SECRET}@h/0]}}",
    f"redis: {{password: {SECRET}}}",
    f"redis: {{{SECRET[:3]}: {SECRET}}}",
    f"redis: {{url: 'redis://:{SECRET}@h/0', timeout_s: -1}}",
    f"embedder: {{api_key: {{a: {SECRET}}}}}",
    f"embedder: {{kind: openai, api_key: {SECRET}}}",
    f"http: {{port: 'amqp://user:{SECRET}@h'}}",
    f"redis: 'redis://:{SECRET}@h/0'",
    f"redis:\n  url: redis://:{SECRET}@h/0\n\tx: 1",
])  # fmt: skip
def test_secrets_are_not_shown(tmp_path: Path, text: str) -> None:
    error_of(tmp_path, text)


def test_a_deep_file_is_refused(tmp_path: Path) -> None:
    assert "nested too deeply" in error_of(tmp_path, "a: " + "[" * 20_000)


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"^--settings: .*: is not a file$"):
        load(tmp_path, variables={})
