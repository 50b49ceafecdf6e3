"""docs/providers.md says what each provider can do, by its own word. When this fails it prints the table: copy it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

from gateway.flow.provider import Abilities, Provider
from gateway.providers.ringcentral.provider import RingCentral, RingCentralAccount
from gateway.providers.twilio.provider import Twilio, TwilioAccount

PAGE = Path("docs/providers.md")


def accounts() -> dict[str, Provider]:
    """One account of each kind."""
    twilio = TwilioAccount("main", "AC" + "0" * 32, "token")
    plain = RingCentralAccount("main", "client", "secret", "jwt", "verification", high_volume=False)
    return {
        "Twilio": Twilio(twilio),
        "Twilio with `consents_api`": Twilio(replace(twilio, consents_api=True)),
        "Twilio with `discard` or `obfuscate`": Twilio(replace(twilio, content_retention="discard")),
        "RingCentral": RingCentral(plain),
        "RingCentral, high volume": RingCentral(replace(plain, high_volume=True)),
    }


def _yes(can: bool) -> str:
    return "yes" if can else "no"


def _between(seconds: float) -> str:
    return f"{seconds:g} s between calls"


NEWS = {"callback": "to each message's own callback URL", "subscription": "to a subscription, kept up by the gateway"}
# By the field of Abilities: what it is called, and what is said of each.
ROWS: dict[str, tuple[str, Callable[[Abilities], str]]] = {
    "batch": ("messages in one create request", lambda one: "1" if one.batch == 1 else f"up to {one.batch}"),
    "news": ("tells what became of a message", lambda one: NEWS[one.news]),
    "signs": ("its webhooks", lambda one: "are signed" if one.signs else "are not signed: each is a reason to ask"),
    "lists_sent": ("lists what it accepted, as evidence", lambda one: _yes(one.lists_sent)),
    "lists_inbound": ("lists what people sent", lambda one: _yes(one.lists_inbound)),
    "cancels_scheduled": ("cancels what other systems scheduled, at an opt-out", lambda one: _yes(one.cancels_scheduled)),
    "redacts": ("takes a text out of its copy", lambda one: _yes(one.redacts)),
    "deletes": ("deletes its copy", lambda one: _yes(one.deletes)),
    "erasure_seconds": ("copies taken away", lambda one: _between(one.erasure_seconds) if one.redacts or one.deletes else "none"),
    "tells_opt_outs": ("can be told of opt-outs", lambda one: _yes(one.tells_opt_outs)),
    "opt_outs_per_call": (
        "opt-outs told in one call",
        lambda one: f"up to {one.opt_outs_per_call}" if one.tells_opt_outs else "none",
    ),
    "opt_out_call_seconds": ("opt-outs told", lambda one: _between(one.opt_out_call_seconds) if one.tells_opt_outs else "never"),
    "lists_opt_outs": ("lists its opt-outs", lambda one: _yes(one.lists_opt_outs)),
}


def table(abilities: dict[str, Abilities]) -> str:
    """What each can do, a column each."""
    rows = [[what, *map(say, abilities.values())] for what, say in ROWS.values()]
    lines = [["", *abilities], ["---"] * (len(abilities) + 1), *rows]
    return "".join(f"| {' | '.join(cells)} |\n".replace("|  |", "| |") for cells in lines)


def test_the_table_leaves_out_nothing_that_a_provider_can() -> None:
    assert set(ROWS) == {field.name for field in fields(Abilities)}


async def test_what_forgets_the_number_is_as_little_evidence_as_what_forgets_the_text() -> None:
    """One column stands for both."""
    account = TwilioAccount("main", "AC" + "0" * 32, "token")
    both = [Twilio(replace(account, content_retention="discard")), Twilio(replace(account, address_retention="obfuscate"))]
    assert both[0].abilities == both[1].abilities
    for one in both:
        await one.close()


def _page() -> str:
    return PAGE.read_text(encoding="utf-8")


async def test_the_page_says_what_the_code_can() -> None:
    standing = accounts()
    today = table({name: provider.abilities for name, provider in standing.items()})
    for provider in standing.values():
        await provider.close()
    said = _page().partition("<!-- abilities -->\n")[2].partition("<!-- end -->")[0]
    assert said == today, f"{PAGE} should have:\n{today}"
