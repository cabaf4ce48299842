"""Secrets leave content and metadata; prose stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from akasha_stream.errors import SettingsError
from akasha_stream.events.decode import Decoded, Decoder
from akasha_stream.events.model import Event
from akasha_stream.events.redaction import BUILTIN, Redactor
from akasha_stream.settings import Limits, RedactionSettings
from tests.events.conversions import record

REAL_EVENTS = Path(__file__).parents[1] / "data" / "real-events.parquet"
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"

# Built from parts, so that no scanner takes this file for a leak.
SECRETS: dict[str, list[str]] = {
    "private_key": [
        "-----BEGIN RSA PRIVATE " + "KEY-----\nMIIEow\nabc+/=\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN OPENSSH PRIVATE " + "KEY-----\nb3BlbnNzaC1rZXk",
    ],
    "aws_access_key": ["AKIA" + "ABCDEFGHIJKLMNOP", "ASIA" + "2222222222222222"],
    "github_token": ["ghp_" + LETTERS[:36], "github_pat_" + LETTERS[:30]],
    "gitlab_token": ["glpat-" + LETTERS[:20]],
    "slack_token": ["xoxb-" + "123456789012-abcdef", "https://hooks.slack.com/services/" + "T01/B02/" + LETTERS[:24]],
    "anthropic_key": ["sk-ant-" + "api03-" + LETTERS[:40]],
    "openai_key": ["sk-" + LETTERS[:48], "sk-proj-" + LETTERS[:40]],
    "google_key": ["AIza" + LETTERS[:35], "GOCSPX-" + LETTERS[:28]],
    "stripe_key": ["sk_live_" + LETTERS[:24], "rk_test_" + LETTERS[:24]],
    "jwt": ["eyJ" + "hbGciOiJIUzI1NiJ9.eyJ" + "zdWIiOiIxMjM0In0." + LETTERS[:43]],
    "url_credentials": ["postgres://admin:" + "s3cret@db.example.org/x", "redis://:" + "hunter2pass@localhost"],
    "bearer_token": ["Authorization: Bearer " + LETTERS[20:60], "Basic " + "dXNlcjpwYXNzd29yZDEyMw=="],
    "password": ["DB_PASSWORD=" + "correcthorse", "pwd=" + "hunter2"],
    "assignment": [
        "api_key: " + '"abcd1234efgh"',
        "client_secret = " + "'abcdefgh'",
        "secret_key=" + "a1b2c3d4e5",
        "AUTH_TOKEN=" + "abc123def456",
    ],
}
PROSE = [
    "password: the user must enter it twice",
    "token: authentication library for services",
    "The secret = to be kept; see the keys of the map",
    "basic authentication and bearer tokens for HTTP",
    "A task-runner for desk-top use: risk-free, sk-learn like",
    "https://example.org:8080/a/b?x=1@2 and git://host/path",
    "JSON Web Tokens (eyJ...) explained",
    "tokenizer = Tokenizer(); key: value; pass=1",
    "see PASSWORD_HASHERS and SECRET_KEY in the settings",
]


def decode(events: list[Event], **given: Any) -> Decoded:
    redactor = Redactor(RedactionSettings(**given))
    decoded = Decoder(Limits(dimensions=8), redactor).decode([record(events, timestamp_ms=4_000_000_000_000)])
    assert not decoded.dead
    return decoded


def event(content: str = "", **metadata: Any) -> Event:
    return Event("id", "s", content, np.ones(8, np.float32), metadata=metadata)


def secret_part(name: str, text: str) -> str:
    """What must not be left of a sample."""
    cut = {"url_credentials": ":", "bearer_token": " ", "password": "=", "slack_token": "/"}
    if name == "assignment":
        return text.replace("=", ":").split(":", 1)[1].strip(" \"'")
    if name == "url_credentials":
        return text.split("@", maxsplit=1)[0].rsplit(":", 1)[1]
    return text.rsplit(cut.get(name, "\0"), 1)[-1]


ALL = [(name, text) for name, texts in SECRETS.items() for text in texts]


def test_every_pattern_has_a_sample() -> None:
    assert SECRETS.keys() == BUILTIN.keys()


@pytest.mark.parametrize(("name", "text"), ALL)
def test_a_secret_leaves_content_and_metadata(name: str, text: str) -> None:
    inside = f"before {text} after"
    decoded = decode([event(inside, note=inside, deep={"list": [1, inside]}), event("nothing here", note="nor here")])
    assert decoded.redacted == 1
    assert name in decoded.redactions
    for column in (decoded.batch.content, decoded.batch.metadata):
        found = column[0].as_py() or ""
        assert secret_part(name, text) not in found
        assert f"[redacted:{name}]" in found
        assert "before " in found
        assert " after" in found or name == "private_key"
    metadata = orjson.loads(decoded.batch.metadata[0].as_py() or "")
    assert metadata.keys() == {"note", "deep"}
    assert metadata["deep"]["list"][0] == 1
    assert decoded.batch.content[1].as_py() == "nothing here"
    assert decoded.batch.metadata[1].as_py() == '{"note":"nor here"}'


@pytest.mark.parametrize("text", PROSE)
def test_prose_stays(text: str) -> None:
    decoded = decode([event(text, note=text)])
    assert decoded.redacted == 0
    assert decoded.batch.content[0].as_py() == text


def test_real_texts_stay() -> None:
    texts = cast("list[str]", pq.read_table(REAL_EVENTS, columns=["content"])["content"].to_pylist())
    changed: list[str] = []
    for start in range(0, len(texts), 1_000):
        part = texts[start : start + 1_000]
        contents = decode([event(text) for text in part]).batch.content.to_pylist()
        changed += [before for before, after in zip(part, contents, strict=True) if before != after]
    assert changed == []


@pytest.mark.parametrize(("name", "text"), ALL)
def test_the_hint_finds_whatever_the_pattern_finds(name: str, text: str) -> None:
    pattern = next(pattern for pattern in Redactor(RedactionSettings()).patterns if pattern.name == name)
    for sample in (text, f"x {text}", text.upper(), text.lower(), f'"{text}"'):
        if pc.match_substring_regex(pa.array([sample]), pattern.regex)[0].as_py():
            assert pc.match_substring_regex(pa.array([sample]), pattern.hint)[0].as_py()


@pytest.mark.parametrize(
    "key", ["password", "db_password", "apiKey", "API-KEY", "aws.secret_access_key", "dbPassword", "token"]
)
def test_a_key_that_names_a_secret(key: str) -> None:
    decoded = decode([event("text", **{key: "whatever it is", "n": {key: "x y"}, "other": "stays"})])
    metadata = orjson.loads(decoded.batch.metadata[0].as_py() or "")
    assert metadata == {key: "[redacted:assignment]", "n": {key: "[redacted:assignment]"}, "other": "stays"}
    assert decoded.redactions == {"assignment": 1}


@pytest.mark.parametrize(
    "key", ["tokens", "max_tokens", "tokenizer", "passwords_checked", "keyboard", "secretary", "key"]
)
def test_a_key_that_only_looks_like_it(key: str) -> None:
    assert decode([event("text", **{key: "a value"})]).redacted == 0
    assert decode([event("text", token=7, secret=None, password=True)]).redacted == 0


def test_a_match_in_metadata_can_not_break_the_json() -> None:
    greedy = {"greedy": "secret.*"}
    metadata = {"a": 'secret "quoted" \\ and\nmore', "b": ["x", {"secret key": 1, "z": "secret"}], "n": 1.5}
    decoded = decode([event("a secret b", **metadata)], patterns=greedy, builtin=False)
    text = decoded.batch.metadata[0].as_py() or ""
    assert orjson.loads(text) == {
        "a": "[redacted:greedy]\nmore",
        "b": ["x", {"[redacted:greedy]": 1, "z": "[redacted:greedy]"}],
        "n": 1.5,
    }
    assert orjson.dumps(orjson.loads(text), option=orjson.OPT_SORT_KEYS).decode() == text


def test_keys_that_become_equal_stay_two() -> None:
    decoded = decode([event("", **{"x1": 1, "x2": 2})], patterns={"x": "x[0-9]"}, builtin=False)
    assert orjson.loads(decoded.batch.metadata[0].as_py() or "") == {"[redacted:x]": 1, "[redacted:x]_": 2}


def test_anchors_mean_the_ends_of_a_value() -> None:
    given = {"patterns": {"whole": "^[0-9]{4}$"}, "builtin": False}
    decoded = decode([event("1234", a="1234", b="x 1234")], **given)
    assert decoded.batch.content[0].as_py() == "[redacted:whole]"
    assert orjson.loads(decoded.batch.metadata[0].as_py() or "") == {"a": "[redacted:whole]", "b": "x 1234"}


@given(
    texts=st.lists(
        st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=30), min_size=2, max_size=5
    ),
    place=st.integers(0, 4),
)
def test_metadata_stays_canonical_json(texts: list[str], place: int) -> None:
    texts[place % len(texts)] += ' "' + SECRETS["github_token"][0] + '" \\'
    metadata = {f"key-{number}-{text}": [text, {text: number}] for number, text in enumerate(texts)}
    decoded = decode([event("", **metadata)], patterns={"quotes": '"[^"]*"'})
    text = decoded.batch.metadata[0].as_py() or ""
    assert orjson.dumps(orjson.loads(text), option=orjson.OPT_SORT_KEYS).decode() == text
    assert "ghp_" not in text


def test_counts_are_per_event_and_deletes_are_left_alone() -> None:
    token = SECRETS["github_token"][0]
    decoded = decode([event(f"{token} {token}", a=token), event(token), event("x"), Event.delete("s", "id")])
    assert decoded.redacted == 2
    assert decoded.redactions["github_token"] >= 2
    assert decoded.batch.metadata[3].as_py() == "{}"


def test_it_can_be_switched_off_as_a_whole_or_by_name() -> None:
    token = SECRETS["github_token"][0]
    assert decode([event(token)], enabled=False).batch.content[0].as_py() == token
    assert decode([event(token)], builtin=False).batch.content[0].as_py() == token
    assert decode([event(token)], patterns={"github_token": ""}).batch.content[0].as_py() == token
    assert decode([event(token)], replacement="***").batch.content[0].as_py() == "***"
    assert decode([event(token)], replacement=r"\1{name}").batch.content[0].as_py() == r"\1github_token"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"patterns": {"open": "("}}, "redaction.patterns.open"),
        ({"patterns": {"ahead": "(?=x)"}}, "redaction.patterns.ahead"),
        ({"patterns": {"empty": "x*"}}, "redaction.patterns.empty"),
        ({"patterns": {"bad name": "x"}}, "redaction.patterns.bad name"),
        ({"replacement": "{other}"}, "redaction.replacement"),
        ({"replacement": "{"}, "redaction.replacement"),
    ],
)
def test_bad_settings_are_named(given: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        Redactor(RedactionSettings(**given))
