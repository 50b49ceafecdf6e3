"""``gateway dead-letters replay``: put records back onto the topic that they came from."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final
from uuid import UUID

import click

from gateway.cli.commands import Command
from gateway.cli.invocation import Invocation, actor
from gateway.cli.letter_options import LETTER_ID, letter_filter, which
from gateway.cli.output import as_json, json_option, progress

if TYPE_CHECKING:
    from gateway.app.wiring import Parts
    from gateway.flow.letters import LetterFilter
    from gateway.flow.replaying import Replay

__all__ = ["replay"]

_BATCH: Final = 50  # letters in memory at a time, each of at most 320 KiB
_PAGE: Final = 1000


@click.command(
    cls=Command,
    examples=[
        ("one, when its cause is mended", "gateway dead-letters replay 019ab1e0-7c00-7abc-8def-0123456789ab"),
        ("all that a missing policy has cost", "gateway dead-letters replay --reason unknown_tenant --since 2d"),
        ("the same by machine", "gateway dead-letters replay --reason unknown_tenant --since 2d --yes --json"),
    ],
)
@click.argument("letters", type=LETTER_ID, nargs=-1, metavar="[ID]...")
@which
@click.option("--again", is_flag=True, help="Also those that were put back before.")
@click.option("--yes", is_flag=True, help="Do not ask before many are put back.")
@json_option
@click.pass_obj
def replay(
    invocation: Invocation,
    /,
    letters: tuple[UUID, ...],
    tenant: str | None,
    reasons: tuple[str, ...],
    since: datetime | None,
    until: datetime | None,
    again: bool,
    yes: bool,
    as_json_: bool,
) -> int:
    """Put dead letters back onto the topic that they came from.

    Named by their ids, or by the options; these leave out what was put back before, unless --again is given. The record's own key,
    headers and value are published, and read as if they had come now: by today's policies. Texts may be sent.

    A message_id that no message has yet is accepted. One that was accepted meanwhile is not sent again: with the same content it has
    the first one's fate, with other content it is a dead letter again. A record that fails again becomes a new dead letter, which
    names the first. Exit code 1 when one was not put back.
    """
    chosen = any((tenant, reasons, since, until))
    if bool(letters) is chosen:
        raise click.UsageError("give either ids, or at least one of --tenant, --reason, --since and --until")
    wanted = letter_filter(tenant, reasons, since, until, replayed=None if again else False)

    async def find(parts: Parts) -> list[UUID]:
        return await _find(parts, wanted)

    found = list(dict.fromkeys(letters)) if letters else invocation.with_parts(find)
    if chosen and found and not yes:
        _ask(len(found))

    async def act(parts: Parts) -> list[Replay]:
        return await _replay(parts, found, again=again)

    return _tell(invocation.with_parts(act) if found else [], json_wanted=as_json_)


async def _find(parts: Parts, wanted: LetterFilter) -> list[UUID]:
    found: list[UUID] = []
    before: UUID | None = None
    while True:
        rows, before = await parts.letters().page(wanted, before, _PAGE)
        found += [row["uid"] for row in rows]
        if before is None:
            return sorted(found)  # oldest first: a person's messages keep their order


def _ask(count: int) -> None:
    if not sys.stdin.isatty():
        raise click.UsageError(f"{_counted(count)} would be put back: say --yes, or name them")
    click.confirm(f"Put {_counted(count)} back? Texts may be sent", abort=True, err=True)


async def _replay(parts: Parts, found: Sequence[UUID], *, again: bool) -> list[Replay]:
    from gateway.app.kafka import publishing

    results: list[Replay] = []
    async with publishing(parts.settings) as publisher:
        replaying = parts.replaying(publisher)
        with progress("putting back", len(found)) as advance:
            for first in range(0, len(found), _BATCH):
                batch = found[first : first + _BATCH]
                results += await replaying.replay(batch, actor(), await parts.ledger.now(), again=again)
                advance(len(batch))
    return results


def _tell(results: Sequence[Replay], *, json_wanted: bool) -> int:
    done = [one for one in results if one.why is None]
    left = [one for one in results if one.why is not None]
    if json_wanted:
        as_json({"replayed": [one.uid for one in done], "not_replayed": [{"id": one.uid, "why": one.why} for one in left]})
    else:
        click.echo(f"{_counted(len(done))} put back")
        for one in left[:10]:
            click.echo(f"{one.uid} was not put back: {one.why}", err=True)
        if len(left) > 10:
            click.echo(f"and {len(left) - 10} more", err=True)
        if done:
            click.echo("A message_id that was accepted meanwhile is not sent again. What fails again is a new dead letter.")
    return 1 if left else 0


def _counted(count: int) -> str:
    return f"{count} dead letter{'' if count == 1 else 's'}"
