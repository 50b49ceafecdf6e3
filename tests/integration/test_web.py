"""The web over real sockets, with Twilio's real reading of webhooks and real tokens; what lies behind the ports is recorded."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from yarl import URL

from gateway.crypto.bearer import new_token, token_hash
from gateway.crypto.tokens import AttemptTokens
from gateway.domain.consent import Scope
from gateway.domain.errors import (
    Conflict,
    GatewayError,
    KeyMissing,
    NotFound,
    ProviderUnavailable,
    StoreRefused,
    StoreUnavailable,
)
from gateway.domain.events import OptInProof
from gateway.domain.payloads import parse_form
from gateway.domain.personal import MessageBody, PhoneNumber
from gateway.domain.phone import normal_form
from gateway.domain.reports import InboundText, OptOutNews, Receipt, StatusNews
from gateway.domain.webhooks import Handshake, Reports, WebhookRequest
from gateway.flow.receipts import ReceiptFate
from gateway.flow.replies import ReplyFate
from gateway.providers.twilio.provider import Twilio, TwilioAccount
from gateway.simulator.twilio.signing import sign
from gateway.telemetry import Metrics
from gateway.web.api import Api
from gateway.web.bodies import Limits
from gateway.web.grants import Bearers
from gateway.web.health import AdminApp, Check
from gateway.web.hooks import WebhookProvider, Webhooks
from gateway.web.openapi import openapi
from gateway.web.public import PublicApp
from gateway.web.room import Room
from gateway.web.server import WebServer

PUBLIC_URL = "https://sms.example.com"
SID = "AC" + "1" * 32
AUTH_TOKEN = "auth-token-of-main"
NUMBER = "+12025550123"
UID = uuid.UUID("01939c5e-1234-7890-8123-456789012345")
ATTEMPTS = AttemptTokens(b"k" * 32)
FORM_TYPE = "application/x-www-form-urlencoded"
WEB = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@dataclass
class Behind:
    """What lies behind the ports: it records what comes, and does as it is told."""

    missed: list[str | None] = field(default_factory=list)
    receipts: list[Receipt] = field(default_factory=list)
    news: list[StatusNews] = field(default_factory=list)
    texts: list[InboundText] = field(default_factory=list)
    opt_outs: list[OptOutNews] = field(default_factory=list)
    consents: list[tuple[Any, ...]] = field(default_factory=list)
    lookups: int = 0
    fate: ReceiptFate = "changed"
    fault: Exception | None = None
    gate: asyncio.Event | None = None
    arrived: asyncio.Queue[None] = field(default_factory=asyncio.Queue)
    in_force: bool = True
    granted: bool = True
    tokens: dict[bytes, Grant] = field(default_factory=dict)
    story: Mapping[str, Any] | None = None
    closings: list[tuple[Any, ...]] = field(default_factory=list)
    closers: dict[bytes, Grant] = field(default_factory=dict)

    async def _hold(self) -> None:
        self.arrived.put_nowait(None)
        if self.gate is not None:
            await self.gate.wait()
        if self.fault is not None:
            raise self.fault

    async def arrive(self, count: int) -> None:
        """Waits until so many more requests have come to a port."""
        async with asyncio.timeout(5):
            for _ in range(count):
                await self.arrived.get()

    async def find(self, digest: bytes) -> Grant | None:
        self.lookups += 1
        return self.tokens.get(digest)

    async def heed(self, news: Sequence[OptOutNews]) -> None:
        await self._hold()
        self.opt_outs += news

    async def close(self, tenant: str, who: str, why: str, actor: str, *, at: datetime | None = None) -> datetime:
        await self._hold()
        self.closings.append((tenant, who, why, actor, at))
        return at or datetime(2026, 11, 30, 12, tzinfo=UTC)

    async def opt_out(self, tenant: str | None, number: PhoneNumber, scope: Scope, name: str, actor: str) -> Result:
        await self._hold()
        self.consents.append(("out", tenant, number.reveal(), scope, name, actor))
        return Result(in_force=self.in_force)

    async def opt_in(
        self, tenant: str | None, number: PhoneNumber, scope: Scope, name: str, actor: str, proof: OptInProof
    ) -> Result:
        await self._hold()
        self.consents.append(("in", tenant, number.reveal(), scope, name, actor, proof))
        return Result(granted=self.granted, why="not_proven")


@dataclass(frozen=True)
class Grant:
    name: str
    tenants: frozenset[str] | None


@dataclass(frozen=True)
class Result:
    in_force: bool = True
    granted: bool = True
    why: str = ""


class ClosersPort:
    def __init__(self, behind: Behind) -> None:
        self.behind = behind

    async def find(self, digest: bytes) -> Grant | None:
        return self.behind.closers.get(digest)


class ReceiptPort:
    def __init__(self, behind: Behind) -> None:
        self.behind = behind

    async def receive(self, receipt: Receipt) -> ReceiptFate:
        await self.behind._hold()
        self.behind.receipts.append(receipt)
        return self.behind.fate

    async def learn(self, news: StatusNews) -> ReceiptFate:
        await self.behind._hold()
        self.behind.news.append(news)
        return self.behind.fate


class ReplyPort:
    def __init__(self, behind: Behind) -> None:
        self.behind = behind

    async def receive(self, text: InboundText) -> ReplyFate:
        await self.behind._hold()
        self.behind.texts.append(text)
        return "stop" if text.body.reveal().upper() == "STOP" else "other"


class StoryPort:
    def __init__(self, behind: Behind) -> None:
        self.behind = behind

    async def find(self, tenant: str, message_id: str) -> Mapping[str, Any] | None:
        await self.behind._hold()
        return None if self.behind.story is None else {**self.behind.story, "tenant": tenant, "message_id": message_id}


@dataclass
class Web:
    app: PublicApp
    behind: Behind
    registry: CollectorRegistry
    room: Room
    url: str = ""
    client: aiohttp.ClientSession | None = None

    def counted(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"sms_gateway_{name}", labels) or 0.0

    def all_counted(self) -> float:
        return sum(sample.value for metric in self.registry.collect() for sample in metric.samples if sample.name in COUNTERS)

    async def post(self, path: str, **more: Any) -> Answered:
        return await self.ask("POST", path, **more)

    async def ask(self, method: str, path: str, **more: Any) -> Answered:
        assert self.client is not None
        async with self.client.request(method, self.url + path, **more) as response:
            headers = {name.lower(): value for name, value in response.headers.items()}
            return Answered(response.status, headers, await response.read())

    async def hook(
        self, path: str, fields: Sequence[tuple[str, str]], *, url: str = PUBLIC_URL, token: str = AUTH_TOKEN
    ) -> Answered:
        signature = sign(token, url + path, fields)
        return await self.post(path, data=urlencode(fields), headers={"content-type": FORM_TYPE, "x-twilio-signature": signature})


@dataclass(frozen=True)
class Answered:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        assert self.headers["content-type"] == "application/problem+json"
        told = json.loads(self.body)
        assert told["status"] == self.status
        assert told["title"]
        return str(told["code"])


COUNTERS = {"sms_gateway_webhooks_total", "sms_gateway_api_requests_total"}


def build(
    limits: Limits | None = None,
    most: int = 16,
    public_url: str = PUBLIC_URL,
    provider: Callable[[Behind], WebhookProvider] | None = None,
) -> Web:
    behind, registry, room = Behind(), CollectorRegistry(), Room(most)
    metrics = Metrics(registry)
    webhooks = Webhooks(
        public_url=public_url,
        accounts={"main": provider(behind) if provider is not None else Twilio(TwilioAccount("main", SID, AUTH_TOKEN))},
        tokens=ATTEMPTS,
        receipts=ReceiptPort(behind),
        replies=ReplyPort(behind),
        opt_outs=behind,
        metrics=metrics,
        room=room,
        limits=limits,
        missed=behind.missed.append,
    )
    api = Api(
        stops=behind,
        stories=StoryPort(behind),
        closings=behind,
        bearers=Bearers(behind, token_hash),
        closers=Bearers(ClosersPort(behind), token_hash),
        normalise=normal_form,
        metrics=metrics,
        room=room,
        limits=limits,
    )
    return Web(PublicApp(webhooks, api, public_url=public_url), behind, registry, room)


@asynccontextmanager
async def serving(web: Web) -> AsyncIterator[Web]:
    server = WebServer(web.app, "127.0.0.1", 0, drain_seconds=5)
    await server.start()
    web.url = f"http://127.0.0.1:{server.port}"
    try:
        async with aiohttp.ClientSession() as web.client:
            yield web
    finally:
        await server.stop()


@pytest.fixture
async def web() -> AsyncIterator[Web]:
    async with serving(build()) as web:
        yield web


def status_path(attempt: int = 1, account: str = "main") -> str:
    return f"/webhooks/twilio/{account}/status/{ATTEMPTS.make(UID, attempt, 'main')}"


INBOUND = "/webhooks/twilio/main/inbound"


def status_fields(**changed: str) -> list[tuple[str, str]]:
    fields = {
        "MessageSid": "SM" + "a" * 32,
        "MessageStatus": "delivered",
        "AccountSid": SID,
        "From": "+15005550006",
        "To": NUMBER,
    }
    return list({**fields, **changed}.items())


def inbound_fields(**changed: str) -> list[tuple[str, str]]:
    fields = {"MessageSid": "SM" + "b" * 32, "AccountSid": SID, "From": NUMBER, "To": "+15005550006", "Body": "Grüße 👋 + more"}
    return list({**fields, **changed}.items())


# ------------------------------------------------------------------------------------------------------------ webhooks


async def test_a_status_callback_is_taken_and_answered_without_content(web: Web) -> None:
    answered = await web.hook(status_path(3), status_fields())
    assert (answered.status, answered.body) == (204, b"")
    assert "server" not in {name.lower() for name in answered.headers}
    (receipt,) = web.behind.receipts
    assert (receipt.uid, receipt.attempt, receipt.state, receipt.account) == (UID, 3, "delivered", "main")
    assert web.counted("webhooks_total", kind="status", result="changed") == 1


async def test_an_inbound_text_is_taken_and_answered_with_nothing_to_say(web: Web) -> None:
    answered = await web.hook(INBOUND, inbound_fields(Body="Stop"))
    assert (answered.status, answered.body) == (204, b"")
    await web.hook(INBOUND, inbound_fields())
    assert [text.body.reveal() for text in web.behind.texts] == ["Stop", "Grüße 👋 + more"]
    assert web.counted("webhooks_total", kind="inbound", result="stop") == 1


async def test_the_signature_is_over_the_public_url_whatever_a_proxy_says(web: Web) -> None:
    fields = status_fields()
    path = status_path() + "?x=%20y&z"
    headers = {"content-type": FORM_TYPE + "; charset=UTF-8", "x-twilio-signature": sign(AUTH_TOKEN, PUBLIC_URL + path, fields)}
    forwarded = {**headers, "host": "evil.example", "x-forwarded-host": "evil.example", "x-forwarded-proto": "http"}
    assert web.client is not None
    async with web.client.post(URL(web.url + path, encoded=True), data=urlencode(fields), headers=forwarded) as response:
        assert response.status == 204
    assert (await web.hook(status_path(), fields, url=web.url)).status == 403


@pytest.mark.parametrize("prefix_is_kept", [True, False])
async def test_a_public_url_with_a_path_works_behind_proxies_that_keep_it_and_that_take_it_off(*, prefix_is_kept: bool) -> None:
    public_url = "https://example.com/sms"
    async with serving(build(public_url=public_url)) as web:
        signature = sign(AUTH_TOKEN, public_url + status_path(), status_fields())
        path = ("/sms" if prefix_is_kept else "") + status_path()
        headers = {"content-type": FORM_TYPE, "x-twilio-signature": signature}
        assert (await web.post(path, data=urlencode(status_fields()), headers=headers)).status == 204


@pytest.mark.parametrize(
    "path,fields,token,status,result",
    [
        (status_path(), status_fields(), "another token", 403, "bad_signature"),
        (status_path(account="other"), status_fields(), AUTH_TOKEN, 404, "unknown_account"),
        (status_path().replace("twilio", "ringcentral"), status_fields(), AUTH_TOKEN, 404, "unknown_account"),
        ("/webhooks/twilio/main/status/" + "A" * 40, status_fields(), AUTH_TOKEN, 404, "bad_token"),
        (status_path(), status_fields(AccountSid="AC" + "2" * 32), AUTH_TOKEN, 403, "foreign_account"),
        (status_path(), status_fields(MessageSid=""), AUTH_TOKEN, 400, "malformed"),
        (status_path(), status_fields()[:2], AUTH_TOKEN, 400, "malformed"),
        (status_path(), [], AUTH_TOKEN, 400, "malformed"),
    ],
)
async def test_what_is_not_for_us_is_refused(
    web: Web, path: str, fields: list[tuple[str, str]], token: str, status: int, result: str
) -> None:
    answered = await web.hook(path, fields, token=token)
    assert answered.status == status
    assert answered.code == {"unknown_account": "not_found", "bad_token": "not_found"}.get(result, result)
    assert web.counted("webhooks_total", kind="status", result=result) == 1
    assert not web.behind.receipts


async def test_requests_that_are_no_signed_forms_are_refused(web: Web) -> None:
    form = {"content-type": FORM_TYPE}
    path = status_path()
    for answered, status, code in [
        (await web.ask("GET", path), 405, "wrong_method"),
        (await web.ask("PUT", path), 405, "wrong_method"),
        (await web.post(path, json={}), 415, "unsupported_type"),
        (await web.post(path, data=b"a=b", headers={"content-type": FORM_TYPE + "; charset=latin1"}), 415, "unsupported_type"),
        (await web.post(path, data=b"x", headers={**form, "content-encoding": "gzip"}), 415, "unsupported_type"),
        (await web.post(path, data=b"a=\xff", headers=form), 400, "unreadable"),
        (await web.post(path, data=b"a=%FF", headers=form), 400, "unreadable"),
        (await web.post(path, data="&".join("a=b" for _ in range(300)), headers=form), 400, "unreadable"),
        (await web.post(path, data=b"a=b", headers=form), 403, "bad_signature"),
        (await web.post(path, data=b"a=" + b"b" * 70_000, headers=form), 413, "too_large"),
        (await web.post("/webhooks/twilio/main/nonsense", data=b"a=b", headers=form), 404, "not_found"),
        (await web.ask("GET", "/"), 404, "not_found"),
    ]:
        assert (answered.status, answered.code) == (status, code)
    assert (await web.ask("GET", path)).headers["allow"] == "POST"


async def test_a_body_of_unsaid_length_is_cut_off_at_the_limit(web: Web) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"a" * 4096

    with suppress(aiohttp.ClientConnectionError):  # raised when it was still sending as the answer ended the connection
        answered = await web.post(status_path(), data=chunks(), headers={"content-type": FORM_TYPE})
        assert answered.status == 413
    assert web.counted("webhooks_total", kind="status", result="too_large") == 1


async def test_postgresql_away_is_told_as_later(web: Web) -> None:
    web.behind.fault = StoreUnavailable("PostgreSQL is away")
    for answered in (await web.hook(status_path(), status_fields()), await web.hook(INBOUND, inbound_fields())):
        assert (answered.status, answered.code, answered.headers["retry-after"]) == (503, "unavailable", "2")
    web.behind.fault = ValueError(f"a bug that knows {NUMBER}")
    failed = await web.hook(INBOUND, inbound_fields())
    assert (failed.status, failed.code) == (500, "failed")
    assert b"2025550123" not in failed.body
    assert web.room.inside == 0


async def test_a_store_that_hangs_is_told_as_later_in_time() -> None:
    async with serving(build(Limits(seconds=0.05))) as web:
        web.behind.gate = asyncio.Event()
        assert (await web.hook(INBOUND, inbound_fields())).status == 503
        assert web.room.inside == 0
        assert web.behind.missed == ["main"]


@pytest.mark.parametrize(
    "fault", [StoreUnavailable("away"), StoreRefused("refused"), KeyMissing("no key"), OSError("full"), ValueError("a bug")]
)
async def test_a_text_that_is_not_heeded_is_reported_as_missed_whatever_the_reason(web: Web, fault: Exception) -> None:
    web.behind.fault = fault
    assert (await web.hook(INBOUND, inbound_fields(Body="STOP"))).status >= 500
    assert web.behind.missed == ["main"]
    assert (await web.hook(status_path(), status_fields())).status >= 500
    assert (await web.hook(INBOUND, inbound_fields(To="\0"))).status == 400
    assert (await web.hook(INBOUND, inbound_fields(), token="another")).status == 403
    assert web.behind.missed == ["main"]


async def test_a_text_that_finds_no_room_is_reported_as_missed_unread() -> None:
    async with serving(build(most=1)) as web:
        web.behind.gate = asyncio.Event()
        first = asyncio.create_task(web.hook(INBOUND, inbound_fields()))
        await web.behind.arrive(1)
        assert (await web.hook(INBOUND, inbound_fields(Body="STOP"))).code == "overloaded"
        assert web.behind.missed == [None]
        web.behind.gate.set()
        assert (await first).status == 204
        assert web.behind.missed == [None]


async def test_a_body_that_does_not_come_is_not_waited_for_without_end() -> None:
    async with serving(build(Limits(seconds=0.05))) as web:
        port = int(web.url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = f"POST {INBOUND} HTTP/1.1\r\nhost: x\r\ncontent-type: {FORM_TYPE}\r\ncontent-length: 10\r\n\r\nab"
        writer.write(head.encode())
        told = await asyncio.wait_for(reader.read(), 5)
        assert told.startswith(b"HTTP/1.1 408")
        writer.close()
        await writer.wait_closed()
        text, digest = new_token()
        web.behind.tokens[digest] = Grant("crm", None)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = f"POST /v1/opt-outs HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nauthorization: Bearer {text}\r\n"
        writer.write(head.encode() + b"content-length: 10\r\n\r\n{")
        assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 408")
        writer.close()
        await writer.wait_closed()


async def test_too_many_at_once_are_told_so_and_a_stop_still_has_room() -> None:
    async with serving(build(most=8)) as web:
        web.behind.gate = asyncio.Event()
        waiting = [asyncio.create_task(web.hook(status_path(), status_fields())) for _ in range(6)]
        await web.behind.arrive(6)
        refused = await web.hook(status_path(), status_fields())
        assert (refused.status, refused.code) == (503, "overloaded")
        assert "retry-after" in refused.headers
        stop = asyncio.create_task(web.hook(INBOUND, inbound_fields(Body="STOP")))
        await web.behind.arrive(1)
        web.behind.gate.set()
        assert (await stop).status == 204
        assert {answered.status for answered in await asyncio.gather(*waiting)} == {204}
        assert web.room.inside == 0
        assert web.counted("webhooks_total", kind="status", result="overloaded") == 1


# ------------------------------------------------------------------------------------------------- any bytes whatsoever


async def call(app: PublicApp, scope: Mapping[str, Any], parts: Sequence[bytes]) -> tuple[int, dict[bytes, bytes], bytes]:
    """One request, in the process, as uvicorn would pass it on."""
    sent: list[Any] = []
    messages = [{"type": "http.request", "body": part, "more_body": place < len(parts) - 1} for place, part in enumerate(parts)]

    async def receive() -> Any:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    defaults = {"type": "http", "method": "POST", "path": "/", "raw_path": b"/", "query_string": b"", "headers": []}
    await app({**defaults, **scope}, receive, send)
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"]


PATHS = st.sampled_from(
    [status_path(), INBOUND, "/webhooks/twilio/main/status/x", "/webhooks/", "/v1/opt-outs", "/v1/opt-ins"]
) | st.text().map(lambda text: "/" + text)
HEADERS = st.lists(
    st.tuples(
        st.sampled_from([b"content-type", b"content-length", b"x-twilio-signature", b"authorization", b"content-encoding"])
        | st.binary(),
        st.sampled_from([FORM_TYPE.encode(), b"application/json", b"12", b"Bearer smsgw_x"]) | st.binary(),
    ),
    max_size=6,
)


@WEB
@given(st.sampled_from(["POST", "GET", "BREW"]), PATHS, HEADERS, st.lists(st.binary(), min_size=1, max_size=3), st.binary())
def test_every_request_is_answered_and_counted(method: str, path: str, headers: Any, parts: list[bytes], query: bytes) -> None:
    web = build()
    scope = {
        "method": method,
        "path": path,
        "raw_path": path.encode("utf-8", "surrogatepass"),
        "headers": headers,
        "query_string": query,
    }
    status, answered, body = asyncio.run(call(web.app, scope, parts))
    assert 400 <= status < 500
    assert answered[b"content-type"] == b"application/problem+json"
    assert json.loads(body)["status"] == status
    assert web.all_counted() == 1
    assert web.room.inside == 0
    assert not web.behind.receipts + web.behind.texts + web.behind.consents


FIELDS = st.lists(
    st.tuples(
        st.sampled_from(["MessageSid", "MessageStatus", "AccountSid", "From", "To", "Body", "ErrorCode", "OptOutType"])
        | st.text(),
        st.sampled_from([SID, NUMBER, "SM" + "a" * 32, "delivered", "sent", "STOP", ""]) | st.text(),
    ),
    max_size=10,
)


@WEB
@given(st.sampled_from([status_path(), INBOUND]), FIELDS)
def test_every_signed_form_is_taken_or_refused_and_counted(path: str, fields: list[tuple[str, str]]) -> None:
    web = build()
    signature = sign(AUTH_TOKEN, PUBLIC_URL + path, fields)
    headers = [(b"content-type", FORM_TYPE.encode()), (b"x-twilio-signature", signature.encode())]
    scope = {"path": path, "raw_path": path.encode(), "headers": headers}
    status, _, body = asyncio.run(call(web.app, scope, [urlencode(fields).encode()]))
    assert status in {200, 204, 400, 403}
    assert web.all_counted() == 1
    if status >= 400:
        assert json.loads(body)["code"] in {"malformed", "foreign_account"}
        assert not web.behind.receipts + web.behind.texts


@given(st.binary() | st.lists(st.tuples(st.text(), st.text())).map(lambda fields: urlencode(fields).encode()))
def test_forms_are_read_as_the_standard_library_reads_them(body: bytes) -> None:
    try:
        expected = parse_qsl(body.decode("utf-8"), keep_blank_values=True, errors="strict", max_num_fields=200)
    except ValueError:
        assert parse_form(body) is None
    else:
        assert parse_form(body) == expected


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text() | st.sampled_from([NUMBER, "acme", "tenant"]),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["tenant", "number", "scope", "proof", "at"]), inner)
    ),
    max_leaves=8,
)


@WEB
@given(st.sampled_from(["/v1/opt-outs", "/v1/opt-ins"]), JSON)
def test_every_json_is_taken_or_refused_and_never_repeated_back(path: str, value: Any) -> None:
    web = build()
    text, digest = new_token()
    web.behind.tokens[digest] = Grant("crm", None)
    headers = [(b"content-type", b"application/json"), (b"authorization", f"Bearer {text}".encode())]
    status, _, body = asyncio.run(call(web.app, {"path": path, "headers": headers}, [json.dumps(value).encode()]))
    assert status in {200, 400, 422}
    assert NUMBER.encode() not in body
    assert web.all_counted() == 1


# ----------------------------------------------------------------------------------------------------------------- API


@pytest.fixture
def bearer(web: Web) -> Callable[..., dict[str, str]]:
    def make(*tenants: str) -> dict[str, str]:
        text, digest = new_token()
        web.behind.tokens[digest] = Grant("crm", frozenset(tenants) if tenants else None)
        return {"authorization": f"Bearer {text}"}

    return make


Bearer = Callable[..., dict[str, str]]
PROOF = {"medium": "web", "at": "2026-11-20T10:00:00+01:00", "wording": "I agree"}


async def test_an_opt_out_says_whether_it_is_in_force(web: Web, bearer: Bearer) -> None:
    headers = bearer("acme")
    asked = {"tenant": "acme", "number": "+1 (202) 555-0123", "reason": "phone-call"}
    answered = await web.post("/v1/opt-outs", json=asked, headers=headers)
    assert (answered.status, json.loads(answered.body)) == (200, {"in_force": True})
    web.behind.in_force = False
    answered = await web.post(
        "/v1/opt-outs", json={"tenant": "acme", "number": NUMBER, "scope": "programme", "programme": "news"}, headers=headers
    )
    assert (answered.status, json.loads(answered.body)) == (202, {"in_force": False})
    assert answered.headers["cache-control"] == "no-store"
    assert web.behind.consents == [
        ("out", "acme", NUMBER, Scope.TENANT, "", "crm:phone-call"),
        ("out", "acme", NUMBER, Scope.PROGRAMME, "news", "crm"),
    ]
    assert web.counted("api_requests_total", route="/v1/opt-outs", status="202") == 1


async def test_an_opt_in_needs_proof_and_may_be_refused(web: Web, bearer: Bearer) -> None:
    asked = {"tenant": "acme", "number": NUMBER, "scope": "sender", "sender": "+15005550006", "proof": PROOF}
    assert (await web.post("/v1/opt-ins", json=asked, headers=bearer())).status == 200
    kind, tenant, _, scope, name, actor, proof = web.behind.consents[0]
    assert (kind, tenant, scope, name, actor, proof.medium) == ("in", "acme", Scope.SENDER, "+15005550006", "crm", "web")
    assert proof.at.utcoffset().total_seconds() == 3600
    web.behind.granted = False
    refused = await web.post("/v1/opt-ins", json=asked, headers=bearer())
    assert (refused.status, refused.code) == (409, "not_proven")
    del asked["proof"]
    refused = await web.post("/v1/opt-ins", json=asked, headers=bearer())
    assert (refused.status, refused.code) == (422, "wrong_fields")
    assert json.loads(refused.body)["errors"] == [{"pointer": "/proof", "detail": "Field required"}]


async def test_who_bills_closes_an_account_by_a_token_of_its_own(web: Web, bearer: Bearer) -> None:
    text, digest = new_token()
    web.behind.closers[digest] = Grant("billing", frozenset({"acme"}))
    headers = {"authorization": f"Bearer {text}"}
    asked = {"tenant": "acme", "who": "billing", "why": "the contract ended"}
    answered = await web.post("/v1/closings", json=asked, headers=headers)
    assert (answered.status, json.loads(answered.body)) == (200, {"closed_at": "2026-11-30T12:00:00.000+00:00"})
    at = "2026-12-31T23:59:59+01:00"
    assert (await web.post("/v1/closings", json=asked | {"at": at}, headers=headers)).status == 200
    assert web.behind.closings == [
        ("acme", "billing", "the contract ended", "billing", None),
        ("acme", "billing", "the contract ended", "billing", datetime.fromisoformat(at)),
    ]
    assert web.counted("api_requests_total", route="/v1/closings", status="200") == 2

    for sent, pointer in (
        ({"tenant": "acme", "who": "billing"}, "/why"),
        (asked | {"who": " "}, "/who"),
        (asked | {"why": f"of {NUMBER}"}, "/why"),
        (asked | {"why": "x" * 201}, "/why"),
        (asked | {"at": "tomorrow"}, "/at"),
        (asked | {"at": "2026-12-31T23:59:59"}, "/at"),
        (asked | {"account": 1}, "/account"),
    ):
        refused = await web.post("/v1/closings", json=sent, headers=headers)
        assert (refused.status, refused.code) == (422, "wrong_fields")
        assert [one["pointer"] for one in json.loads(refused.body)["errors"]] == [pointer]
        assert NUMBER.encode() not in refused.body
    assert (await web.post("/v1/closings", json=asked | {"tenant": "other"}, headers=headers)).code == "wrong_tenant"
    assert (await web.post("/v1/closings", json=asked, headers=bearer())).code == "wrong_token", "a producer's"
    assert (await web.post("/v1/opt-outs", json={"tenant": "acme", "number": NUMBER}, headers=headers)).code == "wrong_token"
    assert (await web.ask("GET", "/v1/closings", headers=headers)).status == 405
    web.behind.fault = Conflict("the closing of acme is noted already: take it back first")
    refused = await web.post("/v1/closings", json=asked, headers=headers)
    assert (refused.status, refused.code) == (409, "closing_refused")
    web.behind.fault = NotFound("no policy has this tenant")
    refused = await web.post("/v1/closings", json=asked, headers=headers)
    assert json.loads(refused.body)["errors"] == [{"pointer": "/tenant", "detail": "no policy has this tenant"}]
    web.behind.fault = StoreUnavailable("PostgreSQL is away")
    assert (await web.post("/v1/closings", json=asked, headers=headers)).status == 503
    assert len(web.behind.closings) == 2


async def test_a_token_is_for_its_tenants(web: Web, bearer: Bearer) -> None:
    headers = bearer("acme")
    for asked in ({"tenant": "other", "number": NUMBER}, {"scope": "all", "number": NUMBER}):
        refused = await web.post("/v1/opt-outs", json=asked, headers=headers)
        assert (refused.status, refused.code) == (403, "wrong_tenant")
    assert (await web.ask("GET", "/v1/messages/other/1", headers=headers)).status == 403
    assert (await web.post("/v1/opt-outs", json={"scope": "all", "number": NUMBER}, headers=bearer())).status == 200


@pytest.mark.parametrize(
    "sent", [None, "Basic x", "Bearer", "Bearer x", "Bearer smsgw_unknown", "Bearer smsgw_\u00e4", "Bearer smsgw_" + "x" * 999]
)
async def test_without_a_token_that_is_known_nothing_is_done(web: Web, sent: str | None) -> None:
    refused = await web.post(
        "/v1/opt-outs", json={"tenant": "acme", "number": NUMBER}, headers={} if sent is None else {"authorization": sent}
    )
    assert (refused.status, refused.code) == (401, "no_token" if sent is None else "wrong_token")
    assert refused.headers["www-authenticate"].startswith('Bearer realm="sms-gateway"')
    assert web.behind.lookups == (1 if sent == "Bearer smsgw_unknown" else 0)


async def test_a_revoked_token_is_refused_within_five_seconds() -> None:
    behind, now = Behind(), 0.0
    text, digest = new_token()
    header = f"Bearer {text}".encode()
    bearers = Bearers(behind, token_hash, monotonic=lambda: now)
    assert await bearers.grant(header) is None  # not remembered: it may be made a moment later
    behind.tokens[digest] = Grant("crm", None)
    assert await bearers.grant(header) == Grant("crm", None)
    del behind.tokens[digest]
    now = 4.9
    assert await bearers.grant(header) is not None
    now = 5.0
    assert await bearers.grant(header) is None
    assert behind.lookups == 3


async def test_what_bearers_remember_is_bounded() -> None:
    behind = Behind()
    bearers = Bearers(behind, lambda text: text.encode())
    for count in range(3000):
        behind.tokens[f"smsgw_{count}".encode()] = Grant("x", None)
        await bearers.grant(f"Bearer smsgw_{count}".encode())
    assert len(bearers._remembered) <= 1024


@pytest.mark.parametrize(
    "body,status,code",
    [
        (b"", 400, "not_json"),
        (b"\xff", 400, "not_json"),
        (b'{"tenant":"a","tenant":"b"}', 400, "not_json"),
        (b'{"number":NaN}', 400, "not_json"),
        (b'{"number":"\\u0000"}', 400, "not_json"),
        (b'{"number":"\\ud800"}', 400, "not_json"),
        (b"[" * 60_000, 400, "not_json"),
        (b"[]", 422, "wrong_fields"),
        (b"{}", 422, "wrong_fields"),
        (b'{"tenant":"acme","number":"12"}', 422, "wrong_fields"),
        (b'{"tenant":"acme","number":"+12025550123","scope":"sender"}', 422, "wrong_fields"),
        (b'{"tenant":"acme","number":"+12025550123","programme":"news"}', 422, "wrong_fields"),
        (b'{"tenant":"acme","number":"+12025550123","scope":"all"}', 422, "wrong_fields"),
        (b'{"tenant":"acme","number":12025550123}', 422, "wrong_fields"),
        (b'{"tenant":"acme","number":"+12025550123","extra":1}', 422, "wrong_fields"),
        (b" " * 70_000, 413, "too_large"),
    ],
)
async def test_bodies_that_are_not_what_they_should_be_are_refused_by_name(
    web: Web, bearer: Bearer, body: bytes, status: int, code: str
) -> None:
    refused = await web.post("/v1/opt-outs", data=body, headers={**bearer(), "content-type": "application/json"})
    assert (refused.status, refused.code) == (status, code)
    assert b"2025550123" not in refused.body
    assert not web.behind.consents


async def test_other_methods_and_types_are_refused(web: Web, bearer: Bearer) -> None:
    assert (await web.ask("GET", "/v1/opt-outs", headers=bearer())).headers["allow"] == "POST"
    assert (await web.post("/v1/opt-outs", data=b"{}", headers=bearer())).code == "unsupported_type"
    assert (await web.ask("DELETE", "/v1/messages/a/b", headers=bearer())).status == 405
    assert (await web.ask("GET", "/v1/messages/a", headers=bearer())).status == 404


async def test_the_api_says_when_postgresql_is_away(web: Web, bearer: Bearer) -> None:
    web.behind.fault = StoreUnavailable("PostgreSQL is away")
    refused = await web.post("/v1/opt-outs", json={"tenant": "acme", "number": NUMBER}, headers=bearer())
    assert (refused.status, refused.code, refused.headers["retry-after"]) == (503, "unavailable", "2")
    web.behind.fault = RuntimeError(NUMBER)
    refused = await web.post("/v1/opt-outs", json={"tenant": "acme", "number": NUMBER}, headers=bearer())
    assert (refused.status, refused.code) == (500, "failed")


async def test_a_message_has_a_story(web: Web, bearer: Bearer) -> None:
    assert (await web.ask("GET", "/v1/messages/acme/o-1", headers=bearer("acme"))).status == 404
    web.behind.story = {"state": "blocked", "reason": "opted_out", "uid": UID}
    answered = await web.ask("GET", "/v1/messages/acme/order%2F1%3F", headers=bearer("acme"))
    assert answered.status == 200
    assert json.loads(answered.body) == {
        "state": "blocked",
        "reason": "opted_out",
        "uid": str(UID),
        "tenant": "acme",
        "message_id": "order/1?",
    }


async def test_the_api_describes_itself(web: Web) -> None:
    told = json.loads((await web.ask("GET", "/openapi.json")).body)
    assert told == openapi() == json.loads((Path(__file__).parents[2] / "schemas" / "openapi.json").read_text(encoding="utf-8"))
    assert told["openapi"].startswith("3.1")
    references = {part for part in json.dumps(told).split('"') if part.startswith("#/")}
    for reference in references:
        held: Any = told
        for key in reference.removeprefix("#/").split("/"):
            held = held[key]
        assert held


# -------------------------------------------------------------------------------------------------- admin port, server


@asynccontextmanager
async def admin(*checks: Check) -> AsyncIterator[tuple[aiohttp.ClientSession, str]]:
    registry = CollectorRegistry()
    Metrics(registry, version="9")
    server = WebServer(AdminApp(registry, checks), "127.0.0.1", 0)
    await server.start()
    try:
        async with aiohttp.ClientSession() as client:
            yield client, f"http://127.0.0.1:{server.port}"
    finally:
        await server.stop()


async def test_readiness_names_what_is_not_ready() -> None:
    async def ready() -> None:
        return

    async def away() -> None:
        raise StoreUnavailable("PostgreSQL is away")

    async def broken() -> None:
        raise ValueError(NUMBER)

    async def slow() -> None:
        await asyncio.Event().wait()

    checks = [Check("kafka", ready), Check("postgresql", away), Check("policy", broken), Check("relay", slow, seconds=0.05)]
    async with admin(*checks) as (client, url):
        async with client.get(url + "/readyz") as response:
            assert response.status == 503
            assert await response.json() == {
                "ready": False,
                "checks": {
                    "kafka": "ready",
                    "postgresql": "PostgreSQL is away",
                    "policy": "ValueError",
                    "relay": "did not answer within 0.05 s",
                },
            }
        async with client.get(url + "/healthz") as response:
            assert response.status == 200
    async with admin(checks[0]) as (client, url), client.get(url + "/readyz") as response:
        assert (response.status, (await response.json())["ready"]) == (200, True)


async def test_metrics_are_told_in_the_format_asked_for() -> None:
    async with admin() as (client, url):
        async with client.get(url + "/metrics") as response:
            assert response.headers["content-type"].startswith("text/plain")
            assert "sms_gateway_sends_after_stop_total 0.0" in await response.text()
        async with client.get(url + "/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"}) as response:
            assert response.headers["content-type"].startswith("application/openmetrics-text")
            assert (await response.text()).endswith("# EOF\n")
        async with client.get(url + "/other") as response:
            assert response.status == 404
        async with client.post(url + "/metrics") as response:
            assert response.status == 405
        async with client.head(url + "/healthz") as response:
            assert response.status == 200


async def test_a_stop_waits_for_requests_under_way_and_leaves_signals_alone() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    web = build()
    web.behind.gate = asyncio.Event()
    server = WebServer(web.app, "127.0.0.1", 0, drain_seconds=5)
    await server.start()
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    web.url = f"http://127.0.0.1:{server.port}"
    async with aiohttp.ClientSession() as web.client:
        asked = asyncio.create_task(web.hook(status_path(), status_fields()))
        await web.behind.arrive(1)
        stopping = asyncio.create_task(server.stop())
        await asyncio.sleep(0)
        web.behind.gate.set()
        assert (await asked).status == 204
        await stopping
        with pytest.raises(aiohttp.ClientConnectionError):
            await web.hook(status_path(), status_fields())
    await server.stop()


async def test_a_stop_cuts_off_what_does_not_end() -> None:
    web = build()
    web.behind.gate = asyncio.Event()
    server = WebServer(web.app, "127.0.0.1", 0, drain_seconds=0.1)
    await server.start()
    web.url = f"http://127.0.0.1:{server.port}"
    async with aiohttp.ClientSession() as web.client:
        asked = asyncio.create_task(web.hook(status_path(), status_fields()))
        await web.behind.arrive(1)
        async with asyncio.timeout(5):
            await server.stop()
        with suppress(aiohttp.ClientConnectionError):
            assert (await asked).status >= 500
        assert web.room.inside == 0


async def test_an_address_that_is_taken_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(GatewayError, match=f"can't listen on 127.0.0.1:{port}: Address already in use"):
            await WebServer(build().app, "127.0.0.1", port).start()
    with pytest.raises(GatewayError, match=r"can't listen on no\.such\.host\.invalid"):
        await WebServer(build().app, "no.such.host.invalid", 0).start()


async def test_several_servers_share_a_port() -> None:
    first = WebServer(build().app, "127.0.0.1", 0, reuse_port=True)
    await first.start()
    second = WebServer(build().app, "127.0.0.1", first.port, reuse_port=True)
    await second.start()
    assert second.port == first.port
    await asyncio.gather(first.stop(), second.stop())


async def test_a_head_without_end_is_cut_off(web: Web) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(web.url.rpartition(":")[2]))
    writer.write(b"POST / HTTP/1.1\r\nhost: x\r\n")

    async def send_on() -> None:
        while True:
            writer.write(b"x-more: " + b"y" * 2000 + b"\r\n")
            await writer.drain()
            await asyncio.sleep(0)

    sending = asyncio.create_task(send_on())
    with suppress(ConnectionError):
        assert await asyncio.wait_for(reader.read(), 5) == b""
    with pytest.raises(ConnectionError):
        await asyncio.wait_for(sending, 5)
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
    assert web.all_counted() == 0


async def test_a_request_after_a_refused_one_on_the_same_connection_is_read_right(web: Web) -> None:
    for _ in range(3):
        assert (await web.hook(status_path(), status_fields(), token="wrong")).status == 403
        assert (await web.hook(status_path(), status_fields())).status == 204


class Subscribed:
    """A provider whose webhooks report by a subscription, and shake hands first."""

    name = "twilio"

    def __init__(self, behind: Behind) -> None:
        self.behind = behind

    async def hear(self, request: WebhookRequest) -> Reports | Handshake:
        assert request.tail == ("events",)
        if token := request.headers.get("validation-token"):
            return Handshake({"validation-token": token})
        if self.behind.fault is not None:
            raise self.behind.fault
        text = InboundText("main", "1", PhoneNumber(NUMBER), "+12125550120", None, MessageBody("STOP"), None, None)
        news = OptOutNews("main", PhoneNumber(NUMBER), "+12125550120", opted_out=True, at=None)
        return Reports(statuses=[StatusNews("main", "1", PhoneNumber(NUMBER), "sent", None)] * 2, texts=[text], opt_outs=[news])


async def test_a_subscription_shakes_hands_and_reports_texts_before_all_else() -> None:
    async with serving(build(provider=Subscribed)) as web:
        path = "/webhooks/twilio/main/events"
        answered = await web.post(path, data=b"", headers={"validation-token": "shaken"})
        assert (answered.status, answered.headers["validation-token"]) == (200, "shaken")
        assert (await web.post(path, data=b"{}")).status == 200  # 204 would not do for RingCentral
        assert (len(web.behind.texts), len(web.behind.opt_outs), len(web.behind.news)) == (1, 1, 2)
        assert web.counted("webhooks_total", kind="events", result="stop") == 1
        assert web.behind.missed == []
        web.behind.fault = ProviderUnavailable("away")
        assert (await web.post(path, data=b"{}")).status == 503
        assert web.behind.missed == ["main"]  # a text may be waiting there
