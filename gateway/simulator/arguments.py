"""The simulator's command line, for ``python -m gateway.simulator`` and for whoever starts it as a process."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from typing import Any

from gateway.domain.errors import GatewayError
from gateway.simulator.config import Account, CarrierConfig
from gateway.simulator.scripts import read_script

__all__ = ["BadArgument", "parse_arguments"]

_EPILOG = """\
example:
  python -m gateway.simulator --port 9009 --account AC00000000000000000000000000000001:secret \\
      --inbound-url http://127.0.0.1:8080/webhooks/twilio/main/inbound
Numbers NXX-555-0180 to -0199 choose a script by their last digits (docs/simulator.md). For trying things out: never for production.
"""


class BadArgument(GatewayError):
    """An argument of the simulator that can't be read."""


def parse_arguments(arguments: list[str]) -> tuple[CarrierConfig, str, int]:
    """The configuration, host and port that the arguments ask for. Raises BadArgument; argparse itself ends the process."""
    parser = argparse.ArgumentParser(
        prog="python -m gateway.simulator", description="A simulated carrier that speaks Twilio's Messages API.", epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add(
        "--host", default="127.0.0.1", help="address to listen on; the control API answers to loopback clients only (%(default)s)"
    )
    add("--port", type=int, default=0, help="port to listen on; 0 takes a free one (%(default)s)")
    add("--seed", type=int, help="fixes identifiers and what chance decides; a new one each time unless given")
    add("--account", action="append", required=True, metavar="SID:TOKEN", help="an account; may be given more than once")
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
    accounts = [
        Account(
            sid,
            token,
            inbound_url=_inbound_url(sid, given.inbound_url),
            latency_ms=given.latency_ms,
            concurrency=given.concurrency,
            every_nth_429=given.every_nth_429,
            callbacks=given.callbacks,
        )
        for sid, token in (_pair("--account", text, ":") for text in given.account)
    ]
    services = {sid: tuple(numbers.split(",")) for sid, numbers in (_pair("--service", text) for text in given.service)}
    accounts[0] = replace(accounts[0], senders=tuple(given.sender), services=services)
    config = CarrierConfig(
        accounts=tuple(accounts), seed=given.seed, suffixes=not given.no_suffixes, sent_ms=given.sent_ms, final_ms=given.final_ms,
        scripts={number: read_script(_value(text)) for number, text in (_pair("--script", text) for text in given.script)},
        mix=tuple((_share(share), read_script(_value(text))) for share, text in (_pair("--mix", text) for text in given.mix)),
        keep=given.keep, reach=tuple(_pair("--reach", text) for text in given.reach),
    )  # fmt: skip
    return config, given.host, given.port


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
