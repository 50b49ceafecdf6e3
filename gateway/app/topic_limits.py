"""Which classes of whose data each topic holds, and what that makes of how long it may keep a record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from gateway.bus.keeping import Kept
from gateway.domain.closing import Closings
from gateway.domain.policy import Policies, Policy
from gateway.domain.policy_files import find_policies
from gateway.domain.policy_retention import RetentionClass
from gateway.domain.topic_limits import ClosedIn, TopicLimit, closed_in, strictest
from gateway.settings.parts import Topics

__all__ = ["closed_accounts", "idle_topics", "longer_than_allowed", "topic_limits"]


def topic_limits(names: Topics, inputs: Sequence[str], policies: Policies) -> dict[str, TopicLimit]:
    """The limit of every topic that holds something of people which no key ends.

    A topic that tenants are bound to carries their events alone, and the shared one those of the others. Counts are of nobody. What the
    spool holds is sealed, and ends with its key. Of a tenant that is not enabled any more there may be something in each.
    """
    return {topic: strictest(topic, classes, whose) for topic, classes, whose in _holds(names, inputs, policies)}


def closed_accounts(names: Topics, inputs: Sequence[str], policies: Policies, closings: Closings) -> list[ClosedIn]:
    """What of the topics is over, or will be, because an account is closed."""
    return [
        one for topic, classes, whose in _holds(names, inputs, policies) for one in closed_in(topic, classes, whose, closings)
    ]


def _holds(
    names: Topics, inputs: Sequence[str], policies: Policies
) -> list[tuple[str, tuple[RetentionClass, ...], Sequence[Policy]]]:
    """Of each topic which classes of whose data it holds."""
    everybody = [policy.tenant for policy in policies.everybody]
    unbound = [policy.tenant for policy in policies.everybody if not policy.topics]
    holds: list[tuple[str, tuple[RetentionClass, ...], Sequence[str]]] = [
        *(
            (topic, ("content", "address"), [*_bound(policies, topic), *(() if policies.owners(topic) else unbound)])
            for topic in inputs
        ),
        *((topic, ("content", "address"), _bound(policies, topic)) for topic in idle_topics(names, policies)),
        (names.inbound, ("content", "address"), everybody),
        (names.status, ("events",), everybody),
        (names.consent, ("events",), everybody),
        (names.audit, ("events",), everybody),
        (names.dead_letter, ("dead_letters",), everybody),
    ]
    known = {policy.tenant: policy for policy in policies.everybody}
    return [(topic, classes, [known[tenant] for tenant in tenants]) for topic, classes, tenants in holds]


def idle_topics(names: Topics, policies: Policies) -> list[str]:
    """The topics to which none but tenants are bound that are not enabled: nobody reads them, and what is in them has to end."""
    ours = {*names.model_dump().values(), *policies.topics()}
    return sorted({topic for policy in policies.everybody for topic in policy.topics} - ours)


def _bound(policies: Policies, topic: str) -> list[str]:
    return sorted(policy.tenant for policy in policies.everybody if topic in policy.topics)


def longer_than_allowed(limits: Mapping[str, TopicLimit], kept: Mapping[str, Kept], directory: Path) -> str | None:
    """What is wrong with the first topic that keeps longer than a policy allows: setting, policy file and key; None when none does."""
    for topic, limit in limits.items():
        if topic in kept and limit.longest is not None and not _within(kept[topic].longest, limit.longest):
            file, line, key = _place(limit, directory)
            where = file if line is None else f"{file}:{line}"
            return f"the topic {topic} keeps records {kept[topic].shown}, longer than {where} allows ({key}, {limit.period})"
    return None


def _within(longest: timedelta | None, allowed: timedelta) -> bool:
    return longest is not None and longest <= allowed


def _place(limit: TopicLimit, directory: Path) -> tuple[str, int | None, str]:
    """Where the policy says so: its file, line and key, or the key that it follows from; no line where it is left out."""
    key = f"retention.{limit.data_class}"
    keys = (key, "retention.content") if limit.data_class in ("address", "dead_letters") else (key,)
    for file in find_policies(directory):
        if file.policy.tenant == limit.tenant:
            for one in keys:
                if place := file.place(one):
                    return *place, one
    return str(directory / f"{limit.tenant}.yaml"), None, key
