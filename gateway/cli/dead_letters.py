"""``gateway dead-letters``: what could not be processed, and why."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import click

from gateway.cli.commands import Command, Group
from gateway.cli.dead_letters_replay import replay
from gateway.cli.fields import first_line
from gateway.cli.invocation import Invocation, actor
from gateway.cli.letter_options import LETTER_ID, letter_filter, which
from gateway.cli.output import as_json, json_option, table

if TYPE_CHECKING:
    from gateway.app.wiring import Parts
    from gateway.domain.kept_records import KeptRecord

__all__ = ["VARIABLE", "dead_letters"]

VARIABLE: Final = "SMSGW_TOKEN"
"""Where a token is looked for before it is asked for. Not among the settings: it is a person's, not the gateway's."""


@click.group(cls=Group)
def dead_letters() -> None:
    """Look at what could not be processed, and put it back.

    A dead letter is a record of an input topic that can never be processed as it is. It is kept sealed, with its reason.
    """


@dead_letters.command(
    "list",
    cls=Command,
    examples=[
        ("the newest", "gateway dead-letters list"),
        ("what nobody has put back yet", "gateway dead-letters list --reason unknown_tenant --since 7d --not-replayed"),
        ("by machine", "gateway dead-letters list --json | jq -r '.dead_letters[].id'"),
    ],
)
@which
@click.option("--replayed/--not-replayed", default=None, help="Only those that were put back, or were not.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, metavar="N", help="How many at most.")
@click.option("--before", type=LETTER_ID, metavar="ID", help="The next page: those before this one.")
@json_option
@click.pass_obj
def list_(
    invocation: Invocation,
    /,
    tenant: str | None,
    reasons: tuple[str, ...],
    since: datetime | None,
    until: datetime | None,
    replayed: bool | None,
    limit: int,
    before: UUID | None,
    as_json_: bool,
) -> int:
    """Show dead letters, the newest first, and nothing of what is in them."""
    wanted = letter_filter(tenant, reasons, since, until, replayed=replayed)

    async def look(parts: Parts) -> tuple[list[dict[str, Any]], UUID | None]:
        return await parts.letters().page(wanted, before, limit)

    rows, after = invocation.with_parts(look)
    if as_json_:
        as_json({"dead_letters": [_facts(row) for row in rows], "before": after})
    elif rows:
        columns = ["id", "at", "tenant", "reason", "detail", "bytes", "replayed"]
        table(
            columns,
            [
                [row["uid"], row["at"], row["tenant"], row["reason"], row["detail"], row["length"], row["replayed_at"]]
                for row in rows
            ],
        )
        if after is not None:
            click.echo(f"there are more: --before {after}")
    else:
        click.echo("there is no such dead letter")
    return 0


@dead_letters.command(
    cls=Command,
    examples=[
        ("where it came from and why it is here", "gateway dead-letters show 019ab1e0-7c00-7abc-8def-0123456789ab"),
        (
            "what is in it, by a token with the right read-payloads, which is asked for",
            "gateway dead-letters show 019ab1e0-7c00-7abc-8def-0123456789ab --payload",
        ),
    ],
)
@click.argument("letter", type=LETTER_ID, metavar="ID")
@click.option("--payload", is_flag=True, help="Also what is in it; needs a token with the right read-payloads.")
@json_option
@click.pass_obj
def show(invocation: Invocation, letter: UUID, payload: bool, as_json_: bool) -> int:
    """Show where a dead letter came from, why it is one, and what was done with it.

    What is in it is shown with --payload only, to who has a token with the right read-payloads (`gateway tokens create`) for its
    tenant, or for all of them where it belongs to none. The token is read from the variable SMSGW_TOKEN, or asked for; where there is
    no terminal, it is the first line of standard input. The audit keeps who saw which letter, and who was refused.
    """
    digest = _token_hash(invocation) if payload else None

    async def look(parts: Parts) -> tuple[Mapping[str, Any], KeptRecord | None]:
        letters = parts.letters()
        record = await letters.read(letter, digest, actor()) if payload else None
        return await letters.facts(letter), record

    facts, record = invocation.with_parts(look)
    if as_json_:
        steps = {"steps": facts["steps"]}
        as_json({**_facts(facts), **steps, **({"record": _record(record)} if record is not None else {})})
    else:
        _tell(facts)
        if record is not None:
            _tell_record(record)
    return 0


dead_letters.add_command(replay)


def _token_hash(invocation: Invocation) -> bytes | None:
    """The hash of the token that is given; None when there is none."""
    from gateway.crypto.bearer import token_hash

    text = invocation.environment.get(VARIABLE, "").strip() or first_line("Token")
    return token_hash(text) if text else None


def _facts(row: Mapping[str, Any]) -> dict[str, Any]:
    """A letter for machines."""
    names = {"uid": "id", "record_offset": "offset"}
    return {names.get(name, name): value for name, value in row.items() if name != "steps"}


def _tell(row: Mapping[str, Any]) -> None:
    kept = "kept, sealed" if row["kept"] else "not kept: it was too large, so it can be neither shown nor put back"
    times = f", {row['replays']} times in all" if row["replays"] > 1 else ""
    facts = [
        ("id", row["uid"]),
        ("at", row["at"]),
        ("reason", row["reason"]),
        ("detail", row["detail"]),
        ("tenant", row["tenant"] if row["tenant"] != "_system" else "none that could be read and believed (_system)"),
        ("came from", f"{row['topic']}, partition {row['partition']}, offset {row['record_offset']}"),
        ("bytes", row["length"]),
        ("SHA-256", row["sha256"]),
        ("payload", kept),
        ("put back", f"{row['replayed_at']:%Y-%m-%d %H:%M:%SZ} by {row['replayed_by']}{times}" if row["replayed_at"] else None),
        ("first became", row["replay_of"]),
    ]
    table(["fact", "value"], [fact for fact in facts if fact[1] is not None])
    click.echo()
    table(["at", "step", "reason", "actor"], [list(step.values()) for step in row["steps"]], title="What was done with it")


def _record(record: KeptRecord) -> dict[str, Any]:
    """The record for machines: its bytes in base64, and the value as text too where it is one."""

    def encoded(value: bytes | None) -> str | None:
        return None if value is None else base64.b64encode(value).decode()

    try:
        text = record.value.decode() if record.value is not None else None
    except UnicodeDecodeError:
        text = None
    return {
        "key_base64": encoded(record.key),
        "headers": [{"name": name, "value_base64": encoded(value)} for name, value in record.headers],
        "value_base64": encoded(record.value),
        "value": text,
    }


def _tell_record(record: KeptRecord) -> None:
    """The record for people. What a terminal would obey is shown as an escape."""
    click.echo()
    click.echo("The record")
    for name, value in record.headers:
        click.echo(f"{_visible(name)}: {_visible((value or b'').decode(errors='backslashreplace'))}")
    click.echo()
    if record.value is None:
        click.echo("it has no value")
    else:
        click.echo(_visible(record.value.decode(errors="backslashreplace")))


def _visible(text: str) -> str:
    return "".join(char if char.isprintable() or char == "\n" else char.encode("unicode_escape").decode() for char in text)
