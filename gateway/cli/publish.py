"""``gateway publish``: outbound message events from a file, from standard input, or asked for."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from gateway.cli.commands import Command
from gateway.cli.fields import MESSAGE_ID, SLUG, prompted
from gateway.cli.invocation import Invocation
from gateway.cli.output import as_json, json_option, progress

if TYPE_CHECKING:
    from gateway.domain.events import OutboundMessage
    from gateway.domain.publishing import OutEvent, PublishResult
    from gateway.settings import Settings

__all__ = ["publish"]

_BATCH: Final = 500  # events published at a time
_SOURCE: Final = "gateway-cli"

Sign = Callable[[str, str, str, datetime, bytes], bytes]
"""(id, source, type, when, the record's value): the signature."""


@click.command(
    cls=Command,
    examples=[
        ("one event", "gateway publish message.json"),
        ("many, one JSON object a line", "gateway publish - < messages.jsonl"),
        ("look at them only", "gateway publish --validate-only messages.jsonl"),
        (
            "asked for the number and the text",
            "gateway publish --tenant harbour-books --programme orders --category service --message-id order-4711",
        ),
        ("signed, where the tenant's policy names keys", "gateway publish message.json --key-file shop.pem --key-id shop-2026"),
    ],
)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True), required=False)
@click.option("--validate-only", is_flag=True, help="Read and check the events, and publish none.")
@click.option("--tenant", type=SLUG, metavar="TENANT", help="Whose message it is; with this and the next three no file is read.")
@click.option("--programme", type=SLUG, metavar="NAME", help="The programme it belongs to.")
@click.option("--category", type=click.Choice(["marketing", "service", "security"]), help="What kind of message it is.")
@click.option("--message-id", type=MESSAGE_ID, metavar="ID", help="Your id of it, unique per tenant; nothing personal.")
@click.option("--recipient-ref", type=MESSAGE_ID, metavar="REF", help="Your own opaque name for the person, echoed in events.")
@click.option("--topic", metavar="NAME", help="Where to; else the shared topic of the settings.")
@click.option(
    "--key-file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="PEM file of the Ed25519 private key to sign with.",
)
@click.option("--key-id", metavar="ID", help="What the tenant's policy calls that key.")
@json_option
@click.pass_obj
def publish(
    invocation: Invocation,
    /,
    file: Path | None,
    validate_only: bool,
    recipient_ref: str | None,
    topic: str | None,
    key_file: Path | None,
    key_id: str | None,
    as_json_: bool,
    **field: str | None,
) -> int:
    """Publish messages to send.

    FILE holds one outbound message event as JSON, or one a line; `-` is standard input. All are checked before the first is published.
    Without FILE one message is put together from the options; its number and text are asked for, or read from standard input: the
    number on the first line, the text after it.
    """
    missing = [f"--{name.replace('_', '-')}" for name, value in field.items() if value is None]
    if file is not None and (len(missing) < len(field) or recipient_ref is not None):
        raise click.UsageError("give either a file or the options of one message")
    if file is None and missing:
        raise click.UsageError(f"give a file, or all of one message: {', '.join(missing)} is missing")
    if (key_file is None) is not (key_id is None):
        raise click.UsageError("--key-file and --key-id go together")
    sign = _signing(key_file, key_id) if key_file is not None and key_id is not None else None
    read = list(_events(file)) if file is not None else [_asked_for({**field, "recipient_ref": recipient_ref})]
    if not read:
        raise click.UsageError("there is no event in it")
    if validate_only:
        if as_json_:
            as_json({"valid": len(read), "published": 0})
        else:
            click.echo(f"{_counted(len(read))} checked, none published")
        return 0
    settings = invocation.reach()
    topic = topic or settings.kafka.topics.outbound
    results = asyncio.run(_publish(settings, [_event(topic, *one, sign) for one in read]))
    return _tell(topic, results, json_wanted=as_json_)


def _signing(file: Path, key_id: str) -> Sign:
    """What makes the signature of an event. GatewayError when the file holds no key."""
    from gateway.crypto.signing import signer
    from gateway.domain.event_signature import protected_header, signature_of

    try:
        key = signer(file.read_bytes(), str(file))
    except OSError as fault:
        raise click.UsageError(f"{file} cannot be read: {fault.strerror}") from None

    def sign(event_id: str, source: str, event_type: str, at: datetime, value: bytes) -> bytes:
        header = protected_header(
            key_id=key_id, signed_at=int(at.timestamp()), event_id=event_id, source=source, event_type=event_type
        )
        return signature_of(header, value, key)

    return sign


def _events(file: Path) -> Iterator[tuple[OutboundMessage, bytes]]:
    """The events of a file. BadEvent names the line, and nothing that stands in it."""
    from gateway.domain.errors import BadEvent
    from gateway.domain.event_reading import read_message

    try:
        with click.open_file(str(file), "rb") as opened:
            content: bytes = opened.read()
    except OSError as fault:
        raise click.UsageError(f"{file} cannot be read: {fault.strerror}") from None
    name = "standard input" if str(file) == "-" else str(file)
    for line, piece in _pieces(content):
        try:
            message = read_message(piece)
        except BadEvent as fault:
            raise BadEvent(fault.reason, f"{name}:{line}: {fault.what} (nothing was published)") from None
        yield message, piece


def _pieces(content: bytes) -> list[tuple[int, bytes]]:
    """The JSON objects with their lines: one a line when the first line is one, else the whole as one."""
    lines = [(number, line.strip()) for number, line in enumerate(content.split(b"\n"), start=1) if line.strip()]
    if lines:
        try:
            json.loads(lines[0][1])
        except (ValueError, RecursionError):
            if not lines[0][1].endswith(b"}"):
                return [(lines[0][0], content.strip())]
    return lines


def _asked_for(fields: dict[str, Any]) -> tuple[OutboundMessage, bytes]:
    from gateway.domain.event_reading import read_message

    if sys.stdin.isatty():
        number, body = prompted("Telephone number"), prompted("Text")
    else:
        number, _, body = sys.stdin.buffer.read().decode(errors="replace").partition("\n")
        number, body = number.strip(), body.removesuffix("\n")
    event = {name: value for name, value in {**fields, "to": number, "body": body}.items() if value is not None}
    data = json.dumps(event).encode()
    return read_message(data), data


def _event(topic: str, message: OutboundMessage, data: bytes, sign: Sign | None) -> OutEvent:
    """The record. Its key spreads the messages over the partitions and says nothing of the person."""
    from gateway.domain.cloudevents import write_binary
    from gateway.domain.event_signature import SIGNATURE_HEADER
    from gateway.domain.events import OutboundMessage
    from gateway.domain.publishing import OutEvent

    name = f"{message.tenant}/{message.message_id}"
    now = datetime.now(UTC)
    headers, value = write_binary(
        event_type=OutboundMessage.TYPE,
        event_id=name,
        source=_SOURCE,
        time=now,
        data=data,
        traceparent=message.traceparent,
    )
    if sign is not None:
        headers.append((SIGNATURE_HEADER, sign(name, _SOURCE, OutboundMessage.TYPE, now, value)))
    return OutEvent(topic, name.encode(), headers, value)


async def _publish(settings: Settings, events: Sequence[OutEvent]) -> list[PublishResult]:
    from gateway.app.kafka import publishing

    results: list[PublishResult] = []
    async with publishing(settings) as publisher:
        with progress("publishing", len(events)) as advance:
            for first in range(0, len(events), _BATCH):
                batch = events[first : first + _BATCH]
                results += await publisher.publish(batch)
                advance(len(batch))
    return results


def _tell(topic: str, results: Sequence[PublishResult], *, json_wanted: bool) -> int:
    from gateway.domain.publishing import Acknowledged

    published = [result for result in results if isinstance(result, Acknowledged)]
    failed = [(place, result.why) for place, result in enumerate(results, start=1) if not isinstance(result, Acknowledged)]
    if json_wanted:
        places = [{"partition": one.partition, "offset": one.offset} for one in published] if len(results) == 1 else None
        failures = [{"event": place, "why": why} for place, why in failed]
        as_json({"topic": topic, "published": len(published), "failed": failures, **({"records": places} if places else {})})
    else:
        where = f", partition {published[0].partition}, offset {published[0].offset}" if len(published) == 1 else ""
        click.echo(f"{_counted(len(published))} published to {topic}{where}")
        for place, why in failed[:10]:
            click.echo(f"event {place} was not acknowledged: {why}; publish it again, its message_id is heeded once", err=True)
        if len(failed) > 10:
            click.echo(f"and {len(failed) - 10} more", err=True)
    return 1 if failed else 0


def _counted(count: int) -> str:
    return f"{count} event{'' if count == 1 else 's'}"
