"""The accounts as they stand while the carrier runs: settings that the control API may change, and what each has under way."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from gateway.domain.errors import GatewayError
from gateway.simulator.config import Account

__all__ = ["AccountState", "Accounts", "UnknownAccount"]

_CHANGEABLE = frozenset({
    "senders", "services", "inbound_url", "inbound_urls", "status_callback", "latency_ms", "concurrency", "every_nth_429",
    "callbacks", "keeps_opt_outs", "redaction",
})  # fmt: skip


class UnknownAccount(GatewayError):
    """No such account, or a setting of accounts that does not exist."""


@dataclass(slots=True, eq=False)
class AccountState:
    """An account, how many of its requests are under way, how many creates there were, and whom it knows as opted out."""

    settings: Account
    in_flight: int = 0
    most_in_flight: int = 0
    creates: int = 0
    opted_out: set[tuple[str, str]] = field(default_factory=set, repr=False)

    def enter(self) -> None:
        """A request has come."""
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)

    def leave(self) -> None:
        """A request is over."""
        self.in_flight -= 1

    def owns(self, number: str) -> bool:
        """Whether the number is one of the account's."""
        settings = self.settings
        return number in settings.senders or any(number in pool for pool in settings.services.values())

    def service_of(self, number: str) -> str | None:
        """The messaging service that the number belongs to."""
        return next((sid for sid, pool in self.settings.services.items() if number in pool), None)


class Accounts:
    """All accounts of the carrier."""

    def __init__(self, accounts: Iterable[Account]) -> None:
        self._configured = tuple(accounts)
        self._by_sid = {account.sid: AccountState(account) for account in self._configured}
        self._by_header = {
            b"Basic " + base64.b64encode(f"{account.sid}:{account.token}".encode()): self._by_sid[account.sid]
            for account in self._configured
        }

    def __iter__(self) -> Iterator[AccountState]:
        return iter(self._by_sid.values())

    def authenticated(self, header: bytes | None) -> AccountState | None:
        """The account that an Authorization header proves, if any."""
        return None if header is None else self._by_header.get(header)

    def get(self, sid: str) -> AccountState:
        """An account by its sid. Raises UnknownAccount."""
        state = self._by_sid.get(sid)
        if state is None:
            raise UnknownAccount("no account with this sid")
        return state

    def of_number(self, number: str) -> AccountState:
        """The account that owns the number; the first one where none says so."""
        states = list(self._by_sid.values())
        return next((state for state in states if state.owns(number)), states[0])

    def change(self, sid: str, **changes: Any) -> None:
        """Change an account's settings at once. Raises UnknownAccount for an account or a setting that does not exist."""
        if unknown := set(changes) - _CHANGEABLE:
            raise UnknownAccount(f"no such setting: {', '.join(sorted(unknown))}; there are {', '.join(sorted(_CHANGEABLE))}")
        state = self.get(sid)
        state.settings = replace(state.settings, **changes)

    def clear(self) -> None:
        """Back to the configured settings, with nothing counted and nobody opted out."""
        for account in self._configured:
            state = self._by_sid[account.sid]
            state.settings = account
            state.creates = 0
            state.most_in_flight = state.in_flight
            state.opted_out.clear()
