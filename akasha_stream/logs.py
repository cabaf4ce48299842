"""Logging: structlog to stderr, as lines for people or as JSON; the standard library's loggers go the same way."""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, TextIO

import structlog
from pydantic import SecretStr

from akasha_stream.configuration.secrets import MASK, mask_urls
from akasha_stream.settings import LoggingSettings

_SECRET_KEY = re.compile(
    r"(^|[_.-])(pass(word|wd|phrase)?|pwd|secret|token|api[_-]?key|authorization|credentials?|private[_-]?key)$",
    re.IGNORECASE,
)
# A freshness token is an offset, no secret, and the one thing to look for when a search waits.
_NOT_SECRET = frozenset({"freshness_token", "after_token"})
# Libraries that say at INFO what is of no use to whoever runs this.
_QUIET = (
    "aiokafka", "faust", "mode", "uvicorn", "httpx", "httpcore", "asyncio", "azure", "boto3", "botocore", "aiobotocore",
    # The life of Faust's services is logged under the modules of ours that derive from them.
    "akasha_stream.stream.app", "akasha_stream.stream.consumer",
    # Oneiric's: every candidate, every use of an adapter.
    "adapter.bridge", "adapter.metadata", "lifecycle", "plugins", "resolver",
)  # fmt: skip
# Lines of libraries at ERROR that are no errors: (logger, all these words).
_EXPECTED = (
    # A group's coordinator is chosen while its first member asks for it; aiokafka asks again. A worker that waits
    # long for its partitions says so itself.
    ("aiokafka.consumer.group_coordinator", ("Group Coordinator Request failed", "NotAvailable")),
    # How aiokafka learns that a broker has no idempotent producer; the publisher then says so itself.
    ("aiokafka.producer.sender", ("Unexpected error during InitProducerIdRequest",)),
    # Oneiric's traceback of what storage/tiers.py then raises with its reason, at every try.
    ("lifecycle", ("swap-failed",)),
    # aiokafka leaves the futures of its own requests behind when another requeue shuts a producer out; dlq/requeue.py
    # says so itself.
    ("asyncio", ("Future exception was never retrieved", "ProducerFenced")),
    # Faust's services leave their own waits behind when they are stopped.
    ("asyncio", ("Task was destroyed but it is pending", "/faust/")),
    ("asyncio", ("Task was destroyed but it is pending", "/mode/")),
)

REPEATED_S = 10.0
_REPEATED_MOST = 500


def _not_expected(record: logging.LogRecord) -> bool:
    """Filter: False for what _EXPECTED has, unless that logger shows DEBUG."""
    if record.levelno < logging.ERROR or logging.getLogger(record.name).isEnabledFor(logging.DEBUG):
        return True
    text = record.getMessage()
    return not any(name == record.name and all(word in text for word in words) for name, words in _EXPECTED)


class Repeated(logging.Filter):
    """aiokafka says some fifty times a second that its broker is away: the same line once in REPEATED_S, and how often
    it came meanwhile."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._shown: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith("aiokafka") or logging.getLogger(record.name).isEnabledFor(logging.DEBUG):
            return True
        text = record.getMessage()
        key, now = (record.name, text), self._clock()
        shown_at, left_out = self._shown.get(key, (-REPEATED_S, 0))
        if now - shown_at < REPEATED_S:
            self._shown[key] = (shown_at, left_out + 1)
            return False
        if len(self._shown) >= _REPEATED_MOST:  # lines with figures in them never come again
            self._shown.clear()
        self._shown[key] = (now, 0)
        if left_out:
            record.msg, record.args = f"{text} ({left_out} times more since the last such line)", ()
        return True


def mask_secrets(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Processor: SecretStr, the values of keys like password, token and api_key, and passwords in URLs."""
    for key, value in event.items():
        event[key] = _masked(key, value)
    return event


def _masked(key: str, value: object) -> object:
    match value:
        case SecretStr() | bytes() if isinstance(value, SecretStr) or _is_secret(key):
            return MASK
        case Mapping():
            return {name: _masked(str(name), each) for name, each in value.items()}
        case list() | tuple():
            return [_masked(key, each) for each in value]
        case None | bool():
            return value
        case _ if _is_secret(key):
            return MASK
        case str():
            return mask_urls(value)
        case _:
            return value


def _is_secret(key: str) -> bool:
    return key not in _NOT_SECRET and _SECRET_KEY.search(key) is not None


def add_trace(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Processor: trace_id and span_id of the span that this task or thread is in, as W3C writes them."""
    trace = sys.modules.get("opentelemetry.trace")  # not imported: nothing has a span
    if trace is not None:
        context = trace.get_current_span().get_span_context()
        if context.is_valid:
            event["trace_id"] = f"{context.trace_id:032x}"
            event["span_id"] = f"{context.span_id:016x}"
    return event


def configure(settings: LoggingSettings, stream: TextIO | None = None) -> None:
    """Route structlog and the standard library's logging to `stream` (default stderr). May be called again.

    Timestamps are UTC, ISO 8601. format auto: console on a terminal, JSON elsewhere.
    """
    stream = sys.stderr if stream is None else stream
    as_json = settings.format == "json" or (settings.format == "auto" and not stream.isatty())
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        add_trace,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    # Tracebacks become text before the masking, and plain: richer ones show local variables, secrets among them.
    render: list[structlog.types.Processor] = [structlog.processors.format_exc_info, mask_secrets]
    if as_json:
        render.append(structlog.processors.JSONRenderer(default=str))
    else:
        colors = stream.isatty() and not os.environ.get("NO_COLOR")
        render.append(structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,  # a second configure() must reach loggers that exist
    )
    handler = logging.StreamHandler(stream)
    handler.addFilter(_not_expected)
    handler.addFilter(Repeated())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    for old in root.handlers[:]:
        if getattr(old, "_akasha", False):
            root.removeHandler(old)
    handler._akasha = True  # type: ignore[attr-defined]
    root.addHandler(handler)
    root.setLevel(level)
    # Who changed what is no matter of how much one wants to read.
    logging.getLogger("audit").setLevel(min(level, logging.INFO))
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(level, logging.WARNING) if level > logging.DEBUG else logging.INFO)
    # These bring handlers of their own, which would print every line twice.
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "faust", "mode", "aiokafka"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
