"""Texts that people send: kept in the account's list, and told to its inbound webhook."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from gateway.domain.errors import GatewayError
from gateway.simulator.accounts import Accounts, AccountState
from gateway.simulator.book import Book
from gateway.simulator.records import Message, Posted
from gateway.simulator.segments import count_segments

__all__ = ["BadInbound", "Inbound", "InboundResult"]


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
    """Receives texts from people."""

    def __init__(self, book: Book, accounts: Accounts) -> None:
        self._book = book
        self._accounts = accounts

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
        forged: bool = False,
    ) -> InboundResult:
        """A person texts one of our numbers; returns when every webhook has ended.

        With ``deliver`` false the carrier has the text and its webhook is lost. ``repeat`` is how often the webhook is posted, one
        after the other. ``age`` is how many seconds ago the text came. ``forged``: nobody texts; somebody who lacks what proves a
        webhook posts one that says so. Raises BadInbound where no webhook's URL is known.
        """
        state = self._accounts.get(account) if account else self._accounts.of_number(to)
        number = self._book.next_number()
        at = self._book.clock() - age
        message = Message(
            number, state.new_sid(number), state.sid, "inbound", to, sender, state.service_of(to), body, count_segments(body), at, at,
            None, opt_out_type=opt_out_type,
        )  # fmt: skip
        if not forged:
            self._book.counts["inbound"] += 1
            self._book.store(message)
            state.hear(message)
        return await self._post(state, message, repeat if deliver else 0, forged=forged)

    async def again(self, sid: str, *, repeat: int = 1) -> InboundResult:
        """Post the webhook of an earlier inbound text again. Raises BadInbound where it is not kept."""
        message = self._book.messages.get(sid)
        if message is None or message.direction != "inbound":
            raise BadInbound("no inbound message with this sid is kept")
        return await self._post(self._accounts.get(message.account), message, repeat, forged=False)

    async def _post(self, state: AccountState[Any], message: Message, repeat: int, *, forged: bool) -> InboundResult:
        posted: list[Posted] = []
        for _ in range(repeat):
            posted += await state.tell(message, forged=forged)
        if self._book.keep:
            message.posted += posted
        self._book.changed()
        return InboundResult(message.sid, tuple(posted))
