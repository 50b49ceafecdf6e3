"""What is RingCentral's own; what it has in common with others is in conformance/."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any, Self

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.errors import BadWebhook, ProviderUnavailable, WebhookRefused
from gateway.domain.outcome import Accepted, Later, OptedOut, Outcome, Refused, Unknown
from gateway.domain.personal import PhoneNumber
from gateway.domain.reasons import Reason
from gateway.domain.reports import OptOutNews, StatusNews, Text
from gateway.domain.webhooks import Handshake, Reports, WebhookRequest
from gateway.flow.provider import OptOutWord
from gateway.providers.http import Answer
from gateway.providers.ringcentral.api import _refusal as refusal_of
from gateway.providers.ringcentral.consents import failed_pairs, news_of_consents
from gateway.providers.ringcentral.errors import error_table, outcome_of_refusal
from gateway.providers.ringcentral.provider import RingCentral, RingCentralAccount
from gateway.providers.ringcentral.rates import RateGroup, RateHeld
from gateway.providers.ringcentral.records import BadRecord, a2p_record, store_record
from gateway.providers.ringcentral.sending import batch_outcomes
from gateway.providers.ringcentral.token import _why as grant_refused
from gateway.providers.ringcentral.webhooks import event_of
from tests.contract.conformance.ringcentral_subject import (
    CLIENT_SECRET,
    JWT,
    VERIFICATION,
    RingCentralBatches,
    RingCentralSingles,
)
from tests.contract.conformance.subject import NOON, NUMBER, WORDS, Books, Came, Reply, Sent, Word, text
from tests.contract.wire import Connection, Received, Wire, wire
from tests.support import until

SENDER = RingCentralSingles.sender
ANOTHER = "+13105550194"
WEBHOOKS = "https://gateway.example.com/webhooks/ringcentral/main"
TOKEN_PATH = "/restapi/oauth/token"
SUBSCRIPTION = "/restapi/v1.0/subscription"

Answering = Callable[[Received], Reply]


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


class World:
    """A RingCentral that a test speaks with, over a server that answers by functions."""

    def __init__(self, *, high_volume: bool = False, books: Books | None = None, **changed: Any) -> None:
        self.subject = RingCentralBatches() if high_volume else RingCentralSingles()
        self.books = books or Books()
        self.clock = Clock()
        self.now = NOON
        self.grant: Answering = self._grant
        self.api: Answering = self._api
        self.granted = 0
        self._changed = {"high_volume": high_volume, **changed}

    def _grant(self, request: Received) -> Reply:
        self.granted += 1
        return 200, {"access_token": f"access-{self.granted}", "expires_in": 3600, "token_type": "bearer"}

    def _api(self, request: Received) -> Reply:
        known = self.subject
        return known.accepts(request) if known.is_create(request) else known.answer(request, self.books)

    async def _serve(self, connection: Connection) -> None:
        while True:
            request = await connection.read()
            status, said, *headers = (self.grant if request.target == TOKEN_PATH else self.api)(request)
            await connection.answer(status, said if isinstance(said, bytes) else json.dumps(said).encode(), *headers)

    async def __aenter__(self) -> Self:
        self._context = wire(self._serve)
        self.server: Wire = await self._context.__aenter__()
        account = RingCentralAccount(
            "main", "client", CLIENT_SECRET, JWT, VERIFICATION, api_base=self.server.url, time_limit_seconds=5.0, gather_seconds=0
        )
        self.provider = RingCentral(replace(account, **self._changed), clock=self.clock, now=lambda: self.now)
        return self

    async def __aexit__(self, *fault: object) -> None:
        await self.provider.close()
        await self._context.__aexit__(None, None, None)

    async def send(self, *texts: Text) -> Outcome:
        outcomes = await self.provider.send(texts or [text(sender=SENDER)])
        return outcomes[0]

    def asked(self, method: str, path: str) -> list[Received]:
        return [one for one in self.server.requests if one.method == method and one.target.partition("?")[0] == path]

    @property
    def creates(self) -> list[Received]:
        return [one for one in self.server.requests if self.subject.is_create(one)]

    @property
    def grants(self) -> list[Received]:
        return self.asked("POST", TOKEN_PATH)


def refusal(code: str) -> dict[str, object]:
    return {"errorCode": code, "message": NUMBER, "errors": [{"errorCode": code, "message": NUMBER}]}


# ---------------------------------------------------------------------------------------------------------------- the token


async def test_a_grant_is_asked_for_as_ringcentral_wants_it() -> None:
    async with World() as world:
        await world.send()
    (grant,) = world.grants
    assert grant.form == {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": JWT}
    assert grant.header("authorization") == ["Basic " + base64.b64encode(f"client:{CLIENT_SECRET}".encode()).decode()]
    assert world.creates[0].header("authorization") == ["Bearer access-1"]


async def test_one_token_serves_all_who_wait_for_it() -> None:
    async with World() as world:
        outcomes = await asyncio.gather(*(world.send() for _ in range(20)))
    assert all(isinstance(outcome, Accepted) for outcome in outcomes)
    assert len(world.grants) == 1


async def test_a_token_is_renewed_before_it_ends_and_nobody_waits_for_that() -> None:
    async with World() as world:
        await world.send()
        world.clock.seconds += 3600 * 0.9
        await world.send()
        tokens = world.provider._api._tokens
        await until(lambda: tokens._token is not None and tokens._token.secret == "access-2")
        await world.send()
    assert [one.header("authorization")[0][-1] for one in world.creates] == ["1", "1", "2"]
    assert len(world.grants) == 2


async def test_a_token_near_its_end_is_waited_out() -> None:
    async with World() as world:
        await world.send()
        world.clock.seconds += 3595
        assert isinstance(await world.send(), Accepted)
    assert [one.header("authorization") for one in world.creates] == [["Bearer access-1"], ["Bearer access-2"]]


@pytest.mark.parametrize("code", ["OAU-128", "OAU-129", "OAU-149", "OAU-213"])
async def test_a_token_that_is_over_is_changed_and_the_same_request_made_once_more(code: str) -> None:
    async with World() as world:

        def api(request: Received) -> Reply:
            known = request.header("authorization") == ["Bearer access-2"]
            return world._api(request) if known else (401, refusal(code))

        world.api = api
        assert isinstance(await world.send(), Accepted)
    assert len(world.creates) == 2
    assert world.creates[0].body == world.creates[1].body


async def test_many_who_meet_the_end_of_a_token_ask_for_one_other() -> None:
    async with World() as world:
        world.api = lambda request: (
            world._api(request) if request.header("authorization") != ["Bearer access-1"] else (401, refusal("OAU-128"))
        )
        outcomes = await asyncio.gather(*(world.send() for _ in range(10)))
    assert all(isinstance(outcome, Accepted) for outcome in outcomes)
    assert len(world.grants) == 2


async def test_who_comes_late_with_an_older_token_does_not_end_the_new_one() -> None:
    async with World() as world:
        await world.send()
        world.provider._api._tokens.drop("access-0")
        await world.send()
    assert len(world.grants) == 1


@pytest.mark.parametrize("said", [refusal("OAU-146"), refusal("OAU-121"), b"<html>", {}])
async def test_any_other_401_is_for_an_operator_and_nothing_is_made_twice(said: object) -> None:
    async with World() as world:
        world.api = lambda _: (401, said)
        outcome = await world.send()
    assert isinstance(outcome, Later)
    assert (outcome.reason, outcome.holds, outcome.operator) == (Reason.CONFIGURATION, "account", True)
    assert len(world.creates) == 1


async def test_no_more_than_five_grants_are_asked_for_in_a_minute() -> None:
    async with World() as world:
        world.api = lambda _: (401, refusal("OAU-129"))
        assert await world.send() == Later(Reason.CONFIGURATION, "OAU-129", holds="account", operator=True)
        assert len(world.creates) == 2  # once more with another token, and no third time
        for _ in range(10):
            assert isinstance(await world.send(), Later)
        assert len(world.grants) == 5
        world.clock.seconds += 61
        await world.send()
    assert 6 <= len(world.grants) <= 7


@pytest.mark.parametrize(
    "reply,code",
    [
        ((400, {"error": "invalid_grant", "errors": []}), "invalid_grant"),
        ((401, refusal("OAU-146")), "OAU-146"),
        ((400, {"error": NUMBER}), "http_400"),
    ],
)
async def test_credentials_that_are_refused_are_for_an_operator_and_not_tried_at_once(reply: Reply, code: str) -> None:
    async with World() as world:
        world.grant = lambda _: reply
        for _ in range(3):
            assert await world.send() == Later(Reason.CONFIGURATION, code, wait=60.0, holds="account", operator=True)
        assert len(world.grants) == 1
        with pytest.raises(ProviderUnavailable, match=f"account main: no access token: {code}"):
            await world.provider.check()
        world.clock.seconds += 61
        world.grant = world._grant
        assert isinstance(await world.send(), Accepted)
    assert world.creates != []


@pytest.mark.parametrize(
    "reply,wait",
    [
        ((429, refusal("CMN-301"), "Retry-After: 44\r\n"), 44.0),
        ((429, b""), 30.0),
        ((503, b"", "Retry-After: 7\r\n"), 7.0),
        ((503, b""), 15.0),
        ((500, b""), 15.0),
        ((200, b"{"), 15.0),
        ((200, {"access_token": "x y", "expires_in": 3600}), 15.0),
        ((200, {"access_token": "x", "expires_in": True}), 15.0),
        ((200, {"access_token": "x", "expires_in": 5}), 15.0),
        ((200, {"access_token": 7, "expires_in": 3600}), 15.0),
    ],
    ids=str,
)
async def test_without_a_token_nothing_is_sent_and_it_is_asked_for_again_in_time(reply: Reply, wait: float) -> None:
    async with World() as world:
        world.grant = lambda _: reply
        for _ in range(2):
            assert await world.send() == Later(Reason.UNREACHABLE, "no_token", wait=wait, holds="account")
        assert (len(world.grants), world.creates) == (1, [])
        world.clock.seconds += wait + 0.1
        world.grant = world._grant
        assert isinstance(await world.send(), Accepted)


async def test_a_token_that_does_not_come_leaves_the_time_limit_whole() -> None:
    async def hangs(connection: Connection) -> None:
        await connection.read()
        await connection.hang()

    async with wire(hangs) as server:
        account = RingCentralAccount("main", "client", CLIENT_SECRET, JWT, VERIFICATION, api_base=server.url)
        provider = RingCentral(replace(account, time_limit_seconds=0.6))
        began = monotonic()
        assert list(await provider.send([text(sender=SENDER)])) == [Later(Reason.UNREACHABLE, "no_token", holds="account")]
        assert monotonic() - began < 0.6 + 1.0
        await provider.close()
    assert [one.target for one in server.requests] == [TOKEN_PATH]


async def test_what_the_token_took_is_missing_from_the_requests_time() -> None:
    """A message's lease is no longer than one time limit, so the token and the request have that together."""

    async def slow(connection: Connection) -> None:
        await connection.read()
        await asyncio.sleep(1.3)
        await connection.answer(200, json.dumps({"access_token": "access-1", "expires_in": 3600}).encode())
        await connection.read()
        await connection.hang()

    async with wire(slow) as server:
        account = RingCentralAccount("main", "client", CLIENT_SECRET, JWT, VERIFICATION, api_base=server.url)
        provider = RingCentral(replace(account, time_limit_seconds=3.0))
        began = monotonic()
        assert list(await provider.send([text(sender=SENDER)])) == [Unknown("timeout")]
        assert monotonic() - began < 3.0 + 1.0
        await provider.close()


# --------------------------------------------------------------------------------------------------------------- the rates


@pytest.mark.parametrize("said,wait", [("Retry-After: 50\r\n", 50.0), ("", 30.0)])
async def test_after_too_many_calls_none_is_made_until_the_penalty_is_over(said: str, wait: float) -> None:
    async with World() as world:
        world.api = lambda _: (429, refusal("CMN-301"), said)
        assert await world.send() == Later(Reason.RATE_LIMITED, "CMN-301", wait=wait, holds="account")
        for passed in (1.0, wait - 1.5):
            world.clock.seconds += passed
            held = await world.send()
            assert isinstance(held, Later)
            assert (held.reason, held.code, held.holds) == (Reason.RATE_LIMITED, "rate_group", "account")
            assert held.wait == pytest.approx(1000.0 + wait - world.clock.seconds)
        assert len(world.creates) == 1
        world.api = world._api
        assert await world.provider.list_sent(PhoneNumber(NUMBER), SENDER, NOON) == []  # another group goes on
        world.clock.seconds += 0.6
        assert isinstance(await world.send(), Accepted)


@pytest.mark.parametrize("processes", [1, 2, 3, 8])
@pytest.mark.parametrize("told", [True, False])
def test_processes_that_know_nothing_of_each_other_get_out_of_a_penalty_that_each_call_renews(processes: int, told: bool) -> None:
    """Each comes to its end of the silence while the call of another has begun the penalty anew."""
    clock = Clock()
    clock.seconds = 0.0
    groups = [RateGroup(50, clock) for _ in range(processes)]
    too_many = Answer(429, {"retry-after": "60"} if told else {}, b"")
    penalty_until = 60.0
    groups[0].heed(too_many)
    while clock.seconds < 900:
        for place, group in enumerate(groups):
            if clock.seconds < place * 60 / processes:
                continue
            with suppress(RateHeld):
                group.begin()
                if clock.seconds >= penalty_until:
                    assert group.heed(Answer(200, {}, b"")) is None
                    return
                penalty_until = clock.seconds + 60
                group.heed(too_many)
        clock.seconds += 1
    pytest.fail("the penalty never ended")


def test_waits_grow_with_one_refusal_after_another_and_not_with_those_that_come_together() -> None:
    clock = Clock()
    group = RateGroup(50, clock)
    too_many = Answer(429, {"retry-after": "60"}, b"")
    assert [group.heed(too_many) for _ in range(3)] == [60, 60, 60]
    waits = []
    for _ in range(6):
        clock.seconds += 1000
        waits.append(group.heed(too_many))
    assert waits == [120, 240, 480, 960, 960, 960]
    clock.seconds += 1000
    group.heed(Answer(200, {}, b""))
    assert group.heed(too_many) == 60


async def test_what_would_be_too_many_is_not_asked_and_a_persons_text_still_is() -> None:
    async with World(high_volume=True, books=Books(sent=[Sent(1)])) as world:
        outcomes = [await world.send() for _ in range(45)]
        assert [type(outcome) for outcome in outcomes] == [Accepted] * 40 + [Later] * 5
        assert len(world.creates) == 40
        assert await world.provider.inbound_created_at("a2p-in:7") is None
        world.clock.seconds += 61
        assert isinstance(await world.send(), Accepted)


async def test_headers_correct_the_limit_and_show_what_others_use() -> None:
    headers = (
        "X-Rate-Limit-Group: medium\r\nX-Rate-Limit-Limit: 1000\r\nX-Rate-Limit-Window: 60\r\nX-Rate-Limit-Remaining: {}\r\n"
    )
    left = 999

    async with World() as world:
        world.api = lambda request: (*world._api(request)[:2], headers.format(left))
        for _ in range(60):
            assert isinstance(await world.send(), Accepted)
        left = 0
        assert isinstance(await world.send(), Accepted)
        assert await world.send() == Later(Reason.RATE_LIMITED, "rate_group", wait=60.0, holds="account")
        assert len(world.creates) == 61


# ---------------------------------------------------------------------------------------------------------------- requests


async def test_a_single_text_goes_out_as_ringcentral_wants_it() -> None:
    async with World() as world:
        assert await world.send() == Accepted("sms:1")
    (create,) = world.creates
    assert create.target == "/restapi/v1.0/account/~/extension/~/sms"
    assert json.loads(create.body) == {"from": {"phoneNumber": SENDER}, "to": [{"phoneNumber": NUMBER}], "text": WORDS}


async def test_a_batch_goes_out_as_ringcentral_wants_it() -> None:
    async with World(high_volume=True) as world:
        one, other = text(1, sender=SENDER), text(2, ANOTHER, "other", SENDER)
        assert list(await world.provider.send([one, other])) == [Accepted("a2p:batch-1")] * 2
    (create,) = world.creates
    assert create.target == "/restapi/v1.0/account/~/a2p-sms/batches"
    assert json.loads(create.body) == {
        "from": SENDER,
        "messages": [{"to": [NUMBER], "text": WORDS}, {"to": [ANOTHER], "text": "other"}],
    }


@pytest.mark.parametrize("body,fits", [("x" * 1000, True), ("x" * 1001, False), ("😀" * 500, True), ("😀" * 501, False)])
async def test_a_text_has_at_most_a_thousand_utf_16_units(body: str, fits: bool) -> None:
    async with World() as world:
        outcome = await world.send(text(body=body, sender=SENDER))
        assert outcome == (Accepted("sms:1") if fits else Refused(Reason.REFUSED, "too_long"))
        assert len(world.creates) == fits


async def test_an_opt_out_that_the_answer_itself_tells_is_one() -> None:
    failed = {"id": 7, "messageStatus": "SendingFailed", "deliveryErrorCode": "SMS-RC-413"}
    async with World() as world:
        world.api = lambda _: (200, failed)
        assert await world.send() == OptedOut("SMS-RC-413")
        world.api = lambda _: (200, failed | {"deliveryErrorCode": "SMS-RC-430"})
        assert await world.send() == Accepted("sms:7")  # it has the text, and will tell what became of it


@pytest.mark.parametrize("code", [NUMBER, f"SMS-RC-410 {NUMBER}", "SMS-RC-410\n", "", "x" * 50])
async def test_what_stands_in_a_codes_place_and_is_none_goes_nowhere(code: str) -> None:
    async with World() as world:
        world.api = lambda _: (400, refusal(code))
        assert await world.send() == Refused(Reason.REFUSED, "http_400")
    said = {"id": "b", "rejected": [{"index": 1, "errorCode": code}]}
    assert batch_outcomes(said, [text(sender=SENDER)]) == [Refused(Reason.REFUSED, "rejected")]


@pytest.mark.parametrize("code", [row.code for row in error_table()])
def test_a_rejection_means_the_same_as_a_refusal(code: str) -> None:
    said = {"id": "b", "rejected": [{"index": 1, "errorCode": code}]}
    assert batch_outcomes(said, [text(sender=SENDER)]) == [outcome_of_refusal(400, code, None)]


# What the table must never lose, whatever becomes of it: written out by hand.
@pytest.mark.parametrize(
    "code,outcome",
    [
        *[(code, OptedOut(code)) for code in ("SMS-RC-413", "SMS-UP-413", "SMS-CAR-413")],
        *[(code, Refused(Reason.NOT_TEXTABLE, code)) for code in ("MSG-243", "SMS-RC-410", "SMS-UP-410", "SMS-CAR-411")],
        ("MSG-240", Refused(Reason.REGION_NOT_ENABLED, "MSG-240")),
        ("MSG-242", Later(Reason.CONFIGURATION, "MSG-242", holds="sender", operator=True)),
        ("CMN-401", Later(Reason.CONFIGURATION, "CMN-401", holds="account", operator=True)),
        ("SMS-RC-403", Later(Reason.QUEUE_FULL, "SMS-RC-403", holds="account")),
        *[(code, Refused(Reason.FILTERED, code)) for code in ("SMS-RC-430", "SMS-UP-430", "SMS-CAR-430")],
    ],
)
def test_the_codes_that_matter(code: str, outcome: Outcome) -> None:
    assert outcome_of_refusal(403, code, None) == outcome


@given(st.integers(100, 999), st.none() | st.sampled_from([row.code for row in error_table()]))
def test_only_a_4xx_is_ever_proof_that_nothing_was_sent(status: int, code: str | None) -> None:
    outcome = outcome_of_refusal(status, code, None)
    assert isinstance(outcome, Unknown) == (not 400 <= status <= 499 or status in {408, 409})
    assert not isinstance(outcome, Accepted)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=8)
    | st.sampled_from([NUMBER, "batch-1", "Inbound", "SMS-RC-410"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "id",
                    "rejected",
                    "index",
                    "to",
                    "from",
                    "errorCode",
                    "event",
                    "body",
                    "records",
                    "direction",
                    "batchId",
                    "creationTime",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(json_values)
def test_a_batchs_answer_says_something_of_each_or_nothing_of_any(said: object) -> None:
    texts = [text(1, sender=SENDER), text(2, ANOTHER, sender=SENDER)]
    outcomes = batch_outcomes(said, texts)
    assert len(outcomes) == 2
    assert len({isinstance(outcome, Unknown) for outcome in outcomes}) == 1


@given(json_values)
def test_a_record_is_read_or_is_bad(said: object) -> None:
    for read in (store_record, a2p_record):
        with suppress(BadRecord):
            read(said)


@given(json_values)
def test_what_is_told_of_consents_is_read_or_is_bad(said: object) -> None:
    with suppress(BadRecord):
        failed_pairs({"failedRecords": [{"from": SENDER, "to": NUMBER, "error": {"errorCode": said}}, said]})
    assert (
        len(news_of_consents("main", [said] if isinstance(said, dict) else [{"from": said, "to": said, "optStatus": said}])) <= 1
    )


@given(json_values, st.integers(300, 599))
def test_a_refusal_is_one_whatever_it_says(said: object, status: int) -> None:
    answer = Answer(status, {}, json.dumps(said).encode())
    assert refusal_of(answer, said, None).status == status
    assert grant_refused(answer, said)


EVENTS = st.sampled_from(
    [
        "/restapi/v1.0/account/1/a2p-sms/messages?direction=Inbound",
        "/restapi/v1.0/account/1/extension/2/message-store/instant?type=SMS",
        "/restapi/v1.0/account/1/extension/2/message-store",
        "/restapi/v2/accounts/1/sms/consents",
        "/restapi/v1.0/account/1/extension/2/presence",
    ]
)


@given(st.fixed_dictionaries({"event": EVENTS, "body": json_values}) | json_values)
def test_an_event_is_read_or_is_bad(said: object) -> None:
    with suppress(BadWebhook):
        event_of(json.dumps(said).encode())


# ------------------------------------------------------------------------------------------------------------- the webhooks


def event(path: str, body: Mapping[str, object]) -> WebhookRequest:
    said = {"uuid": "1", "event": path, "body": body}
    return WebhookRequest(f"{WEBHOOKS}/events", ("events",), {"verification-token": VERIFICATION}, json.dumps(said).encode())


async def test_a_handshake_is_answered_and_asks_for_nothing() -> None:
    async with World() as world:
        request = WebhookRequest(f"{WEBHOOKS}/events", ("events",), {"validation-token": "3f0e-a1"}, b"")
        assert await world.provider.hear(request) == Handshake(
            {"validation-token": "3f0e-a1", "content-type": "application/json"}
        )
        for token in ("", "a b", "é", "x" * 513, "a\r\nset-cookie: b"):
            with pytest.raises(WebhookRefused):
                await world.provider.hear(replace(request, headers={"validation-token": token}))
        with pytest.raises(WebhookRefused):  # an event that passes itself off as a handshake
            await world.provider.hear(replace(request, body=b'{"event": "x"}'))
        assert world.server.requests == []


async def test_an_event_of_another_kind_is_taken_and_nothing_is_done() -> None:
    async with World() as world:
        assert await world.provider.hear(event("/restapi/v1.0/account/1/extension/2/presence", {})) == Reports()
        assert world.server.requests == []


async def test_a_text_from_nobody_who_could_opt_out_is_taken_and_left() -> None:
    record = {"id": 7, "direction": "Inbound", "from": {"phoneNumber": "40404"}, "to": [{"phoneNumber": SENDER}], "subject": "x"}
    async with World() as world:
        world.api = lambda _: (200, record)
        said = event("/restapi/v1.0/account/1/extension/2/message-store/instant?type=SMS", {"id": "7"})
        assert await world.provider.hear(said) == Reports(texts=[])


async def test_what_an_inbound_event_says_of_itself_is_not_believed() -> None:
    """The id is of a text of ours, and the rest is made up."""
    async with World(high_volume=True) as world:
        world.api = lambda _: (200, world.subject._message(Sent(7)))
        made_up = {"id": "7", "direction": "Inbound", "from": NUMBER, "to": [SENDER], "text": "STOP"}
        said = event("/restapi/v1.0/account/1/a2p-sms/messages?direction=Inbound", made_up)
        assert await world.provider.hear(said) == Reports(texts=[])


@pytest.mark.parametrize("name", ["", "0", "*", "../7", "7/8", "7?x", "\u0667", -7, 0, True, None, [7]], ids=repr)
async def test_an_event_whose_id_is_none_is_bad_and_nothing_is_asked(name: object) -> None:
    async with World() as world:
        for path in ("a2p-sms/messages?direction=Outbound", "extension/2/message-store/instant?type=SMS"):
            with pytest.raises(BadWebhook):
                await world.provider.hear(event(f"/restapi/v1.0/account/1/{path}", {"id": name}))
        assert world.server.requests == []


async def test_events_of_one_batch_are_answered_by_one_question() -> None:
    books = Books(sent=[Sent(1, state="delivered"), Sent(2, to=ANOTHER, state="undelivered", code="SMS-CAR-430")])
    said = event("/restapi/v1.0/account/1/a2p-sms/messages?direction=Outbound", {"id": 1, "batchId": "batch-1"})
    async with World(high_volume=True, books=books, gather_seconds=0.1) as world:
        reports = await asyncio.gather(*(world.provider.hear(said) for _ in range(8)))
        assert len(world.asked("GET", "/restapi/v1.0/account/~/a2p-sms/messages")) == 1
    told = [news for one in reports if isinstance(one, Reports) for news in one.statuses]
    assert told == [
        StatusNews("main", "a2p:batch-1", PhoneNumber(NUMBER), "delivered", None),
        StatusNews("main", "a2p:batch-1", PhoneNumber(ANOTHER), "undelivered", "SMS-CAR-430", filtered=True),
    ]


async def test_news_that_cannot_be_asked_for_now_comes_with_the_next() -> None:
    books = Books(sent=[Sent(1, state="delivered", batch=1), Sent(2, state="delivered", batch=2)])
    said = [
        event("/restapi/v1.0/account/1/a2p-sms/messages?direction=Outbound", {"id": number, "batchId": f"batch-{number}"})
        for number in (1, 2)
    ]
    async with World(high_volume=True, books=books) as world:
        world.api = lambda _: (429, refusal("CMN-301"))
        assert await world.provider.hear(said[0]) == Reports()
        assert await world.provider.hear(said[0]) == Reports()
        assert len(world.asked("GET", "/restapi/v1.0/account/~/a2p-sms/messages")) == 1
        world.clock.seconds += 31
        world.api = world._api
        heard = await world.provider.hear(said[1])
        assert isinstance(heard, Reports)
        assert [news.provider_message_id for news in heard.statuses] == ["a2p:batch-2", "a2p:batch-1"]
        again = await world.provider.hear(said[1])
        assert isinstance(again, Reports)
        assert len(again.statuses) == 1  # nothing is owed any more


@pytest.mark.parametrize("high_volume", [True, False])
async def test_a_record_that_cannot_be_read_keeps_back_no_news_of_the_others(*, high_volume: bool) -> None:
    books = Books(sent=[Sent(1, state="undelivered", code="SMS-CAR-413")])
    said = (
        event("/restapi/v1.0/account/1/a2p-sms/messages?direction=Outbound", {"id": 1, "batchId": "batch-1"})
        if high_volume
        else event("/restapi/v1.0/account/1/extension/2/message-store?type=SMS&direction=Outbound", {})
    )
    async with World(high_volume=high_volume, books=books) as world:

        def with_a_bad_one(request: Received) -> Reply:
            page: Any = world._api(request)[1]
            return 200, {**page, "records": [{"id": "x", "to": NUMBER}, 7, *page["records"]]}

        world.api = with_a_bad_one
        heard = await world.provider.hear(said)
        with pytest.raises(ProviderUnavailable):  # as evidence it would have a gap
            await world.provider.list_sent(PhoneNumber(NUMBER), SENDER, NOON)
    assert isinstance(heard, Reports)
    assert [(news.state, news.code) for news in heard.statuses] == [("undelivered", "SMS-CAR-413")]
    assert [news.to for news in heard.opt_outs] == [PhoneNumber(NUMBER)]


async def test_news_of_which_nothing_can_be_read_stands_before_no_other() -> None:
    books = Books(sent=[Sent(1, state="delivered", batch=1), Sent(2, state="delivered", batch=2)])

    def of(number: int) -> WebhookRequest:
        told = {"id": number, "batchId": f"batch-{number}"} if number < 9 else {"id": number}
        return event("/restapi/v1.0/account/1/a2p-sms/messages?direction=Outbound", told)

    async with World(high_volume=True, books=books) as world:
        world.api = lambda _: (200, {"id": "x"})  # neither a list nor a record
        for number in (3, 4, 5, 6, 7, 9):
            assert await world.provider.hear(of(number)) == Reports()
        world.api = lambda _: (429, refusal("CMN-301"))
        assert await world.provider.hear(of(1)) == Reports()
        world.clock.seconds += 31
        readable = ("batch-1", "batch-2")
        world.api = lambda request: world._api(request) if any(one in request.target for one in readable) else (200, {"id": "x"})
        told = set()
        for _ in range(2):  # five questions for an event
            heard = await world.provider.hear(of(2))
            assert isinstance(heard, Reports)
            told |= {news.provider_message_id for news in heard.statuses}
        assert told == {"a2p:batch-1", "a2p:batch-2"}
        assert len(world.asked("GET", "/restapi/v1.0/account/~/a2p-sms/messages/9")) == 1


async def test_news_of_what_is_not_there_is_not_asked_for_for_ever() -> None:
    async with World(high_volume=True, books=Books(sent=[Sent(1)])) as world:
        said = event("/restapi/v1.0/account/1/a2p-sms/messages?direction=Outbound", {"id": 404})
        for _ in range(3):
            assert await world.provider.hear(said) == Reports()
        other = event("/restapi/v1.0/account/1/a2p-sms/messages?direction=Outbound", {"id": 1, "batchId": "batch-1"})
        assert await world.provider.hear(other) != Reports()
        assert len(world.asked("GET", "/restapi/v1.0/account/~/a2p-sms/messages/404")) == 3


async def test_news_that_is_owed_is_owed_until_it_is_asked_for() -> None:
    def of(number: int) -> WebhookRequest:
        told = {"id": number, "batchId": f"batch-{number}"}
        return event("/restapi/v1.0/account/1/a2p-sms/messages?direction=Outbound", told)

    books = Books(sent=[Sent(number, state="delivered", batch=number) for number in (1, 2, 3)])
    async with World(high_volume=True, books=books) as world:
        answered = iter([False, True, False, True, True, True])
        world.api = lambda request: world._api(request) if next(answered) else (429, refusal("CMN-301"))
        told = []
        for number in (1, 2, 3, 3):
            heard = await world.provider.hear(of(number))
            assert isinstance(heard, Reports)
            told.append([news.provider_message_id[-1] for news in heard.statuses])
            world.clock.seconds += 31 if number != 1 else 0  # the second meets the penalty of the first
    assert told == [[], [], ["3"], ["3", "1", "2"]]


async def test_a_persons_text_is_no_news_of_ours() -> None:
    async with World(high_volume=True, books=Books(came=[Came(7)])) as world:
        said = event("/restapi/v1.0/account/1/a2p-sms/messages?direction=Outbound", {"id": 7})
        assert await world.provider.hear(said) == Reports()


async def test_an_opt_out_that_delivery_met_is_learned() -> None:
    books = Books(sent=[Sent(1, state="undelivered", code="SMS-CAR-413")])
    said = event("/restapi/v1.0/account/1/a2p-sms/messages?direction=Outbound", {"id": 1, "batchId": "batch-1"})
    async with World(high_volume=True, books=books) as world:
        heard = await world.provider.hear(said)
    assert isinstance(heard, Reports)
    assert heard.opt_outs == (OptOutNews("main", PhoneNumber(NUMBER), SENDER, opted_out=True, at=NOON, met=True),)


async def test_a_carrier_that_tells_nothing_has_not_said_that_it_failed() -> None:
    books = Books(sent=[Sent(1, state="undelivered", code="SMS-CAR-199")])
    async with World(high_volume=True, books=books) as world:
        (listed,) = await world.provider.list_sent(PhoneNumber(NUMBER), SENDER, NOON)
    assert (listed.state, listed.code) == ("sent", "SMS-CAR-199")


async def test_an_event_of_consents_is_answered_by_the_list() -> None:
    path = "/restapi/v2/accounts/1/sms/consents"
    made_up = {"records": [{"from": SENDER, "to": NUMBER, "optStatus": "OptIn", "source": "Recipient"}]}
    async with World(books=Books(words=[Word(NUMBER), Word(ANOTHER)])) as world:
        heard = await world.provider.hear(event(path, made_up))
        assert isinstance(heard, Reports)
        assert list(heard.opt_outs) == [OptOutNews("main", PhoneNumber(NUMBER), SENDER, opted_out=True, at=NOON)]
        # two pairs are asked for at once, and of their four numbers nobody else is reported
        pairs = {"records": [{"from": SENDER, "to": NUMBER}, {"from": "+15005550005", "to": ANOTHER}]}
        heard = await world.provider.hear(event(path, pairs))
        assert isinstance(heard, Reports)
        assert [word.to for word in heard.opt_outs] == [PhoneNumber(NUMBER)]
        # one that is none keeps back no other
        heard = await world.provider.hear(event(path, {"records": [7, {"from": "*", "to": "x"}, {"from": SENDER, "to": NUMBER}]}))
        assert isinstance(heard, Reports)
        assert [word.to for word in heard.opt_outs] == [PhoneNumber(NUMBER)]
        unreadable: tuple[dict[str, object], ...] = (
            {},
            {"records": []},
            {"records": [7]},
            {"records": [{"from": "*", "to": NUMBER}]},
            {"records": [{"from": SENDER, "to": "x"}]},
        )
        for bad in unreadable:
            with pytest.raises(BadWebhook):
                await world.provider.hear(event(path, bad))


async def test_a_listed_opt_out_that_cannot_be_read_keeps_back_no_other() -> None:
    good = {"from": SENDER, "to": NUMBER, "optStatus": "OptOut", "lastModifiedTime": NOON.isoformat()}
    never = "0001-01-01T00:00:00+14:00"  # not in UTC
    async with World() as world:
        world.api = lambda _: (200, {"records": [7, {"from": 7}, {**good, "to": ANOTHER, "lastModifiedTime": never}, good]})
        listed = await world.provider.list_opt_outs(SENDER, NOON)
    assert [(word.to, word.at) for word in listed] == [(PhoneNumber(ANOTHER), None), (PhoneNumber(NUMBER), NOON)]


async def test_an_opt_in_that_the_person_did_not_say_is_none() -> None:
    records = [
        {"from": SENDER, "to": NUMBER, "optStatus": "OptIn", "source": "Api", "lastModifiedTime": NOON.isoformat()},
        {"from": SENDER, "to": ANOTHER, "optStatus": "OptOut", "source": "Api", "lastModifiedTime": NOON.isoformat()},
    ]
    async with World() as world:
        world.api = lambda _: (200, {"records": records, "paging": {}})
        assert [word.opted_out for word in await world.provider.list_opt_outs(SENDER, NOON)] == [True]


# -------------------------------------------------------------------------------------------------------- the subscription


class Subscriptions:
    """RingCentral's subscriptions, as far as they are asked for."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.standing: list[dict[str, Any]] = []
        self.lost = False
        world.api = self.answer

    def add(self, address: str, **changed: object) -> dict[str, Any]:
        one = {
            "id": f"sub-{len(self.standing) + 1}-{len(self.world.server.requests)}",
            "status": "Active",
            "eventFilters": [one.replace("~", "11") for one in self.filters],
            "expirationTime": (self.world.now + timedelta(days=7)).isoformat(),
            "deliveryMode": {"transportType": "WebHook", "address": address, "encryption": False},
        } | changed
        self.standing.append(one)
        return one

    @property
    def filters(self) -> tuple[str, ...]:
        account = "/restapi/v1.0/account/~"
        return (
            f"{account}/extension/~/message-store/instant?type=SMS",
            f"{account}/extension/~/message-store?type=SMS&direction=Outbound",
            "/restapi/v2/accounts/~/sms/consents",
        )

    def answer(self, request: Received) -> Reply:
        if request.target == SUBSCRIPTION and request.method == "GET":
            return 200, {"uri": "x", "records": self.standing}
        if request.target == SUBSCRIPTION:
            said = json.loads(request.body)
            one = self.add(said["deliveryMode"]["address"])
            return (500, b"") if self.lost else (200, one)
        name, _, verb = request.target.removeprefix(SUBSCRIPTION + "/").partition("/")
        found = next((one for one in self.standing if one["id"] == name), None)
        if found is None:
            return 404, refusal("CMN-102")
        if request.method == "DELETE":
            self.standing.remove(found)
            return 204, b""
        if request.method == "PUT":
            found["eventFilters"] = json.loads(request.body)["eventFilters"]
        assert request.method == "PUT" or verb == "renew"
        found["expirationTime"] = (self.world.now + timedelta(days=7)).isoformat()
        return 200, found

    def changes(self) -> list[str]:
        """What was asked for since the last look, but for the token and the list."""
        made = [
            f"{one.method} {one.target.removeprefix(SUBSCRIPTION)}"
            for one in self.world.server.requests
            if one.target.startswith(SUBSCRIPTION) and one.method != "GET"
        ]
        self.world.server.requests.clear()
        return made


async def test_one_subscription_is_made_and_stays() -> None:
    async with World() as world:
        there = Subscriptions(world)
        there.add("https://another.example.com/webhooks/ringcentral/main/events")
        await world.provider.keep_up(WEBHOOKS)
        created = world.asked("POST", SUBSCRIPTION)[0]
        assert there.changes() == ["POST "]
        said = json.loads(created.body)
        assert said["eventFilters"] == list(there.filters)
        assert said["deliveryMode"]["transportType"] == "WebHook"
        assert said["deliveryMode"]["verificationToken"] == VERIFICATION
        assert said["deliveryMode"]["address"].startswith(f"{WEBHOOKS}/events?token=")
        assert VERIFICATION not in said["deliveryMode"]["address"]
        for _ in range(3):
            await world.provider.keep_up(WEBHOOKS)
        assert there.changes() == []
        assert len(there.standing) == 2  # another installation's is left alone


async def test_it_is_renewed_long_before_it_ends() -> None:
    async with World() as world:
        there = Subscriptions(world)
        await world.provider.keep_up(WEBHOOKS)
        world.now += timedelta(days=3)
        await world.provider.keep_up(WEBHOOKS)
        assert there.changes() == ["POST "]
        world.now += timedelta(days=1)
        await world.provider.keep_up(WEBHOOKS)
        assert there.changes() == [f"POST /{there.standing[0]['id']}/renew"]
        await world.provider.keep_up(WEBHOOKS)
        assert there.changes() == []


async def test_one_that_is_gone_is_made_anew() -> None:
    async with World() as world:
        there = Subscriptions(world)
        await world.provider.keep_up(WEBHOOKS)
        there.standing.clear()
        there.changes()
        await world.provider.keep_up(WEBHOOKS)
        assert there.changes() == ["POST "]
        # gone between the look and the renewal
        world.now += timedelta(days=6)
        listed = list(there.standing)
        there.standing.clear()
        world.api = lambda request: (200, {"records": listed}) if request.method == "GET" else there.answer(request)
        await world.provider.keep_up(WEBHOOKS)
        assert there.changes() == [f"POST /{listed[0]['id']}/renew", "POST "]


async def test_one_that_is_barred_is_deleted_and_made_anew() -> None:
    async with World() as world:
        there = Subscriptions(world)
        await world.provider.keep_up(WEBHOOKS)
        there.standing[0]["status"] = "Blacklisted"
        barred = there.standing[0]["id"]
        there.changes()
        await world.provider.keep_up(WEBHOOKS)
        assert there.changes() == [f"DELETE /{barred}", "POST "]
        assert [one["status"] for one in there.standing] == ["Active"]


async def test_whatever_happened_one_is_left() -> None:
    async with World() as world:
        there = Subscriptions(world)
        there.lost = True
        with pytest.raises(ProviderUnavailable):
            await world.provider.keep_up(WEBHOOKS)
        there.lost = False
        assert len(there.standing) == 1  # it was made, and the answer lost
        address = there.standing[0]["deliveryMode"]["address"]
        later = there.add(address, expirationTime=(NOON + timedelta(days=8)).isoformat())
        there.add(address, status="Blacklisted")
        there.changes()
        await world.provider.keep_up(WEBHOOKS)
        assert "POST " not in there.changes()
        assert there.standing == [later]


async def test_one_with_other_filters_gets_ours_and_no_event_is_lost() -> None:
    async with World() as world:
        there = Subscriptions(world)
        await world.provider.keep_up(WEBHOOKS)
        there.standing[0]["eventFilters"] = ["/restapi/v1.0/account/11/extension/12/presence"]
        there.changes()
        await world.provider.keep_up(WEBHOOKS)
        assert there.changes() == [f"PUT /{there.standing[0]['id']}"]
        # a filter that RingCentral has disabled is no reason to ask each minute
        there.standing[0]["eventFilters"] = list(there.filters[:2])
        there.standing[0]["disabledFilters"] = [{"filter": there.filters[2], "reason": "x"}]
        await world.provider.keep_up(WEBHOOKS)
        assert there.changes() == []


async def test_another_verification_token_makes_another_subscription_and_then_ends_the_old_one() -> None:
    async with World() as world:
        there = Subscriptions(world)
        await world.provider.keep_up(WEBHOOKS)
        old = there.standing[0]["id"]
        there.changes()
        account = RingCentralAccount("main", "client", CLIENT_SECRET, JWT, "another-verification-token", high_volume=False)
        changed = RingCentral(replace(account, api_base=world.server.url), now=lambda: NOON)
        await changed.keep_up(WEBHOOKS)
        await changed.close()
        assert there.changes() == ["POST ", f"DELETE /{old}"]
        assert len(there.standing) == 1


@pytest.mark.parametrize("reply", [(200, b"{"), (200, {}), (403, refusal("CMN-401")), (500, b"")], ids=str)
async def test_a_subscription_that_cannot_be_seen_to_is_said(reply: Reply) -> None:
    async with World() as world:
        world.api = lambda _: reply
        with pytest.raises(ProviderUnavailable, match="account main"):
            await world.provider.keep_up(WEBHOOKS)


# ------------------------------------------------------------------------------------------------- erasure and opt-outs


async def test_a_text_is_deleted_at_once_and_by_its_own_id() -> None:
    async with World(books=Books(sent=[Sent(7)])) as world:
        assert await world.provider.delete("sms:7") == "done"
        assert [(one.method, one.target) for one in world.server.requests[1:]] == [
            ("DELETE", "/restapi/v1.0/account/~/extension/~/message-store/7?purge=true")
        ]


async def test_opt_outs_are_told_a_thousand_at_a_time_and_each_has_its_fate() -> None:
    words = [OptOutWord(PhoneNumber(f"+1310555{number:04}"), SENDER, number != 1, NOON) for number in range(1003)]
    words.append(OptOutWord(PhoneNumber(NUMBER), "SHORT", True, NOON))
    failed = [
        {"from": SENDER, "to": "+13105550002", "error": {"errorCode": "CMN-101", "message": NUMBER}},
        {"from": SENDER, "to": "+13105550003", "error": {"errorCode": "CMN-203", "message": NUMBER}},
    ]
    async with World() as world:
        world.api = lambda _: (200, {"failedRecords": failed})
        told = list(await world.provider.tell_opt_outs(words))
        patches = world.asked("PATCH", "/restapi/v2/accounts/~/sms/consents")
    assert [len(json.loads(one.body)["records"]) for one in patches] == [1000, 3]
    assert json.loads(patches[0].body)["records"][:2] == [
        {"from": SENDER, "to": "+13105550000", "optStatus": "OptOut", "source": "Api"},
        {"from": SENDER, "to": "+13105550001", "optStatus": "OptIn", "source": "Api"},
    ]
    assert told[:4] == ["confirmed", "confirmed", "refused", "later"]
    assert set(told[4:1003]) == {"confirmed"}
    assert told[1003:] == ["refused"]


async def test_a_pair_for_which_all_that_are_told_with_it_are_refused_is_found() -> None:
    """It is refused alone, for good; and what is not about a pair is no reason to look for one."""
    words = [OptOutWord(PhoneNumber(f"+1310555{number:04}"), SENDER, True, NOON) for number in range(300)]
    bad = {"+13105550007", "+13105550211"}
    taken: list[str] = []
    async with World() as world:

        def consents(request: Received) -> tuple[int, object]:
            numbers = [record["to"] for record in json.loads(request.body)["records"]]
            if bad & set(numbers):
                error = {"errorCode": "CMN-101", "message": "Parameter [records] value is invalid", "parameterName": "records"}
                return 400, {**error, "errors": [error]}
            taken.extend(numbers)
            return 200, {}

        world.api = consents
        refused, left = [], words
        for _ in range(2):  # all calls of a minute are not for this
            fates = list(zip(left, await world.provider.tell_opt_outs(left), strict=True))
            refused += [word.to.reveal() for word, fate in fates if fate == "refused"]
            left = [word for word, fate in fates if fate == "later"]
            world.clock.seconds += 61
        assert (refused, left) == (sorted(bad), [])
        assert sorted(taken) == sorted({word.to.reveal() for word in words} - bad)
        world.api = lambda _: (403, {"errorCode": "CMN-408", "errors": [{"errorCode": "CMN-408"}]})
        asked = len(world.server.requests)
        with pytest.raises(ProviderUnavailable):
            await world.provider.tell_opt_outs(words)
        assert len(world.server.requests) == asked + 1


async def test_pairs_that_are_all_bad_leave_most_calls_to_texts() -> None:
    words = [OptOutWord(PhoneNumber(f"+1310555{number:04}"), SENDER, True, NOON) for number in range(300)]
    async with World() as world:
        world.api = lambda _: (400, {"errorCode": "CMN-101"})
        told = list(await world.provider.tell_opt_outs(words))
        assert set(told) == {"refused", "later"}
        assert len(world.asked("PATCH", "/restapi/v2/accounts/~/sms/consents")) <= 30


@pytest.mark.parametrize("said", [b"{", [], {"failedRecords": {}}, {"failedRecords": [7]}, {"failedRecords": [{"to": NUMBER}]}])
async def test_an_answer_that_cannot_be_read_confirms_no_opt_out(said: object) -> None:
    async with World() as world:
        world.api = lambda _: (200, said)
        with pytest.raises(ProviderUnavailable):
            await world.provider.tell_opt_outs([OptOutWord(PhoneNumber(NUMBER), SENDER, True, NOON)])


async def test_a_list_without_end_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.providers.ringcentral.lists.PAGES", 7)
    pages = {"records": [], "paging": {"nextPageToken": "1"}, "navigation": {"nextPage": {"uri": "https://elsewhere.example"}}}
    for high_volume in (False, True):
        async with World(high_volume=high_volume) as world:
            world.api = lambda _: (200, pages)
            with pytest.raises(ProviderUnavailable, match="does not end"):
                await world.provider.list_inbound(SENDER, NOON)
            with pytest.raises(ProviderUnavailable, match="does not end"):
                await world.provider.list_opt_outs(SENDER, NOON)
            assert len(world.server.requests) == 15


async def test_a_text_that_a_new_one_pushes_to_the_next_page_is_listed_once() -> None:
    async with World() as world:
        known = world.subject._message
        pages = [[known(Sent(3)), known(Sent(2))], [known(Sent(2)), known(Sent(1))]]
        world.api = lambda request: (
            (200, {"records": pages[1], "navigation": {}})
            if "page=2" in request.target
            else (200, {"records": pages[0], "navigation": {"nextPage": {"uri": "x"}}})
        )
        found = await world.provider.list_sent(PhoneNumber(NUMBER), SENDER, NOON)
    assert [listed.provider_message_id for listed in found] == ["sms:3", "sms:2", "sms:1"]


async def test_times_are_read_with_their_zone() -> None:
    record = {"id": 1, "direction": "Inbound", "from": NUMBER, "to": [SENDER], "text": "x"}
    for said, meant in {
        "2025-05-13T20:57:06.473705035Z": datetime(2025, 5, 13, 20, 57, 6, 473705, UTC),
        "2014-04-29T14:29:20.531+0200": datetime(2014, 4, 29, 12, 29, 20, 531000, UTC),
        "2014-04-29T14:29:20": None,
        "": None,
        7: None,
    }.items():
        assert a2p_record(record | {"creationTime": said}).created_at == meant
