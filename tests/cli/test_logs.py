"""Logs: to stderr, as JSON or for people, stdlib loggers too, no secrets."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from pydantic import SecretStr

from akasha_stream.cli.audited import audited
from akasha_stream.logs import configure, mask_secrets
from akasha_stream.settings import LoggingSettings, Settings


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_lines_with_utc_time() -> None:
    stream = io.StringIO()
    configure(LoggingSettings(format="auto"), stream)
    structlog.stdlib.get_logger("akasha_stream.x").info("batch_committed", rows=5)
    (line,) = lines(stream)
    assert {key: line[key] for key in ("event", "level", "logger", "rows")} == {
        "event": "batch_committed",
        "level": "info",
        "logger": "akasha_stream.x",
        "rows": 5,
    }
    assert line["timestamp"].endswith("Z")
    assert datetime.now(UTC) - datetime.fromisoformat(line["timestamp"]) < timedelta(minutes=1)


@pytest.mark.parametrize("name", ["aiokafka.consumer", "faust", "mode.worker", "uvicorn.error", "other"])
def test_the_standard_librarys_loggers_come_the_same_way_and_once(name: str) -> None:
    stream = io.StringIO()
    logging.getLogger(name).addHandler(logging.StreamHandler(stream))
    configure(LoggingSettings(format="json"), stream)
    logging.getLogger(name).handlers.clear()
    logging.getLogger(name).warning("lost %s", "it", extra={"password": "pw1", "partition": 3})
    (line,) = lines(stream)
    assert (line["event"], line["logger"], line["partition"], line["password"]) == ("lost it", name, 3, "**********")


def test_the_level_is_the_settings() -> None:
    stream = io.StringIO()
    configure(LoggingSettings(level="warning", format="json"), stream)
    logger = structlog.stdlib.get_logger("akasha_stream.y")
    logger.info("no")
    logger.warning("yes")
    assert [line["event"] for line in lines(stream)] == ["yes"]
    configure(LoggingSettings(level="debug", format="json"), stream)
    logger.debug("now")
    assert lines(stream)[-1]["event"] == "now"
    assert len(lines(stream)) == 2, "a second configure() must not print twice"


def test_the_audit_log_comes_whatever_the_level_is(tmp_path: Path) -> None:
    stream = io.StringIO()
    settings = Settings.load(overrides={"logging.level": "error", "logging.format": "json"})
    configure(settings.logging, stream)
    logging.getLogger().setLevel(logging.CRITICAL)
    with audited(settings, "forget", system="s"):
        pass
    with audited(settings, "forget", dry_run=True, system="s"):
        pass
    (line,) = lines(stream)
    assert (line["logger"], line["what"], line["about"], line["result"]) == ("audit", "forget", {"system": "s"}, "ok")
    assert line["who"].startswith("user ")


def test_the_console_has_colours_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for no_color, coloured in (("", True), ("1", False)):
        monkeypatch.setenv("NO_COLOR", no_color)
        stream = Terminal()
        configure(LoggingSettings(format="auto"), stream)
        structlog.stdlib.get_logger("z").info("hello", api_key="sk-1")
        assert "hello" in stream.getvalue()
        assert "sk-1" not in stream.getvalue()
        assert ("\x1b[" in stream.getvalue()) is coloured


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("x", SecretStr("pw"), "**********"),
        ("password", "pw", "**********"),
        ("redis_password", "pw", "**********"),
        ("Authorization", "Bearer pw", "**********"),
        ("api_key", 5, "**********"),
        ("apikey", b"pw", "**********"),
        ("url", "redis://:pw@h/0", "redis://:**********@h/0"),
        ("settings", {"token": "pw", "rows": 5}, {"token": "**********", "rows": 5}),
        ("tokens", 12, 12),
        ("freshness_token", "0:5", "0:5"),
        ("monkey", "pw", "pw"),
        ("partition_key", "s", "s"),
        ("password", None, None),
        ("urls", ["redis://:pw@h/0"], ["redis://:**********@h/0"]),
    ],
)
def test_secrets_are_masked(key: str, value: object, wanted: object) -> None:
    assert mask_secrets(None, "info", {key: value}) == {key: wanted}


@pytest.mark.parametrize("format_", ["json", "console"])
def test_a_traceback_shows_no_secret(format_: Any) -> None:
    stream = io.StringIO()
    configure(LoggingSettings(format=format_), stream)
    local_password = "hunter" + "2secret"
    try:
        raise ConnectionError(f"can't reach redis://:{local_password}@h/0")
    except ConnectionError:
        structlog.stdlib.get_logger("t").exception("failed")
        logging.getLogger("t").exception("failed")
    assert "ConnectionError" in stream.getvalue()
    assert local_password not in stream.getvalue()


def test_lines_inside_a_span_carry_its_ids() -> None:
    from opentelemetry import trace

    stream = io.StringIO()
    configure(LoggingSettings(format="json"), stream)
    context = trace.SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=trace.TraceFlags(1))
    with trace.use_span(trace.NonRecordingSpan(context)):
        structlog.stdlib.get_logger("x").info("inside")
        logging.getLogger("other").warning("inside too")
    structlog.stdlib.get_logger("x").info("outside")
    ours, foreign, outside = lines(stream)
    assert (ours["trace_id"], ours["span_id"]) == (f"{0xABC:032x}", f"{0xDEF:016x}")
    assert (foreign["trace_id"], foreign["span_id"]) == (ours["trace_id"], ours["span_id"])
    assert "trace_id" not in outside
