"""The carrier: an ASGI application that is Twilio and RingCentral, and the methods by which tests and the demo drive it."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

from gateway.simulator.accounts import Accounts
from gateway.simulator.book import Book
from gateway.simulator.callbacks import Callbacks
from gateway.simulator.config import CarrierConfig, RingCentralAccount
from gateway.simulator.control import Control
from gateway.simulator.desk import Desk
from gateway.simulator.inbound import Inbound
from gateway.simulator.outside import Outside
from gateway.simulator.playlist import Playlist
from gateway.simulator.ringcentral.account import RingCentralState
from gateway.simulator.ringcentral.api import ROOT as RINGCENTRAL_ROOT
from gateway.simulator.ringcentral.api import RingCentralApi
from gateway.simulator.ringcentral.calls import Calls as RingCentralCalls
from gateway.simulator.ringcentral.create import Creates as RingCentralCreates
from gateway.simulator.scripts import Script, read_script
from gateway.simulator.twilio.account import TwilioState
from gateway.simulator.twilio.api import ROOT as TWILIO_ROOT
from gateway.simulator.twilio.api import TwilioApi
from gateway.simulator.twilio.consents import CONSENTS_PATH
from gateway.simulator.twilio.consents import Consents as TwilioConsents
from gateway.simulator.twilio.create import Creates as TwilioCreates
from gateway.simulator.twilio.render import error_json
from gateway.simulator.twilio.webhooks import Webhooks
from gateway.simulator.wire import Exchange, Receive, Scope, Send, TooLarge

__all__ = ["Carrier"]

_LOG: Final = logging.getLogger(__name__)


class Carrier:
    """A simulated carrier. Mount it with :mod:`gateway.simulator.server`, whose protocol it needs for resets."""

    def __init__(self, config: CarrierConfig, *, clock: Callable[[], float] = time.time) -> None:
        self.config = config
        self.url = ""
        seed = secrets.randbits(64) if config.seed is None else config.seed
        closing = self._closing = asyncio.Event()
        self.book = Book(keep=config.keep == "messages", limit=config.max_messages, clock=clock)
        self.playlist = Playlist(config, seed)
        self._outside = Outside(config.reach)
        self._callbacks = Callbacks(
            self.book, at_once=config.callback_concurrency, waiting_limit=config.max_callbacks_waiting
        )  # fmt: skip
        webhooks = Webhooks(self._outside, retry_ms=config.callback_retry_ms, clock=clock)
        twilio, ringcentral = [], []
        for settings in config.accounts:
            if isinstance(settings, RingCentralAccount):
                ringcentral.append(RingCentralState(settings, self._outside, clock, seed, most_batches=config.max_messages))
            else:
                twilio.append(TwilioState(settings, webhooks, seed))
        self.accounts = Accounts([*twilio, *ringcentral])
        shared = (self.book, self.playlist, self._callbacks, Desk(self.book, closing))
        twilio_api = TwilioApi(self.book, twilio, TwilioCreates(*shared))
        self.consents = TwilioConsents(self.book, twilio_api, closing)
        self._apis: dict[str, Callable[[Exchange], Awaitable[None]]] = {
            TWILIO_ROOT: twilio_api.handle,
            CONSENTS_PATH: self.consents.handle,
            RINGCENTRAL_ROOT: RingCentralApi(
                self.book, ringcentral, RingCentralCreates(*shared), RingCentralCalls(self.book, self._callbacks)
            ).handle,
            "/_carrier": Control(self).handle,
        }
        inbound = Inbound(self.book, self.accounts)
        self.inbound = inbound.receive
        """A person texts one of our numbers."""
        self.inbound_again = inbound.again
        """Post the webhook of an earlier inbound text again."""

    # -- driving it ---------------------------------------------------------------------------------------------------------------

    def script(self, number: str, script: Script | str | None) -> None:
        """Give a number a script or a named one; None takes it away. Raises BadScript for an unknown name."""
        self.playlist.set(number, read_script(script) if isinstance(script, str) else script)

    def mix(self, shares: Iterable[tuple[float, Script]] | None) -> None:
        """Give scripts a share of the requests that no number's script is for, from now on; None: the configured ones again."""
        self.playlist.mix(self.config.mix if shares is None else shares)

    def stats(self) -> dict[str, Any]:
        """The counts, what is under way, and how much is kept."""
        return {
            **{
                name: self.book.counts[name] for name in ("requests", "accepted", "duplicates", "refused", "inbound", "callbacks")
            },
            **self.book.counts,
            "callbacks_waiting": self._callbacks.waiting,
            "in_flight": sum(state.in_flight for state in self.accounts),
            "most_in_flight": max(state.most_in_flight for state in self.accounts),
            "subscriptions": sum(state.subscribed() for state in self.accounts),
            "first_begun_at": self.book.first_begun_at,
            "last_accepted_at": self.book.last_accepted_at,
            "kept": len(self.book.messages),
        }

    def reset(self) -> None:
        """Forget everything that happened and every setting made since the start."""
        self._callbacks.clear()
        self.accounts.clear()
        self.playlist.clear()
        self.book.clear()
        self.consents.clear()

    async def quiet(self, within: float = 5.0) -> None:
        """Wait until nothing is under way and no callback is due. Raises TimeoutError after ``within`` seconds."""
        await self.book.wait_for(
            lambda _: not self._callbacks.waiting and not any(state.in_flight for state in self.accounts), within
        )

    async def close(self) -> None:
        """End what hangs, drop the callbacks that wait, and end all connections."""
        self._closing.set()
        await self._callbacks.close()
        self._outside.close()

    # -- answering ----------------------------------------------------------------------------------------------------------------

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application."""
        if scope["type"] != "http":
            return
        exchange = Exchange(scope, receive, send)
        answer = next((handle for root, handle in self._apis.items() if exchange.path.startswith(root)), _nobody)
        try:
            await answer(exchange)
        except ConnectionError:
            pass  # the client went away; there is nobody to answer
        except TooLarge:
            await _plain(exchange, 413, 20413, "Request Entity Too Large")
        except Exception as error:  # noqa: BLE001 -- the last resort; the error's text might hold a number, so it stays here
            _LOG.error("the simulator failed: %s", type(error).__name__)
            await _plain(exchange, 500, 20500, "An internal server error has occurred")


async def _nobody(exchange: Exchange) -> None:
    await _plain(exchange, 404, 20404, f"The requested resource {exchange.path} was not found")


async def _plain(exchange: Exchange, status: int, code: int, message: str) -> None:
    """An error of no API's own; it has the form that Twilio gives its errors."""
    await exchange.answer(status, error_json(status, code, message))
