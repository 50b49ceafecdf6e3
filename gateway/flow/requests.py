"""Opt-outs and opt-ins that a tenant's system, or an operator, asks for: by number, with the proof of an opt-in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from gateway.domain.consent import EVERY_TENANT, Consent, ConsentKey, Scope
from gateway.domain.events import OptInProof, encode
from gateway.domain.ids import new_uid
from gateway.domain.personal import PhoneNumber
from gateway.flow.conversation import Conversation, OptIn
from gateway.flow.stop import OptOut, Stop
from gateway.flow.vault import Hasher, Vault, owner_of

__all__ = ["ConsentRequests", "Granted", "OptedOut", "consent_key"]

Source = Literal["api", "cli", "import"]


@dataclass(frozen=True, slots=True)
class OptedOut:
    """A durable opt-out; not in force while a request is still under way."""

    in_force: bool


@dataclass(frozen=True, slots=True)
class Granted:
    """Whether an opt-in was granted; if not, ``why`` in a word."""

    granted: bool
    why: str = ""


class ConsentRequests:
    """The chapter. ``tenant`` None, or scope ``all``, means every tenant; ``name`` is the scope's programme or sender, else empty."""

    def __init__(self, conversation: Conversation, stop: Stop, vault: Vault, hasher: Hasher, source: Source) -> None:
        self._conversation = conversation
        self._stop = stop
        self._vault = vault
        self._hasher = hasher
        self._source = source

    async def opt_out(
        self, tenant: str | None, number: PhoneNumber, scope: Scope, name: str, actor: str, stated_at: datetime | None = None
    ) -> OptedOut:
        """Opt a person out, and wait until that is in force, as long as a STOP may take. ``stated_at`` None means now."""
        key = self.key(tenant, number, scope, name)
        kept = self._vault.keep_number(owner_of(key), number)
        result = await self._stop.opt_out(OptOut(key, self._source, stated_at, actor=actor, number=kept))
        return OptedOut(in_force=result is not None and result.in_force)

    async def opt_in(
        self, tenant: str | None, number: PhoneNumber, scope: Scope, name: str, actor: str, proof: OptInProof
    ) -> Granted:
        """Opt a person in on this proof, unless an opt-out stands that may have been said later; an import undoes none at all.

        For an account that is closed no proof is taken.
        """
        key = self.key(tenant, number, scope, name)
        now = await self._conversation.now()
        if proof.at > now:
            return Granted(granted=False, why="proof_from_the_future")
        if tenant is not None and await self._conversation.is_closed(tenant):
            return Granted(granted=False, why="account_closed")
        uid = new_uid(now)
        plain = encode(proof)
        sealed = self._vault.seal_payload(owner_of(key), "consent", uid, plain)
        result = await self._conversation.opt_in(
            OptIn(
                key,
                self._source,
                proof.at,
                actor=actor,
                proof_sealed=sealed,
                proof_uid=uid,
                number=self._vault.keep_number(owner_of(key), number),
            )
        )
        return Granted(granted=result == "granted", why="" if result == "granted" else "opted_out_later")

    async def standing(self, number: PhoneNumber) -> list[Consent]:
        """All that is on record of a person."""
        return list(await self._conversation.consents(self._hasher.subject_id(number)))

    def key(self, tenant: str | None, number: PhoneNumber, scope: Scope, name: str) -> ConsentKey:
        """What a consent of this reach is kept under."""
        return consent_key(self._hasher.subject_id(number), tenant, scope, name)


def consent_key(subject_id: bytes, tenant: str | None, scope: Scope, name: str) -> ConsentKey:
    """What a consent of this reach is kept under; tenant None, or scope ``all``, is every tenant's."""
    if tenant is None or scope is Scope.ALL:
        return ConsentKey(subject_id, EVERY_TENANT, Scope.ALL)
    return ConsentKey(subject_id, tenant, scope, name if scope in (Scope.PROGRAMME, Scope.SENDER) else "")
