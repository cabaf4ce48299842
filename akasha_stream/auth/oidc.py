"""Tokens of an identity provider (OpenID Connect): signed JWTs, checked by its public keys.

Checked are signature, issuer, audience, expiry (RFC 7519, RFC 8725). Signatures are asymmetric alone: with HS256 the
public key would be the secret, and `none` is no signature. The keys are fetched when they are first needed, are good
for oidc.cache_s, and are fetched anew for a key id that is not among them, at most once in 10 s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any

import httpx
import structlog

from akasha_stream.auth.caller import GRANTED, Caller
from akasha_stream.auth.systems import Systems
from akasha_stream.errors import UsageError
from akasha_stream.settings import OidcSettings

try:
    import jwt
except ImportError as error:
    raise UsageError("oidc.issuer needs the extra: pip install 'akasha-stream[oidc]'") from error

log = structlog.get_logger(__name__)

ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
FETCH_S = 5.0
AGAIN_S = 10.0
"""So long no keys are fetched again, whatever tokens name: nobody makes us ask the provider all the time."""
_DISCOVERY = "/.well-known/openid-configuration"


class Oidc:
    """`transport`: instead of the network."""

    def __init__(
        self,
        settings: OidcSettings,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        assert settings.issuer is not None
        self._settings = settings
        self._issuer = settings.issuer
        self._clock = clock
        self._transport = transport
        self._http: httpx.AsyncClient | None = None
        self._keys: dict[str | None, jwt.PyJWK] = {}
        self._fetched_s = self._tried_s = float("-inf")
        self._fetching = asyncio.Lock()

    async def caller(self, token: str) -> Caller | None:
        """Whose token it is; None: it is not valid, or its keys can't be had (which is logged)."""
        try:
            key_id = jwt.get_unverified_header(token).get("kid")
            key = await self._key(key_id)
            if key is None:
                return None
            claims = jwt.decode(
                token,
                key,
                algorithms=ALGORITHMS,
                audience=self._settings.audience,
                issuer=self._issuer,
                leeway=self._settings.leeway_s,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.PyJWTError as error:
            # The class alone: a text may quote the token.
            log.info("token_refused", why=type(error).__name__)
            return None
        return self._of(claims)

    async def close(self) -> None:
        if self._http is not None:
            await self._http.aclose()

    def _of(self, claims: Mapping[str, Any]) -> Caller:
        """A claim that is not what it should be gives nothing."""
        given = _texts(claims.get(self._settings.scope_claim))
        scopes = frozenset(scope for scope in GRANTED if f"{self._settings.scope_prefix}{scope}" in given)
        try:
            systems = Systems.of(_texts(claims.get(self._settings.systems_claim), split=False))
        except UsageError as error:
            log.warning("token_claim_wrong", claim=self._settings.systems_claim, why=str(error))
            systems = Systems()
        return Caller(f"{claims['sub']}", scopes, systems)

    async def _key(self, key_id: str | None) -> jwt.PyJWK | None:
        if self._clock() - self._fetched_s > self._settings.cache_s or key_id not in self._keys:
            async with self._fetching:
                stale = self._clock() - self._fetched_s > self._settings.cache_s
                if (stale or key_id not in self._keys) and self._clock() - self._tried_s > AGAIN_S:
                    await self._fetch()
        if self._clock() - self._fetched_s > self._settings.cache_s + AGAIN_S:
            return None  # the provider is away for longer than its keys are good
        return self._keys.get(key_id)

    async def _fetch(self) -> None:
        self._tried_s = self._clock()
        if self._http is None:
            self._http = httpx.AsyncClient(transport=self._transport, timeout=FETCH_S)
        try:
            url = self._settings.jwks_url
            if url is None:
                found = (await self._http.get(self._issuer.rstrip("/") + _DISCOVERY)).raise_for_status().json()
                if found["issuer"] != self._issuer:
                    raise ValueError(f"the discovery document is of issuer {found['issuer']!r}")
                url = str(found["jwks_uri"])
            keys = jwt.PyJWKSet.from_dict((await self._http.get(url)).raise_for_status().json())
        except (httpx.HTTPError, httpx.InvalidURL, jwt.PyJWTError, ValueError, LookupError, TypeError) as error:
            log.warning("token_keys_unavailable", issuer=self._issuer, error=f"{type(error).__name__}: {error}")
            return
        self._keys = {key.key_id: key for key in keys.keys if key.public_key_use in {None, "sig"}}
        self._fetched_s = self._clock()


def _texts(value: object, *, split: bool = True) -> list[str]:
    if isinstance(value, str):
        return value.split() if split else [value]
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []
