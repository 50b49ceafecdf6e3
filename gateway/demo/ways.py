"""What each provider did of a demo: texts taken and their ends, batches, and the opt-outs that every account must hold."""

from __future__ import annotations

from collections import Counter

from gateway.demo.facts import Facts
from gateway.demo.people import CLINIC, Wish

__all__ = ["batches", "delivered_by", "opt_outs_astray", "taken_by"]


def taken_by(facts: Facts) -> dict[str, int]:
    """How many messages each provider took."""
    return dict(sorted(Counter(_provider(facts, request["account"]) for request, _ in facts.texts_taken()).items()))


def delivered_by(facts: Facts, provider: str) -> int:
    """How many messages that this provider took are told of as delivered."""
    latest = facts.watch.latest
    keys = {message.key for request, message in facts.texts_taken() if _provider(facts, request["account"]) == provider}
    return sum(latest[key].state == "delivered" for key in keys & latest.keys())


def batches(facts: Facts) -> dict[str, int]:
    """Requests that carried messages to RingCentral, and the most messages that one carried."""
    sizes = Counter(request["batch"] for request, _ in facts.texts_taken() if request["batch"] is not None)
    return {"requests": len(sizes), "most_messages": max(sizes.values(), default=0)}


def opt_outs_astray(facts: Facts) -> list[str]:
    """Who texted STOP and is not opted out of every sender that it covers, at each account that can be told; or is, after a START."""
    return [
        stopped.wish.person.ref for stopped in facts.scenes.stopped if _held(facts, stopped.wish) != _due(facts, stopped.wish)
    ]


def _due(facts: Facts, wish: Wish) -> set[tuple[str, str]]:
    told = {"ringcentral", "spare"}  # main is with Twilio, which has no list of opt-outs unless it opens one to an account
    covered = {
        (account, sender)
        for tenant, programme, account, sender in facts.evidence.senders
        if tenant == wish.tenant and (tenant == CLINIC or programme == wish.programme) and account in told
    }
    return set() if wish.regrets else covered


def _held(facts: Facts, wish: Wish) -> set[tuple[str, str]]:
    return {(account, sender) for account, sender, number in facts.evidence.opted_out if number == wish.person.number.reveal()}


def _provider(facts: Facts, account: str) -> str:
    return facts.evidence.accounts.get(account, ("", "somebody"))[1]
