"""The API of tenants' systems: opt-outs, opt-ins and the story of a message; and of who bills: closings. Every answer that refuses is a problem document."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any, Final, Protocol, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.types import Receive, Send
from starlette.types import Scope as Connection

from gateway.domain.consent import Scope
from gateway.domain.errors import Conflict, NotFound, Unavailable
from gateway.domain.events import OptInProof
from gateway.domain.payloads import JSON, NotJSON, is_media, parse_json
from gateway.domain.personal import PhoneNumber
from gateway.domain.phone import BadNumber
from gateway.telemetry import Metrics, get_logger
from gateway.web.answers import FAILED, OVERLOADED, UNAVAILABLE, Answer, json_answer, problem
from gateway.web.bodies import Limits, header, headers_of, read_body
from gateway.web.grants import Bearers, TokenGrant
from gateway.web.models import ClosingRequest, ConsentRequest, OptIn, OptOut
from gateway.web.openapi import openapi
from gateway.web.room import Room

__all__ = ["Api", "Closings", "OptInResult", "OptOutResult", "Stops", "Stories"]

Normalise = Callable[[str], PhoneNumber | BadNumber]
Handler = Callable[[Connection, Receive, TokenGrant], Awaitable[Answer]]
Result = TypeVar("Result")
Wanted = TypeVar("Wanted", bound=ConsentRequest)
Body = TypeVar("Body", bound=BaseModel)

_MESSAGES: Final = "/v1/messages/"
_LONGEST_ID: Final = 256
_NOT_FOUND: Final = problem(404, "not_found", "There is nothing here")
_LACKS_TOKEN: Final = problem(
    401, "no_token", "A bearer token is needed", headers={"www-authenticate": 'Bearer realm="sms-gateway"'}, close=True
)
_WRONG_TOKEN: Final = problem(
    401,
    "wrong_token",
    "The token is not known",
    headers={"www-authenticate": 'Bearer realm="sms-gateway", error="invalid_token"'},
    close=True,
)
_FORBIDDEN: Final = problem(403, "wrong_tenant", "The token is not for this tenant")
_NOT_JSON: Final = problem(415, "unsupported_type", "Requests are application/json in UTF-8", close=True)
_NOT_GRANTED: Final = {"account_closed": "The tenant's customer account is closed"}
_TIMED_OUT: Final = problem(408, "timed_out", "The body did not arrive in time", close=True)
_BODY: Final = {
    "too_large": problem(413, "too_large", "The body is too large", close=True),
    "disconnected": problem(400, "disconnected", "The body did not arrive whole", close=True),
}
_OPENAPI: Final = json_answer(200, openapi())
_LOG = get_logger(__name__)


class OptOutResult(Protocol):
    """An opt-out that is durable."""

    @property
    def in_force(self) -> bool: ...


class OptInResult(Protocol):
    """Whether an opt-in was granted; if not, ``why`` in a word."""

    @property
    def granted(self) -> bool: ...
    @property
    def why(self) -> str: ...


class Stops(Protocol):
    """Opts people out and in. ``name`` is the programme or sender that the scope speaks of, else empty; tenant None goes with scope all.

    ``actor`` is the token's name, with ``:`` and the caller's reason after it, if there is one.
    """

    async def opt_out(self, tenant: str | None, number: PhoneNumber, scope: Scope, name: str, actor: str) -> OptOutResult: ...
    async def opt_in(
        self, tenant: str | None, number: PhoneNumber, scope: Scope, name: str, actor: str, proof: OptInProof
    ) -> OptInResult: ...


class Stories(Protocol):
    """Tells what became of a message, without personal data, ready for JSON; None when there is no such message."""

    async def find(self, tenant: str, message_id: str) -> Mapping[str, Any] | None: ...


class Closings(Protocol):
    """Closes customer accounts; ``actor`` is the token's name. Raises Conflict, NotFound where no policy has the tenant."""

    async def close(self, tenant: str, who: str, why: str, actor: str, *, at: datetime | None = None) -> datetime: ...


class Api:
    """The ASGI application of the API. ``normalise`` must read every number, textable or not: a STOP is not lost to a list of prefixes.

    ``closers`` are those whose tokens may close accounts: no other token may, and these may nothing else.
    """

    def __init__(
        self,
        *,
        stops: Stops,
        stories: Stories,
        closings: Closings,
        bearers: Bearers,
        closers: Bearers,
        normalise: Normalise,
        metrics: Metrics,
        room: Room,
        limits: Limits | None = None,
    ) -> None:
        self._stops = stops
        self._stories = stories
        self._closings = closings
        self._bearers = bearers
        self._closers = closers
        self._normalise = normalise
        self._api_requests_total = metrics.api_requests_total
        self._room = room
        self._limits = limits or Limits()

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        route, method, handler = self._route(scope["path"])
        if not self._room.enter():
            said = OVERLOADED
        else:
            try:
                said = await self._answer(scope, receive, method, handler)
            except (Unavailable, TimeoutError):
                said = UNAVAILABLE
            except Exception as fault:  # noqa: BLE001 -- every request is answered and counted; the log says where it failed
                _LOG.error("API request failed", route=route, exc_info=fault)
                said = FAILED
            finally:
                self._room.leave()
        self._api_requests_total.labels(route=route, status=str(said.status)).inc()
        await said.send(send)

    def _route(self, path: str) -> tuple[str, str, Handler | Answer]:
        """The route's name for metrics, its method, and what answers it."""
        if path == "/v1/opt-outs":
            return path, "POST", self._opt_out
        if path == "/v1/opt-ins":
            return path, "POST", self._opt_in
        if path == "/v1/closings":
            return path, "POST", self._close
        if path == "/openapi.json":
            return path, "GET", _OPENAPI
        tenant, slash, message_id = path.removeprefix(_MESSAGES).partition("/")
        if path.startswith(_MESSAGES) and tenant and slash and message_id:
            return "/v1/messages/{tenant}/{message_id}", "GET", self._story
        return "other", "GET", _NOT_FOUND

    async def _answer(self, scope: Connection, receive: Receive, method: str, handler: Handler | Answer) -> Answer:
        if handler is _NOT_FOUND:
            return _NOT_FOUND
        if scope["method"] != method:
            return problem(405, "wrong_method", f"Only {method} is answered here", headers={"allow": method}, close=True)
        if isinstance(handler, Answer):
            return handler
        authorization = header(scope, b"authorization")
        bearers = self._closers if handler == self._close else self._bearers
        try:
            grant = await self._in_time(bearers.grant(authorization))
        except (Unavailable, TimeoutError):
            grant = self._bearers.recall(authorization) if handler == self._opt_out else None
            if grant is None:
                raise
        if grant is None:
            return _LACKS_TOKEN if authorization is None else _WRONG_TOKEN
        return await handler(scope, receive, grant)

    async def _in_time(self, asked: Awaitable[Result]) -> Result:
        async with asyncio.timeout(self._limits.seconds):
            return await asked

    async def _opt_out(self, scope: Connection, receive: Receive, grant: TokenGrant) -> Answer:
        wanted = await self._read(OptOut, scope, receive, grant)
        if isinstance(wanted, Answer):
            return wanted
        asked, number = wanted
        actor = f"{grant.name}:{asked.reason}" if asked.reason else grant.name
        result = await self._in_time(self._stops.opt_out(asked.tenant, number, asked.scope, asked.name, actor))
        return json_answer(200 if result.in_force else 202, {"in_force": result.in_force})

    async def _opt_in(self, scope: Connection, receive: Receive, grant: TokenGrant) -> Answer:
        wanted = await self._read(OptIn, scope, receive, grant)
        if isinstance(wanted, Answer):
            return wanted
        asked, number = wanted
        result = await self._in_time(self._stops.opt_in(asked.tenant, number, asked.scope, asked.name, grant.name, asked.proof))
        if result.granted:
            return json_answer(200, {"granted": True})
        return problem(
            409, result.why, _NOT_GRANTED.get(result.why, "An opt-out stands that is not provably earlier than this opt-in")
        )

    async def _close(self, scope: Connection, receive: Receive, grant: TokenGrant) -> Answer:
        asked = await self._body(ClosingRequest, scope, receive)
        if isinstance(asked, Answer):
            return asked
        if not _may(grant, asked.tenant):
            return _FORBIDDEN
        try:
            closed_at = await self._in_time(self._closings.close(asked.tenant, asked.who, asked.why, grant.name, at=asked.at))
        except NotFound:
            return _wrong([("/tenant", "no policy has this tenant")])
        except Conflict as fault:
            return problem(409, "closing_refused", "The closing is not noted", detail=str(fault))
        return json_answer(200, {"closed_at": closed_at.isoformat(timespec="milliseconds")})

    async def _story(self, scope: Connection, _receive: Receive, grant: TokenGrant) -> Answer:
        tenant, _, message_id = scope["path"].removeprefix(_MESSAGES).partition("/")
        if not _may(grant, tenant):
            return _FORBIDDEN
        if len(message_id) > _LONGEST_ID or not message_id.isprintable():
            return _NOT_FOUND
        try:
            story = await self._in_time(self._stories.find(tenant, message_id))
        except NotFound:
            story = None
        return _NOT_FOUND if story is None else json_answer(200, story)

    async def _read(
        self,
        model: type[Wanted],
        scope: Connection,
        receive: Receive,
        grant: TokenGrant,
    ) -> tuple[Wanted, PhoneNumber] | Answer:
        """What is asked for and for whom, if the token may ask for it."""
        asked = await self._body(model, scope, receive)
        if isinstance(asked, Answer):
            return asked
        if not _may(grant, asked.tenant):
            return _FORBIDDEN
        number = self._normalise(asked.number.reveal())
        if isinstance(number, BadNumber):
            return _wrong([("/number", number.why)])
        return asked, number

    async def _body(self, model: type[Body], scope: Connection, receive: Receive) -> Body | Answer:
        """The body as what it should be."""
        if not is_media(headers_of(scope), JSON):
            return _NOT_JSON
        try:
            body = await self._in_time(read_body(scope, receive, self._limits.body))
        except TimeoutError:
            return _TIMED_OUT
        if isinstance(body, str):
            return _BODY[body]
        try:
            parse_json(body)  # what the model's own reader lets through: a key that stands twice, NUL, NaN
            asked = model.model_validate_json(body)
        except NotJSON as fault:
            return problem(400, "not_json", "The body can't be read", detail=str(fault))
        except ValidationError as fault:
            return _wrong(
                [("/" + "/".join(map(str, error["loc"])) if error["loc"] else "", error["msg"]) for error in fault.errors()]
            )
        return asked


def _may(grant: TokenGrant, tenant: str | None) -> bool:
    return grant.tenants is None or (tenant is not None and tenant in grant.tenants)


def _wrong(faults: list[tuple[str, str]]) -> Answer:
    errors = [{"pointer": pointer[:200], "detail": text.removeprefix("Value error, ")} for pointer, text in faults[:20]]
    return problem(422, "wrong_fields", "The body is not what it should be", errors=errors)
