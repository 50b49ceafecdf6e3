"""Customer accounts: who closes them, and what closing ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.flow.closing import Accounts
from gateway.flow.retention_accounts import CustomerAccounts
from gateway.store.closing import ClosedAccounts
from gateway.store.control import Control, TokenGrant

if TYPE_CHECKING:
    from gateway.app.wiring import Parts

__all__ = ["Closers", "accounts_of", "accounts_place"]


class Closers:
    """The tokens of systems that bill."""

    def __init__(self, control: Control) -> None:
        self._control = control

    async def find(self, token_hash: bytes) -> TokenGrant | None:
        """Whose accounts a token may close; None when none."""
        return await self._control.find(token_hash, "close-accounts")


def accounts_of(parts: Parts) -> Accounts:
    """What operators and systems that bill do with accounts."""
    return Accounts(ClosedAccounts(parts.database), [policy.tenant for policy in parts.policies.everybody])


def accounts_place(parts: Parts) -> CustomerAccounts:
    """What is kept of customers. A tenant that is not enabled any more has an account, too."""
    policies = {policy.tenant: policy for policy in parts.policies.everybody}
    return CustomerAccounts(ClosedAccounts(parts.database), policies)
