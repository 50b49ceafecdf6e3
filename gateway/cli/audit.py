"""``gateway audit``: verify the audit's chains where they are kept, write them to a file, and verify such a file."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Literal

import click

from gateway.cli.commands import Command, Group
from gateway.cli.fields import CHAIN
from gateway.cli.invocation import Invocation
from gateway.cli.output import as_json, json_option, progress, table

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from gateway.app.wiring import Parts
    from gateway.domain.chain_check import Finding
    from gateway.flow.audit import Report

__all__ = ["audit"]

_SHOWN: Final = 50
_tenant_option: Final = click.option("--tenant", type=CHAIN, help="One tenant's chain, or _system's; else all.")


@click.group(cls=Group)
def audit() -> None:
    """Verify the audit's chains, or export them."""


@audit.command(
    cls=Command,
    examples=[
        ("all chains, in PostgreSQL and in the topic", "gateway audit verify"),
        ("one tenant's, in PostgreSQL alone", "gateway audit verify --tenant harbour-books --in postgresql"),
        ("a file, anywhere, without servers or keys", "gateway audit verify audit.jsonl"),
    ],
)
@click.argument("file", required=False, type=click.Path(path_type=Path, exists=True, dir_okay=False, readable=True))
@_tenant_option
@click.option(
    "--in",
    "where",
    type=click.Choice(["both", "postgresql", "topic"]),
    default="both",
    help="Where to look; the topic is compared with PostgreSQL in any case.",
)
@json_option
@click.pass_obj
def verify(
    invocation: Invocation, file: Path | None, tenant: str | None, where: Literal["both", "postgresql", "topic"], as_json_: bool
) -> int:
    """Verify that the audit is as it was written.

    Found and located are records that were changed, taken out, put in, swapped or cut off at the end, in PostgreSQL, in the topic, or in
    FILE as `gateway audit export` writes it; and messages that have other records than their own counters say. The gateway may run
    meanwhile, and nothing is held up.

    Not seen is a chain that was made anew, from some record to its end, by somebody who can write every copy of it that is looked at; nor
    a beginning that was taken out of PostgreSQL together with a false note that its time was over; nor what is added before it is chained
    and is about no message. Note the heads elsewhere now and then, and compare. Exit code 1 when
    something was found.
    """
    if file is not None:
        if tenant is not None or where != "both":
            raise click.UsageError("FILE is verified whole: leave out --tenant and --in")
        return _verify_file(file, json_wanted=as_json_)

    async def look(parts: Parts) -> Report:
        from gateway.app.audit import verify_audit
        from gateway.app.kafka import broker_address

        return await verify_audit(
            parts.database,
            None if where == "postgresql" else broker_address(parts.settings),
            parts.settings.kafka.topics.audit,
            tenants=None if tenant is None else [tenant],
            stored=where != "topic",
            tell=progress,
        )

    report = invocation.with_parts(look)
    _known(tenant, report.tenants)
    columns = ["tenant", "after", "to", "records", "unchained", "published", "in the topic", "head"]
    rows = [
        [name, one.first, one.head.sequence, one.records, one.unchained, one.published, one.topic_records, one.head.hash.hex()]
        for name, one in sorted(report.tenants.items())
    ]
    more = {"messages": report.messages}
    return _tell(columns, rows, report.findings, more, json_wanted=as_json_)


@audit.command(
    cls=Command,
    examples=[
        ("every chain", "gateway audit export audit.jsonl"),
        ("one tenant's", "gateway audit export --tenant harbour-books harbour-books.jsonl"),
    ],
)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@_tenant_option
@click.pass_obj
def export(invocation: Invocation, file: Path, tenant: str | None) -> int:
    """Write the chains to FILE, as they are in PostgreSQL, from their anchors to their heads.

    FILE is JSON lines: before each chain one line with its anchor and head, then its records as they are published. It holds pseudonyms
    alone, and can be verified anywhere. It must not be there yet.
    """

    async def write(parts: Parts) -> int:
        from gateway.cli.audit_file import write_chains
        from gateway.store.audit import AuditReader

        reader = AuditReader(parts.database)
        ends = [end for end in await reader.ends(None) if tenant is None or end.tenant == tenant]
        _known(tenant, [end.tenant for end in ends])
        try:
            with _made(file) as out, progress("records", sum(end.head.sequence for end in ends)) as advance:
                return await write_chains(out, reader, ends, await parts.control.now(), advance)
        except OSError as fault:
            raise click.ClickException(f"{file} cannot be written: {fault.strerror}") from None

    click.echo(f"{invocation.with_parts(write)} records written to {file}")
    return 0


def _made(file: Path) -> IO[bytes]:
    """A new file that its owner alone reads."""
    return open(file, "xb", opener=lambda path, flags: os.open(path, flags, 0o600))


def _known(tenant: str | None, chains: Collection[str]) -> None:
    from gateway.domain.errors import NotFound

    if tenant is not None and tenant not in chains:
        raise NotFound(f"there is no audit of a tenant {tenant}")


def _verify_file(file: Path, *, json_wanted: bool) -> int:
    from gateway.cli.audit_file import read_chains

    try:
        with file.open("rb") as source, progress("bytes", file.stat().st_size) as advance:
            report = read_chains(source, str(file), advance)
    except OSError as fault:
        raise click.ClickException(f"{file} cannot be read: {fault.strerror}") from None
    rows = [[tenant, first, head.sequence, records, head.hash.hex()] for tenant, first, head, records in report.chains]
    return _tell(["tenant", "after", "to", "records", "head"], rows, report.findings, {}, json_wanted=json_wanted)


def _tell(
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    findings: Sequence[Finding],
    more: dict[str, Any],
    *,
    json_wanted: bool,
) -> int:
    from gateway.domain.chain_check import UNSEEN

    if json_wanted:
        as_json(
            {
                "whole": not findings,
                "chains": [dict(zip((name.replace(" ", "_") for name in columns), row, strict=True)) for row in rows],
                **more,
                "findings": [{**asdict(one), "text": str(one)} for one in findings],
                "not_seen": UNSEEN,
            }
        )
        return 1 if findings else 0
    table(columns, rows)
    for one in findings[:_SHOWN]:
        click.echo(str(one))
    if len(findings) > _SHOWN:
        click.echo(f"and {len(findings) - _SHOWN} more: --json shows all")
    told = f"{len(findings)} findings" if findings else "whole: nothing was found"
    click.echo(f"{told}. {UNSEEN}")
    return 1 if findings else 0
