"""How a simulated carrier is set up: its accounts, its pace, and how much it keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from gateway.simulator.scripts import Script

__all__ = ["Account", "CallbackMode", "CarrierConfig"]

CallbackMode = Literal["full", "final", "none"]


@dataclass(frozen=True, slots=True)
class Account:
    """One account with the carrier, and its limits.

    ``senders`` are its numbers, ``services`` its messaging services with the numbers of each; with neither, any sender will do.
    ``inbound_url`` is the webhook for texts to its numbers, ``inbound_urls`` overrides it by number. ``status_callback`` is used
    where a create request names none. ``latency_ms`` passes before each create request is decided; above ``concurrency`` requests at
    a time, and for every ``every_nth_429``-th create request, the answer is 429. ``callbacks`` says which status callbacks are sent.
    ``keeps_opt_outs`` makes the carrier refuse with 21610 whom an inbound text with an ``opt_out_type`` of STOP has opted out.
    ``redaction`` allows ContentRetention and AddressRetention. ``test`` makes these test credentials: the magic senders only.
    """

    sid: str
    token: str = field(repr=False)
    senders: tuple[str, ...] = ()
    services: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    inbound_url: str | None = None
    inbound_urls: Mapping[str, str] = field(default_factory=dict)
    status_callback: str | None = None
    latency_ms: float = 0
    concurrency: int | None = None
    every_nth_429: int = 0
    callbacks: CallbackMode = "full"
    keeps_opt_outs: bool = False
    redaction: bool = False
    test: bool = False


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

    accounts: tuple[Account, ...]
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
