"""The audit's chain: each record of a tenant is bound to the one before it by a hash, so that what is changed, taken out or moved shows.

A record's hash is the SHA-256 of its *form*: one line of JSON (RFC 8259) that is the same for the same record wherever it is made. The
members come in the order in which ``_form`` writes them, without blanks; texts are ASCII with the shortest escapes, what is
absent is ``null``, moments are UTC with six digits of a second. ``chain`` names this form, so that another can follow it. What is
published, stored in a file and read by others is the form with ``hash`` as its last member.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final, NamedTuple
from uuid import UUID

__all__ = ["GENESIS", "Anchor", "AuditRecord", "Chained", "chained", "decode", "encode", "hash_of"]

FORM: Final = 1
"""The version of the form that is hashed."""

_HASH_DIGITS: Final = 64
_HASHED: Final = (
    "chain", "tenant", "sequence", "previous", "chained_at", "at", "uid", "number", "step", "state", "reason", "rule", "policy",
    "attempt", "provider", "account", "code", "evidence", "actor", "person",
)  # fmt: skip # the order of the form's members
_TEXTS: Final = ("state", "reason", "rule", "policy", "provider", "account", "code", "evidence", "person")
_quoted: Final = json.encoder.encode_basestring_ascii


class Anchor(NamedTuple):
    """A place in a chain: a record's sequence and hash. The next record follows it."""

    sequence: int
    hash: bytes


GENESIS: Final = Anchor(0, bytes(32))
"""What the first record of a chain follows."""


class AuditRecord(NamedTuple):
    """What happened, as it was written with the change itself. ``number`` counts the records about ``uid`` from 1.

    ``person`` is the pseudonym that the tenant's other events use. No number, text, message id or name that a producer gave is in it.
    """

    at: datetime
    tenant: str
    uid: UUID | None
    number: int
    step: str
    state: str | None
    reason: str | None
    rule: str | None
    policy: str | None
    attempt: int | None
    provider: str | None
    account: str | None
    code: str | None
    evidence: str | None
    actor: str
    person: str | None


class Chained(NamedTuple):
    """A record in its tenant's chain. ``sequence`` counts from 1 without a gap; ``previous`` is the hash of the record before it."""

    record: AuditRecord
    sequence: int
    previous: bytes
    chained_at: datetime
    hash: bytes

    @property
    def anchor(self) -> Anchor:
        """Where a chain that ends here goes on."""
        return Anchor(self.sequence, self.hash)


def chained(head: Anchor, records: Iterable[AuditRecord], chained_at: datetime) -> Iterator[Chained]:
    """The records, of one tenant, as they follow on from the head of its chain."""
    sequence, previous = head
    for record in records:
        sequence += 1
        found = hash_of(record, sequence, previous, chained_at)
        yield Chained(record, sequence, previous, chained_at, found)
        previous = found


def hash_of(record: AuditRecord, sequence: int, previous: bytes, chained_at: datetime) -> bytes:
    """The hash that a record has at this place of its tenant's chain."""
    return sha256(_form(record, sequence, previous, chained_at)).digest()


def encode(link: Chained) -> bytes:
    """The form with its hash: an event's data, or a line of a file."""
    form = _form(link.record, link.sequence, link.previous, link.chained_at)
    return b'%s,"hash":"%s"}' % (form[:-1], link.hash.hex().encode())


def decode(line: bytes) -> Chained:
    """A link from its form; whether the hash is the right one is not looked at.

    ``ValueError`` for anything that :func:`encode` does not write, to the byte: two readers must not see two things in one record.
    """
    try:
        found = json.loads(line)
        if isinstance(found, dict) and (*found,) == (*_HASHED, "hash") and _typed(found):
            link = _link(found)
            if encode(link) == line:
                return link
    except (ValueError, OverflowError, RecursionError):
        pass
    raise ValueError("not a record of an audit chain")  # without what it holds


def _link(found: dict[str, Any]) -> Chained:
    record = AuditRecord(
        datetime.fromisoformat(found["at"]),
        found["tenant"],
        None if found["uid"] is None else UUID(found["uid"]),
        *(found[name] for name in AuditRecord._fields[3:]),
    )
    previous, own = (bytes.fromhex(found[name]) for name in ("previous", "hash"))
    return Chained(record, found["sequence"], previous, datetime.fromisoformat(found["chained_at"]), own)


def _form(record: AuditRecord, sequence: int, previous: bytes, chained_at: datetime) -> bytes:
    """Written out, as a general encoder takes three times as long: some thousand records a second come by here, twice each."""
    return (
        f'{{"chain":{FORM},"tenant":{_quoted(record.tenant)},"sequence":{sequence},"previous":"{previous.hex()}"'
        f',"chained_at":"{_moment(chained_at)}","at":"{_moment(record.at)}"'
        f',"uid":{"null" if record.uid is None else _quoted(str(record.uid))},"number":{record.number},"step":{_quoted(record.step)}'
        f',"state":{_maybe(record.state)},"reason":{_maybe(record.reason)},"rule":{_maybe(record.rule)},"policy":{_maybe(record.policy)}'
        f',"attempt":{"null" if record.attempt is None else record.attempt},"provider":{_maybe(record.provider)}'
        f',"account":{_maybe(record.account)},"code":{_maybe(record.code)},"evidence":{_maybe(record.evidence)}'
        f',"actor":{_quoted(record.actor)},"person":{_maybe(record.person)}}}'
    ).encode("ascii")


def _maybe(text: str | None) -> str:
    return "null" if text is None else _quoted(text)


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _typed(found: dict[str, Any]) -> bool:
    """Whether every member is of its kind; a bool is an int to Python."""
    return (
        found["chain"] == FORM
        and all(type(found[name]) is int for name in ("chain", "sequence", "number"))
        and all(isinstance(found[name], str) for name in ("tenant", "previous", "chained_at", "at", "step", "actor", "hash"))
        and all(found[name] is None or isinstance(found[name], str) for name in ("uid", *_TEXTS))
        and (found["attempt"] is None or type(found["attempt"]) is int)
        and len(found["previous"]) == len(found["hash"]) == _HASH_DIGITS
    )
