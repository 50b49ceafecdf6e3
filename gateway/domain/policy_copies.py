"""The copies of texts that providers keep: whether a tenant's policy lets those stay that cannot be taken away."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import PlainValidator

from gateway.domain.errors import PolicyError
from gateway.domain.policy_part import PolicyPart
from gateway.domain.retention import UNSET, Unset

if TYPE_CHECKING:
    from gateway.domain.policy import Policies

__all__ = ["CopiesPeriod", "MayStay", "check_copies"]


class MayStay(PolicyPart):
    """Copies that cannot be deleted may stay at a provider, and why."""

    may_stay: str

    def __str__(self) -> str:
        return f"may stay: {self.may_stay}"


def _read(value: object) -> MayStay | Literal["must_end"] | Unset:
    if value == UNSET.value:
        return UNSET
    if value == "must_end":
        return "must_end"
    if not isinstance(value, dict) or set(value) != {"may_stay"}:
        raise ValueError("must be must_end, {may_stay: the reason} or UNSET")
    reason = value["may_stay"]
    if not isinstance(reason, str) or not reason.strip() or not reason.isprintable() or reason == UNSET.value:
        raise ValueError("must say why, in one line of text")
    return MayStay(may_stay=reason.strip())


CopiesPeriod = Annotated[MayStay | Literal["must_end"] | Unset, PlainValidator(_read)]


def check_copies(policies: Policies, staying: Mapping[str, str]) -> list[str]:
    """Refuse a policy that sends by an account whose copies nobody can delete, where it says that they must end, or leaves that open.

    ``staying``: by the alias of each such account, what of its copies stays. Returns a line on each that stays unforbidden. Raises
    PolicyError with file and key.
    """
    notes = []
    for policy in policies:
        used = {sender.account for programme in policy.programmes.values() for sender in programme.senders}
        for account in sorted(used & set(staying)):
            said, what = policy.retention.provider_copies, staying[account]
            if said == "must_end" or said is UNSET:
                raise PolicyError(
                    f"is {said}, and of the account {account}, by which it sends, {what} stay at the provider for ever"
                    " (say {may_stay: why}, or send by another account)",
                    file=f"{policy.tenant}.yaml",
                    key="retention.provider_copies",
                )
            why = said.may_stay if isinstance(said, MayStay) else "its policy does not speak of them (retention.provider_copies)"
            notes.append(f"{policy.tenant}: {what} of the account {account} stay at the provider for ever: {why}")
    return notes
