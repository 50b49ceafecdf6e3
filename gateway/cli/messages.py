"""``gateway status`` and ``gateway cancel``: one message, by its producer's id."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import click

from gateway.cli.commands import Command
from gateway.cli.fields import MESSAGE_ID, tenant_option
from gateway.cli.invocation import Invocation, actor, tenant_of
from gateway.cli.output import as_json, json_option, table

__all__ = ["cancel", "status"]

WHY: Final = {
    "allowed": "nothing stands against it",
    "opted_out": "the person has opted out: an opt-out covers this message",
    "no_opt_in": "it is marketing, and no opt-in of the person is on record",
    "expired": "its expires_at had passed before a request could begin",
    "retention": "the time for which its content may be kept was over before a request could begin",
    "not_before": "it waits for its not_before",
    "bad_number": "the number is none, or none that can be texted",
    "not_on_allow_list": "an allow-list is set, and the number is not on it",
    "unknown_programme": "the tenant's policy has no such programme",
    "category_not_allowed": "the programme does not send this category",
    "sender_not_allowed": "the sender is not one of the programme's, or the route does not lead over it",
    "provider_not_allowed": "no sender of the programme is with a provider that the policy allows",
    "region_not_allowed": "no account that it could leave by is in a region that the policy allows",
    "no_route": "the programme has no route for this category and the person's country",
    "duplicate": "the message_id was there before, with the same content",
    "paused": "an operator has paused what it belongs to",
    "canceled": "an operator canceled it",
    "account_closed": "the tenant's customer account is closed",
    "rate_limited": "the provider had too many requests; it is tried again",
    "queue_full": "the provider's queue or daily limit is full; it is tried again",
    "configuration": "credentials or set-up at the provider are wrong: act on it",
    "unreachable": "the provider could not be reached; surely nothing was sent",
    "not_textable": "the provider cannot text this number",
    "region_not_enabled": "the account may not text this country",
    "refused": "the provider refused it",
    "no_answer": "a request may or may not have been accepted; evidence is looked for, and it is not sent again",
    "accepted": "the provider has accepted it",
    "delivered": "the carrier reports delivery",
    "not_delivered": "the carrier reports that it did not arrive",
    "filtered": "the provider or a carrier filtered it out",
    "no_receipt": "it was accepted; no delivery report came in time",
    "no_evidence": "nothing proved in time what became of it; it is not sent again",
}


@click.command(
    cls=Command,
    examples=[
        ("its story, step by step", "gateway status --tenant harbour-books order-4711"),
        ("its state alone", "gateway status --tenant harbour-books order-4711 --json | jq -r .state"),
    ],
)
@tenant_option
@click.argument("message_id", type=MESSAGE_ID)
@json_option
@click.pass_obj
def status(invocation: Invocation, tenant: str | None, message_id: str, as_json_: bool) -> int:
    """Tell what became of a message, and why.

    MESSAGE_ID is the producer's. Shown are the decision with its rule and policy version, every attempt, and the evidence for what is
    known; never the number or the text. Exit code 1 when there is no such message.
    """
    from gateway.app.wiring import Parts
    from gateway.domain.errors import NotFound

    async def find(parts: Parts) -> tuple[Mapping[str, Any] | None, list[dict[str, Any]]]:
        found = await parts.operate.find(tenant_of(parts.policies, tenant), message_id)
        return found, await parts.control.pauses()

    story, pauses = invocation.with_parts(find)
    if story is None:
        raise NotFound(
            "no message of this tenant has this id: it is not read yet, was dead-lettered, or is older than ids are remembered"
        )
    held = [] if story.get("final") else [pause for pause in pauses if _holds(pause, story)]
    if as_json_:
        as_json({**story, "pauses": held})
    else:
        _tell(story)
        for pause in held:
            click.echo(
                f"paused by {pause['actor']} since {pause['since']:%Y-%m-%d %H:%M:%SZ}: {pause['why'] or 'no reason given'}"
            )
    return 0


def _holds(pause: Mapping[str, Any], story: Mapping[str, Any]) -> bool:
    """Whether a pause may keep a message from being sent; which provider it will leave by is not known before it does."""
    match pause["scope"]:
        case "tenant":
            return bool(pause["tenant"] == story["tenant"])
        case "programme":
            return bool((pause["tenant"], pause["name"]) == (story["tenant"], story["programme"]))
        case _:
            return True


def _tell(story: Mapping[str, Any]) -> None:
    final = "final" if story.get("final") else "not final yet"
    click.echo(f"{story['state']} ({final}): {WHY.get(story.get('reason', ''), story.get('reason', ''))}")
    click.echo()
    facts = [
        ("decided by", _with(story.get("rule"), "policy", story.get("policy"))),
        ("programme", f"{story.get('tenant')}/{story.get('programme')} ({story.get('category')})"),
        ("way out", _with(story.get("provider"), "account", story.get("account"), "sender", story.get("sender"))),
        ("provider's id", story.get("provider_message_id")),
        ("provider's code", story.get("code")),
        ("parts", story.get("parts")),
        ("recipient_ref", story.get("recipient_ref")),
        ("not before", story.get("not_before")),
        ("expires at", story.get("expires_at")),
        ("in the queue", _with(story.get("queued"), "due at", story.get("due_at"))),
        ("settled by", story.get("settle_by")),
        ("uid", story.get("uid")),
    ]
    table(["fact", "value"], [fact for fact in facts if fact[1] not in (None, "")])
    click.echo()
    columns = ("at", "step", "state", "reason", "rule", "attempt", "provider", "code", "evidence", "actor")
    table(columns, [[step.get(column) for column in columns] for step in story.get("steps", [])], title="Every step")


def _with(value: Any, *more: Any) -> str:
    """``value, name1 value1``, of what is there."""
    pairs = [f"{name} {said}" for name, said in zip(more[::2], more[1::2], strict=True) if said is not None]
    return ", ".join([*([str(value)] if value is not None else []), *pairs])


@click.command(cls=Command, examples=[("before it is sent", "gateway cancel --tenant harbour-books order-4711")])
@tenant_option
@click.argument("message_id", type=MESSAGE_ID)
@json_option
@click.pass_obj
def cancel(invocation: Invocation, tenant: str | None, message_id: str, as_json_: bool) -> int:
    """Cancel a message that is not sent yet.

    MESSAGE_ID is the producer's. Exit code 1 when there is no such message, or when it is too late: a request for it has begun.
    """
    from gateway.app.wiring import Parts

    async def end(parts: Parts) -> bool:
        return await parts.operate.cancel(tenant_of(parts.policies, tenant), message_id, actor())

    canceled = invocation.with_parts(end)
    if as_json_:
        as_json({"canceled": canceled})
    elif canceled:
        click.echo("canceled")
    else:
        click.echo("too late: a request for it has begun, or it has ended; see gateway status", err=True)
    return 0 if canceled else 1
