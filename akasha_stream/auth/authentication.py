"""Who sent a request, by its Authorization header: another worker, an API key, or a token of an identity provider."""

from __future__ import annotations

import hmac
from typing import Protocol, Self

from akasha_stream.auth.caller import ANYBODY, NODE, Caller
from akasha_stream.auth.exposure import asks_for_keys
from akasha_stream.auth.keys import PREFIX, Keys
from akasha_stream.errors import NotAuthenticated
from akasha_stream.settings import Settings

MOST_BYTES = 8_192
"""Of a credential: what is longer is none."""


class Tokens(Protocol):
    """auth.oidc.Oidc: an extra."""

    async def caller(self, token: str) -> Caller | None: ...

    async def close(self) -> None: ...


class Authentication:
    """`keys` and `tokens` None, and nobody is asked: everybody may do everything."""

    def __init__(self, keys: Keys | None = None, tokens: Tokens | None = None, node_secret: str | None = None) -> None:
        self._keys = keys
        self._tokens = tokens
        self._node_secret = None if node_secret is None else node_secret.encode()

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Raises SettingsError: the keys file is wrong; UsageError: the extra `oidc` is missing."""
        if not asks_for_keys(settings):
            return cls()
        tokens: Tokens | None = None
        if settings.oidc.issuer is not None:
            from akasha_stream.auth.oidc import Oidc

            tokens = Oidc(settings.oidc)
        keys = None if settings.auth.keys_file is None else Keys(settings.auth.keys_file)
        secret = settings.auth.node_secret
        return cls(keys, tokens, None if secret is None else secret.get_secret_value())

    @property
    def required(self) -> bool:
        return self._keys is not None or self._tokens is not None

    @property
    def problem(self) -> str | None:
        """What is wrong with the keys file just now."""
        return None if self._keys is None else self._keys.error

    async def caller(self, header: str | None) -> Caller:
        """Raises NotAuthenticated; its text does not tell an unknown key from one that has expired."""
        if not self.required:
            return ANYBODY
        if header is None:
            raise NotAuthenticated(
                "an API key is needed: as `Authorization: Bearer ak_…`; on the command line AKASHA_API_KEY or --key"
            )
        scheme, _, credential = header.partition(" ")
        credential = credential.strip()
        if scheme.lower() != "bearer" or not credential or len(credential) > MOST_BYTES:
            raise NotAuthenticated("the Authorization header is no `Bearer` with a key")
        found = await self._known(credential)
        if found is None:
            raise NotAuthenticated("the key or token is not valid, or no longer")
        return found

    async def _known(self, credential: str) -> Caller | None:
        if self._node_secret is not None and hmac.compare_digest(credential.encode(), self._node_secret):
            return NODE
        if credential.startswith(PREFIX):
            return None if self._keys is None else self._keys.caller(credential)
        return None if self._tokens is None else await self._tokens.caller(credential)

    async def close(self) -> None:
        if self._tokens is not None:
            await self._tokens.close()
