"""Texts that people send: kept in the account's list, and told to its inbound webhook."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from gateway.domain.errors import GatewayError
from gateway.simulator.accounts import Accounts, AccountState
from gateway.simulator.book import Book
from gateway.simulator.records import Message, Posted
from gateway.simulator.render import API_VERSION
from gateway.simulator.segments import count_segments
from gateway.simulator.webhooks import Webhooks

__all__ = ["BadInbound", "Inbound", "InboundResult"]

_PLACES = ("City", "State", "Zip")


class BadInbound(GatewayError):
    """An inbound text that can't be made: no webhook is known for the number, or the message to repeat is not there."""


@dataclass(frozen=True, slots=True)
class InboundResult:
    """An inbound text: its identifier, and each webhook that told of it."""

    sid: str
    webhooks: tuple[Posted, ...]

    def as_json(self) -> dict[str, Any]:
        """As the control API tells it."""
        return {
            "sid": self.sid,
            "webhooks": [
                {"status": one.http, "failure": one.failure, "ms": round(one.seconds * 1000, 3), "attempts": one.attempts,
                 "at": one.at, "answer": one.answer} for one in self.webhooks
            ],
        }  # fmt: skip


class Inbound:
    """Receives texts from people. ``new_sid`` makes a message's identifier from its number."""

    def __init__(self, book: Book, accounts: Accounts, webhooks: Webhooks, new_sid: Callable[[int], str]) -> None:
        self._book = book
        self._accounts = accounts
        self._webhooks = webhooks
        self._new_sid = new_sid

    async def receive(
        self,
        sender: str,
        to: str,
        body: str,
        *,
        account: str | None = None,
        opt_out_type: Literal["STOP", "START", "HELP"] | None = None,
        deliver: bool = True,
        repeat: int = 1,
        age: float = 0.0,
    ) -> InboundResult:
        """A person texts one of our numbers; returns when every webhook has ended.

        With ``deliver`` false the carrier has the text and its webhook is lost. ``repeat`` is how often the webhook is posted, one
        after the other. ``age`` is how many seconds ago the text came. Raises BadInbound where no webhook's URL is known.
        """
        state = self._accounts.get(account) if account else self._accounts.of_number(to)
        number = self._book.next_number()
        at = self._book.clock() - age
        message = Message(
            number, self._new_sid(number), state.settings.sid, "inbound", to, sender, state.service_of(to), body,
            count_segments(body), at, at, None, opt_out_type=opt_out_type,
        )  # fmt: skip
        self._book.counts["inbound"] += 1
        self._book.store(message)
        self._keep_opt_out(state, message)
        return await self._post(state, message, repeat if deliver else 0)

    async def again(self, sid: str, *, repeat: int = 1) -> InboundResult:
        """Post the webhook of an earlier inbound text again. Raises BadInbound where it is not kept."""
        message = self._book.messages.get(sid)
        if message is None or message.direction != "inbound":
            raise BadInbound("no inbound message with this sid is kept")
        return await self._post(self._accounts.get(message.account), message, repeat)

    async def _post(self, state: AccountState, message: Message, repeat: int) -> InboundResult:
        url = state.settings.inbound_urls.get(message.to) or state.settings.inbound_url
        if repeat and not url:
            raise BadInbound("no inbound URL is known for this number or its account")
        posted = []
        for _ in range(repeat):
            assert url is not None
            one = await self._webhooks.post(url, state.settings.token, "received", _fields(message))
            if self._book.keep:
                message.posted.append(one)
            posted.append(one)
        self._book.changed()
        return InboundResult(message.sid, tuple(posted))

    @staticmethod
    def _keep_opt_out(state: AccountState, message: Message) -> None:
        if not state.settings.keeps_opt_outs or message.sender is None:
            return
        pair = (message.sender, message.service or message.to)
        if message.opt_out_type == "STOP":
            state.opted_out.add(pair)
        elif message.opt_out_type == "START":
            state.opted_out.discard(pair)


def _fields(message: Message) -> list[tuple[str, str]]:
    """The form of an inbound webhook.

    https://www.twilio.com/docs/messaging/guides/webhook-request
    """
    fields = [("ToCountry", _country(message.to)), ("FromCountry", _country(message.sender or ""))]
    fields += [(f"{side}{place}", "") for side in ("To", "From") for place in _PLACES]
    fields += [
        ("SmsMessageSid", message.sid),
        ("NumMedia", "0"),
        ("SmsSid", message.sid),
        ("SmsStatus", "received"),
        ("Body", message.body),
        ("To", message.to),
        ("NumSegments", str(message.segments)),
        ("MessageSid", message.sid),
        ("AccountSid", message.account),
        ("From", message.sender or ""),
        ("ApiVersion", API_VERSION),
    ]
    if message.service:
        fields.append(("MessagingServiceSid", message.service))
    if message.opt_out_type:
        fields.append(("OptOutType", message.opt_out_type))
    return fields


def _country(number: str) -> str:
    return "US" if number.startswith("+1") else ""
