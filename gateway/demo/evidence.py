"""What is known at the end, from four sides: the carrier's book, the gateway's database, its metrics and its log."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from gateway.demo.stage import Stage
from gateway.domain.errors import GatewayError
from gateway.simulator.http_client import HttpClient
from gateway.store.database import Database

__all__ = ["Evidence", "collect", "text_key"]

_STATES = "select state, reason, count(*) from messages where kind = 'outbound' group by state, reason"
_DEAD_LETTERS = "select reason, count(*) from dead_letters group by reason"
_PROVED = "select distinct m.tenant, m.message_id from audit a join messages m on m.uid = a.uid where a.evidence = 'list' and a.state is not null"
# Attempts that a worker began and never told the end of. What a callback has told meanwhile is somebody else's word.
_INTERRUPTED = """
select distinct m.tenant, m.message_id from audit a join messages m on m.uid = a.uid
 where a.actor = $1 and a.step = 'claimed'
   and not exists (select from audit b where b.uid = a.uid and b.actor = $1 and b.number > a.number)"""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What each side says. Requests and texts are in it as the carrier has them, with numbers: nothing of it is shown as it is."""

    requests: list[dict[str, Any]] = field(repr=False)
    duplicates: int
    carrier: Mapping[str, int]
    states: Mapping[tuple[str, str], int]
    dead_letters: Mapping[str, int]
    proved: frozenset[tuple[str, str]]
    metrics: Mapping[str, float]
    ready: int
    stories: Mapping[tuple[str, str], list[dict[str, Any]]]
    interrupted: frozenset[tuple[str, str]] = frozenset()
    """Messages that were under way when the gateway was killed."""
    accounts: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """By the carrier's id of an account: its alias here, and its provider."""
    opted_out: frozenset[tuple[str, str, str]] = field(default=frozenset(), repr=False)
    """Whom each account at the carrier knows as opted out: its alias, our sender, the person's number."""
    senders: frozenset[tuple[str, str, str, str]] = frozenset()
    """Every sender that there is: its tenant, programme, account and itself."""

    def accepted(self) -> Counter[tuple[str, str, str]]:
        """How often the carrier accepted each text: by recipient, sender and the SHA-256 of the body."""
        return Counter((one["to"], one["from"], one["body_sha256"]) for one in self.requests if one["accepted_at"] is not None)


def text_key(number: str, sender: str, body: str) -> tuple[str, str, str]:
    """A text as the carrier's book names it."""
    return number, sender, sha256(body.encode()).hexdigest()


async def collect(stage: Stage, wanted: Sequence[tuple[str, str]], killed: str) -> Evidence:
    """Ask all sides, once the carrier has nothing under way.

    ``wanted`` are the messages whose story is to be told, ``killed`` is the worker that was.
    """
    accounts = {one.sid: (one.alias, one.provider) for one in stage.accounts}
    client = HttpClient(keep_body=None)
    try:
        stats = await stage.carrier.get("/stats?quiet=1&within=10")
        book = await stage.carrier.book()
        metrics = await client.request("GET", f"{stage.admin}/metrics", {}, b"")
        ready = await client.request("GET", f"{stage.admin}/readyz", {}, b"")
        stories = {key: await _story(client, stage, *key) for key in wanted}
        return Evidence(
            requests=book["requests"],
            duplicates=len(book["duplicates"]),
            carrier=stats,
            states={(row["state"], row["reason"]): row["count"] for row in await stage.database.fetch(_STATES)},
            dead_letters={row["reason"]: row["count"] for row in await stage.database.fetch(_DEAD_LETTERS)},
            proved=await _named(stage.database, _PROVED),
            metrics=_numbers(metrics.body.decode()),
            ready=ready.status,
            stories=stories,
            interrupted=await _named(stage.database, _INTERRUPTED, killed),
            accounts=accounts,
            opted_out=frozenset(
                (accounts[one["account"]][0], one["from"], one["to"])
                for one in (await stage.carrier.get("/consents"))["opted_out"]
            ),
            senders=frozenset((one.tenant, one.programme, one.account, one.sender) for one in stage.policies.routes()),
        )
    finally:
        client.close()


async def _story(client: HttpClient, stage: Stage, tenant: str, message_id: str) -> list[dict[str, Any]]:
    """The steps of a message, as ``gateway status`` tells them."""
    url = f"{stage.web}/v1/messages/{tenant}/{message_id}"
    answer = await client.request("GET", url, {"Authorization": f"Bearer {stage.token}"}, b"")
    if answer.status != 200:
        raise GatewayError(f"the story of a message was answered with {answer.status}")
    steps: list[dict[str, Any]] = json.loads(answer.body)["steps"]
    return steps


async def _named(database: Database, statement: str, *arguments: str) -> frozenset[tuple[str, str]]:
    return frozenset((row["tenant"], row["message_id"]) for row in await database.fetch(statement, *arguments))


def _numbers(text: str) -> dict[str, float]:
    """Every sample, by its name and labels as Prometheus writes them: ``name{label="value"}``."""
    numbers = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            numbers[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return numbers
