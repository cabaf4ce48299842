"""Tokens of an identity provider, whose keys come from a server of the test's own."""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from akasha_stream.auth.caller import Scope
from akasha_stream.auth.oidc import AGAIN_S, Oidc
from akasha_stream.settings import OidcSettings

RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
OTHER = rsa.generate_private_key(65537, 2048)


@dataclass
class Provider:
    """Its discovery document and keys, and who asked for them."""

    url: str = ""
    keys: list[dict[str, Any]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    away: bool = False
    claimed_issuer: str | None = None

    def token(self, key: Any = RSA, kid: str | None = "rsa", algorithm: str = "RS256", **claims: Any) -> str:
        wanted = {
            "iss": self.url, "aud": "akasha-stream", "sub": "ann", "exp": time.time() + 60,
            "scope": "openid akasha:read akasha:write", "akasha_systems": ["a", "b-*"], **claims,
        }  # fmt: skip
        given = {name: value for name, value in wanted.items() if value is not None}
        return jwt.encode(given, key, algorithm, headers={} if kid is None else {"kid": kid})


def jwk(kid: str, key: Any) -> dict[str, Any]:
    of_curve = isinstance(key, ec.EllipticCurvePrivateKey)
    algorithm: Any = jwt.algorithms.ECAlgorithm if of_curve else jwt.algorithms.RSAAlgorithm
    found: dict[str, Any] = json.loads(algorithm.to_jwk(key.public_key()))
    return found | {"kid": kid, "use": "sig"}


@pytest.fixture
def provider() -> Iterator[Provider]:
    made = Provider(keys=[jwk("rsa", RSA), jwk("ec", EC)])

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.asked.append(self.path)
            body = {"keys": made.keys}
            if "openid-configuration" in self.path:
                body = {"issuer": made.claimed_issuer or made.url, "jwks_uri": f"{made.url}/keys"}  # type: ignore[dict-item]
            self.send_response(503 if made.away else 200)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def oidc(provider: Provider, clock: Clock | None = None, **settings: Any) -> Oidc:
    return Oidc(OidcSettings(issuer=provider.url, **settings), clock=clock or Clock())


async def test_claims_become_scopes_and_systems(provider: Provider) -> None:
    tokens = oidc(provider)
    caller = await tokens.caller(provider.token())
    assert caller is not None
    assert (caller.name, caller.scopes) == ("ann", frozenset({Scope.READ, Scope.WRITE}))
    assert [caller.sees(each) for each in ("a", "b-1", "c")] == [True, True, False]
    assert await tokens.caller(provider.token(EC, "ec", "ES256")) is not None
    assert provider.asked == ["/.well-known/openid-configuration", "/keys"]  # once for both
    await tokens.close()


@pytest.mark.parametrize(
    ("claims", "scopes", "systems"),
    [
        ({"scope": ["akasha:admin"], "akasha_systems": "*"}, {Scope.ADMIN}, ["*"]),
        ({"scope": "read admin akasha:node akasha:", "akasha_systems": []}, set(), []),
        ({"scope": 7, "akasha_systems": {"a": 1}}, set(), []),
        ({"scope": None, "akasha_systems": None}, set(), []),
        ({"akasha_systems": ["a*b"]}, {Scope.READ, Scope.WRITE}, []),
        ({"akasha_systems": "two words"}, {Scope.READ, Scope.WRITE}, ["two words"]),
    ],
)
async def test_a_claim_that_is_not_right_gives_nothing(
    provider: Provider, claims: dict[str, Any], scopes: set[Scope], systems: list[str]
) -> None:
    tokens = oidc(provider)
    caller = await tokens.caller(provider.token(**claims))
    assert caller is not None
    assert (set(caller.scopes), caller.systems.patterns()) == (scopes, systems)
    await tokens.close()


def signed_by_the_public_key(token: str) -> str:
    """As if it were a shared secret: what a library that believes the header takes for valid."""
    public = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    head = base64.urlsafe_b64encode(b'{"alg": "HS256", "kid": "rsa", "typ": "JWT"}').rstrip(b"=")
    signed = head + b"." + token.split(".")[1].encode()
    signature = base64.urlsafe_b64encode(hmac.digest(public, signed, "sha256")).rstrip(b"=")
    return (signed + b"." + signature).decode()


async def test_what_is_no_token_of_the_provider_names_nobody(provider: Provider) -> None:
    tokens = oidc(provider)
    now = time.time()
    good = provider.token()
    head, body, signature = good.split(".")
    wrong = [
        "x", "a.b.c", "..", f"{head}.{body}.", f"{head}.{body}.{signature[::-1]}",
        provider.token(exp=now - 60), provider.token(exp=None), provider.token(nbf=now + 600),
        provider.token(iss="http://other"), provider.token(iss=None), provider.token(aud="other"),
        provider.token(aud=None), provider.token(sub=None), provider.token(OTHER), provider.token(kid="none"),
        provider.token(kid=None), provider.token(EC, "rsa", "ES256"),
        signed_by_the_public_key(good), provider.token(None, algorithm="none"),
    ]  # fmt: skip
    for token in wrong:
        assert await tokens.caller(token) is None, token
    assert await tokens.caller(good) is not None
    await tokens.close()


async def test_an_unknown_key_is_fetched_once_in_a_while(provider: Provider) -> None:
    clock = Clock()
    tokens = oidc(provider, clock, jwks_url=f"{provider.url}/keys")
    new = provider.token(OTHER, "new")
    for _ in range(5):
        assert await tokens.caller(new) is None
    assert provider.asked == ["/keys"]
    provider.keys.append(jwk("new", OTHER))
    clock.now += AGAIN_S + 1
    assert await tokens.caller(new) is not None
    await tokens.close()


async def test_a_withdrawn_key_counts_until_the_keys_are_old(provider: Provider) -> None:
    clock = Clock()
    tokens = oidc(provider, clock)
    token = provider.token()
    assert await tokens.caller(token) is not None
    provider.keys = [jwk("ec", EC)]
    assert await tokens.caller(token) is not None
    clock.now += 301
    assert await tokens.caller(token) is None
    await tokens.close()


async def test_a_provider_that_is_away_lets_nobody_new_in(provider: Provider) -> None:
    clock = Clock()
    tokens = oidc(provider, clock)
    provider.away = True
    assert await tokens.caller(provider.token()) is None
    provider.away = False
    clock.now += AGAIN_S + 1
    assert await tokens.caller(provider.token()) is not None
    provider.away = True
    clock.now += 302  # the keys are old, and a little longer they count
    assert await tokens.caller(provider.token()) is not None
    clock.now += AGAIN_S + 1
    assert await tokens.caller(provider.token()) is None
    await tokens.close()


async def test_a_discovery_document_of_another_issuer_is_refused(provider: Provider) -> None:
    provider.claimed_issuer = "http://other"
    tokens = oidc(provider)
    assert await tokens.caller(provider.token()) is None
    assert provider.asked == ["/.well-known/openid-configuration"]
    await tokens.close()
