"""Dead letters looked at: what is known of them by anybody, what is in them by who has the right, which is written down."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol
from uuid import UUID

from gateway.domain.errors import NoRight, NotFound
from gateway.domain.kept_records import KeptRecord
from gateway.flow.burial import SealedLetter, open_letter
from gateway.flow.vault import Vault

__all__ = ["READ_PAYLOADS", "LetterFilter", "LetterStore", "Letters", "Reader"]

READ_PAYLOADS: Final = "read-payloads"
"""The right to see what is in a dead letter of the token's tenants."""

_WHY: Final = {
    "no_token": "a token with the right read-payloads is needed",
    "unknown_token": "there is no such token",
    "revoked": "the token was revoked",
    "no_right": "the token has not the right read-payloads",
    "other_tenant": "the token is not for this tenant; what belongs to no tenant needs one for all of them",
}


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """Which letters are meant. ``until`` is exclusive; None and nothing mean all."""

    tenant: str | None = None
    reasons: Sequence[str] = ()
    since: datetime | None = None
    until: datetime | None = None
    replayed: bool | None = None


@dataclass(frozen=True, slots=True)
class Reader:
    """A token that somebody shows; ``tenants`` None: everybody's."""

    name: str
    tenants: frozenset[str] | None
    rights: frozenset[str]
    revoked: bool


class LetterStore(Protocol):
    """Where dead letters lie."""

    async def page(self, wanted: LetterFilter, before: UUID | None, most: int) -> list[dict[str, Any]]:
        """What is known of letters, newest first."""
        ...

    async def facts(self, uid: UUID) -> dict[str, Any] | None:
        """What is known of one; None when there is none."""
        ...

    async def open(
        self, uid: UUID, token_hash: bytes | None, judge: Callable[[Reader | None, str], str | None], asker: str
    ) -> tuple[SealedLetter, str | None] | None:
        """In one transaction: find letter and token, ask ``judge`` why not, write it down. None: no such letter."""
        ...


class Letters:
    """The chapter."""

    def __init__(self, store: LetterStore, vault: Vault) -> None:
        self._store = store
        self._vault = vault

    async def page(self, wanted: LetterFilter, before: UUID | None, most: int) -> tuple[list[dict[str, Any]], UUID | None]:
        """At most so many letters, newest first, and after which the next page begins; None when this is the last."""
        rows = await self._store.page(wanted, before, most + 1)
        return rows[:most], rows[most - 1]["uid"] if len(rows) > most else None

    async def facts(self, uid: UUID) -> Mapping[str, Any]:
        """What is known of a letter but what is in it. Raises NotFound."""
        found = await self._store.facts(uid)
        if found is None:
            raise NotFound(f"no dead letter {uid}")
        return found

    async def read(self, uid: UUID, token_hash: bytes | None, asker: str) -> KeptRecord:
        """What is in a letter, for who has the right; who asked is written down before anything is opened, also who was refused.

        Raises NotFound, NoRight, KeyMissing, CannotOpen.
        """
        given = token_hash is not None

        def judge(reader: Reader | None, tenant: str) -> str | None:
            return _refusal(reader, tenant, given=given)

        found = await self._store.open(uid, token_hash, judge, asker)
        if found is None:
            raise NotFound(f"no dead letter {uid}")
        letter, why = found
        if why is not None:
            raise NoRight(f"dead letter {uid} stays sealed: {_WHY[why]}")
        return open_letter(self._vault, letter)


def _refusal(reader: Reader | None, tenant: str, *, given: bool) -> str | None:
    """Why somebody may not see what is in a letter of a tenant."""
    if reader is None:
        return "unknown_token" if given else "no_token"
    if reader.revoked:
        return "revoked"
    if READ_PAYLOADS not in reader.rights:
        return "no_right"
    if reader.tenants is not None and tenant not in reader.tenants:
        return "other_tenant"
    return None
