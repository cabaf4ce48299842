"""Settings: one model, read from settings/*.yml, overlays and the environment, validated at start."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


class BrokerSettings(Section):
    bootstrap_servers: str = "localhost:9092"
    client_id: str = "akasha-stream"
    request_timeout_s: float = Field(default=40.0, gt=0)
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="of the brokers' listener, in Kafka's own words: SSL is TLS"
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    sasl_user: str | None = None
    sasl_password: SecretStr | None = None
    tls_ca: Path | None = Field(default=None, description="PEM: whom to trust; unset: whom this machine trusts")
    tls_certificate: Path | None = Field(default=None, description="PEM: ours, where the brokers ask for one")
    tls_key: Path | None = Field(default=None, description="PEM: its key; unset: it is in tls_certificate")
    tls_key_password: SecretStr | None = None


class TopicNames(Section):
    embeddings: str = "akasha.embeddings.v1"
    dead_letters: str = "akasha.embeddings.dlq.v1"
    digests: str = "akasha.digests.v1"
    definitions: Path | None = Field(default=None, description="folder of topic YAML files; default: the ones shipped")


class Limits(Section):
    """What an event may be. Everything in an event is untrusted."""

    dimensions: int = Field(default=384, ge=8, le=4096, multiple_of=8)
    source_systems: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        default=(), description="those that the topic may carry: names, or beginnings that end in *; none: any"
    )
    source_system_bytes: int = Field(default=128, ge=1, le=1024)
    event_id_bytes: int = Field(default=256, ge=1, le=4096)
    model_bytes: int = Field(default=128, ge=1, le=1024)
    content_bytes: int = Field(default=65_536, ge=1)
    metadata_bytes: int = Field(default=16_384, ge=2)
    metadata_depth: int = Field(default=8, ge=1, le=64)
    bundle_events: int = Field(default=4_096, ge=1, le=65_535)
    bundle_bytes: int = Field(default=8_388_608, ge=1024)
    future_s: float = Field(default=86_400.0, ge=0, description="how far created_at may lie ahead of the record")


class PublishSettings(Section):
    format: Literal["arrow", "json"] = "arrow"
    bundle_events: int = Field(default=64, ge=1, le=65_535)
    bundle_bytes: int = Field(default=900_000, ge=1024)
    linger_ms: float = Field(default=50.0, ge=0)
    max_in_flight_events: int = Field(default=50_000, ge=1)
    delivery_timeout_s: float = Field(
        default=120.0,
        gt=0,
        description="how long a bundle is retried before its events fail; covers a broker's restart",
    )
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = "none"


class RedactionSettings(Section):
    enabled: bool = True
    builtin: bool = Field(default=True, description="use the shipped patterns")
    patterns: dict[str, str] = Field(default_factory=dict, description="name → RE2 pattern, besides the shipped ones")
    replacement: str = "[redacted:{name}]"


class DedupeSettings(Section):
    content: bool = True
    window_s: float = Field(default=86_400.0, ge=0, description="event time; 0 switches content dedupe off")
    near_threshold: float | None = Field(default=None, gt=0, le=1, description="cosine; unset: off")


class WindowSettings(Section):
    size_s: float = Field(default=3_600.0, gt=0)
    allowed_lateness_s: float = Field(default=600.0, ge=0)


class IngestSettings(Section):
    group: str = "akasha-stream"
    instance_id: str | None = Field(
        default=None,
        min_length=1,
        max_length=249,
        pattern=r"^[A-Za-z0-9._-]+$",
        description="name of this worker in the group, one for each: restarted under it within session_timeout_s, "
        "it has its partitions back without a rebalance; unset: it leaves the group when it stops",
    )
    batch_messages: int = Field(default=64, ge=1)
    batch_wait_ms: float = Field(default=10.0, ge=0, le=1_000)
    fetch_bytes: int = Field(default=2_097_152, ge=65_536, description="most bytes a fetch takes from one partition")
    fetch_wait_ms: int = Field(default=500, ge=1, description="how long a broker may hold a fetch that finds nothing")
    threads: int = Field(default=2, ge=1, description="partitions that commit side by side")
    session_timeout_s: float = Field(default=6.0, gt=0)
    heartbeat_s: float = Field(default=1.0, gt=0)
    retry_max_s: float = Field(default=30.0, gt=0, description="longest pause between retries of a failed commit")


class HotSettings(Section):
    data_dir: Path = Path("data")
    seal_rows: int = Field(default=50_000, ge=100)
    seal_age_s: float = Field(default=3_600.0, gt=0)
    build_indexes: bool = True
    hnsw_m: int = Field(default=16, ge=4, le=128)
    hnsw_ef_construction: int = Field(default=64, ge=8, le=1024)


class TierSettings(Section):
    """Spilling to the object stores that settings/akasha-storage.yml names."""

    enabled: bool = Field(default=False, description="spill finished segments, and search what was spilled")
    precision: Literal["compact", "float16", "float32"] = "compact"
    keep_local_s: float = Field(
        default=86_400.0, ge=0, description="a spilled segment is searched from its local copy up to this age"
    )
    keep_local_rows: int = Field(
        default=1_000_000, ge=0, description="spilled rows that keep their local copy; the oldest go first"
    )
    cache_bytes: int = Field(
        default=2_147_483_648, ge=0, description="of vectors and texts that searches fetched; the least used go first"
    )
    timeout_s: float = Field(
        default=5.0,
        gt=0,
        description="how long a search waits for the object store before it answers without",
    )


class CompactionSettings(Section):
    """Of spilled segments."""

    enabled: bool = Field(default=True, description="workers compact; the command `tiers compact` always does")
    target_bytes: int = Field(default=134_217_728, ge=1, description="segments are merged up to about this size")
    fan_in: int = Field(default=4, ge=2, le=64, description="so many segments of a size make one of the next")
    masked_share: float = Field(
        default=0.25, gt=0, le=1, description="share of replaced, deleted and expired rows from which one is rewritten"
    )
    grace_s: float = Field(
        default=600.0, ge=0, description="how long a replaced object stays for searches that read it"
    )


Days = Annotated[float, Field(gt=0)]


class RetentionSettings(Section):
    """How long a row is kept after it was appended to the log; unset: for ever."""

    days: Days | None = Field(default=None, description="of every system that is not in `systems`")
    systems: dict[str, Days | None] = Field(default_factory=dict, description="source system → days; null: for ever")


class SystemTiers(Section):
    """Of one source system, instead of the general ages. null: never; left out: the general one."""

    warm_after_s: float | None = Field(default=None, gt=0)
    cold_after_s: float | None = Field(default=None, gt=0)


class TierPolicy(Section):
    """When a spilled segment moves to a colder tier (tiers/policy.py)."""

    enabled: bool = Field(default=True, description="workers move segments; the command `tiers migrate` always does")
    check_s: float = Field(default=300.0, gt=0, description="how often a worker looks for something to move")
    age_of: Literal["events", "object"] = Field(
        default="events", description="events: since the newest event; object: since it was written to its tier"
    )
    warm_after_s: float | None = Field(default=2_592_000.0, gt=0, description="null: not by age")
    cold_after_s: float | None = Field(default=None, gt=0, description="null: not by age")
    hot_max_bytes: int | None = Field(default=None, ge=1, description="in all, whatever the age")
    warm_max_bytes: int | None = Field(default=None, ge=1, description="in all, whatever the age")
    keep_searches: int = Field(default=10, ge=0, le=1_000, description="not moved by age when read so often; 0: moved")
    keep_within_s: float = Field(default=604_800.0, gt=0, description="… within this time")
    systems: dict[str, SystemTiers] = Field(default_factory=dict, description="source system → ages of its own")
    grace_s: float = Field(
        default=900.0, ge=0, description="how long a copy that counts no longer stays for those that are reading it"
    )
    restore_days: int = Field(default=7, ge=1, description="how long S3 keeps what was restored readable")


class RedisSettings(Section):
    enabled: bool = True
    url: SecretStr = SecretStr("redis://localhost:6379/0")
    prefix: str = "akasha"
    heartbeat_s: float = Field(default=2.0, gt=0)
    timeout_s: float = Field(default=2.0, gt=0)
    tls_ca: Path | None = Field(default=None, description="PEM: whom to trust; unset: whom this machine trusts")
    tls_certificate: Path | None = Field(default=None, description="PEM: ours, where the server asks for one")
    tls_key: Path | None = Field(default=None, description="PEM: its key; unset: it is in tls_certificate")


class SearchSettings(Section):
    index: Literal["auto", "hnsw", "codes", "exact"] = "auto"
    candidates: int = Field(default=1_000, ge=10, description="least rows that the bit codes hand to exact rescoring")
    hnsw_ef: int = Field(default=128, ge=8, le=4096)
    exact_rows: int = Field(default=4_000, ge=0, description="up to this many matching rows are scanned exactly")
    max_k: int = Field(default=1_000, ge=1)
    after_timeout_s: float = Field(default=5.0, ge=0)
    peer_timeout_s: float = Field(
        default=3.0,
        gt=0,
        description="how long a search waits for the workers that own other partitions, besides after_timeout_s and "
        "(where tiers are enabled) tiers.timeout_s",
    )
    threads: int = Field(default=2, ge=1)


class EmbedderSettings(Section):
    kind: Literal["auto", "none", "onnx", "openai", "python"] = Field(
        default="auto", description="auto: onnx where its extra is installed, else none"
    )
    model: str = "all-MiniLM-L6-v2"
    url: str | None = None
    api_key: SecretStr | None = None
    factory: str | None = Field(
        default=None, description="kind=python: 'package.module:callable' that returns an Embedder"
    )
    timeout_s: float = Field(default=10.0, gt=0)


class HttpSettings(Section):
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 8470
    advertised_url: str | None = Field(
        default=None,
        pattern=r"^https?://[^\s/]+/?$",
        description="how other workers reach this one; unset: http.host and http.port, with this machine's name "
        "where the host stands for all addresses",
    )
    tls_certificate: Path | None = Field(
        default=None, description="PEM: the server's, intermediate ones behind it; set: HTTPS, and nothing else"
    )
    tls_key: Path | None = Field(default=None, description="PEM: its key; unset: it is in tls_certificate")
    tls_ca: Path | None = Field(
        default=None, description="PEM: whom those trust that ask a worker; unset: whom this machine trusts"
    )
    body_bytes: int = Field(default=1_048_576, ge=1_024, description="most bytes of a request's body")
    timeout_s: float = Field(
        default=60.0,
        gt=0,
        description="an answer that takes longer is given up (504); a wait that was asked for is added",
    )
    receive_s: float = Field(default=10.0, gt=0, description="time for a request's head, and for its body, to arrive")
    rate_per_s: float | None = Field(
        default=None, gt=0, description="requests a second of each caller; unset: no limit"
    )
    rate_burst: int = Field(default=50, ge=1, description="requests of a caller at once, before rate_per_s counts")
    drain_s: float = Field(default=0.0, ge=0, description="how long a worker that stops still answers, as not ready")
    grace_s: float = Field(default=5.0, ge=0, description="how long requests under way may then take to finish")


class AuthSettings(Section):
    """Who may ask the HTTP API. Without keys and OIDC: anybody who reaches it, and that is this machine alone."""

    keys_file: Path | None = Field(default=None, description="API keys (akasha-stream keys); unset: none are asked for")
    open: bool = Field(default=False, description="answer anybody on an address that others reach")
    open_metrics: bool = Field(default=False, description="GET /metrics without a key")
    node_secret: SecretStr | None = Field(
        default=None, min_length=32, description="the same on all workers: what they show one another"
    )
    key: SecretStr | None = Field(default=None, description="what commands and clients on this machine show to workers")
    audit_file: Path | None = Field(
        default=None, description="JSON lines of what was changed and refused; unset: the log"
    )


class OidcSettings(Section):
    """Tokens of an identity provider (JWT) besides API keys."""

    issuer: str | None = Field(default=None, description="its URL, as in the tokens' `iss`; unset: no tokens are taken")
    audience: str = Field(default="akasha-stream", description="that tokens must be for (`aud`)")
    jwks_url: str | None = Field(default=None, description="its public keys; unset: as its discovery document says")
    scope_claim: str = "scope"
    scope_prefix: str = Field(default="akasha:", description="of the scopes that are ours: akasha:read")
    systems_claim: str = "akasha_systems"
    cache_s: float = Field(default=300.0, gt=0, description="how long the public keys are good")
    leeway_s: float = Field(default=30.0, ge=0, le=300, description="how far clocks may differ")


class LoggingSettings(Section):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json"] = "auto"


class TelemetrySettings(Section):
    """Metrics and traces. What else an OTLP exporter may be told (headers, certificates, resource attributes,
    intervals, another sampler) are OpenTelemetry's own variables, OTEL_…"""

    prometheus: bool = Field(default=True, description="GET /metrics of a worker")
    endpoint: str | None = Field(default=None, description="of an OTLP collector; unset: nothing is sent")
    protocol: Literal["http/protobuf", "grpc"] = "http/protobuf"
    sample_ratio: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="share of requests that are traced where the caller has not decided; events follow their producer",
    )
    lag_interval_s: float = Field(default=5.0, gt=0, description="how often a worker asks where its partitions end")


class Settings(Section):
    environment: str = "dev"
    broker: BrokerSettings = BrokerSettings()
    topics: TopicNames = TopicNames()
    limits: Limits = Limits()
    publish: PublishSettings = PublishSettings()
    redaction: RedactionSettings = RedactionSettings()
    dedupe: DedupeSettings = DedupeSettings()
    windows: WindowSettings = WindowSettings()
    ingest: IngestSettings = IngestSettings()
    hot: HotSettings = HotSettings()
    tiers: TierSettings = TierSettings()
    compaction: CompactionSettings = CompactionSettings()
    retention: RetentionSettings = RetentionSettings()
    tier_policy: TierPolicy = TierPolicy()
    redis: RedisSettings = RedisSettings()
    search: SearchSettings = SearchSettings()
    embedder: EmbedderSettings = EmbedderSettings()
    http: HttpSettings = HttpSettings()
    auth: AuthSettings = AuthSettings()
    oidc: OidcSettings = OidcSettings()
    logging: LoggingSettings = LoggingSettings()
    telemetry: TelemetrySettings = TelemetrySettings()

    @classmethod
    def load(
        cls,
        path: Path | None = None,
        environment: str | None = None,
        overrides: Mapping[str, object] | None = None,
    ) -> Settings:
        """Defaults < settings file < overlay of the environment < AKASHA_… variables < overrides (dotted keys).

        Relative paths are relative to the working directory. Raises SettingsError, one line.
        akasha_stream/configuration/load.py says which file is read.
        """
        from akasha_stream.configuration.load import load

        return load(path, environment, overrides).settings
