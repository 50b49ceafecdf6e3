"""The five notices, live: each class of data of each tenant, in each place, is there just before its deadline and gone just past it.

One gateway has all five tenants, on a real PostgreSQL, and texts by a simulated Twilio and RingCentral. Something of every class is made
for each, and the clock goes from deadline to deadline; what was seen on the way the tests look at, a row of the table each. Topics keep
the same periods on Apache Kafka: tests/integration/test_notices_on_kafka.py.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal

import pytest

from gateway.app.preflight import check_servers
from gateway.app.providers import open_providers
from gateway.app.retention import retention_places
from gateway.app.wiring import open_parts
from gateway.crypto.days import LivingKeys
from gateway.domain.consent import Scope
from gateway.domain.errors import PolicyError, StoreUnavailable
from gateway.domain.events import OptInProof
from gateway.domain.personal import PhoneNumber
from gateway.domain.policy import Policy
from gateway.domain.policy_files import find_policies
from gateway.domain.policy_keys import NEEDED, said, unset
from gateway.domain.policy_retention import CLASSES, RetentionClass
from gateway.embedded.postgres import EmbeddedPostgres
from gateway.flow.copies_left import ProviderPlace
from gateway.flow.retaining import end_all
from gateway.flow.retention import Found, Place
from gateway.providers.ringcentral.provider import RingCentral, RingCentralAccount
from gateway.settings import load
from gateway.simulator.carrier import Carrier as SimulatedCarrier
from gateway.simulator.config import Account, CarrierConfig
from gateway.simulator.config import RingCentralAccount as SimulatedRingCentral
from gateway.simulator.server import running_carrier
from tests.conftest import fresh_database
from tests.integration.audited import chain_of, open_topic
from tests.integration.world import Carrier, World
from tests.notices import LIMITED, POLICIES, TENANTS, Tenant, install
from tests.support import run_apart, until

SECOND: Final = timedelta(seconds=1)
HOUR: Final = timedelta(hours=1)
TIME_TO_MAKE: Final = timedelta(minutes=5)
YEARS: Final = timedelta(days=3650)
SID: Final = "AC" + "0" * 32
TOKEN: Final = "what-ringcentral-shows"
NOBODY: Final = "postgresql://127.0.0.1:9/nobody"

Where = Literal["rows", "keys", "twilio", "ringcentral"]
PLACES: Final[Mapping[Where, str]] = {
    "rows": "postgresql",
    "keys": "keys",
    "twilio": "provider main",
    "ringcentral": "provider ring",
}
ACCOUNTS: Final[tuple[Where, ...]] = ("twilio", "ringcentral")
CLASSES_OF: Final[Mapping[Where, tuple[RetentionClass, ...]]] = {
    "rows": ("content", "address", "dead_letters", "events"),
    "keys": ("content", "address", "dead_letters", "consent_proof"),
    "twilio": ("content", "address"),
    "ringcentral": (
        "address",
    ),  # it changes no text that it has: what takes the number takes the text, and the first of both takes all
}

# What there is of a tenant's in the tables, of the day of which everything is.
COUNTS: Final = """
select (select count(*) from bodies b join messages m using (uid) where m.tenant = $1)
         + (select count(*) from messages where tenant = $1 and (subject_id is not null or recipient_ref is not null)) as content,
       (select count(*) from messages where tenant = $1 and to_sealed is not null)
         + (select count(*) from propagations where number_tenant = $1 and number_sealed is not null) as address,
       (select count(*) from dead_letters where tenant = $1) as dead_letters,
       (select count(*) from messages where tenant = $1) + (select count(*) from inbound where tenant = $1 and subject_id is not null)
         + (select count(*) from audit_chain where tenant = $1 and chained_at < $2) as events
"""
AUDIT_OF_DAY: Final = """
create table if not exists audit_chain_{name} partition of audit_chain for values from ('{day} 00:00+00') to ('{after} 00:00+00')
"""
MADE: Final = """
select least(min(uid_moment(uid)), (select min(received_at) from inbound)) as first,
       greatest(max(uid_moment(uid)), (select max(received_at) from inbound)) as last from messages
"""
AFTER_ALL: Final = """
select m.tenant, c.status || ' ' || m.state as state
  from messages m join consents c on c.tenant = m.tenant and c.subject_id = m.subject_id where m.message_id = 'after-all'
"""


@dataclass(frozen=True)
class Thing:
    """Data of a class of a tenant's, in a place."""

    tenant: str
    where: Where
    data_class: RetentionClass


@dataclass(frozen=True)
class Look:
    """How much there was of each thing at a moment, after all that was due had been ended."""

    at: datetime
    there: Mapping[Thing, int]


@dataclass(frozen=True, order=True)
class Moment:
    """When it is looked: past some deadline, or before one; at providers, too, where one of theirs is then."""

    at: datetime
    past: bool
    of_provider: bool


@dataclass
class History:
    """What was seen: at first, at each look; by ``verify`` at each moment past a deadline (``late``), and after what was due had ended.

    ``opted_out``: by tenant, what became of a text to somebody who had said STOP before all of it.
    """

    first: Look
    ends: Mapping[Thing, datetime | None]
    looks: list[Look] = field(default_factory=list)
    late: dict[datetime, Sequence[Found]] = field(default_factory=dict)
    ended: dict[datetime, Sequence[Found]] = field(default_factory=dict)
    opted_out: dict[str, str] = field(default_factory=dict)


class Live:
    """A gateway with some tenants, and the carriers that it texts by."""

    def __init__(self, world: World, carrier: SimulatedCarrier, tenants: Sequence[Tenant], moved: list[float]) -> None:
        self.world = world
        self.carrier = carrier
        self.tenants = tenants
        self._moved = moved  # seconds that the clock of RingCentral's rates was moved by
        self.places: list[Place] = retention_places(world.parts)
        for place in self.places:
            if isinstance(place, ProviderPlace):
                place._erasing._pause = _no_pause

    def policy(self, tenant: Tenant) -> Policy:
        found = self.world.parts.policies.tenant(tenant.name)
        assert found is not None
        return found

    async def make(self) -> None:
        """Of each tenant: two texts, two texts of people's, a dead letter, an opt-in with its proof that is over, and a STOP.

        All on one day.
        """
        now = (await self.world.parts.ledger.now()).astimezone(UTC)
        if (now + TIME_TO_MAKE).date() > now.date():
            await self.world.shift(TIME_TO_MAKE.total_seconds())
        for tenant in self.tenants:
            await self._inbound(tenant, "main", "STOP", 3)
            await self._inbound(tenant, "main", "Where is it?", 1)
            await self._inbound(tenant, "ring", "Where is it?", 2)
            for number, account in enumerate(("main", "ring"), 1):
                await self.world.publish(tenant=tenant.name, programme=account, to=tenant.person(number), message_id=account)
            again = {"message_id": "main", "body": "Another text under an id that is used up."}
            await self.world.publish(tenant=tenant.name, programme="main", to=tenant.person(1), **again)
            requests, person = self.world.parts.requests("api"), PhoneNumber(tenant.person(4))
            proof = OptInProof(medium="web", at=await self.world.parts.ledger.now())
            assert (await requests.opt_in(tenant.name, person, Scope.TENANT, "", "test", proof)).granted
            await requests.opt_out(tenant.name, person, Scope.TENANT, "", "test")
        async with self.world.sending():
            await until(self._nothing_waits)
        await self.world.rows("update messages set final = true, settle_by = null")
        await self.published()

    async def _nothing_waits(self) -> bool:
        return not await self.world.rows("select 1 from queue")

    async def _inbound(self, tenant: Tenant, account: str, body: str, person: int) -> None:
        number, sender = tenant.person(person), tenant.sender(account)
        sid = (await self.carrier.inbound(number, sender, body, deliver=False)).sid
        text = self.world.inbound(body, sender=number, to=sender, sid=sid if account == "main" else f"sms:{sid}")
        await self.world.parts.replies().receive(replace(text, account=account))

    async def published(self) -> None:
        """As if the relay had published everything."""
        await self.world.rows("delete from outbox where parked is null")

    async def go_to(self, at: datetime) -> datetime:
        """Move the store's clock to this moment; returns it."""
        await self.world.shift((at - await self.world.parts.ledger.now()).total_seconds())
        # Time goes on: it may be the next day soon. Of its tables the audit's alone is written to, and each that there is costs a look.
        for day in (at.date(), at.date() + timedelta(days=1)):
            await self.world.rows(AUDIT_OF_DAY.format(day=day, name=f"{day:%Y%m%d}", after=day + timedelta(days=1)))
        return at

    async def run(self, now: datetime, chain: Any, *, providers: bool) -> None:
        """What the sweep does in some minutes: a day's end tells something, and that must be told and chained before the next ends."""
        for _ in range(2):
            for place in self._places(providers=providers):
                await end_all(place, now)
            await self.published()
            while await chain.once():
                pass

    def _places(self, *, providers: bool) -> list[Place]:
        return [place for place in self.places if providers or not isinstance(place, ProviderPlace)]

    async def verify(self, now: datetime, *, providers: bool) -> list[Found]:
        found = [one for place in self._places(providers=providers) for one in await place.verify(now)]
        self._moved[0] += 120
        return found

    async def look(self, at: datetime, day: date) -> Look:
        there: dict[Thing, int] = {}
        living = await asyncio.to_thread(LivingKeys(self.world.parts.ring).living)
        tomorrow = datetime.combine(day, datetime.min.time(), UTC) + timedelta(days=1)
        for tenant in self.tenants:
            (rows,) = await self.world.rows(COUNTS, tenant.name, tomorrow)
            of_class = {"inbound": "content", "consent": "consent_proof"}
            keys = [of_class.get(key.data_class, key.data_class) for key in living if (key.tenant, key.day) == (tenant.name, day)]
            for where in ACCOUNTS:
                sender = tenant.sender("main" if where == "twilio" else "ring")
                copies = [
                    one for one in self.carrier.book.messages.values() if not one.deleted and sender in (one.to, one.sender)
                ]
                there[Thing(tenant.name, where, "address")] = len(copies)
                there[Thing(tenant.name, where, "content")] = sum(bool(one.body) for one in copies)
            there |= {Thing(tenant.name, "rows", one): rows[one] for one in CLASSES_OF["rows"]}
            there |= {Thing(tenant.name, "keys", one): int(one in keys) for one in CLASSES_OF["keys"]}
        return Look(at, there)

    def ends(self, day: date, made: datetime) -> dict[Thing, datetime | None]:
        """A day's rows and keys go as what was made first on it, a provider's copy by its own time."""
        found: dict[Thing, datetime | None] = {}
        for tenant in self.tenants:
            policy = self.policy(tenant)
            for where in ("rows", "keys"):
                for data_class in CLASSES_OF[where]:
                    # a proof is kept from the end of its day on
                    of = day + timedelta(days=data_class == "consent_proof")
                    found[Thing(tenant.name, where, data_class)] = tenant.day_end(data_class, of, policy)
            copies: dict[RetentionClass, datetime | None] = {one: tenant.end(one, made, policy) for one in CLASSES_OF["twilio"]}
            found |= {Thing(tenant.name, "twilio", one): end for one, end in copies.items()}
            known = [end for end in copies.values() if end is not None]
            found |= {Thing(tenant.name, "ringcentral", one): min(known, default=None) for one in copies}
        return found


async def _no_pause(_: float) -> None:
    return None


@asynccontextmanager
async def live(database_url: str, folder: Path, tenants: Sequence[Tenant]) -> AsyncIterator[Live]:
    moved = [0.0]
    numbers = {account: tuple(tenant.sender(account) for tenant in tenants) for account in ("main", "ring")}
    accounts = (
        Account(sid=SID, token="secret", senders=numbers["main"], callbacks="none"),
        SimulatedRingCentral("405", "app", "secret", "jwt", senders=numbers["ring"], keeps_opt_outs=False, callbacks="none"),
    )
    for tenant in tenants:
        install(folder / "policies", tenant)
    async with running_carrier(CarrierConfig(accounts=accounts, sent_ms=0, final_ms=0)) as carrier:
        settings = load(environment(database_url, folder, carrier.url))
        async with open_parts(settings, "test", with_providers=False) as parts:
            ring = RingCentralAccount("ring", "app", "secret", "jwt", TOKEN, high_volume=False, api_base=carrier.url)
            opened = {
                **open_providers(settings),
                "of the rates' clock": RingCentral(ring, clock=lambda: time.monotonic() + moved[0]),
            }
            parts.providers = {"main": opened["main"], "ring": opened["of the rates' clock"]}
            try:
                yield Live(World(parts, Carrier()), carrier, tenants, moved)
            finally:
                await asyncio.gather(*(provider.close() for provider in opened.values()))


def environment(database_url: str, folder: Path, carrier_url: str) -> dict[str, str]:
    twilio = {"ACCOUNT_SID": SID, "AUTH_TOKEN": "secret", "REGION": "ie1"}
    ring = {"PROVIDER": "ringcentral", "CLIENT_ID": "app", "CLIENT_SECRET": "secret", "JWT": "jwt", "REGION": "eu"}
    ring |= {"VERIFICATION_TOKEN": TOKEN, "HIGH_VOLUME": "false"}
    return {
        "GATEWAY_DATABASE_URL": database_url,
        "GATEWAY_STATE_DIRECTORY": str(folder / "state"),
        "GATEWAY_KEY_RING_DIRECTORY": str(folder / "keys"),
        "GATEWAY_POLICIES_DIRECTORY": str(folder / "policies"),
        "GATEWAY_PUBLIC_URL": "https://gateway.example",
        **{f"GATEWAY_ACCOUNTS__MAIN__{name}": value for name, value in {**twilio, "API_BASE": carrier_url}.items()},
        **{f"GATEWAY_ACCOUNTS__RING__{name}": value for name, value in {**ring, "API_BASE": carrier_url}.items()},
    }


async def live_through(database_url: str, folder: Path, tenants: Sequence[Tenant], broker: str) -> History:
    """Make everything, go from deadline to deadline, and ten years on."""
    async with live(database_url, folder, tenants) as one, open_topic(one.world, broker, f"{folder.name}.notices") as publisher:
        chain, ledger = chain_of(one.world, publisher), one.world.parts.ledger
        await one.make()
        while await chain.once():
            pass
        first, last = (await one.world.rows(MADE))[0].values()
        day = first.astimezone(UTC).date()
        history = History(await one.look(last, day), one.ends(day, first))
        for moment in sorted(moments_of(history.ends, last - first)):
            await one.go_to(moment.at)
            if moment.past:
                history.late[moment.at] = await one.verify(moment.at + HOUR, providers=moment.of_provider)
            await one.run(moment.at, chain, providers=moment.of_provider)
            history.looks.append(await one.look(moment.at, day))
            history.ended[moment.at] = await one.verify(moment.at, providers=moment.of_provider)
        at = await one.go_to(await ledger.now() + YEARS)
        await one.run(at, chain, providers=True)
        history.looks.append(await one.look(at, day))
        history.ended[at] = await one.verify(at, providers=True)
        await one.world.parts.watch.ensure_days()
        for tenant in tenants:
            await one.world.publish(tenant=tenant.name, programme="main", to=tenant.person(3), message_id="after-all")
        history.opted_out = {row["tenant"]: row["state"] for row in await one.world.rows(AFTER_ALL)}
    return history


def moments_of(ends: Mapping[Thing, datetime | None], took: timedelta) -> set[Moment]:
    """A second before each deadline, and a second past it, as much later as all that was made took."""
    found: dict[datetime, Moment] = {}
    for thing, end in ends.items():
        if end is not None:
            # nothing needs a proof's key once the opt-in is over: it goes within the hour before
            before = end - SECOND - (HOUR if thing.data_class == "consent_proof" else timedelta())
            for at, past in ((before, False), (end + SECOND + (took if thing.where in ACCOUNTS else timedelta()), True)):
                known = found.get(at, Moment(at, past=False, of_provider=False))
                found[at] = Moment(at, past=known.past or past, of_provider=known.of_provider or thing.where in ACCOUNTS)
    return set(found.values())


@pytest.fixture(scope="module")
def histories(
    postgres_server: EmbeddedPostgres, migrated_template: str, embedded_broker: str, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, History]:
    """By what is lived through: the notices, and the one that sets no limit with one by its overlay."""
    found = {}
    for case, tenants in CASES.items():
        with fresh_database(postgres_server, migrated_template) as url:
            found[case] = run_apart(live_through(url, tmp_path_factory.mktemp(case), tenants, embedded_broker))
    return found


CASES: Final[Mapping[str, Sequence[Tenant]]] = {"notices": TENANTS, "limited": (LIMITED,)}


def things(*, ending: bool) -> list[Any]:
    """Those of the table that end, or that do not while the customer account is open."""
    return [
        pytest.param(case, Thing(tenant.name, where, data_class), id=f"{case}-{tenant.name}-{data_class}-{where}")
        for case, tenants in CASES.items()
        for tenant in tenants
        for where, classes in CLASSES_OF.items()
        for data_class in classes
        if (tenant.kept[data_class] is not None) == ending
    ]


@pytest.mark.parametrize("case, thing", things(ending=True))
def test_it_is_there_just_before_its_deadline_and_gone_just_past_it(
    histories: Mapping[str, History], case: str, thing: Thing
) -> None:
    history = histories[case]
    end = history.ends[thing]
    assert end is not None
    before = [look for look in history.looks if look.at <= end]
    after = [look for look in history.looks if look.at > end]
    assert end - before[-1].at <= HOUR + SECOND
    assert after[0].at - end <= timedelta(minutes=1)
    assert history.first.there[thing] > 0
    assert {look.there[thing] for look in before} == {history.first.there[thing]}
    assert {look.there[thing] for look in after} == {0}
    assert unwell(history.late[after[0].at], thing), "verify does not see what has to be ended now"
    for at in (before[-1].at, after[0].at):
        assert not unwell(history.ended[at], thing)


@pytest.mark.parametrize("case, thing", things(ending=False))
def test_what_is_kept_without_end_stays(histories: Mapping[str, History], case: str, thing: Thing) -> None:
    history = histories[case]
    assert history.ends[thing] is None
    assert history.first.there[thing] > 0
    assert {look.there[thing] for look in history.looks} == {history.first.there[thing]}
    assert not any(unwell(found, thing) for found in (*history.late.values(), *history.ended.values()))


def unwell(found: Sequence[Found], thing: Thing) -> list[Found]:
    """What is wrong with it, as ``verify`` says."""
    called = {"consent_proof": "consent"} if thing.where == "keys" else {}
    wanted = (PLACES[thing.where], thing.tenant, called.get(thing.data_class, thing.data_class))
    return [one for one in found if not one.well and (one.place, one.tenant, one.data_class) == wanted]


@pytest.mark.parametrize("case", CASES)
def test_an_opt_out_outlives_all_of_it(histories: Mapping[str, History], case: str) -> None:
    assert histories[case].opted_out == {tenant.name: "out blocked" for tenant in CASES[case]}


@pytest.mark.parametrize("case", CASES)
def test_nothing_is_left_that_should_be_gone(histories: Mapping[str, History], case: str) -> None:
    assert [one for found in histories[case].ended.values() for one in found if not one.well] == []


@pytest.mark.parametrize("tenant", TENANTS, ids=lambda tenant: tenant.name)
def test_the_table_has_each_period_of_the_notice_and_one_for_each_that_it_leaves_open(tenant: Tenant) -> None:
    (shipped,) = find_policies(POLICIES / f"{tenant.name}.yaml")
    keys = said(shipped.content)
    periods: dict[RetentionClass, Any] = {one: keys[f"retention.{one}"] for one in CLASSES if f"retention.{one}" in keys}
    assert {key for key, value in periods.items() if value == "UNSET"} == set(tenant.overlay) - {"address"}
    for data_class, value in periods.items():
        if value != "UNSET" and data_class != "customer_account":
            without_end = isinstance(value, dict) or value.endswith(" after closing")
            assert tenant.kept[data_class] == (None if without_end else value)


def left_open() -> list[Any]:
    """What each tenant may not leave open as long as it is enabled."""
    return [
        pytest.param(tenant, key, id=f"{tenant.name}-{key}")
        for tenant in TENANTS
        for key in unset(find_policies(POLICIES / f"{tenant.name}.yaml")[0].content)
        if key in NEEDED
    ]


@pytest.mark.parametrize("tenant, key", left_open())
async def test_what_the_notice_leaves_open_refuses_the_start_until_an_overlay_fills_it(
    tmp_path: Path, tenant: Tenant, key: str
) -> None:
    section, _, name = key.rpartition(".")
    overlay = tenant.filling()
    del (overlay[section] if section else overlay)[name]
    file = install(tmp_path / "policies", tenant, overlay)
    lines = file.read_text().splitlines()
    line = next(number for number, text in enumerate(lines, 1) if re.match(rf" *{name}: UNSET\b", text))
    settings = load(environment(NOBODY, tmp_path, "http://127.0.0.1:9"))
    with pytest.raises(
        PolicyError, match=rf"^{re.escape(str(file))}:{line}: {re.escape(key)}: is UNSET, and .* needs it: fill it in"
    ):
        await check_servers(settings, "all")
    install(tmp_path / "policies", tenant)
    with pytest.raises(StoreUnavailable):  # which is asked once the policies are in order
        await check_servers(settings, "all")
