"""Option types and checks that more than one command uses. None of them shows what it refuses: it may be a number."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import click

from gateway.domain.personal import LIKE_A_NUMBER

if TYPE_CHECKING:
    from datetime import datetime

    from gateway.domain.personal import PhoneNumber

__all__ = [
    "ALIAS",
    "CHAIN",
    "MESSAGE_ID",
    "SLUG",
    "WHY",
    "first_line",
    "moment",
    "no_arguments",
    "prompted",
    "read_number",
    "some_number",
    "tenant_option",
]

_HINT: Final = (
    "a telephone number is never taken from an argument, which shells and process lists keep: "
    "leave it out, and give it at the prompt or as the first line of standard input"
)


class _Matching(click.ParamType[str]):
    """Text of a form."""

    def __init__(self, name: str, pattern: str, meaning: str) -> None:
        self.name = name
        self._pattern = re.compile(pattern)
        self._meaning = meaning

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not self._pattern.fullmatch(value):
            self.fail(f"must be {self._meaning}", param, ctx)
        return str(value)


class _Why(click.ParamType[str]):
    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if len(value) > 200 or not value.isprintable():
            self.fail("must be one line of at most 200 characters", param, ctx)
        if LIKE_A_NUMBER.search(value):
            self.fail("holds what looks like a telephone number; it is kept in the clear, so leave that out", param, ctx)
        return str(value)


_NAME: Final = r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?"
SLUG: Final = _Matching("name", _NAME, "small letters, digits and inner hyphens, at most 64")
ALIAS: Final = _Matching("alias", r"[a-z](?:_?[a-z0-9-])*_?", "an account's alias, as in the settings")
CHAIN: Final = _Matching("name", rf"_system|{_NAME}", "a tenant's name, or _system")
MESSAGE_ID: Final = _Matching("id", r"[!-~]{1,128}", "1 to 128 visible ASCII characters")
WHY: Final = _Why()

tenant_option = click.option(
    "--tenant", type=SLUG, metavar="TENANT", help="Whose it is; may be left out when there is one tenant alone."
)


def _refuse(ctx: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> None:
    """The callback of a hidden argument that takes what should not be there, to say why a number must not."""
    if any(LIKE_A_NUMBER.fullmatch(value.strip()) for value in values):
        raise click.UsageError(_HINT, ctx)
    if values:
        raise click.UsageError(f"{len(values)} argument(s) too many", ctx)


def no_arguments(function: Callable[..., Any]) -> Callable[..., Any]:
    """For commands that are about a person: no argument is taken, least of all a number."""
    return click.argument("unwanted", nargs=-1, type=click.UNPROCESSED, expose_value=False, callback=_refuse, metavar="")(
        function
    )


def moment(option: str, text: str | None) -> datetime | None:
    """What an option says of a time, which must say its offset. Raises UsageError."""
    from datetime import datetime

    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise click.UsageError(f"{option} must be a time with its offset, such as 2027-06-30T00:00:00Z")
    return found


def read_number(region: str | None) -> PhoneNumber:
    """A number from a prompt that does not show it, or from the first line of standard input. GatewayError when it is none."""
    from gateway.domain.errors import GatewayError

    number = some_number(first_line("Telephone number"), region)
    if isinstance(number, str):
        raise GatewayError(f"the number that was given cannot be read: {number}")
    return number


def some_number(text: str, region: str | None) -> PhoneNumber | str:
    """A number that somebody can have, textable or not, so that no opt-out is lost to a list of prefixes; or why it is none."""
    from gateway.domain.phone import BadNumber, normal_form

    number = normal_form(text, region)
    if isinstance(number, BadNumber):
        return number.why
    digits = len(number.reveal()) - 1
    return "too_short" if digits < 7 else "too_long" if digits > 15 else number  # E.164 has at most 15


def first_line(what: str) -> str:
    """What is given at a prompt, or as the first line of standard input; without blanks around it."""
    return (prompted(what) if sys.stdin.isatty() else sys.stdin.buffer.readline().decode(errors="replace")).strip()


def prompted(what: str) -> str:
    """What somebody types at a prompt that does not show it."""
    return str(click.prompt(what, hide_input=True, err=True))
