"""What ``gateway dead-letters`` takes: a letter's id, a moment, and which letters are meant."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import click

from gateway.cli.fields import CHAIN

if TYPE_CHECKING:
    from gateway.flow.letters import LetterFilter

__all__ = ["LETTER_ID", "REASONS", "letter_filter", "which"]

REASONS: Final = (
    "too_large",
    "not_utf8",
    "nul",
    "not_json",
    "bad_cloudevent",
    "unknown_type",
    "wrong_schema",
    "unknown_tenant",
    "not_allowed",
    "id_reused",
    "tenant_closed",
)
_SPAN: Final = re.compile(r"(\d{1,5})([smhd])")
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class _LetterId(click.ParamType[UUID]):
    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> UUID:
        if isinstance(value, UUID):
            return value
        try:
            found = UUID(value)
        except ValueError:
            found = None
        if found is None or found.version != 7:
            self.fail("must be a dead letter's id, as gateway dead-letters list shows it", param, ctx)
        return found


class _Moment(click.ParamType[datetime]):
    name = "moment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        if span := _SPAN.fullmatch(value):
            return datetime.now(UTC) - timedelta(seconds=int(span[1]) * _UNITS[span[2]])
        try:
            found = datetime.fromisoformat(value)
        except ValueError:
            found = None
        if found is None:
            self.fail("must be a span such as 90m, 12h or 7d, or a moment such as 2026-05-01T09:00Z", param, ctx)
        return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


LETTER_ID: Final = _LetterId()


def which(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say which letters are meant."""
    for option in (
        click.option("--until", type=_Moment(), metavar="WHEN", help="Only those from before."),
        click.option("--since", type=_Moment(), metavar="WHEN", help="Only those from then on: 90m, 12h, 7d ago, or a moment."),
        click.option("--reason", "reasons", type=click.Choice(REASONS), multiple=True, help="Only these; several may be given."),
        click.option(
            "--tenant", type=CHAIN, metavar="TENANT", help="Only this tenant's; _system: those that belong to no tenant."
        ),
    ):
        command = option(command)
    return command


def letter_filter(
    tenant: str | None, reasons: tuple[str, ...], since: datetime | None, until: datetime | None, *, replayed: bool | None
) -> LetterFilter:
    """What the options of :func:`which` say."""
    from gateway.flow.letters import LetterFilter

    return LetterFilter(tenant, reasons, since, until, replayed)
