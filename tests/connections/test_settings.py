"""What connection settings must fulfil, and that every client heeds them. No server needed."""

from __future__ import annotations

import ast
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from akasha_stream.cli.config import _flat
from akasha_stream.client import AkashaClient, local_url
from akasha_stream.configuration.load import load
from akasha_stream.configuration.show import redacted
from akasha_stream.connections.kafka import client_options, faust_credentials
from akasha_stream.connections.tls import client_context, server_context
from akasha_stream.errors import SettingsError, ValidationError
from akasha_stream.events.check import check_event
from akasha_stream.events.decode import Decoder
from akasha_stream.events.model import Event
from akasha_stream.settings import BrokerSettings, HttpSettings, Limits, RedisSettings, Settings
from tests.events.conversions import record
from tests.servers.secured_kafka import Certificates

PRODUCT = Path(__file__).parents[2] / "akasha_stream"
SASL = {"broker.security_protocol": "SASL_SSL", "broker.sasl_user": "u", "broker.sasl_password": "p-8731"}


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            {"broker.security_protocol": "SASL_SSL"},
            "broker.sasl_user: is missing; broker.security_protocol SASL_SSL needs",
        ),
        ({**SASL, "broker.sasl_password": None}, "broker.sasl_password: is missing"),
        ({"broker.sasl_user": "u"}, "broker.security_protocol: found PLAINTEXT; allowed: SASL_SSL or SASL_PLAINTEXT"),
        ({"broker.tls_ca": "ca.pem"}, "broker.security_protocol: found PLAINTEXT; allowed: SSL or SASL_SSL"),
        ({**SASL, "broker.tls_key": "k.pem"}, "broker.tls_certificate: is missing; broker.tls_key belongs to it"),
        ({**SASL, "broker.sasl_mechanism": "GSSAPI"}, "broker.sasl_mechanism: found 'GSSAPI'; allowed: one of PLAIN"),
        ({"redis.tls_ca": "ca.pem"}, "redis.url: is no rediss://, and redis.tls_ca is set"),
        ({"http.tls_key": "k.pem"}, "http.tls_certificate: is missing"),
        (
            {"http.tls_certificate": "c.pem", "http.advertised_url": "http://worker-1:8470"},
            "http.advertised_url: found http://worker-1:8470; allowed: https://",
        ),
    ],
)
def test_what_does_not_fit_together_is_an_error(overrides: dict[str, object], said: str) -> None:
    with pytest.raises(SettingsError) as error:
        load(overrides=overrides, variables={"AKASHA_ENV": "dev"})
    assert said in str(error.value)
    assert "p-8731" not in str(error.value)


def test_secrets_are_not_shown() -> None:
    given = {**SASL, "broker.tls_key_password": "p-8731", "redis.url": "rediss://u:p-8731@r:6380/0"}
    settings = load(overrides=given, variables={"AKASHA_ENV": "dev"}).settings
    shown = dict(_flat(redacted(settings)))
    assert "p-8731" not in repr(shown) + repr(settings) + repr(faust_credentials(settings.broker))
    assert shown["broker", "sasl_password"] == "**********"
    assert shown["broker", "sasl_user"] == "u"


def test_a_file_that_is_wrong_is_named_with_its_setting(certificates: Certificates, tmp_path: Path) -> None:
    other = Certificates.make(tmp_path)
    cases: list[tuple[dict[str, Path], str]] = [
        ({"tls_ca": tmp_path / "none.pem"}, r"^broker\.tls_ca: .*none\.pem can't be read: No such file"),
        ({"tls_ca": other.client_key}, r"^broker\.tls_ca: .*client\.key holds no PEM certificate"),
        ({"tls_certificate": tmp_path}, r"^broker\.tls_certificate: .* can't be read: Is a directory"),
        ({"tls_certificate": other.client}, r"^broker\.tls_certificate, broker\.tls_key: .* the key in it are no pair"),
        (
            {"tls_certificate": certificates.client, "tls_key": other.client_key},
            r"^broker\.tls_certificate, broker\.tls_key: .* are no pair .*\(key values mismatch\)",
        ),
    ]
    for files, said in cases:
        broker = BrokerSettings.model_validate({"security_protocol": "SSL", **files})
        with pytest.raises(SettingsError, match=said):
            client_options(broker)
    with pytest.raises(SettingsError, match=r"^http\.tls_certificate: "):
        server_context(HttpSettings(tls_certificate=tmp_path / "none.pem"), "http")
    client_context(RedisSettings(tls_ca=other.ca, tls_certificate=other.client, tls_key=other.client_key), "redis")


def test_an_unencrypted_key_is_not_asked_for_on_the_terminal(certificates: Certificates, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        PrivateFormat,
        load_pem_private_key,
    )

    key = load_pem_private_key(certificates.client_key.read_bytes(), None)
    locked = tmp_path / "locked.key"
    locked.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"p-8731")))
    given: dict[str, Any] = {"security_protocol": "SSL", "tls_certificate": certificates.client, "tls_key": locked}
    client_options(BrokerSettings(**given, tls_key_password="p-8731"))
    for wrong in ({}, {"tls_key_password": "no"}):
        with pytest.raises(SettingsError, match="the key is encrypted: is its password right"):
            client_options(BrokerSettings(**given, **wrong))


def test_where_a_worker_is_found_by_its_own_machine() -> None:
    assert local_url(HttpSettings(host="0.0.0.0")) == "http://127.0.0.1:8470"
    assert local_url(HttpSettings(tls_certificate=Path("c.pem"))) == "https://127.0.0.1:8470"
    named = HttpSettings(tls_certificate=Path("c.pem"), advertised_url="https://w1:8470/")
    assert local_url(named) == "https://w1:8470"


async def test_a_client_s_authority_is_read_for_https_only(tmp_path: Path) -> None:
    async with AkashaClient("http://127.0.0.1:1", ca=tmp_path / "none.pem") as client:
        assert not await client.ready()
    with pytest.raises(SettingsError, match=r"^http\.tls_ca: "):
        AkashaClient("https://127.0.0.1:1", ca=tmp_path / "none.pem")


def test_every_kafka_client_is_made_with_the_settings() -> None:
    """A client made otherwise would not get in where brokers ask who one is."""
    made = []
    for file in PRODUCT.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id.startswith("AIOKafka"):
                spread = [ast.unparse(each.value) for each in node.keywords if each.arg is None]
                made.append((file.name, node.func.id))
                assert any(text.startswith(("client_options(", "self._options(")) for text in spread), (
                    file,
                    node.lineno,
                )
    assert len(made) >= 9


def test_only_the_systems_that_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = load(variables={"AKASHA_ENV": "dev", "AKASHA_LIMITS__SOURCE_SYSTEMS": '["a", "team-*"]'}).settings
    assert found.limits.source_systems == ("a", "team-*")
    with pytest.raises(SettingsError, match=r"limits\.source_systems: is not valid JSON; allowed: a JSON array"):
        load(variables={"AKASHA_ENV": "dev", "AKASHA_LIMITS__SOURCE_SYSTEMS": "a,b"})
    assert Settings().limits.source_systems == ()


@given(
    st.lists(st.sampled_from(["a", "b", "team-a-1", "team-", "team", "Team-1", "*", "tä-1", "tä"]), min_size=1),
    st.lists(st.sampled_from(["a", "team-*", "team-a-1", "tä*", "*"]), max_size=3),
)
def test_the_publisher_and_the_worker_judge_alike(systems: list[str], allowed: list[str]) -> None:
    limits = Limits(source_systems=tuple(allowed))
    vector = np.ones(384, dtype=np.float32)
    events = [Event(f"e{n}", system, "text", vector) for n, system in enumerate(systems)]
    refused = set()
    for number, event in enumerate(events):
        try:
            check_event(event, limits)
        except ValidationError:
            refused.add(number)
    now_ms = int(time.time() * 1000)
    records = [record([event], offset=number, timestamp_ms=now_ms) for number, event in enumerate(events)]
    decoded = Decoder(limits, None).decode(records)
    assert {each.record.offset for each in decoded.dead} == refused
    assert {each.reason for each in decoded.dead} <= {"source_system_not_allowed"}
    if not allowed:
        assert not refused
