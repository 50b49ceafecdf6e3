"""Which provider accounts can be told of opt-outs, and which tell of theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gateway.flow.telling import TellingTimes

if TYPE_CHECKING:
    from gateway.settings import Settings

__all__ = ["canceling_accounts", "listed_accounts", "telling_times", "told_accounts"]

_REQUESTS: Final = 4  # that one telling may need at most: a token, the request, and both again


def told_accounts(settings: Settings) -> frozenset[str]:
    """The aliases of the accounts that can be told."""
    return frozenset(alias for alias, account in settings.accounts.items() if account.tells_opt_outs)


def canceling_accounts(settings: Settings) -> frozenset[str]:
    """The aliases of the accounts at which other systems may have scheduled texts, which an opt-out cancels."""
    return frozenset(alias for alias, account in settings.accounts.items() if account.cancels_scheduled)


def listed_accounts(settings: Settings) -> frozenset[str]:
    """The aliases of the accounts that tell of the opt-outs in their own list."""
    return frozenset(alias for alias, account in settings.accounts.items() if account.lists_opt_outs)


def telling_times(settings: Settings) -> TellingTimes:
    """How long a pair is taken for: longer than what may still be on its way when nobody answered."""
    times = settings.dispatch
    begin = _REQUESTS * times.request_seconds + times.fuse_seconds
    return TellingTimes(lease=begin + 5, begin=begin)
