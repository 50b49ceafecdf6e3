"""What must hold of servers that are not embedded before the gateway starts: a clear refusal now, not a riddle later."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gateway.app.kafka import broker_address, input_topics, kept_limits, spool_topic, topics_wanted
from gateway.app.process import Role
from gateway.app.providers import account_notes, check_accounts
from gateway.app.topic_limits import idle_topics, longer_than_allowed
from gateway.bus.keeping import BrokerTimes, broker_times, kept_by
from gateway.bus.topics import TopicFacts, describe
from gateway.domain.errors import BrokerUnavailable, GatewayError
from gateway.domain.policy import Policies
from gateway.domain.policy_files import load_policies
from gateway.settings import Settings
from gateway.store.migrate import pending

__all__ = ["NotReady", "check_servers"]

_DAY_MS: Final = 24 * 3600 * 1000
_MOST_NAMED: Final = 5


class NotReady(GatewayError):
    """A server lacks something that the gateway stands on; the text names the command that makes it."""


async def check_servers(settings: Settings, role: Role) -> list[str]:
    """Refuse a database without this version's schema, missing topics, and an input topic that outlives its message ids.

    The policies come first: what is wrong in them is told without asking a server. Returns what an operator should know but may live
    with. Raises PolicyError, NotReady, StoreUnavailable, BrokerUnavailable.
    """
    policies = load_policies(settings.policies_directory)
    if settings.database_url is not None:
        missing = await pending(settings.database_url.get_secret_value())
        if missing:
            raise NotReady(f"the database lacks {', '.join(missing)}: run `gateway migrate`")
    if role == "web" and spool_topic(settings) is not None:
        try:
            return await _check_topics(settings, policies)
        except BrokerUnavailable as fault:  # it takes webhooks all the same
            return [f"a STOP could not be spooled now: {fault}"]
    if role not in ("all", "worker", "relay"):
        return []
    left_out = check_accounts(settings, policies) if settings.accounts else []  # what is embedded has none yet
    notes = [*account_notes(settings), *_unbound(policies, settings.kafka.topics.outbound), *left_out]
    warnings = [] if role == "relay" else notes
    if settings.kafka.servers is None:
        return [*warnings, "the embedded broker keeps no record past its end and does not enforce retention: it is not checked"]
    return [*warnings, *await _check_topics(settings, policies)]


def _unbound(policies: Policies, shared: str) -> list[str]:
    """One line on the tenants that anybody may publish as."""
    anybody = [policy.tenant for policy in policies if policy.publishers is None]
    if not anybody or policies.owners(shared):
        return []
    named = ", ".join(anybody[:_MOST_NAMED]) + (f" and {len(anybody) - _MOST_NAMED} more" if len(anybody) > _MOST_NAMED else "")
    return [f"whoever may write to the topic {shared} may publish as {named}: no policy of theirs names publishers"]


async def _check_topics(settings: Settings, policies: Policies) -> list[str]:
    names = [spec.name for spec in topics_wanted(settings, policies)]
    there = await describe(broker_address(settings), [*names, *idle_topics(settings.kafka.topics, policies)])
    absent = [name for name in names if name not in there]
    if absent:
        raise NotReady(f"Kafka has no topic {', '.join(absent)}: run `gateway topics apply`")
    for topic in input_topics(settings, policies):
        _check_retention(there[topic], settings.message_id_window_days)
    await _check_limits(settings, policies, there)
    spool = there.get(settings.kafka.topics.stop_spool)
    if spool is not None and spool.partitions != 1:
        raise NotReady(
            f"the topic {spool.name} has {spool.partitions} partitions, not one: delete it and run `gateway topics apply`"
        )
    notes = [f"the topic {name}: {what}" for name, facts in there.items() if (what := _at_risk(facts))]
    if not (settings.kafka.transactional and settings.kafka.idempotent):
        notes.append("the relay publishes without transactions (kafka.transactional): one that froze may publish old after new")
    return notes


def _check_retention(topic: TopicFacts, window: int) -> None:
    longest = topic.longest_ms
    if longest is None or longest > window * _DAY_MS:
        kept = "for ever" if longest is None else f"up to {longest / _DAY_MS:.3g} days (retention.ms and segment.ms)"
        raise NotReady(
            f"the topic {topic.name} keeps records {kept}, longer than message ids are remembered"
            f" (message_id_window_days, {window}): a record read again could be sent twice; run `gateway topics apply`"
        )


async def _check_limits(settings: Settings, policies: Policies, there: Mapping[str, TopicFacts]) -> None:
    """Refuse a topic that keeps longer than a policy allows; the embedded broker ends nothing, and is told of elsewhere."""
    expiring = {name: facts for name, facts in there.items() if facts.expires}
    times = await broker_times(broker_address(settings)) if expiring else BrokerTimes()
    kept = {name: kept_by(facts, times) for name, facts in expiring.items()}
    if fault := longer_than_allowed(kept_limits(settings, policies), kept, settings.policies_directory):
        raise NotReady(f"{fault}: run `gateway topics apply`")


def _at_risk(facts: TopicFacts) -> str:
    if facts.replication < 2:
        return "one replica: what the broker's disk loses is lost"
    if facts.min_insync_replicas < 2:
        return "min.insync.replicas is 1: an event may be acknowledged that one broker alone holds"
    return ""
