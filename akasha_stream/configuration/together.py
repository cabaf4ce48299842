"""What settings must fulfil together: keys that are each right and don't fit one another."""

from __future__ import annotations

import re

from akasha_stream.configuration.documents import KeyPath
from akasha_stream.settings import Settings

_TOPIC_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}")


def problem_together(settings: Settings) -> tuple[tuple[KeyPath, ...], str] | None:
    """The first problem: (the keys it is about, most telling first), what is wrong and what is allowed; or None."""
    if problem := _connections(settings):
        return problem
    limits, publish, ingest, embedder = settings.limits, settings.publish, settings.ingest, settings.embedder
    for key in ("bundle_events", "bundle_bytes"):
        ours, most = getattr(publish, key), getattr(limits, key)
        if ours > most:
            keys: tuple[KeyPath, ...] = (("publish", key), ("limits", key))
            return keys, f"found {ours}; allowed: at most limits.{key} ({most}), else workers refuse what is published"
    if ingest.heartbeat_s * 3 > ingest.session_timeout_s:
        return (
            (("ingest", "heartbeat_s"), ("ingest", "session_timeout_s")),
            f"found {ingest.heartbeat_s}; allowed: at most a third of ingest.session_timeout_s "
            f"({ingest.session_timeout_s}), else one late heartbeat costs the partitions",
        )
    policy = settings.tier_policy
    if policy.cold_after_s is not None and policy.cold_after_s <= (policy.warm_after_s or 0):
        return (
            (("tier_policy", "cold_after_s"), ("tier_policy", "warm_after_s")),
            f"found {policy.cold_after_s}; allowed: more than tier_policy.warm_after_s ({policy.warm_after_s})",
        )
    if embedder.kind == "openai" and not embedder.url:
        return (("embedder", "url"), ("embedder", "kind")), "is missing; embedder.kind openai needs it"
    if embedder.kind == "python" and not embedder.factory:
        return (("embedder", "factory"), ("embedder", "kind")), "is missing; embedder.kind python needs it"
    names: dict[str, str] = {}
    for key in ("embeddings", "dead_letters", "digests"):
        name = getattr(settings.topics, key)
        if not _TOPIC_NAME.fullmatch(name) or name in {".", ".."}:
            return ((("topics", key),), f"found {name[:60]!r}; allowed: up to 249 letters, digits, '.', '_' and '-'")
        if name in names:
            return ((("topics", key), ("topics", names[name])), f"found {name!r}, which topics.{names[name]} is too")
        names[name] = key
    return None


def _connections(settings: Settings) -> tuple[tuple[KeyPath, ...], str] | None:
    """What would not be used is refused: who set it believes in it."""
    broker, redis = settings.broker, settings.redis
    protocol: KeyPath = ("broker", "security_protocol")
    with_password, with_tls = broker.security_protocol.startswith("SASL_"), broker.security_protocol.endswith("SSL")
    for key in ("sasl_user", "sasl_password"):
        given = getattr(broker, key) is not None
        if with_password and not given:
            return (
                ("broker", key),
                protocol,
            ), f"is missing; broker.security_protocol {broker.security_protocol} needs it"
        if given and not with_password:
            return (protocol, ("broker", key)), _unused(broker.security_protocol, "SASL_SSL or SASL_PLAINTEXT", key)
    for key in ("tls_ca", "tls_certificate", "tls_key"):
        if getattr(broker, key) is not None and not with_tls:
            return (protocol, ("broker", key)), _unused(broker.security_protocol, "SSL or SASL_SSL", key)
        if getattr(redis, key) is not None and not redis.url.get_secret_value().startswith("rediss:"):
            return (("redis", "url"), ("redis", key)), f"is no rediss://, and redis.{key} is set, which only TLS uses"
    for section, files in (("broker", broker), ("redis", redis), ("http", settings.http)):
        if files.tls_key is not None and files.tls_certificate is None:
            return ((section, "tls_certificate"), (section, "tls_key")), f"is missing; {section}.tls_key belongs to it"
    if settings.http.tls_certificate is not None and (settings.http.advertised_url or "").startswith("http:"):
        keys: tuple[KeyPath, ...] = (("http", "advertised_url"), ("http", "tls_certificate"))
        return keys, f"found {settings.http.advertised_url}; allowed: https://…, as http.tls_certificate is set"
    return None


def _unused(found: str, allowed: str, key: str) -> str:
    return f"found {found}; allowed: {allowed}, as broker.{key} is set"
