"""Settings files and variables of any content: they load, or one line says what is wrong and where."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from akasha_stream.configuration.environment import PREFIX
from akasha_stream.configuration.explain import sections
from akasha_stream.configuration.load import load
from akasha_stream.configuration.storage import load_storage
from akasha_stream.errors import SettingsError
from akasha_stream.settings import Settings
from akasha_stream.topics.definition import read_definition

NAMES = [name for section, model in sections(Settings).items() for name in (section, *model.model_fields)]
STORAGE = ["storage", "default_backend", "tiers", "hot", "warm", "s3-hot", "redis-cache", "provider", "s3", "local"]
TOPIC = ["name", "partitions", "replication_factor", "config", "retention.ms", "max.message.bytes", "value", "headers"]
WORDS = """
0 -1 1 0.5 1e400 -1e400 .inf -.inf .nan 0x1f 0o17 0b101 1_000 190:20:30 1:99 true no ~ null yes off hnsw s3 kafka:9092
2026-01-01 2026-13-45 2026-01-01T99:99:99 9999-12-31T23:59:59-23:59 0000-00-00 << = @x `x %x { [ ] } ' " "\\x" # --- ...
*a *b ! !a !!python/none ${A} ${A:1} ${ ${} ${:} ${A:${B}} $${A} x${A:}y ${A:'} ${Ä:1} '${A:1}' "${A:1}" "\\ud800" "\\0"
"\\u202e" "\\n" "\\e[2J"
"""
SCALARS = [
    *WORDS.split(),
    *(
        f"!!{kind} {text}"
        for kind in ("int", "float", "bool", "timestamp", "binary")
        for text in ("x", "''", "ä", "[1]")
    ),
    *("!!set x", "!!omap x", "!!null x", "!!str 1", "!!set {a}", "!!merge x"),
    *("&a x", "&a [*a]", "&a {b: *a}", "- ", "- x", "? x", "? [x]", "| \n x", "> x", "# x", "%YAML 9.9", "\t"),
    *("${a b}", "${ }", "'a\nb'", "a\n  b"),
    "9" * 5_000,
    "0x" + "f" * 5_000,
    "0." + "9" * 5_000,
    "x" * 5_000,
    "[" * 2_000,
    "[" * 90 + "]" * 90,
    "\ufeff",
    "\x85",
    "\u2028",
    "\x00",
    "\x1b[31m",
]


@st.composite
def documents(draw: DrawFn, names: list[str]) -> str:
    """YAML, more or less: known and unknown keys, at any depth, block and flow."""
    keys = st.sampled_from(names) | st.sampled_from(SCALARS) | st.text(max_size=5)
    scalars = st.sampled_from(SCALARS) | st.integers().map(str) | st.floats().map(str) | st.text(max_size=20)

    def flow(children: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        pairs = st.tuples(keys, children).map(lambda pair: f"{pair[0]}: {pair[1]}")
        return st.lists(children, max_size=3).map(lambda items: f"[{', '.join(items)}]") | st.lists(
            pairs, max_size=3
        ).map(lambda items: f"{{{', '.join(items)}}}")

    values = st.recursive(scalars, flow, max_leaves=6)
    lines = []
    for key in draw(st.lists(keys, min_size=1, max_size=4)):
        lines.append(f"{key}: {draw(st.just('') | values)}")
        for inner in draw(st.lists(keys, max_size=3)):
            lines.append(f"{draw(st.sampled_from(['  ', '  ', '  ', '    ', chr(9), '  - ']))}{inner}: {draw(values)}")
    return "\n".join(lines)


LOADERS: dict[str, tuple[list[str], Callable[[Path], object]]] = {
    "settings": (NAMES, lambda path: load(path, variables={})),
    "storage": (STORAGE, lambda path: load_storage(path, variables={})),
    "topic": (TOPIC, lambda path: read_definition(path, Settings(), {})),
}


def assert_one_clear_line(error: SettingsError, *places: str) -> None:
    said = str(error)
    assert said.startswith(places), said
    assert said.isprintable(), said
    assert len(said) < 1_500, said


def loads_or_says_why(content: bytes, load_it: Callable[[Path], object]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "akasha-stream.yml"
        path.write_bytes(content)
        try:
            load_it(path)
        except SettingsError as error:
            assert_one_clear_line(error, f"{path}:", "environment ")


@pytest.mark.parametrize("kind", LOADERS)
@settings(max_examples=200)
@given(data=st.data())
def test_files(kind: str, data: st.DataObject) -> None:
    names, load_it = LOADERS[kind]
    text = data.draw(documents(names) | st.text())
    encoding = data.draw(st.sampled_from(["utf-8"] * 8 + ["utf-16", "latin-1", "utf-8-sig"]))
    loads_or_says_why(text.encode(encoding, "replace"), load_it)


@given(content=st.binary(max_size=200))
def test_bytes(content: bytes) -> None:
    for _, load_it in LOADERS.values():
        loads_or_says_why(content, load_it)


VARIABLES = [f"{PREFIX}{section}__{key}".upper() for section, m in sections(Settings).items() for key in m.model_fields]
VALUES = [
    *SCALARS,
    "[" * 100_000,
    '{"a":' * 50_000,
    '{"a": 1}',
    "[1]",
    '["a"]',
    "NaN",
    '{"a": {"a": NaN}}',
    '"\\ud800"',
]


@settings(max_examples=300)
@given(variables=st.dictionaries(st.sampled_from(VARIABLES), st.sampled_from(VALUES) | st.text(), max_size=3))
def test_variables(variables: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "akasha-stream.yml"
        path.write_text("")
        try:
            load(path, variables=variables)
        except SettingsError as error:
            assert_one_clear_line(error, f"{path}:", *variables)
