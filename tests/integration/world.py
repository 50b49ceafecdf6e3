"""A gateway in this process, on a real PostgreSQL, with a provider account whose answers the test writes."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from gateway.app.wiring import Parts, open_parts
from gateway.bus.address import BrokerAddress
from gateway.bus.records import Record
from gateway.domain.errors import ProviderUnavailable
from gateway.domain.outcome import Accepted, Outcome
from gateway.domain.personal import MessageBody, PhoneNumber
from gateway.domain.reports import InboundText, ListedText, OptOutType, Text
from gateway.flow.accept import Accepter
from gateway.flow.dispatch import Dispatch
from gateway.flow.intake import Intake
from gateway.flow.level import Level
from gateway.flow.provider import Abilities
from gateway.settings import Settings, load
from gateway.store.intake import Admission
from tests.support import until

__all__ = ["Carrier", "OpenGate", "World", "environment_for", "open_world", "raw_record", "running", "settings_for", "until"]

POLICIES = {
    "shop": """
tenant: shop
name: The Shop
languages: [en, es]
providers: [twilio]
region: US
opt_out: {scope: programme}
programmes:
  offers:
    categories: [marketing, service]
    senders: [{number: "+14155550110", account: main}]
    help_contact: help@shop.example
  orders:
    categories: [service, security]
    senders: [{number: "+14155550111", account: main}]
    help_contact: help@shop.example
""",
    "clinic": """
tenant: clinic
name: The Clinic
languages: [en]
providers: [twilio]
region: US
opt_out: {scope: tenant}
programmes:
  visits:
    categories: [service]
    senders: [{number: "+12125550120", account: main}]
    help_contact: help@clinic.example
""",
}


@dataclass
class Carrier:
    """A provider account: what it is asked, and what it answers, by number or in general."""

    answer: Callable[[Text], Awaitable[Outcome]] | None = None
    sent: list[Text] = field(default_factory=list)
    requests: list[tuple[Text, ...]] = field(default_factory=list)
    listed: list[ListedText] = field(default_factory=list)
    inbound: list[InboundText] = field(default_factory=list)
    created: dict[str, datetime] = field(default_factory=dict)
    away: bool = False
    name: str = "twilio"
    account: str = "main"
    batch: int = 1
    lists_sent: bool = True
    _ids: Any = field(default_factory=lambda: itertools.count(1))

    @property
    def abilities(self) -> Abilities:
        return Abilities(
            self.batch,
            "callback",
            signs=True,
            redacts=True,
            deletes=True,
            tells_opt_outs=False,
            lists_opt_outs=False,
            lists_sent=self.lists_sent,
        )

    def new_id(self) -> str:
        return f"SM{next(self._ids):032x}"

    async def send(self, texts: Sequence[Text]) -> Sequence[Outcome]:
        assert 0 < len(texts) <= self.abilities.batch
        assert len({(text.sender, text.to) for text in texts}) == len(texts)
        assert len({text.sender for text in texts}) == 1
        self.requests.append(tuple(texts))
        self.sent += texts
        for text in texts:
            assert text.callback_url.startswith(f"https://gateway.example/webhooks/{self.name}/{self.account}/status/")
        return [await self.answer(text) if self.answer is not None else Accepted(self.new_id(), 1) for text in texts]

    async def list_sent(self, to: PhoneNumber, sender: str, since: datetime) -> list[ListedText]:
        if self.away:
            raise ProviderUnavailable("away")
        return [text for text in self.listed if text.to == to and text.created_at >= since]

    async def list_inbound(self, to: str, since: datetime) -> list[InboundText]:
        if self.away:
            raise ProviderUnavailable("away")
        return [text for text in self.inbound if text.to == to and (text.created_at or since) >= since]

    async def inbound_created_at(self, provider_message_id: str) -> datetime | None:
        if self.away:
            raise ProviderUnavailable("away")
        return self.created.get(provider_message_id)

    async def cancel_scheduled(self, to: PhoneNumber, senders: Collection[str]) -> int:
        if self.away:
            raise ProviderUnavailable("away")
        return 0

    async def close(self) -> None:
        return None


class OpenGate:
    """No text is missing."""

    open = True

    def shut(self) -> None:
        """Nothing was away that matters here."""


class World:
    """The parts of one process, and shorthands for what tests do with them."""

    def __init__(self, parts: Parts, carrier: Carrier) -> None:
        self.parts = parts
        self.carrier = carrier
        self.audit_topic = "sms.audit.v1"
        self.broker: BrokerAddress | None = None  # where the audit's topic is, in tests that have one
        self._offsets = itertools.count()
        self._sids = itertools.count(1)

    def accepter(self, allow_list: Any = None) -> Accepter:
        return self.parts.accepter(allow_list)

    def admission(self) -> Admission:
        return Admission(self.parts.database, self.parts.hasher.person_key, self.parts.name, people=self.parts.people)

    def level(self, **marks: int) -> Level:
        return Level(self.admission(), self.parts.metrics, **marks)

    def intake(self, allow_list: Any = None, level: Level | None = None, admission: Admission | None = None) -> Intake[Any]:
        level, admission = level or self.level(), admission or self.admission()
        return Intake(None, admission, self.accepter(allow_list), level, self.parts.metrics)  # type: ignore[arg-type] # no source: records are handed over

    def record(self, **fields: Any) -> Record:
        event = {
            "message_id": f"m{next(self._offsets)}",
            "tenant": "clinic",
            "programme": "visits",
            "category": "service",
            "to": "+12025550101",
            "body": "Your visit is tomorrow at nine.",
            "recipient_ref": "patient-1",
        } | fields
        return raw_record(next(self._offsets), json.dumps({k: v for k, v in event.items() if v is not None}).encode())

    async def publish(self, **fields: Any) -> None:
        await self.intake().admit("sms.outbound.v1", 0, [self.record(**fields)])

    def inbound(
        self,
        body: str,
        *,
        sender: str = "+12025550101",
        to: str = "+12125550120",
        sid: str | None = None,
        replied: OptOutType | None = None,
        created_at: datetime | None = None,
    ) -> InboundText:
        return InboundText(
            "main", sid or f"SM{next(self._sids):032x}", PhoneNumber(sender), to, None, MessageBody(body), replied, created_at
        )

    async def receive(self, body: str, **more: Any) -> str:
        return await self.parts.replies().receive(self.inbound(body, **more))

    async def rows(self, statement: str, *arguments: object) -> list[dict[str, Any]]:
        return [dict(row) for row in await self.parts.database.fetch(statement, *arguments)]

    async def states(self) -> dict[str, str]:
        found = await self.rows(
            "select m.message_id, case when q.state in ('claimed','marked') then 'sending' else m.state end as state"
            " from messages m left join queue q using (uid) where m.kind = 'outbound'"
        )
        return {row["message_id"]: row["state"] for row in found}

    async def shift(self, seconds: float) -> None:
        """Move the store's clock."""
        await self.parts.database.execute("update clock set shift = shift + make_interval(secs => $1)", seconds)

    @asynccontextmanager
    async def sending(self, dispatch: Dispatch | None = None) -> AsyncIterator[Dispatch]:
        """A dispatch that runs while the context lasts."""
        dispatch = dispatch or self.parts.dispatch(OpenGate())
        running = asyncio.create_task(dispatch.run())
        try:
            yield dispatch
        finally:
            await dispatch.stop(5)
            await asyncio.wait_for(running, 5)


class Chapter(Protocol):
    """A part of the gateway that works until it is stopped."""

    async def run(self) -> None: ...
    def stop(self) -> None: ...


@asynccontextmanager
async def running(chapter: Chapter) -> AsyncIterator[None]:
    """Works while the context lasts, and ends in order."""
    task = asyncio.create_task(chapter.run())
    try:
        yield
    finally:
        chapter.stop()
        await asyncio.wait_for(task, 5)


def raw_record(offset: int, value: bytes | None, headers: Any = None, timestamp: float | None = None) -> Record:
    stamp = int((timestamp if timestamp is not None else datetime.now(UTC).timestamp()) * 1000)
    if headers is None:
        headers = [
            ("ce_specversion", b"1.0"), ("ce_id", b"e1"), ("ce_source", b"test"), ("ce_type", b"sms.outbound.message.v1"),
            ("content-type", b"application/json"),
        ]  # fmt: skip
    return Record(offset, b"k", value, headers, stamp)


def settings_for(database_url: str, folder: Path, **more: str) -> Settings:
    return load(environment_for(database_url, folder, **more))


def environment_for(database_url: str, folder: Path, **more: str) -> dict[str, str]:
    """The settings as a process of its own takes them."""
    policies = folder / "policies"
    policies.mkdir(exist_ok=True)
    for tenant, text in POLICIES.items():
        if not (policies / f"{tenant}.yaml").exists():  # else a test has written its own
            (policies / f"{tenant}.yaml").write_text(text)
    return {
        "GATEWAY_DATABASE_URL": database_url,
        "GATEWAY_STATE_DIRECTORY": str(folder / "state"),
        "GATEWAY_KEY_RING_DIRECTORY": str(folder / "keys"),
        "GATEWAY_POLICIES_DIRECTORY": str(policies),
        "GATEWAY_PUBLIC_URL": "https://gateway.example",
        "GATEWAY_ACCOUNTS__MAIN__ACCOUNT_SID": "AC" + "0" * 32,
        "GATEWAY_ACCOUNTS__MAIN__AUTH_TOKEN": "secret",
        **more,
    }


@asynccontextmanager
async def open_world(database_url: str, folder: Path, carrier: Carrier | None = None, **more: str) -> AsyncIterator[World]:
    async with open_parts(settings_for(database_url, folder, **more), "test", with_providers=False) as parts:
        carrier = carrier or Carrier()
        parts.providers = {"main": carrier}  # type: ignore[dict-item] # a provider is what answers like one
        yield World(parts, carrier)
