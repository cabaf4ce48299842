"""The broker settings as arguments of Kafka clients, and why a broker did not let one in."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Any

from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import (
    AuthenticationFailedError,
    KafkaConnectionError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.metadata import MetadataRequest

from akasha_stream.connections.tls import client_context, tls_failure, untrusted
from akasha_stream.errors import BrokerDenied
from akasha_stream.settings import BrokerSettings

if TYPE_CHECKING:
    from faust.types.auth import CredentialsT

ASK_S = 3.0


def client_options(settings: BrokerSettings, suffix: str = "") -> dict[str, Any]:
    """What every client of aiokafka is made with. `suffix`: of its client id. Raises SettingsError."""
    return {
        "bootstrap_servers": settings.bootstrap_servers,
        "client_id": settings.client_id + suffix,
        "request_timeout_ms": int(settings.request_timeout_s * 1000),
        **_security(settings),
    }


def faust_credentials(settings: BrokerSettings) -> CredentialsT | None:
    """The same for Faust. Raises SettingsError."""
    from faust.auth import SASLCredentials, SSLCredentials  # Faust takes a second to import

    context = _tls(settings)
    if _sasl(settings):
        secret = settings.sasl_password
        return SASLCredentials(
            username=settings.sasl_user,
            password=None if secret is None else secret.get_secret_value(),
            mechanism=settings.sasl_mechanism,
            ssl_context=context,
        )
    return None if context is None else SSLCredentials(context)


def or_hidden(settings: BrokerSettings) -> str:
    """To be said of a topic that is not there: Kafka hides those that one has no right to."""
    if settings.security_protocol == "PLAINTEXT":
        return ""
    who = settings.sasl_user if _sasl(settings) else "our certificate's name"
    return f", or {who} has no right to it"


def _security(settings: BrokerSettings) -> dict[str, Any]:
    options: dict[str, Any] = {"security_protocol": settings.security_protocol, "ssl_context": _tls(settings)}
    if _sasl(settings):
        secret = settings.sasl_password
        options["sasl_mechanism"] = settings.sasl_mechanism
        options["sasl_plain_username"] = settings.sasl_user
        options["sasl_plain_password"] = None if secret is None else secret.get_secret_value()
    return options


def _sasl(settings: BrokerSettings) -> bool:
    return settings.security_protocol.startswith("SASL_")


def _tls(settings: BrokerSettings) -> ssl.SSLContext | None:
    if not settings.security_protocol.endswith("SSL"):
        return None
    return client_context(settings, "broker", settings.tls_key_password)


async def why_denied(settings: BrokerSettings) -> BrokerDenied | None:
    """Ask each server once more why it lets no client in: aiokafka logs it, and raises only that it could not connect.

    None where one does let us in, or none can be reached at all.
    """
    found: BrokerDenied | None = None
    for host, port, _ in collect_hosts(settings.bootstrap_servers):
        try:
            async with asyncio.timeout(ASK_S):
                connection = await create_conn(host, port, **_security(settings))
                try:
                    # The handshake alone is answered before one has said who one is.
                    await connection.send(MetadataRequest([]))
                finally:
                    connection.close()
        except (KafkaError, OSError) as error:
            found = found or _denied(settings, f"{host}:{port}", error)
        else:
            return None
    return found


def _denied(settings: BrokerSettings, server: str, error: Exception) -> BrokerDenied | None:
    protocol = f"broker.security_protocol {settings.security_protocol}"
    match error:
        case _ if wrong := untrusted(error):
            return BrokerDenied(f"broker {server} shows a certificate that is not trusted: {wrong} (broker.tls_ca)")
        case AuthenticationFailedError() | SaslAuthenticationFailed():
            return BrokerDenied(
                f"broker {server} refuses the user {settings.sasl_user} with {settings.sasl_mechanism} "
                "(broker.sasl_user, broker.sasl_password)"
            )
        case UnsupportedSaslMechanismError():
            return BrokerDenied(f"broker {server} does not take {settings.sasl_mechanism} (broker.sasl_mechanism)")
        case _ if reason := tls_failure(error):
            return BrokerDenied(
                f"broker {server} does not agree to TLS: {reason}; either {protocol} is not its listener's, or it "
                "wants another certificate of us (broker.tls_certificate, broker.tls_key)"
            )
        case KafkaConnectionError() | ConnectionResetError() | EOFError():
            return BrokerDenied(
                f"broker {server} takes connections and ends them at once: {protocol} is not its listener's"
            )
        case _:
            return None
