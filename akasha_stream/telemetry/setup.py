"""The SDK of one worker: where its metrics and spans go."""

from __future__ import annotations

import asyncio
import os
import threading
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, override

import structlog

import akasha_stream
from akasha_stream.errors import SettingsError
from akasha_stream.settings import TelemetrySettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastapi.telemetry import TelemetryConfig
    from opentelemetry.metrics import Meter
    from opentelemetry.sdk.metrics.export import MetricReader
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.sampling import Sampler

log = structlog.get_logger(__name__)

SCOPE = "akasha_stream"
CLOSE_S = 5.0
"""A collector that does not answer holds a worker's end up no longer than this."""


class Telemetry:
    """Providers of a worker. The first one of a process is also the process's, unless the application has its own:
    then spans and the storage adapters' metrics go to the application's."""

    def __init__(self, settings: TelemetrySettings) -> None:
        """Raises SettingsError where an endpoint is set and the extra `otlp` is not installed."""
        from opentelemetry import metrics
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.view import DropAggregation, View

        self._registry: Any = None
        readers: list[MetricReader] = []
        if settings.prometheus:
            readers.append(self._prometheus_reader())
        if _sends(settings, "metrics"):
            readers.append(_otlp_metrics(settings))
        resource = _resource()
        # Oneiric measures how it swaps adapters, which a worker does once.
        unwanted = View(instrument_name="oneiric*", aggregation=DropAggregation())
        self._meters = MeterProvider(readers, resource, shutdown_on_exit=False, views=[unwanted])
        if readers and not _is_set(metrics.get_meter_provider()):
            metrics.set_meter_provider(self._meters)
        self._tracers = start_traces(settings, resource)

    @property
    def meter(self) -> Meter:
        return self._meters.get_meter(SCOPE, akasha_stream.__version__)

    def of_http(self) -> TelemetryConfig:
        """FastAPI measures and traces requests itself: its `telemetry`."""
        return {
            "meter_provider": self._meters,
            # Asked by machines every few seconds.
            "exclude": lambda scope: scope["path"].startswith(("/health/", "/metrics")),
        }

    @property
    def has_prometheus(self) -> bool:
        return self._registry is not None

    def exposition(self) -> bytes:
        """The text of GET /metrics. In a thread: reading all figures takes some milliseconds."""
        from prometheus_client import generate_latest

        text: bytes = generate_latest(self._registry)
        return text

    async def close(self) -> None:
        """Send what waits."""
        await _in_time(self._close)

    def _close(self) -> None:
        if self._tracers is not None:
            self._tracers.force_flush()
        self._meters.shutdown()

    def _prometheus_reader(self) -> MetricReader:
        from opentelemetry.exporter.prometheus import PrometheusMetricReader
        from prometheus_client import CollectorRegistry, ProcessCollector

        # A registry of its own, so that two workers of a process have theirs; with the process's own figures.
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        return PrometheusMetricReader(scope_info_enabled=False, registry=self._registry)


@asynccontextmanager
async def exported_traces(settings: TelemetrySettings) -> AsyncIterator[None]:
    """For a command: its spans go to the endpoint, where one is set. Raises SettingsError as Telemetry does."""
    provider = start_traces(settings)
    try:
        yield
    finally:
        if provider is not None:
            await _in_time(provider.force_flush)


async def _in_time(send: Callable[[], object]) -> None:
    """In a daemon thread: an exporter's retries can't be interrupted, and must not outlive the process."""
    sending = threading.Thread(target=send, name="telemetry", daemon=True)
    sending.start()
    await asyncio.to_thread(sending.join, CLOSE_S)
    if sending.is_alive():
        log.warning("telemetry not sent: the collector does not answer")


def start_traces(settings: TelemetrySettings, resource: Resource | None = None) -> TracerProvider | None:
    """Make the process's spans go to the endpoint; None where none is set, or the application has a provider.

    Raises SettingsError as Telemetry does.
    """
    from opentelemetry import trace

    from akasha_stream.telemetry.tracing import is_on

    if not _sends(settings, "traces") or is_on():
        return None
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    # Its end is close(): at exit there would be no bound on the wait.
    provider = TracerProvider(_sampler(settings), resource or _resource(), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(_otlp_spans(settings)))
    trace.set_tracer_provider(provider)
    return provider


def _resource() -> Resource:
    """OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win."""
    from opentelemetry.sdk.resources import Resource

    named = "OTEL_SERVICE_NAME" in os.environ or "service.name" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    ours = {"service.version": akasha_stream.__version__, "service.instance.id": str(uuid.uuid4())}
    return Resource.create(ours if named else {"service.name": "akasha-stream", **ours})


def _sends(settings: TelemetrySettings, signal: str) -> bool:
    """OTEL_SDK_DISABLED and OTEL_TRACES_EXPORTER=none are obeyed, and an endpoint of the one signal will do."""
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    if os.environ.get(f"OTEL_{signal.upper()}_EXPORTER", "otlp") == "none":
        return False
    return bool(settings.endpoint or os.environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT"))


def _endpoint(settings: TelemetrySettings, signal: str) -> dict[str, object]:
    """Arguments of an exporter. None of ours where the signal has a variable of its own, which the exporter reads."""
    if settings.endpoint is None or os.environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT"):
        return {}
    if settings.protocol == "grpc":
        return {"endpoint": settings.endpoint, "insecure": not settings.endpoint.startswith("https:")}
    return {"endpoint": f"{settings.endpoint.rstrip('/')}/v1/{signal}"}


def _otlp_metrics(settings: TelemetrySettings) -> MetricReader:
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

    exporter = _exporter(settings, "metric_exporter", "OTLPMetricExporter")
    # Every OTEL_METRIC_EXPORT_INTERVAL milliseconds, 60,000 by default.
    return PeriodicExportingMetricReader(exporter(**_endpoint(settings, "metrics")))


def _otlp_spans(settings: TelemetrySettings) -> Any:
    return _exporter(settings, "trace_exporter", "OTLPSpanExporter")(**_endpoint(settings, "traces"))


def _exporter(settings: TelemetrySettings, module: str, name: str) -> Any:
    from importlib import import_module

    package = "grpc" if settings.protocol == "grpc" else "http"
    try:
        return getattr(import_module(f"opentelemetry.exporter.otlp.proto.{package}.{module}"), name)
    except ImportError as error:
        raise SettingsError(
            f"telemetry.endpoint is set, and the OTLP exporter is not installed ({error.name}): "
            "pip install 'akasha-stream[otlp]', or leave OTEL_EXPORTER_OTLP_ENDPOINT unset"
        ) from error


def _sampler(settings: TelemetrySettings) -> Sampler | None:
    """None: OTEL_TRACES_SAMPLER is set, and the SDK reads it."""
    if os.environ.get("OTEL_TRACES_SAMPLER"):
        return None
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace.sampling import (
        Decision,
        ParentBased,
        Sampler,
        SamplingResult,
        TraceIdRatioBased,
    )
    from opentelemetry.trace import Link, SpanKind, TraceState
    from opentelemetry.util.types import Attributes

    class FollowsLinks(Sampler):
        """What follows from something that is recorded is recorded too; else by ratio."""

        def __init__(self, ratio: float) -> None:
            self._otherwise = TraceIdRatioBased(ratio)

        @override
        def should_sample(
            self,
            parent_context: Context | None,
            trace_id: int,
            name: str,
            kind: SpanKind | None = None,
            attributes: Attributes = None,
            links: Sequence[Link] | None = None,
            trace_state: TraceState | None = None,
        ) -> SamplingResult:
            if any(link.context.trace_flags.sampled for link in links or ()):
                return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes)
            return self._otherwise.should_sample(parent_context, trace_id, name, kind, attributes, links)

        def get_description(self) -> str:
            return f"FollowsLinks{{{self._otherwise.get_description()}}}"

    return ParentBased(FollowsLinks(settings.sample_ratio))


def _is_set(provider: object) -> bool:
    """Whether an application (or an earlier worker of this process) has set the global provider."""
    return not type(provider).__name__.startswith("_Proxy")
