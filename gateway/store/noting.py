"""What a change of consent owes to provider accounts, noted in its own transaction; see flow/telling.py for what becomes of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from gateway.domain.consent import Consent, ConsentKey
from gateway.domain.senders import SenderUse
from gateway.domain.telling import Word, opted_out_of, touched
from gateway.store.statements import statements

if TYPE_CHECKING:
    from gateway.flow.vault import KeptNumber
    from gateway.store.database import Session

__all__ = ["Noting"]


class Noting:
    """``told`` are the senders whose accounts can be told; ``canceling`` those at whose accounts an opt-out cancels what is scheduled.

    Without any nothing is written, and no number is kept. ``lease`` is how many seconds a telling that nobody answered may still take.
    """

    def __init__(self, told: Sequence[SenderUse] = (), lease: float = 60.0, canceling: Sequence[SenderUse] = ()) -> None:
        self.told = tuple(told)
        self.stopped = tuple({use.sender: use for use in (*told, *canceling)}.values())
        """Those of whose opt-outs somebody hears."""
        self._lease = lease

    async def opted_out(
        self,
        session: Session,
        key: ConsentKey,
        number: KeptNumber | None,
        learned_from: tuple[str, str] | None,
        *,
        by_text: bool,
        said_at: datetime | None,
    ) -> None:
        """An opt-out is written: every sender that it reaches is looked at. ``by_text``: the account took a text for it, maybe long ago."""
        await self._note(session, key.subject_id, touched([key], self.stopped), number, None)
        await self._learned(session, key.subject_id, learned_from, "out", sure=not by_text, at=said_at)

    async def opted_in(
        self,
        session: Session,
        subject_id: bytes,
        undone: Sequence[Consent],
        before: Sequence[Consent],
        number: KeptNumber | None,
        learned_from: tuple[str, str] | None,
    ) -> None:
        """Opt-outs are undone: of the senders that were stopped by them the accounts may hold that, whoever told them."""
        stopped = touched([consent.key for consent in undone], [use for use in self.told if opted_out_of(use, before)])
        await self._note(session, subject_id, stopped, number, "out")
        await self.kept_out(session, subject_id, [consent for consent in before if consent not in undone], number, learned_from)

    async def kept_out(
        self,
        session: Session,
        subject_id: bytes,
        standing: Sequence[Consent],
        number: KeptNumber | None,
        learned_from: tuple[str, str] | None,
    ) -> None:
        """An account has taken an opt-in, whatever became of it here: an opt-out that stands is undone there, and is to be told again."""
        uses = [use for use in self.told if (use.account, use.sender) == learned_from and opted_out_of(use, standing)]
        await self._note(session, subject_id, uses, number, None)
        await self._learned(session, subject_id, learned_from, "in")

    async def _note(
        self, session: Session, subject_id: bytes, uses: Sequence[SenderUse], number: KeptNumber | None, presumed: Word | None
    ) -> None:
        if uses:
            await session.execute(
                statements("propagations")["note"],
                subject_id,
                [use.account for use in uses],
                [use.sender for use in uses],
                presumed,
                *((number.tenant, number.uid, number.sealed) if number is not None else (None, None, None)),
                self._lease,
            )

    async def _learned(
        self,
        session: Session,
        subject_id: bytes,
        learned_from: tuple[str, str] | None,
        word: Word,
        *,
        sure: bool = True,
        at: datetime | None = None,
    ) -> None:
        if learned_from is not None and any((use.account, use.sender) == learned_from for use in self.told):
            await session.execute(statements("propagations")["learned"], *learned_from, subject_id, word, sure, at)
