"""How a simulated carrier is set up: its accounts of either provider, its pace, and how much it keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from gateway.simulator.scripts import Script

__all__ = ["Account", "AccountSettings", "CallbackMode", "CarrierConfig", "RingCentralAccount"]

CallbackMode = Literal["full", "final", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountSettings:
    """What an account has at either provider.

    ``senders`` are its numbers; with none (and no messaging service) any sender will do. ``latency_ms`` passes before each create
    request is decided; above ``concurrency`` requests at a time, and for every ``every_nth_429``-th create request, the answer is
    429. ``callbacks`` says which changes of status are told. ``keeps_opt_outs`` makes the carrier refuse whom a text has opted out.
    """

    senders: tuple[str, ...] = ()
    latency_ms: float = 0
    concurrency: int | None = None
    every_nth_429: int = 0
    callbacks: CallbackMode = "full"
    keeps_opt_outs: bool = False


@dataclass(frozen=True, slots=True)
class Account(AccountSettings):
    """One account at Twilio.

    ``services`` are its messaging services with the numbers of each. ``inbound_url`` is the webhook for texts to its numbers,
    ``inbound_urls`` overrides it by number. ``status_callback`` is used where a create request names none. With ``keeps_opt_outs``
    an inbound text with an ``opt_out_type`` of STOP opts out, and create requests then get 21610. ``redaction`` allows
    ContentRetention and AddressRetention. ``test`` makes these test credentials: the magic senders only.
    """

    sid: str
    token: str = field(repr=False)
    services: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    inbound_url: str | None = None
    inbound_urls: Mapping[str, str] = field(default_factory=dict)
    status_callback: str | None = None
    redaction: bool = False
    test: bool = False


@dataclass(frozen=True, slots=True)
class RingCentralAccount(AccountSettings):
    """One account at RingCentral, with one application and one user's JWT. Times are in seconds.

    ``sid`` is the account's id, ``extension`` the user's. ``senders`` are numbers for single SMS, ``a2p_senders`` for batches; with
    neither, any number does for both. Access tokens live for ``token_s``, refresh tokens for ``refresh_s`` (0: none are given);
    ``token_error`` is an HTTP status with which the token endpoint fails. ``rates`` are requests per ``window_s`` by usage plan group
    (none: no limit), ``penalty_s`` is what a 429 costs, ``retry_after`` says whether it tells so. ``opted_out_code`` is how a text to
    somebody opted out fails. A subscription whose webhook has failed for ``blacklist_s`` is blacklisted; a webhook has ``webhook_s``
    to answer.
    """

    sid: str
    client_id: str
    client_secret: str = field(repr=False)
    jwt: str = field(repr=False)
    extension: str = "100200300"
    a2p_senders: tuple[str, ...] = ()
    keeps_opt_outs: bool = field(default=True, kw_only=True)
    token_s: int = 3600
    refresh_s: int = 604_800
    token_error: int = 0
    rates: Mapping[str, int] = field(default_factory=dict)
    window_s: float = 60
    penalty_s: float = 60
    retry_after: bool = True
    opted_out_code: Literal["SMS-RC-413", "SMS-UP-413", "SMS-CAR-413"] = "SMS-RC-413"
    blacklist_s: float = 600
    webhook_s: float = 3


@dataclass(frozen=True, slots=True)
class CarrierConfig:
    """A simulated carrier.

    ``seed`` fixes message identifiers and what chance decides; None takes a new one each time, so that a gateway that outlives the
    simulator never sees an identifier twice. ``scripts`` are by destination number; ``suffixes`` switches on the numbers whose last
    digits choose a script; ``mix`` gives scripts a share of the other create requests. ``sent_ms`` and ``final_ms`` are when an
    accepted message is sent and final. ``keep`` is "messages", or "counts" for load that must not fill memory (no list, no fetch);
    at most ``max_messages`` requests and as many messages are kept (2 kB each), the oldest go first. At most ``callback_concurrency`` webhooks are under
    way and ``max_callbacks_waiting`` wait; more are dropped and counted. ``reach`` says where URLs that start with the first are
    really called, at the second: the signature is over the first, as behind a proxy.
    """

    accounts: tuple[Account | RingCentralAccount, ...]
    seed: int | None = None
    scripts: Mapping[str, Script] = field(default_factory=dict)
    suffixes: bool = False
    mix: tuple[tuple[float, Script], ...] = ()
    sent_ms: float = 20
    final_ms: float = 60
    keep: Literal["messages", "counts"] = "messages"
    max_messages: int = 100_000
    callback_concurrency: int = 64
    max_callbacks_waiting: int = 100_000
    callback_retry_ms: float = 100
    reach: tuple[tuple[str, str], ...] = ()
