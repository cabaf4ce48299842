"""TLS contexts from PEM files. What is wrong with a file is a SettingsError that names its setting."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from pydantic import SecretStr

from akasha_stream.errors import SettingsError


class TlsFiles(Protocol):
    """Those of a section of the settings."""

    @property
    def tls_ca(self) -> Path | None: ...

    @property
    def tls_certificate(self) -> Path | None: ...

    @property
    def tls_key(self) -> Path | None: ...


def client_context(files: TlsFiles, section: str, key_password: SecretStr | None = None) -> ssl.SSLContext:
    """Trusts tls_ca, or whom this machine trusts, and checks names; shows tls_certificate to who asks for one."""
    context = trusting(files.tls_ca, f"{section}.tls_ca")
    if files.tls_certificate is not None:
        _load(context, files, section, key_password)
    return context


def trusting(ca: Path | None, setting: str) -> ssl.SSLContext:
    """`ca` alone, or whom this machine trusts. Raises SettingsError."""
    if ca is not None:
        _readable(ca, setting)
    try:
        return ssl.create_default_context(cafile=ca)
    except ssl.SSLError as error:
        raise SettingsError(f"{setting}: {ca} holds no PEM certificate ({_reason(error)})") from error


def server_context(files: TlsFiles, section: str) -> ssl.SSLContext:
    """Shows tls_certificate. Raises SettingsError."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    _load(context, files, section, None)
    return context


def _load(context: ssl.SSLContext, files: TlsFiles, section: str, password: SecretStr | None) -> None:
    certificate, key = files.tls_certificate, files.tls_key
    assert certificate is not None  # configuration/together.py
    _readable(certificate, f"{section}.tls_certificate")
    if key is not None:
        _readable(key, f"{section}.tls_key")
    try:
        # A password that is not given is empty: OpenSSL would ask for it on the terminal.
        context.load_cert_chain(certificate, key, lambda: "" if password is None else password.get_secret_value())
    except (ssl.SSLError, ValueError) as error:
        encrypted = "ENCRYPTED" in (key or certificate).read_text(encoding="utf-8", errors="replace")
        hint = "; the key is encrypted: is its password right?" if encrypted else ""
        names = f"{section}.tls_certificate, {section}.tls_key"
        raise SettingsError(
            f"{names}: {certificate} and {key or 'the key in it'} are no pair of PEM certificate and key "
            f"({_reason(error)}){hint}"
        ) from error


def _readable(path: Path, setting: str) -> None:
    try:
        path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{setting}: {path} can't be read: {error.strerror}") from error


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None) or str(error)
    return str(reason).replace("_", " ").lower()


def untrusted(error: BaseException) -> str | None:
    """What is wrong with the other side's certificate, where that is why a connection failed; else None."""
    for each in _causes(error):
        if isinstance(each, ssl.SSLCertVerificationError):
            return each.verify_message
    return None


def tls_failure(error: BaseException) -> str | None:
    """Why TLS failed, where it did."""
    return next((_reason(each) for each in _causes(error) if isinstance(each, ssl.SSLError)), None)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """It, and what brought it about: libraries wrap the socket's errors in their own."""
    here: BaseException | None = error
    while here is not None:
        yield here
        here = here.__cause__ or here.__context__
