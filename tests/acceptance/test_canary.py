"""A number and texts that go through everything, and are found nowhere but where they must be."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import structlog
from prometheus_client import generate_latest

from gateway.bus.records import Record
from gateway.crypto.bearer import new_token
from gateway.domain.consent import Scope
from gateway.domain.errors import GatewayError, NoRight
from gateway.domain.events import InboundEvent, OptInProof
from gateway.domain.outcome import Accepted, Later, OptedOut, Outcome, Refused, Unknown
from gateway.domain.personal import MessageBody, PhoneNumber
from gateway.domain.publishing import Acknowledged, Failed, OutEvent, PublishResult
from gateway.domain.reasons import Reason
from gateway.domain.reports import ListedText, Receipt, Text
from gateway.embedded.postgres import EmbeddedPostgres
from gateway.flow.letters import LetterFilter
from gateway.telemetry import configure_logging, handle_loop_exception
from tests.canary import CANARY_BODY, CANARY_NUMBER, CANARY_REPLY, TRACES, traces_in
from tests.integration.world import Carrier, OpenGate, World, open_world, raw_record
from tests.support import until

CLINIC, OFFERS = "+12125550120", "+14155550110"


def disguises(trace: str) -> Iterator[bytes]:
    """What a trace looks like in other clothes: hex, and base64 wherever it begins in its group of three bytes."""
    raw = trace.encode()
    yield raw
    yield raw[::-1]
    yield raw.hex().encode()
    yield raw.hex().upper().encode()
    for before in range(3):
        encoded = base64.b64encode(b"x" * before + raw)
        inner = encoded[-(-before * 8 // 6) : (before + len(raw)) * 8 // 6]
        yield inner
        yield inner.translate(bytes.maketrans(b"+/", b"-_"))


DISGUISED = tuple(dict.fromkeys(found for trace in TRACES for found in disguises(trace)))


def leaks(where: str, what: bytes | str) -> list[str]:
    raw = what.encode("utf-8", "surrogatepass") if isinstance(what, str) else what
    return [f"{where}: {found!r}" for found in DISGUISED if found in raw] + [f"{where}: {found}" for found in traces_in(what)]


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Everything that the process writes for operators, at the chattiest level."""
    root = logging.getLogger()
    kept = root.handlers[:], root.level, sys.excepthook, threading.excepthook
    stream = io.StringIO()
    configure_logging("debug", "json", stream)
    yield stream
    root.handlers[:], root.level, sys.excepthook, threading.excepthook = kept
    structlog.reset_defaults()


class Publisher:
    """Takes every event; the first time it says that it did not."""

    def __init__(self) -> None:
        self.events: list[OutEvent] = []
        self.calls = 0
        self.alone = True

    async def take_over(self, limit_seconds: float) -> None:
        self.alone = True

    async def publish(self, batch: Sequence[OutEvent], limit_seconds: float = 30.0) -> list[PublishResult]:
        self.calls += 1
        if self.calls == 1:
            return [Failed("away")] * len(batch)
        self.events += batch
        return [Acknowledged(0, place) for place in range(len(batch))]


def test_the_search_would_find_it() -> None:
    for trace in TRACES:
        for dressed in (trace, trace.encode().hex(), base64.b64encode(trace.encode()).decode()):
            assert leaks("here", f"something {dressed} else")
        for before in range(5):
            assert leaks("here", base64.b64encode(b"." * before + trace.encode() + b"."))
    assert leaks("here", CANARY_NUMBER)
    assert leaks("here", CANARY_BODY)
    assert leaks("here", CANARY_REPLY)
    assert leaks("here", json.dumps(list(CANARY_BODY.encode()))) == []


async def test_a_number_and_texts_that_go_through_everything_are_found_nowhere(
    database_url: str, tmp_path: Path, log: io.StringIO, capfd: pytest.CaptureFixture[str], postgres_server: EmbeddedPostgres
) -> None:
    faults: list[str] = []
    with warnings.catch_warnings(record=True) as warned:
        asyncio.get_running_loop().set_exception_handler(handle_loop_exception)
        published = await _everything(database_url, tmp_path, faults, postgres_server)
        database, columns = await _database(database_url)
        metrics, stories = published.pop("metrics"), published.pop("stories")
    said = capfd.readouterr()
    found = [*database]
    found += leaks("log", log.getvalue()) + leaks("standard output", said.out) + leaks("standard error", said.err)
    found += leaks("metrics", metrics) + leaks("stories", stories)
    for warning in warned:
        found += leaks("warning", str(warning.message))
    for fault in faults:
        found += leaks("exception", fault)
    found += leaks("PostgreSQL's log", published["server_log"])
    inbound = 0
    for event in published["events"]:
        headers = dict(event.headers)
        found += leaks("event key", event.key) + leaks("event headers", b" ".join(headers.values()))
        if headers["ce_type"] == InboundEvent.TYPE.encode():
            inbound += 1
            assert leaks("", event.value or b"")  # the one event that must carry them
        else:
            found += leaks(headers["ce_type"].decode(), event.value or b"")
    assert found == []
    # the test has seen what it was made for
    assert columns > 150
    assert inbound >= 2
    kinds = {dict(event.headers)["ce_type"].decode().split(".")[1] for event in published["events"]}
    assert kinds == {"status", "consent", "inbound", "outbound", "audit"}
    assert len(log.getvalue().splitlines()) >= 3
    assert faults


async def _everything(database_url: str, folder: Path, faults: list[str], server: EmbeddedPostgres) -> dict[str, Any]:
    """All ways through the gateway, good and bad; what it published, counted and told."""
    outcomes: dict[str, Callable[[Text], Outcome]] = {
        "accepted": lambda text: Accepted(f"SM{text.uid.hex}", 1),
        "later": lambda _text: Later(Reason.RATE_LIMITED, "14107", wait=0.01),
        "operator": lambda _text: Later(Reason.CONFIGURATION, "20003", wait=0.01, holds="sender", operator=True),
        "refused": lambda _text: Refused(Reason.NOT_TEXTABLE, "21614"),
        "opted_out": lambda _text: OptedOut("21610"),
        "unknown": lambda _text: Unknown("timeout"),
    }
    script = ["later", "accepted", "operator", "refused", "unknown", "raises", "accepted"]

    async def answer(text: Text) -> Outcome:
        assert text.to.reveal() == CANARY_NUMBER
        how = script.pop(0) if script and text.sender == CLINIC else "accepted"  # the shop's text goes beside the clinic's
        if how == "raises":
            raise ValueError(f"a library that says {text.to.reveal()} and {text.body.reveal()}")
        return outcomes[how](text)

    carrier = Carrier(answer)
    async with open_world(database_url, folder, carrier, GATEWAY_DISPATCH__BACKOFF_FIRST_SECONDS="0.01") as world:
        await _intake(world, faults)
        await _dispatch(world)
        await _provider(world)
        await _texts(world)
        await _requests(world)
        await _refused(world)
        letters = await _letters(world, faults)
        server_log = (server.folder / "postgres.log").read_bytes()  # before statements that no gateway would send
        await _faults(world, faults)
        publisher = Publisher()
        relay = world.parts.relay(publisher)
        running = asyncio.create_task(relay.run())
        await until(lambda: world.rows("select 1 where not exists (select from outbox where parked is null)"))
        relay.stop()
        await running
        chain = world.parts.chain(publisher)
        while await chain.once():
            pass
        # what was published is gone from the outbox: fill it once more, so that the search of the database sees its rows
        await world.publish(message_id="again", to=CANARY_NUMBER, body=CANARY_BODY)
        await world.receive(CANARY_REPLY, sender=CANARY_NUMBER)
        await world.intake().admit("sms.outbound.v1", 0, [raw_record(9_999, CANARY_BODY.encode())])
        await world.receive("STOP", sender=CANARY_NUMBER)
        ids = [row["message_id"] for row in await world.rows("select message_id from messages where message_id is not null")]
        stories = letters + json.dumps([await world.parts.operate.find("clinic", one) for one in ids], default=repr)
        await world.parts.watch.measure(world.parts.metrics)
        metrics = generate_latest(world.parts.registry)
        return {"events": publisher.events, "metrics": metrics, "stories": stories, "server_log": server_log}


async def _intake(world: World, faults: list[str]) -> None:
    canary: dict[str, Any] = {
        "to": CANARY_NUMBER,
        "body": CANARY_BODY,
        "metadata": {"note": CANARY_BODY, CANARY_REPLY: CANARY_NUMBER},
    }
    for n in range(7):
        await world.publish(message_id=f"m{n}", **canary)
    await world.publish(message_id="m0", **canary)  # again
    await world.publish(message_id="m0", **(canary | {"body": CANARY_REPLY}))  # with another content
    await world.publish(message_id="deferred", **canary, not_before=(datetime.now(UTC) + timedelta(hours=3)).isoformat())
    await world.publish(message_id="expired", **canary, expires_at="2020-01-01T00:00:00Z")
    proof = {"medium": "web", "at": "2024-01-01T00:00:00Z", "wording": CANARY_BODY, "ip": "203.0.113.9", "purpose": "offers"}
    offer = {"tenant": "shop", "programme": "offers", "category": "marketing"}
    await world.publish(message_id="offer", **canary, **offer, opt_in_proof=proof)
    await world.publish(message_id="unlisted", **(canary | {"to": "(310) 555-0193"}), **offer)
    await world.intake(allow_list=set()).admit("sms.outbound.v1", 0, [world.record(message_id="staging", **canary)])
    good = world.record(message_id="poison", **canary)
    event = json.loads(good.value or b"")
    poison: list[Record] = [
        raw_record(1, (good.value or b"")[:-1]),
        raw_record(2, json.dumps(event | {"to": [CANARY_NUMBER]}).encode()),
        raw_record(3, json.dumps(event | {CANARY_NUMBER: CANARY_BODY}).encode()),
        raw_record(4, json.dumps(event | {"category": CANARY_BODY, "programme": CANARY_NUMBER}).encode()),
        raw_record(5, json.dumps(event | {"tenant": "nobody"}).encode()),
        raw_record(6, json.dumps(event | {"not_before": CANARY_BODY}).encode()),
        raw_record(7, json.dumps(event | {"metadata": {"x" * 65: CANARY_NUMBER}}).encode()),
        raw_record(8, json.dumps(event | {"metadata": {CANARY_NUMBER: 5}}).encode()),
        raw_record(9, (good.value or b"") + b"\xff"),
        raw_record(10, json.dumps(event | {"body": CANARY_BODY + "\0"}).encode()),
        raw_record(11, json.dumps(event | {"body": CANARY_BODY * 200}).encode()),
        raw_record(12, (good.value or b"") + b" " * 262_144),
        raw_record(13, good.value, [("ce_type", CANARY_NUMBER.encode()), ("ce_" + CANARY_NUMBER, CANARY_BODY.encode())]),
        raw_record(14, good.value, [("content-type", CANARY_BODY.encode())]),
        raw_record(
            15, json.dumps(event | {"opt_in_proof": {"medium": CANARY_BODY, "at": CANARY_NUMBER, "ip": CANARY_BODY}}).encode()
        ),
        raw_record(16, json.dumps(event | {"opt_in_proof": {"confirmed_by": [CANARY_BODY]}}).encode()),
        raw_record(17, (good.value or b"").replace(b'"body"', b'"body": "", "body"')),
    ]
    await world.intake().admit("sms.outbound.v1", 0, poison)
    assert len(await world.rows("select from dead_letters")) == len(poison) + 1
    accepter, now = world.accepter(), await world.parts.ledger.now()
    from gateway.domain.ids import new_uid

    for record in poison:
        try:
            accepter.read(record, "sms.outbound.v1", new_uid(now), now)
        except GatewayError as fault:
            faults.append(f"{fault!s} {fault!r} {fault.__cause__!r} {fault.__context__!r}")


async def _dispatch(world: World) -> None:
    dispatch = world.parts.dispatch(OpenGate())
    async with world.sending(dispatch):
        # the clinic's sixth raises: nobody knows what became of it, and its lease holds the lane
        await until(lambda: sum(text.sender == CLINIC for text in world.carrier.sent) == 6, 20, "six texts of the clinic")
        await world.shift(11)
        await world.parts.sweep().once()
        await until(lambda: world.rows("select 1 where not exists (select from queue where due_at <= gateway_now())"), 20)
    for text in world.carrier.sent:
        assert traces_in(repr(text)) == []


async def _provider(world: World) -> None:
    """Callbacks of every kind, evidence, rescue and the end of waiting."""
    receipts = world.parts.receipts()
    assert len(await world.rows("select from messages where state = 'unknown'")) == 2
    rows = await world.rows("select uid, attempt, provider_message_id from messages where state = 'sent'")
    assert rows
    for state in ("sent", "delivered"):
        await receipts.receive(Receipt("main", rows[0]["uid"], 1, rows[0]["provider_message_id"], state, None))
    await receipts.receive(Receipt("main", rows[0]["uid"], 1, "SM" + "f" * 32, "delivered", None))
    unknown = (await world.rows("select uid, begun_at from messages where state = 'unknown'"))[0]
    world.carrier.listed = [
        ListedText("SM" + "e" * 32, PhoneNumber(CANARY_NUMBER), CLINIC, MessageBody(body), None, None, 1, unknown["begun_at"])
        for body in (CANARY_BODY, CANARY_REPLY)
    ]
    await world.shift(12)
    catch_up = world.parts.catch_up()
    for sweep in (world.parts.sweep(), world.parts.inquiries(catch_up)):
        await sweep.once()
    world.carrier.away = True
    await world.shift(60)
    await world.parts.inquiries(catch_up).once()
    world.carrier.away = False


async def _texts(world: World) -> None:
    """What the person texts, by webhook and by the provider's list."""
    assert await world.receive(CANARY_REPLY, sender=CANARY_NUMBER) == "other"
    assert await world.receive("HELP", sender=CANARY_NUMBER) == "help"
    assert await world.receive("STOP", sender=CANARY_NUMBER) == "stop"
    start = world.inbound("START", sender=CANARY_NUMBER)
    world.carrier.created[start.provider_message_id] = datetime.now(UTC) + timedelta(hours=1)
    assert await world.parts.replies().receive(start) == "start"
    late = world.inbound("START", sender=CANARY_NUMBER, to=OFFERS)
    await world.receive("STOP", sender=CANARY_NUMBER, to=OFFERS)
    assert await world.parts.replies().receive(late) == "start"  # not proven: logged
    await world.receive(CANARY_BODY, sender=CANARY_NUMBER, to="+14155550199")
    now = await world.parts.ledger.now()
    for body in (CANARY_REPLY, "STOP", "HELP"):
        text = world.inbound(body, sender=CANARY_NUMBER)
        world.carrier.inbound.append(type(text)(**{name: getattr(text, name) for name in text.__slots__} | {"created_at": now}))
    assert await world.parts.catch_up().ensure()
    assert traces_in(repr(world.carrier.inbound)) == []


async def _requests(world: World) -> None:
    """Opt-outs and opt-ins by the API, with proof."""
    number = PhoneNumber(CANARY_NUMBER)
    requests = world.parts.requests("api")
    await requests.opt_out("shop", number, Scope.PROGRAMME, "offers", "token:test")
    proof = OptInProof.model_validate(
        {"medium": "paper", "at": "2024-01-01T00:00:00Z", "wording": CANARY_BODY, "seller": "The Shop", "ip": "203.0.113.9"}
    )
    assert traces_in(repr(proof) + str(proof) + proof.model_dump_json()) == []
    for tenant, name in (("shop", "offers"), ("shop", "orders")):
        await requests.opt_in(tenant, number, Scope.PROGRAMME, name, "token:test", proof)
    assert await requests.standing(number)


async def _faults(world: World, faults: list[str]) -> None:
    """PostgreSQL's own texts hold the values that it refuses."""
    await world.parts.database.execute("create table odd (number text primary key check (number <> 'x'))")
    statements = [
        ("insert into odd values ($1), ($1)", (CANARY_NUMBER,)),
        ("select $1::text::int", (CANARY_BODY,)),
        ("select $1::int", (CANARY_NUMBER,)),
        ("do $$ begin raise exception '" + CANARY_NUMBER + "'; end $$", ()),
    ]
    for statement, arguments in statements:
        try:
            await world.parts.database.fetch(statement, *arguments)
        except GatewayError as fault:
            faults.append(f"{fault!s} {fault!r} {fault.__cause__!r}")
        else:
            raise AssertionError(statement)
    await world.parts.database.execute("drop table odd")


async def _letters(world: World, faults: list[str]) -> str:
    """Dead letters listed, shown, refused and put back: what is told of them."""
    headers = [*raw_record(0, b"").headers, (CANARY_NUMBER, CANARY_BODY.encode()), ("signature", CANARY_NUMBER.encode())]
    record = raw_record(20, CANARY_BODY.encode(), headers)._replace(key=CANARY_NUMBER.encode())
    await world.intake().admit("sms.outbound.v1", 0, [record])
    letters, now = world.parts.letters(), await world.parts.ledger.now()
    rows, _ = await letters.page(LetterFilter(), None, 1000)
    uids = [row["uid"] for row in rows]
    told = [json.dumps(rows, default=str)]
    with pytest.raises(NoRight) as refused:
        await letters.read(uids[0], None, "cli:test")
    faults.append(f"{refused.value!s} {refused.value!r}")
    _, digest = new_token()
    await world.parts.control.create_token(digest, "reader", None, "test", ["read-payloads"])
    opened = [await letters.read(row["uid"], digest, "cli:test") for row in rows if row["kept"]]
    assert leaks("", opened[0].value or b"")
    assert leaks("", opened[0].key or b"")
    publisher = Publisher()
    for _ in range(2):  # the first time Kafka does not take them
        results = await world.parts.replaying(publisher).replay(uids, "cli:test", now, again=False)
        told.append(repr(results))
    assert len(publisher.events) == len(opened) == len(rows) - 1
    told += [repr(opened), repr(publisher.events), *[json.dumps(await letters.facts(uid), default=str) for uid in uids]]
    put_back = [
        raw_record(1000 + place, event.value, list(event.headers))._replace(key=event.key)
        for place, event in enumerate(publisher.events)
    ]
    await world.intake().admit("sms.outbound.v1", 1, put_back)
    assert await world.rows("select from dead_letters where replay_of is not null")
    return "\n".join(told)


async def _refused(world: World) -> None:
    """A message that only PostgreSQL refuses."""
    await world.parts.database.execute("alter table messages add constraint odd check (message_id <> 'refused')")
    await world.publish(message_id="refused", to=CANARY_NUMBER, body=CANARY_BODY)
    assert await world.rows("select from dead_letters where detail like '%cannot be stored%'")


async def _database(url: str) -> tuple[list[str], int]:
    """Every value of every column of every table: as text, and bytes as they are."""
    found: list[str] = []
    columns = 0
    session = await asyncpg.connect(url)
    try:
        names = await session.fetch(
            "select table_name, column_name, data_type from information_schema.columns"
            " where table_schema = 'public' order by table_name, ordinal_position"
        )
        tables = {row["table_name"] for row in names}
        assert {"messages", "bodies", "queue", "outbox", "dead_letters", "consents", "inbound"} <= tables
        assert {"audit_unchained", "audit_chain", "audit_heads", "audit"} <= tables
        for table in ("audit_chain", "audit_unchained"):  # each is seen with something in it
            assert await session.fetchval(f"select count(*) from {table}") > 0
        for row in names:
            columns += 1
            column = f'"{row["column_name"]}"'
            what = column if row["data_type"] == "bytea" else f"{column}::text"
            for value in await session.fetch(f'select {what} as value from "{row["table_name"]}" where {column} is not null'):
                found += leaks(f"{row['table_name']}.{row['column_name']}", value["value"])
    finally:
        await session.close()
    return found, columns
