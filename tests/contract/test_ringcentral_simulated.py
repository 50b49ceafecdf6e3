"""RingCentral's adapter over the simulated RingCentral: each true to the vendor's documents by itself, and here to one another.

With ``--ringcentral-spec`` all that both say is checked against the specification as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.domain.errors import ProviderUnavailable, WebhookRefused
from gateway.domain.outcome import Accepted, Later, OptedOut, Outcome, Refused, Unknown
from gateway.domain.personal import MessageBody, PhoneNumber
from gateway.domain.reasons import Reason
from gateway.domain.reports import InboundText, OptOutNews, StatusNews
from gateway.domain.webhooks import Handshake, Reports, WebhookRequest
from gateway.flow.provider import OptOutWord
from gateway.providers.ringcentral.provider import RingCentral, RingCentralAccount
from gateway.simulator.carrier import Carrier
from gateway.simulator.ringcentral.account import RingCentralState
from gateway.simulator.server import listening, running_carrier
from gateway.simulator.wire import Exchange, Receive, Scope, Send
from tests.contract.conformance.subject import text
from tests.contract.ringcentral_tools import A2P, ACCOUNT, CLIENT, JWT, SECRET, SMS, TO, config
from tests.support import until

OTHER = "+12025550124"
THIRD = "+12025550125"
VERIFICATION = "a-verification-token"

both = pytest.mark.parametrize("high_volume", [False, True], ids=["single", "high volume"])


@dataclass
class Web:
    """Our web, as far as RingCentral calls it: it lets the provider hear, and keeps what was reported."""

    url: str = ""
    provider: RingCentral | None = None
    heard: list[Reports] = field(default_factory=list)
    refused: int = 0
    away: bool = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, send)
        body = await exchange.body()
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        assert self.provider is not None
        assert scope["path"] == "/webhooks/ringcentral/main/events"
        status, extra = 200, {}
        if self.away:
            await exchange.answer(503, b"", [(b"content-length", b"0")])
            return
        try:
            said = await self.provider.hear(WebhookRequest(f"{self.url}/events", ("events",), headers, body))
        except WebhookRefused:
            self.refused += 1
            status = 403
        except ProviderUnavailable:
            status = 503
        else:
            if isinstance(said, Handshake):
                extra = dict(said.headers)
            else:
                self.heard.append(said)
        await exchange.answer(status, b"", [(b"content-length", b"0"), *((k.encode(), v.encode()) for k, v in extra.items())])

    @property
    def texts(self) -> list[InboundText]:
        return [one for reports in self.heard for one in reports.texts]

    @property
    def news(self) -> set[StatusNews]:
        return {one for reports in self.heard for one in reports.statuses}

    @property
    def opt_outs(self) -> list[OptOutNews]:
        return [one for reports in self.heard for one in reports.opt_outs]


@dataclass
class Pair:
    """The adapter, the carrier, and our web between them."""

    provider: RingCentral
    carrier: Carrier
    web: Web
    sender: str

    async def send(self, *to: str, body: str = "Hello") -> list[Outcome]:
        texts = [text(number, one, body, self.sender) for number, one in enumerate(to or (TO,))]
        if self.provider.abilities.batch > 1:
            return list(await self.provider.send(texts))
        return [outcome for one in texts for outcome in await self.provider.send([one])]

    @property
    def webhooks(self) -> str:
        return f"{self.web.url}/webhooks/ringcentral/main"


@asynccontextmanager
async def pair(*, high_volume: bool, account: dict[str, Any] | None = None, **changes: Any) -> AsyncIterator[Pair]:
    web = Web()
    async with listening(web) as web.url, running_carrier(config(account=account, **changes)) as carrier:
        provider = RingCentral(
            RingCentralAccount(
                "main",
                CLIENT,
                SECRET,
                JWT,
                VERIFICATION,
                high_volume=high_volume,
                api_base=carrier.url,
                time_limit_seconds=5.0,
                gather_seconds=0.02,
            )
        )
        web.provider = provider
        try:
            yield Pair(provider, carrier, web, A2P if high_volume else SMS)
        finally:
            await provider.close()


def state_of(one: Pair) -> RingCentralState:
    state = one.carrier.accounts.get(ACCOUNT)
    assert isinstance(state, RingCentralState)
    return state


def lately() -> datetime:
    return datetime.now(UTC) - timedelta(minutes=1)


@both
async def test_a_text_is_sent_listed_delivered_and_told(high_volume: bool) -> None:
    async with pair(high_volume=high_volume) as one:
        await one.provider.check()
        await one.provider.keep_up(one.webhooks)
        (accepted,) = await one.send()
        assert isinstance(accepted, Accepted)
        name = accepted.provider_message_id
        news = StatusNews("main", name, PhoneNumber(TO), "delivered", None)
        await until(lambda: news in one.web.news, what="delivered is told")
        (listed,) = await one.provider.list_sent(PhoneNumber(TO), one.sender, lately())
    assert (listed.provider_message_id, listed.body, listed.state) == (name, MessageBody("Hello"), "delivered")


async def test_a_batch_has_an_outcome_and_news_for_each() -> None:
    async with pair(high_volume=True) as one:
        await one.provider.keep_up(one.webhooks)
        one.carrier.script(OTHER, "not_textable")
        one.carrier.script(THIRD, "undelivered")
        first, second, third = await one.send(TO, OTHER, THIRD)
        assert isinstance(first, Accepted)
        assert second == Refused(Reason.NOT_TEXTABLE, "SMS-RC-410")
        assert third == first
        wanted = {(TO, "delivered"), (THIRD, "undelivered")}
        await until(lambda: wanted <= {(news.to.reveal(), news.state) for news in one.web.news}, what="both are told")
        assert {news.provider_message_id for news in one.web.news} == {first.provider_message_id}


@both
@pytest.mark.parametrize(
    "script,kind",
    [
        ("error_before", Unknown),
        ("error_after", Unknown),
        ("reset_before", Unknown),
        ("reset_after", Unknown),
        ("broken_answer", Unknown),
        ("busy_twice", Later),
    ],
)
async def test_what_goes_wrong_has_its_outcome_and_the_list_tells(high_volume: bool, script: str, kind: type[Outcome]) -> None:
    async with pair(high_volume=high_volume) as one:
        one.carrier.script(TO, script)
        (outcome,) = await one.send()
        assert isinstance(outcome, kind)
        found = [] if kind is Later else await one.provider.list_sent(PhoneNumber(TO), one.sender, lately())
    assert len(found) == (script in {"error_after", "reset_after", "broken_answer"})


@both
async def test_a_persons_text_is_heard_and_listed_alike(high_volume: bool) -> None:
    async with pair(high_volume=high_volume) as one:
        await one.provider.keep_up(one.webhooks)
        await one.carrier.inbound(TO, one.sender, "STOP")
        await until(lambda: one.web.texts and one.web.opt_outs, what="the text and the opt-out are heard")
        (listed,) = await one.provider.list_inbound(one.sender, lately())
        assert one.web.texts[0] == listed
        assert (listed.sender, listed.to, listed.body) == (PhoneNumber(TO), one.sender, MessageBody("STOP"))
        assert await one.provider.inbound_created_at(listed.provider_message_id) == listed.created_at
        assert one.web.opt_outs[0].opted_out
        (known,) = await one.provider.list_opt_outs(one.sender, lately())
        assert (known.to, known.opted_out) == (PhoneNumber(TO), True)
        assert one.web.refused == 0


@both
async def test_an_opt_out_that_is_told_holds_and_is_met(high_volume: bool) -> None:
    async with pair(high_volume=high_volume) as one:
        await one.provider.keep_up(one.webhooks)
        words = [OptOutWord(PhoneNumber(TO), one.sender, True, datetime.now(UTC))]
        foreign = [OptOutWord(PhoneNumber(TO), "+12025550199", True, datetime.now(UTC))]
        assert list(await one.provider.tell_opt_outs(words)) == ["confirmed"]
        assert list(await one.provider.tell_opt_outs(foreign)) in (["refused"], ["later"])
        one.web.heard.clear()
        (outcome,) = await one.send()
        if not isinstance(outcome, OptedOut):  # taken down, and stopped by RingCentral's own list
            await until(lambda: ("undelivered", "SMS-RC-413") in {(news.state, news.code) for news in one.web.news})
            assert [(word.to, word.opted_out) for word in one.web.opt_outs] == [(PhoneNumber(TO), True)]
        assert list(await one.provider.tell_opt_outs([OptOutWord(PhoneNumber(TO), one.sender, False, datetime.now(UTC))])) == [
            "confirmed"
        ]


async def test_a_text_is_deleted_and_the_others_stay() -> None:
    async with pair(high_volume=False) as one:
        first, second = await one.send(TO, OTHER)
        assert isinstance(first, Accepted)
        assert isinstance(second, Accepted)
        for _ in range(2):
            assert await one.provider.delete(first.provider_message_id) == "done"
        assert await one.provider.list_sent(PhoneNumber(TO), one.sender, lately()) == []
        assert len(await one.provider.list_sent(PhoneNumber(OTHER), one.sender, lately())) == 1


@both
async def test_rates_are_kept_without_ever_being_refused(high_volume: bool) -> None:
    async with pair(high_volume=high_volume, account={"rates": {"Light": 30, "Medium": 30, "Auth": 5}}) as one:
        outcomes = [outcome for _ in range(40) for outcome in await one.send()]
        kept = {type(outcome) for outcome in outcomes}
        assert kept == {Accepted, Later}
        assert {outcome.code for outcome in outcomes if isinstance(outcome, Later)} == {"rate_group"}


@both
async def test_a_token_that_was_revoked_or_is_over_is_changed_unseen(high_volume: bool) -> None:
    async with pair(high_volume=high_volume, account={"token_s": 60}) as one:
        assert isinstance((await one.send())[0], Accepted)
        assert state_of(one).tokens.revoke() == 1
        assert isinstance((await one.send())[0], Accepted)


@both
async def test_credentials_that_are_wrong_are_said(high_volume: bool) -> None:
    async with running_carrier(config()) as carrier:
        account = RingCentralAccount("main", CLIENT, "another-secret", JWT, VERIFICATION, high_volume, carrier.url)
        provider = RingCentral(account)
        with pytest.raises(ProviderUnavailable, match="account main: no access token: "):
            await provider.check()
        (outcome,) = await provider.send([text(sender=SMS)])
        await provider.close()
    assert isinstance(outcome, Later)
    assert outcome.operator


@both
async def test_a_subscription_that_was_barred_is_made_anew_and_there_is_one(high_volume: bool) -> None:
    async with pair(high_volume=high_volume) as one:
        await asyncio.gather(*(one.provider.keep_up(one.webhooks) for _ in range(3)))
        await one.provider.keep_up(one.webhooks)
        state = state_of(one)
        (first,) = state.subscriptions.live()
        first.blacklist(one.carrier.book.clock(), "By the test")
        await one.provider.keep_up(one.webhooks)
        await one.provider.keep_up(one.webhooks)
        (second,) = state.subscriptions.live()
        assert second is not first
        await one.send()
        await until(lambda: one.web.news, what="events come again")
