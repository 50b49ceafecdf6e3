"""The carrier: an ASGI application with its state, and the methods by which tests and the demo drive it."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from gateway.simulator.accounts import Accounts, AccountState
from gateway.simulator.book import Book
from gateway.simulator.callbacks import Callbacks
from gateway.simulator.checks import Refusal
from gateway.simulator.config import CarrierConfig
from gateway.simulator.control import Control
from gateway.simulator.create import Creates
from gateway.simulator.inbound import Inbound
from gateway.simulator.listing import list_messages
from gateway.simulator.playlist import Playlist
from gateway.simulator.render import API_VERSION, error_json
from gateway.simulator.resources import delete_message, fetch_message, update_message
from gateway.simulator.scripts import Script, read_script
from gateway.simulator.webhooks import Webhooks
from gateway.simulator.wire import Exchange, Receive, Scope, Send, TooLarge

__all__ = ["Carrier"]

_ROOT: Final = f"/{API_VERSION}/Accounts/"
_LOG: Final = logging.getLogger(__name__)


class Carrier:
    """A simulated carrier. Mount it with :mod:`gateway.simulator.server`, whose protocol it needs for resets."""

    def __init__(self, config: CarrierConfig, *, clock: Callable[[], float] = time.time) -> None:
        self.config = config
        self.url = ""
        self._seed = secrets.randbits(64) if config.seed is None else config.seed
        self._closing = asyncio.Event()
        self.book = Book(keep=config.keep == "messages", limit=config.max_messages, clock=clock)
        self.accounts = Accounts(config.accounts)
        self.playlist = Playlist(config, self._seed)
        self._webhooks = Webhooks(reach=config.reach, retry_ms=config.callback_retry_ms, clock=clock)
        self._callbacks = Callbacks(
            self._webhooks, self.book, lambda sid: self.accounts.get(sid).settings.token,
            at_once=config.callback_concurrency, waiting_limit=config.max_callbacks_waiting,
        )  # fmt: skip
        self._creates = Creates(self.book, self.playlist, self._callbacks, self._new_sid, self._closing)
        self._control = Control(self)
        inbound = Inbound(self.book, self.accounts, self._webhooks, self._new_sid)
        self.inbound = inbound.receive
        """A person texts one of our numbers."""
        self.inbound_again = inbound.again
        """Post the webhook of an earlier inbound text again."""

    def _new_sid(self, number: int) -> str:
        return f"SM{hashlib.blake2b(f'{self._seed}:{number}'.encode(), digest_size=16).hexdigest()}"

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

    async def quiet(self, within: float = 5.0) -> None:
        """Wait until nothing is under way and no callback is due. Raises TimeoutError after ``within`` seconds."""
        await self.book.wait_for(
            lambda _: not self._callbacks.waiting and not any(state.in_flight for state in self.accounts), within
        )

    async def close(self) -> None:
        """End what hangs, drop the callbacks that wait, and end all connections."""
        self._closing.set()
        await self._callbacks.close()
        self._webhooks.close()

    # -- answering ----------------------------------------------------------------------------------------------------------------

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application."""
        if scope["type"] != "http":
            return
        exchange = Exchange(scope, receive, send)
        try:
            if exchange.path.startswith(_ROOT):
                await self._answer_api(exchange)
            elif exchange.path.startswith("/_carrier"):
                await self._control.handle(exchange)
            else:
                await _refuse(exchange, _not_found(exchange.path))
        except ConnectionError:
            pass  # the client went away; there is nobody to answer
        except TooLarge:
            await _refuse(exchange, Refusal(413, 20413, "Request Entity Too Large"))
        except Exception as error:  # noqa: BLE001 -- the last resort; the error's text might hold a number, so it stays here
            _LOG.error("the simulator failed: %s", type(error).__name__)
            await _refuse(exchange, Refusal(500, 20500, "An internal server error has occurred"))

    async def _answer_api(self, exchange: Exchange) -> None:
        account_sid, _, rest = exchange.path[len(_ROOT) :].partition("/")
        state = self.accounts.authenticated(exchange.header(b"authorization"))
        if state is None or state.settings.sid != account_sid:
            await _refuse(exchange, Refusal(401, 20003, "Authenticate"), ((b"www-authenticate", b'Basic realm="Twilio API"'),))
            return
        state.enter()
        try:
            if rest == "Messages.json":
                await self._answer_collection(exchange, state)
            elif rest.startswith("Messages/") and rest.endswith(".json") and rest.count("/") == 1:
                await self._answer_resource(exchange, state, rest[len("Messages/") : -len(".json")])
            else:
                await _refuse(exchange, _not_found(exchange.path))
        finally:
            state.leave()
            self.book.changed()

    async def _answer_collection(self, exchange: Exchange, state: AccountState) -> None:
        if exchange.method == "POST":
            await self._creates.handle(exchange, state)
        elif exchange.method == "GET":
            await _give(exchange, _for_test(state) or list_messages(self.book, state.settings.sid, exchange.query()))
        else:
            await _refuse(exchange, _not_allowed())

    async def _answer_resource(self, exchange: Exchange, state: AccountState, sid: str) -> None:
        account = state.settings.sid
        answer: bytes | Refusal | None = _for_test(state)
        if answer is None:
            match exchange.method:
                case "GET":
                    answer = fetch_message(self.book, account, sid)
                case "POST":
                    answer = update_message(self.book, account, sid, await exchange.form())
                case "DELETE":
                    answer = delete_message(self.book, account, sid)
                case _:
                    answer = _not_allowed()
        await _give(exchange, answer)


async def _give(exchange: Exchange, answer: bytes | Refusal | None) -> None:
    if isinstance(answer, Refusal):
        await _refuse(exchange, answer)
    elif answer is None:
        await exchange.answer(204, b"")
    else:
        await exchange.answer(200, answer)


async def _refuse(exchange: Exchange, refusal: Refusal, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
    await exchange.answer(refusal.status, error_json(refusal.status, refusal.code, refusal.message), headers)


def _not_found(path: str) -> Refusal:
    return Refusal(404, 20404, f"The requested resource {path} was not found")


def _not_allowed() -> Refusal:
    return Refusal(405, 20004, "Method not allowed")


def _for_test(state: AccountState) -> Refusal | None:
    return Refusal(403, 20008, "Resource not accessible with Test Account Credentials") if state.settings.test else None
