"""The accounts as they stand while the carrier runs: settings that the control API may change, and what each has under way."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import fields, replace
from typing import Any, Generic, TypeVar

from gateway.domain.errors import GatewayError
from gateway.simulator.config import AccountSettings
from gateway.simulator.records import Message, Posted

__all__ = ["AccountState", "Accounts", "UnknownAccount"]

SettingsT = TypeVar("SettingsT", bound=AccountSettings)


class UnknownAccount(GatewayError):
    """No such account, or a setting of accounts that does not exist."""


class AccountState(ABC, Generic[SettingsT]):
    """An account, how many of its requests are under way and how many creates there were. Each provider adds what it has besides."""

    #: Settings that belong to who the account is, and so can't change while it runs.
    fixed: frozenset[str] = frozenset()

    def __init__(self, sid: str, settings: SettingsT) -> None:
        self.sid = sid
        self.configured = settings
        self.settings = settings
        self.in_flight = 0
        self.most_in_flight = 0
        self.creates = 0

    def enter(self) -> None:
        """A request has come."""
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)

    def leave(self) -> None:
        """A request is over."""
        self.in_flight -= 1

    def over_limit(self) -> bool:
        """Whether the create request that has just been counted is one too many at a time, or an ``every_nth_429``-th."""
        settings = self.settings
        if settings.concurrency is not None and self.in_flight > settings.concurrency:
            return True
        return bool(settings.every_nth_429) and self.creates % settings.every_nth_429 == 0

    def subscribed(self) -> int:
        """How many subscriptions to webhooks there are, where the provider has such."""
        return 0

    def clear(self) -> None:
        """Back to the configured settings, with nothing counted and nobody opted out."""
        self.settings = self.configured
        self.creates = 0
        self.most_in_flight = self.in_flight

    @abstractmethod
    def owns(self, number: str) -> bool:
        """Whether the number is one of the account's."""

    @abstractmethod
    def service_of(self, number: str) -> str | None:
        """The messaging service that the number belongs to, where the provider has such."""

    @abstractmethod
    def new_sid(self, number: int) -> str:
        """A message's identifier, from its number."""

    @abstractmethod
    def hear(self, message: Message) -> None:
        """A person's text has come: what it does to whom the provider knows as opted out."""

    @abstractmethod
    def opt_outs(self) -> Iterator[tuple[str, str]]:
        """Whom it knows as opted out: each sender, and the person who wants no texts from it."""

    @abstractmethod
    async def tell(self, message: Message, *, forged: bool) -> list[Posted]:
        """Post the webhooks of an inbound message once; ``forged``: without what proves them. Raises BadInbound where none is known."""


class Accounts:
    """All accounts of the carrier."""

    def __init__(self, states: Iterable[AccountState[Any]]) -> None:
        self._by_sid = {state.sid: state for state in states}

    def __iter__(self) -> Iterator[AccountState[Any]]:
        return iter(self._by_sid.values())

    def get(self, sid: str) -> AccountState[Any]:
        """An account by its sid. Raises UnknownAccount."""
        state = self._by_sid.get(sid)
        if state is None:
            raise UnknownAccount("no account with this sid")
        return state

    def of_number(self, number: str) -> AccountState[Any]:
        """The account that owns the number; the first one where none says so."""
        states = list(self._by_sid.values())
        return next((state for state in states if state.owns(number)), states[0])

    def change(self, sid: str, **changes: Any) -> None:
        """Change an account's settings at once. Raises UnknownAccount for an account or a setting that does not exist."""
        state = self.get(sid)
        changeable = {field.name for field in fields(state.settings)} - state.fixed
        if unknown := set(changes) - changeable:
            raise UnknownAccount(f"no such setting: {', '.join(sorted(unknown))}; there are {', '.join(sorted(changeable))}")
        state.settings = replace(state.settings, **changes)

    def clear(self) -> None:
        """All accounts as they were at the start."""
        for state in self._by_sid.values():
            state.clear()
