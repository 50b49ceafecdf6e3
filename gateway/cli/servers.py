"""``gateway migrate`` and ``gateway topics``: what the servers need before a start."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from gateway.cli.commands import Command, Group
from gateway.cli.invocation import Invocation
from gateway.cli.output import as_json, json_option, table

if TYPE_CHECKING:
    from gateway.bus.topics import TopicChange, TopicFacts
    from gateway.settings import Settings

__all__ = ["migrate", "topics"]


@click.command(cls=Command, examples=[("before a new version is started", "gateway --config gateway.toml migrate")])
@json_option
@click.pass_obj
def migrate(invocation: Invocation, as_json_: bool) -> int:
    """Bring the database to this version's schema.

    It runs what is missing, in one transaction, and does nothing when nothing is. The embedded PostgreSQL needs none of it.
    """
    from gateway.domain.errors import SettingsError
    from gateway.store.migrate import migrate as bring_up

    settings = invocation.reach()
    if settings.database_url is None:
        raise SettingsError(
            "settings: database_url is missing (set GATEWAY_DATABASE_URL); an embedded one is migrated at its start"
        )
    applied = asyncio.run(bring_up(settings.database_url.get_secret_value()))
    if as_json_:
        as_json({"applied": applied})
    else:
        click.echo("\n".join(f"applied {name}" for name in applied) or "the database is up to date")
    return 0


@click.group(cls=Group)
def topics() -> None:
    """Make the Kafka topics, or look at them."""


@topics.command(
    cls=Command,
    examples=[
        ("make what is missing", "gateway topics apply"),
        ("with room for 12 workers", "gateway topics apply --partitions 12"),
    ],
)
@click.option(
    "--partitions",
    type=click.IntRange(1, 1000),
    metavar="N",
    show_default="6, or what a topic has",
    help="Partitions of each topic; no more worker processes than that share the intake. Those of a topic that exists never change.",
)
@json_option
@click.pass_obj
def apply(invocation: Invocation, partitions: int | None, as_json_: bool) -> int:
    """Make the topics that are missing, and set how long the others keep their records.

    Exit code 1 when a topic is not as it should be and cannot be made so.
    """
    changes = asyncio.run(_apply(invocation.reach(), partitions))
    differs = any(change.what == "differs" for change in changes)
    if as_json_:
        as_json({"topics": [{"topic": one.topic, "what": one.what, "detail": one.detail} for one in changes]})
    else:
        table(["topic", "what", "detail"], [[one.topic, one.what, one.detail] for one in changes])
    return 1 if differs else 0


@topics.command(cls=Command, examples=[("partitions, retention and replicas", "gateway topics show")])
@json_option
@click.pass_obj
def show(invocation: Invocation, as_json_: bool) -> int:
    """Show the topics as they are. Exit code 1 when one is missing."""
    facts = asyncio.run(_describe(invocation.reach()))
    if as_json_:
        as_json({"topics": [{"topic": name, **_described(one)} for name, one in facts.items()]})
    else:
        columns = ("partitions", "replication", "min_insync_replicas", "cleanup", "retention_hours")
        rows = []
        for name, one in facts.items():
            described = _described(one)
            rows.append([name, "there" if one else "missing", *(described.get(column) for column in columns)])
        table(["topic", "is", *columns], rows)
    return 0 if all(facts.values()) else 1


async def _apply(settings: Settings, partitions: int | None) -> list[TopicChange]:
    from dataclasses import replace

    from gateway.app.kafka import broker_address, topics_wanted
    from gateway.app.topic_limits import idle_topics
    from gateway.bus.topics import apply as make
    from gateway.bus.topics import describe
    from gateway.domain.policy_files import load_policies

    address = broker_address(settings)
    policies = load_policies(settings.policies_directory)
    idle = await describe(address, idle_topics(settings.kafka.topics, policies))
    given = {} if partitions is None else {"partitions": partitions}
    wanted = topics_wanted(settings, policies, idle=idle, **given)
    if partitions is None:
        there = await describe(address, [spec.name for spec in wanted])
        wanted = [replace(spec, partitions=there[spec.name].partitions) if spec.name in there else spec for spec in wanted]
    return await make(address, wanted)


async def _describe(settings: Settings) -> dict[str, TopicFacts | None]:
    from gateway.app.kafka import broker_address, topics_wanted
    from gateway.bus.topics import describe
    from gateway.domain.policy_files import load_policies

    names = [spec.name for spec in topics_wanted(settings, load_policies(settings.policies_directory))]
    there = await describe(broker_address(settings), names)
    return {name: there.get(name) for name in names}


def _described(facts: TopicFacts | None) -> dict[str, object]:
    if facts is None:
        return {"exists": False}
    kept = facts.retention_ms
    return {
        "exists": True,
        "partitions": facts.partitions,
        "replication": facts.replication,
        "min_insync_replicas": facts.min_insync_replicas,
        "cleanup": facts.config.get("cleanup.policy", "delete"),
        "retention_hours": None if kept is None else round(kept / 3_600_000, 3),
    }
