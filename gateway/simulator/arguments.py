"""The simulator's command line, for ``python -m gateway.simulator`` and for whoever starts it as a process."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from typing import Any

from gateway.domain.errors import GatewayError
from gateway.simulator.config import Account, CarrierConfig, RingCentralAccount
from gateway.simulator.scripts import read_script

__all__ = ["BadArgument", "parse_arguments"]

_EPILOG = """\
example:
  python -m gateway.simulator --port 9009 --account AC00000000000000000000000000000001:secret \\
      --inbound-url http://127.0.0.1:8080/webhooks/twilio/main/inbound
Numbers NXX-555-0180 to -0199 choose a script by their last digits (docs/simulator.md). For trying things out: never for production.
"""

_PARTS = 4
_GROUPS = ("Light", "Medium", "Heavy", "Auth")


class BadArgument(GatewayError):
    """An argument of the simulator that can't be read."""


def parse_arguments(arguments: list[str]) -> tuple[CarrierConfig, str, int]:
    """The configuration, host and port that the arguments ask for. Raises BadArgument; argparse itself ends the process."""
    parser = argparse.ArgumentParser(
        prog="python -m gateway.simulator", description="A simulated carrier that speaks the APIs of Twilio and of RingCentral.", epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add(
        "--host", default="127.0.0.1", help="address to listen on; the control API answers to loopback clients only (%(default)s)"
    )
    add("--port", type=int, default=0, help="port to listen on; 0 takes a free one (%(default)s)")
    add("--seed", type=int, help="fixes identifiers and what chance decides; a new one each time unless given")
    add("--account", action="append", default=[], metavar="SID:TOKEN", help="an account at Twilio; may be given more than once")
    add(
        "--ringcentral",
        action="append",
        default=[],
        metavar="ID:CLIENT:SECRET:JWT",
        help="an account at RingCentral; may be given more than once",
    )
    for kind, use in (("sms", "single SMS"), ("a2p", "batches")):
        add(
            f"--{kind}-sender",
            action="append",
            default=[],
            metavar="[ID=]NUMBER",
            help=f"a number for {use} of an account at RingCentral, the first unless named",
        )
    add(
        "--rate",
        action="append",
        default=[],
        metavar="GROUP=N",
        help="requests a minute in a usage plan group; none unless given",
    )
    add("--token-seconds", type=int, default=3600, help="how long an access token lives (%(default)s)")
    add(
        "--inbound-url",
        action="append",
        default=[],
        metavar="[SID=]URL",
        help="where texts are posted, for one account or for all",
    )
    add("--sender", action="append", default=[], metavar="NUMBER", help="a number of the first account; any will do unless given")
    add("--service", action="append", default=[], metavar="SID=NUMBER,...", help="a messaging service of the first account")
    add("--latency-ms", type=float, default=0, help="time before each create request is decided")
    add("--concurrency", type=int, help="requests of an account at a time; more get 429")
    add("--every-nth-429", type=int, default=0, metavar="N", help="every N-th create request gets 429")
    add("--callbacks", choices=("full", "final", "none"), default="full", help="which status callbacks are sent (%(default)s)")
    add("--sent-ms", type=float, default=20, help="time from acceptance to sent (%(default)s)")
    add("--final-ms", type=float, default=60, help="time from acceptance to delivered (%(default)s)")
    add("--script", action="append", default=[], metavar="NUMBER=SCRIPT", help="a script by name, or as a JSON object")
    add("--mix", action="append", default=[], metavar="SHARE=SCRIPT", help="a script for a share (0 to 1) of the other requests")
    add("--no-suffixes", action="store_true", help="last digits of a number choose no script")
    add("--keep", choices=("messages", "counts"), default="messages", help="counts: keep no messages, for load (%(default)s)")
    add("--reach", action="append", default=[], metavar="PUBLIC=REAL", help="call webhook URLs that start with PUBLIC at REAL")
    given = parser.parse_args(arguments)
    accounts: list[Account | RingCentralAccount] = [*_twilio(given), *_ringcentral(given)]
    if not accounts:
        raise BadArgument("give an --account or a --ringcentral")
    config = CarrierConfig(
        accounts=tuple(accounts), seed=given.seed, suffixes=not given.no_suffixes, sent_ms=given.sent_ms, final_ms=given.final_ms,
        scripts={number: read_script(_value(text)) for number, text in (_pair("--script", text) for text in given.script)},
        mix=tuple((_share(share), read_script(_value(text))) for share, text in (_pair("--mix", text) for text in given.mix)),
        keep=given.keep, reach=tuple(_pair("--reach", text) for text in given.reach),
    )  # fmt: skip
    return config, given.host, given.port


def _twilio(given: argparse.Namespace) -> list[Account]:
    accounts = [
        Account(sid, token, inbound_url=_inbound_url(sid, given.inbound_url), **_limits(given))
        for sid, token in (_pair("--account", text, ":") for text in given.account)
    ]
    if accounts:
        services = {sid: tuple(numbers.split(",")) for sid, numbers in (_pair("--service", text) for text in given.service)}
        accounts[0] = replace(accounts[0], senders=tuple(given.sender), services=services)
    return accounts


def _ringcentral(given: argparse.Namespace) -> list[RingCentralAccount]:
    rates = {group: _whole("--rate", number) for group, number in (_pair("--rate", text) for text in given.rate)}
    if unknown := set(rates) - set(_GROUPS):
        raise BadArgument(f"--rate knows no group {', '.join(sorted(unknown))}; there are {', '.join(_GROUPS)}")
    accounts = []
    for text in given.ringcentral:
        parts = text.split(":")
        if len(parts) != _PARTS or not all(parts):
            raise BadArgument("--ringcentral needs an id, a client id, its secret and a JWT, with ':' between them")
        sid, client_id, secret, jwt = parts
        accounts.append(
            RingCentralAccount(sid, client_id, secret, jwt, token_s=given.token_seconds, rates=rates, **_limits(given))
        )
    ids = [account.sid for account in accounts]
    single, batches = (
        _numbers(option, given_, ids)
        for option, given_ in (("--sms-sender", given.sms_sender), ("--a2p-sender", given.a2p_sender))
    )
    return [replace(one, senders=tuple(single[one.sid]), a2p_senders=tuple(batches[one.sid])) for one in accounts]


def _numbers(option: str, given: list[str], ids: list[str]) -> dict[str, list[str]]:
    """Numbers by the account that each is for."""
    numbers: dict[str, list[str]] = {sid: [] for sid in ids}
    for text in given if ids else ():
        sid, _, number = text.rpartition("=")
        if (sid or ids[0]) not in numbers:
            raise BadArgument(f"{option} names an account that no --ringcentral does")
        numbers[sid or ids[0]].append(number)
    return numbers


def _limits(given: argparse.Namespace) -> dict[str, Any]:
    names = ("latency_ms", "concurrency", "every_nth_429", "callbacks")
    return {name: getattr(given, name) for name in names}


def _whole(option: str, text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise BadArgument(f"{option} needs a whole number")
    return int(text)


def _inbound_url(sid: str, given: list[str]) -> str | None:
    own = [url.removeprefix(f"{sid}=") for url in given if url.startswith(f"{sid}=")]
    return next(reversed([url for url in given if url.startswith("http")] + own), None)


def _pair(option: str, text: str, between: str = "=") -> tuple[str, str]:
    left, found, right = text.partition(between)
    if not (left and found and right):
        raise BadArgument(f"{option} needs two parts with {between!r} between them")
    return left, right


def _value(text: str) -> Any:
    try:
        return json.loads(text) if text.startswith("{") else text
    except ValueError:
        raise BadArgument("a script is a name or a JSON object") from None


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1
    if not 0 <= share <= 1:
        raise BadArgument("--mix needs a share from 0 to 1")
    return share
