"""Who may ask what: the one place where it is enforced.

Each endpoint says what it takes (`@needs(Scope.READ)`, or `@open_to_all`); one that says nothing is refused when it is
added, and so when the worker starts. Before an endpoint is called, its caller is identified, its scope is checked and
its rate counted. What the caller sees (`systems_of`) narrows what is then looked for, at every worker that is asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.routing import APIRoute

from akasha_stream.api.openapi import problems
from akasha_stream.auth.audit import Action, Audit
from akasha_stream.auth.authentication import Authentication
from akasha_stream.auth.caller import NOBODY, Caller, Scope
from akasha_stream.auth.rates import Rates
from akasha_stream.auth.systems import SYSTEMS_HEADER, Systems
from akasha_stream.errors import AnswerTimeout, NotAllowed, NotAuthenticated, UsageError
from akasha_stream.settings import HttpSettings, Settings

_RULE = "_akasha_rule"

type _Answer = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Rule:
    """`scope` None: anybody, with or without a key."""

    scope: Scope | None
    all_systems: bool = False
    """Its answer can't be narrowed: the caller must see all source systems."""

    @property
    def audited(self) -> bool:
        return self.scope in {Scope.WRITE, Scope.ADMIN}

    @property
    def described(self) -> str:
        if self.scope is None:
            return "Needs no key."
        if self.scope is Scope.NODE:
            return "Needs the node secret: only other workers ask this."
        return f"Needs a key of scope `{self.scope}`" + (", for all source systems." if self.all_systems else ".")


def needs[F: Callable[..., Any]](scope: Scope, *, all_systems: bool = False) -> Callable[[F], F]:
    """Of an endpoint: what its caller must have."""
    return lambda endpoint: _declared(endpoint, Rule(scope, all_systems))


def open_to_all[F: Callable[..., Any]](endpoint: F) -> F:
    """Of an endpoint that tells nothing of anybody's events."""
    return _declared(endpoint, Rule(None))


def _declared[F: Callable[..., Any]](endpoint: F, rule: Rule) -> F:
    setattr(endpoint, _RULE, rule)
    return endpoint


@dataclass(slots=True)
class Guard:
    """`Guard()`: everybody may do everything."""

    authentication: Authentication = field(default_factory=Authentication)
    rates: Rates = field(default_factory=lambda: Rates(None, 1))
    audit: Audit = field(default_factory=Audit)
    http: HttpSettings = field(default_factory=HttpSettings)

    @classmethod
    def of(cls, settings: Settings) -> Guard:
        """Raises SettingsError: the keys file is wrong, the audit file can't be opened."""
        http = settings.http
        return cls(
            Authentication.of(settings), Rates(http.rate_per_s, http.rate_burst), Audit(settings.auth.audit_file), http
        )

    async def close(self) -> None:
        await self.authentication.close()
        self.audit.close()

    async def answer(self, request: Request, rule: Rule, endpoint: _Answer) -> Response:
        """What the endpoint answers. Raises what it raises, and NotAuthenticated, NotAllowed, TooManyRequests,
        AnswerTimeout."""
        request.state.http = self.http
        request.state.about = {}
        caller = NOBODY
        result = "failed"
        try:
            caller = request.state.caller = await self._identified(request, rule)
            _check(rule, caller)
            if rule.scope is not None and Scope.NODE not in caller.scopes:
                self.rates.take(caller.id)
            elif not self.authentication.required and rule.scope is not None:
                self.rates.take("" if request.client is None else request.client.host)
            response = await self._in_time(request, endpoint)
            result = "ok" if response.status_code < 400 else str(response.status_code)
            return response
        except Exception as error:
            result = type(error).__name__
            raise
        finally:
            if rule.audited:
                self.audit.record(caller, _action(request), result)

    async def _identified(self, request: Request, rule: Rule) -> Caller:
        header = request.headers.get("authorization")
        if rule.scope is None:
            # A probe with an old key is still a probe.
            with suppress(NotAuthenticated):
                return await self.authentication.caller(header)
            return NOBODY
        caller = await self.authentication.caller(header)
        asked_for = request.headers.get(SYSTEMS_HEADER)
        if asked_for is not None and Scope.NODE in caller.scopes:
            return replace(caller, systems=_systems(asked_for))
        return caller

    async def _in_time(self, request: Request, endpoint: _Answer) -> Response:
        try:
            async with asyncio.timeout(self.http.timeout_s) as limit:
                request.state.limit = limit
                return await endpoint(request)
        except TimeoutError:
            if not limit.expired():
                raise
            raise AnswerTimeout(f"no answer within {self.http.timeout_s:g} s (http.timeout_s)") from None


class GuardedRoute(APIRoute):
    """Every route of the application. Raises TypeError for an endpoint that does not say who may call it."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        rule = rule_of(endpoint)
        if rule is None:
            raise TypeError(f"{path}: say who may call it, with @needs(…) or @open_to_all")
        self.rule = rule
        denials = {} if rule.scope is None else problems(401, 403, 429)
        options["responses"] = {**denials, **problems(504), **(options.get("responses") or {})}
        security: list[Any] = [] if rule.scope is None else [{"node" if rule.scope is Scope.NODE else "key": []}]
        options["openapi_extra"] = {**(options.get("openapi_extra") or {}), "security": security}
        given = options.get("description")
        options["description"] = f"{given}\n\n{rule.described}" if given else rule.described
        super().__init__(path, endpoint, **options)

    def get_route_handler(self) -> Any:
        answer = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            guard: Guard = request.app.state.guard
            return await guard.answer(request, self.rule, answer)

        return guarded


def guard_routes(app: FastAPI, guard: Guard) -> None:
    """Before any route is added."""
    app.state.guard = guard
    app.router.route_class = GuardedRoute


def rule_of(endpoint: Callable[..., Any]) -> Rule | None:
    found: Rule | None = getattr(endpoint, _RULE, None)
    return found


def caller_of(request: Request) -> Caller:
    """In an endpoint."""
    found: Caller = request.state.caller
    return found


def systems_of(request: Request) -> Systems:
    """In an endpoint: what its caller sees. All that it looks for, it looks for within these."""
    return caller_of(request).systems


def note(request: Request, **about: object) -> None:
    """In an endpoint: what the audit log shall say that it was about."""
    request.state.about.update(about)


def more_time(request: Request, seconds: float) -> None:
    """In an endpoint: it was asked to wait so long, besides what its answer takes."""
    limit: asyncio.Timeout = request.state.limit
    when = limit.when()
    if when is not None and seconds:
        limit.reschedule(when + seconds)


def _check(rule: Rule, caller: Caller) -> None:
    if rule.scope is None:
        return
    if not caller.may(rule.scope):
        has = ", ".join(sorted(caller.scopes)) or "none"
        raise NotAllowed(f"this needs the scope {rule.scope}; {caller.name!r} has {has}")
    if rule.all_systems and not caller.sees_all:
        raise NotAllowed(f"this is about all source systems together, and {caller.name!r} sees only some (systems)")


def _systems(header: str) -> Systems:
    """Raises UsageError."""
    try:
        patterns = orjson.loads(header)
        if not isinstance(patterns, list) or not all(isinstance(each, str) for each in patterns):
            raise ValueError
    except ValueError:
        raise UsageError(f"{SYSTEMS_HEADER}: must be a JSON list of texts") from None
    return Systems.of(patterns)


def _action(request: Request) -> Action:
    route = request.scope.get("route")
    path = request.url.path
    return Action(
        f"{request.method} {getattr(route, 'path', path)}",
        path,
        request.state.about,
        None if request.client is None else request.client.host,
    )
