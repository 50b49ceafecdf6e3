"""A provider account as a place of personal data: what is due there, the step that erases it, and what the provider itself still lists."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, NamedTuple, Protocol

from gateway.domain.closing import STILL_WRITTEN, Closings
from gateway.domain.policy import Policy
from gateway.domain.policy_copies import MayStay
from gateway.domain.policy_retention import RetentionClass
from gateway.domain.retention import UNSET, deadline
from gateway.domain.senders import SenderUse
from gateway.flow.copies import (
    Eraser,
    Erasing,
    Holds,
    Over,
    Part,
    Whose,
    classes_of,
    own_closing,
    parts_over,
    periods_of,
    rules_of,
)  # fmt: skip
from gateway.flow.provider import Copies, Copy
from gateway.flow.retention import Found, Planned

__all__ = ["CopyLedger", "ProviderPlace"]

# What is due a moment ago is on its way; and the provider's clock and ours are two.
_GRACE: Final = timedelta(hours=1)
_CLASSES: Final[Mapping[Part, RetentionClass]] = {"text": "content", "all": "address"}


class CopyLedger(Protocol):
    """What the tables tell of copies. Everything raises StoreUnavailable."""

    async def tenants(self, account: str) -> Collection[str]:
        """The tenants that text, or ever did, by this account, or of whom copies are noted there."""
        ...

    async def senders(self, account: str) -> Mapping[str, Collection[str]]:
        """The senders by which tenants text, or ever did, by this account, with those tenants."""
        ...

    async def noted(self, account: str) -> Mapping[tuple[str, str], tuple[int, datetime]]:
        """By tenant and part: how many are noted, and when the oldest was made."""
        ...

    async def ahead(self, account: str, tenant: str, part: Part) -> datetime | None:
        """When the first was made that is not noted yet."""
        ...

    async def due(self, account: str, over: Sequence[Over]) -> int:
        """How many are noted whose time is over, whose id is known, and that no legal hold keeps."""
        ...

    async def whose(self, account: str, provider_message_ids: Sequence[str]) -> Mapping[str, Whose]:
        """Whose copies these are, where that is known."""
        ...


class _Known(NamedTuple):
    """Who texts by the account or ever did, whose customer accounts are closed, and what is over by that."""

    texting: Collection[str]
    closings: Closings
    over: Sequence[Over]


class ProviderPlace:
    """The place of one account. ``uses`` are our senders of it; ``stays``: what of its copies nobody can delete, where that is so."""

    def __init__(
        self,
        provider: Eraser,
        policies: Sequence[Policy],
        uses: Collection[SenderUse],
        stays: str | None,
        ledger: CopyLedger,
        erasing: Erasing,
        holds: Holds,
        closings: Callable[[], Awaitable[Closings]],
    ) -> None:
        self._provider = provider
        self._policies = policies
        self._uses = [use for use in uses if use.account == provider.account]
        self._stays = stays
        self._ledger = ledger
        self._erasing = erasing
        self._holds = holds
        self._closings = closings

    @property
    def name(self) -> str:
        """``provider`` and the account's alias."""
        return f"provider {self._provider.account}"

    async def run(self, now: datetime, most: int) -> int:
        """Erase what is due: a step of ``most`` copies, or of a minute at the pace that the provider allows."""
        return await self._erasing.run(now, most)

    async def left(self, now: datetime) -> str:
        """Copies whose time is over. Of one whose id nobody knows it cannot be said that it is there."""
        over = (await self._known(now)).over
        due = await self._ledger.due(self._provider.account, over)
        why = f"{due} copies are due, and the account does not answer or puts them off" if due else ""
        for one in over:
            first = await self._ledger.ahead(self._provider.account, one.tenant, one.part)
            if first is not None and first <= min(one.horizon, now - STILL_WRITTEN):
                return f"{why}; " * bool(why) + "not all copies that are due are noted yet"
        return why

    async def plan(self, now: datetime) -> Sequence[Planned]:
        """What dies next, for each tenant that texts by the account or has copies there; and what never dies, and why."""
        noted = await self._ledger.noted(self._provider.account)
        known = await self._known(now)
        parts = {(one.tenant, one.part) for one in known.over}
        staying = await self._staying()
        found = []
        for tenant in dict.fromkeys([*(policy.tenant for policy in self._policies), *known.texting]):
            if tenant in staying:
                how = self._why_stays(staying[tenant])
                found += [Planned(self.name, tenant, one, None, None, how) for one in _CLASSES.values()]
                continue
            alone = (tenant, "text") in parts  # else its text goes when all goes
            for part, data_class in _CLASSES.items():
                goes: Part = part if alone else "all"
                count, oldest = noted.get((tenant, goes), (None, None))
                oldest = oldest or await self._ledger.ahead(self._provider.account, tenant, goes)
                if oldest is not None:
                    due_at, how = self._due(tenant, goes, oldest, known.closings)
                    found.append(Planned(self.name, tenant, data_class, due_at, count, how))
        return found

    async def verify(self, now: datetime) -> Sequence[Found]:
        """Ask the provider for the oldest texts that it lists from and to our senders. Raises Unavailable.

        It goes by the provider's time, which is no earlier than ours: a text that waited long for its turn is missed for as long. What
        was never sent is not looked for.
        """
        found: dict[tuple[str, Part], Found] = {}
        known = await self._known(now - _GRACE)
        over = {(one.tenant, one.part): one.horizon for one in known.over}
        for sender, tenants in (await self._senders()).items() if self._stays is None else ():
            horizons = [at for (tenant, _), at in over.items() if tenant in tenants]
            if not horizons:
                continue
            copies = await self._provider.oldest_copies(sender, max(horizons))
            kept = await self._kept(copies.oldest)
            for part in self._parts():
                # A sender that several tenants share: what all of them must have let go.
                until = [over.get((tenant, part), over.get((tenant, "all"))) for tenant in tenants]
                limit = min(at for at in until if at is not None) if None not in until else None
                for tenant in tenants:
                    seen = self._seen(tenant, part, limit, copies, kept)
                    found[tenant, part] = _worse(found.get((tenant, part)), seen)
        stay = [
            Found(self.name, tenant, "content", None, None, well=not _forbidden(policy), why=self._why_stays(policy))
            for tenant, policy in (await self._staying()).items()
        ]
        for open_ in await self._left_open(known.texting):
            key: tuple[str, Part] = (open_.tenant, "text" if open_.data_class == "content" else "all")
            found[key] = _worse(found.get(key), open_)
        return [*found.values(), *stay]

    async def _known(self, now: datetime) -> _Known:
        texting, closings = await self._ledger.tenants(self._provider.account), await self._closings()
        return _Known(texting, closings, parts_over(self._policies, self._provider.abilities, now, closings, texting))

    async def _left_open(self, tenants: Collection[str]) -> list[Found]:
        """Copies of which nobody knows how long they may stay: of a tenant that is not enabled, and whose policy leaves it open."""
        found = []
        noted = await self._ledger.noted(self._provider.account)
        for policy in self._policies:
            tenant = policy.tenant
            if policy.enabled or tenant not in tenants or self._stays is not None:
                continue
            for part in self._parts():
                unknown = [one for one in classes_of(part, self._provider.abilities) if _is_open(policy, one)]
                if not unknown:
                    continue
                _, oldest = noted.get((tenant, part), (0, None))
                oldest = oldest or await self._ledger.ahead(self._provider.account, tenant, part)
                if oldest is not None:
                    why = f"the policy leaves retention.{unknown[0]} open"
                    found.append(Found(self.name, tenant, _CLASSES[part], oldest, None, well=False, why=why))
        return found

    async def _senders(self) -> dict[str, Collection[str]]:
        """Our senders of this account with their tenants; also those that are in no policy any more, or of tenants that are not enabled."""
        now = {use.sender: use.tenants for use in self._uses}
        return {**await self._ledger.senders(self._provider.account), **now}

    async def _staying(self) -> dict[str, Policy]:
        """Whose copies nobody can delete here."""
        if self._stays is None:
            return {}
        texting = {tenant for tenants in (await self._senders()).values() for tenant in tenants}
        return {policy.tenant: policy for policy in self._policies if policy.tenant in texting}

    def _seen(self, tenant: str, part: Part, limit: datetime | None, copies: Copies, kept: Collection[str]) -> Found:
        there = [one for one in copies.oldest if part == "all" or one.has_text]
        late = [one for one in there if limit is not None and one.created_at < limit]
        wrong = [one for one in late if one.provider_message_id not in kept]
        why = []
        if wrong:
            what = "texts" if part == "text" else "copies"
            why.append(f"{len(wrong)}{'' if copies.all_seen else ' or more'} {what} that should be gone are listed")
        if len(late) > len(wrong):
            why.append(f"a legal hold keeps {len(late) - len(wrong)}")
        if not copies.all_seen:
            why.append("there were more than could be looked at: the oldest were")
        oldest = min((one.created_at for one in wrong or late), default=None)
        return Found(self.name, tenant, _CLASSES[part], oldest, limit, well=not wrong, why="; ".join(why))

    async def _kept(self, copies: Sequence[Copy]) -> frozenset[str]:
        """Those that a legal hold keeps."""
        whose = await self._ledger.whose(self._provider.account, [one.provider_message_id for one in copies]) if copies else {}
        held = set(await self._holds.held(set(whose.values()))) if whose else set()
        return frozenset(name for name, one in whose.items() if one in held)

    def _parts(self) -> tuple[Part, ...]:
        return ("text", "all") if self._provider.abilities.redacts else ("all",)

    def _why_stays(self, policy: Policy) -> str:
        said = policy.retention.provider_copies
        why = (
            said.may_stay
            if isinstance(said, MayStay)
            else f"retention.provider_copies is {said}"
            if _forbidden(policy)
            else "the policy does not speak of them"
        )
        return f"{self._stays} cannot be deleted at {self._provider.name}, and stay: {why}"

    def _due(self, tenant: str, part: Part, made_at: datetime, closings: Closings) -> tuple[datetime | None, str]:
        classes, rules = classes_of(part, self._provider.abilities), rules_of(self._policies, tenant)
        closed = own_closing(self._policies, tenant, closings)
        ends = [deadline(made_at, period, calendar, closed=closed) for period, calendar in periods_of(rules, classes)]
        due_at = min((one for one in ends if one is not None), default=None)
        if due_at is None:
            return None, "nothing ends it: " + ", ".join(
                f"retention.{one} is {retention.of(one)}" for one in classes for retention, _ in rules
            )
        return due_at, "its text is redacted" if part == "text" else "it is deleted"


def _forbidden(policy: Policy) -> bool:
    """Whether copies may not stay, or nobody has said. An enabled tenant's policy that says so was refused at the start."""
    return policy.retention.provider_copies in ("must_end", UNSET)


def _is_open(policy: Policy, data_class: RetentionClass) -> bool:
    return not periods_of([(policy.retention, policy.known_business_days)], [data_class])


def _worse(one: Found | None, other: Found) -> Found:
    """Of what two senders have of a tenant: what is wrong rather than what is well, and the older of both."""
    if one is None or one.well != other.well:
        return other if one is None or one.well else one
    if one.oldest is None or (other.oldest is not None and other.oldest < one.oldest):
        return replace(other, why=other.why or one.why)
    return replace(one, why=one.why or other.why)
