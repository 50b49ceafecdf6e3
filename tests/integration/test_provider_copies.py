"""The providers' copies die by their tenants' deadlines: on a real PostgreSQL, at the simulated Twilio and RingCentral."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import pytest

from gateway.app.copies import lost_accounts, provider_places
from gateway.app.providers import check_accounts, open_providers
from gateway.app.retention import retention_places
from gateway.cli.root import run as run_command
from gateway.domain.errors import NotFound, PolicyError, ProviderUnavailable
from gateway.domain.personal import MessageBody, PhoneNumber
from gateway.domain.policy_files import load_policies
from gateway.domain.reports import Receipt, Text
from gateway.flow.audit import Verification
from gateway.flow.copies import LATERS, Eraser, Erasing
from gateway.flow.copies_left import ProviderPlace
from gateway.flow.holds import Holds
from gateway.flow.provider import Abilities, Copies, Erasure
from gateway.flow.retaining import end_all
from gateway.simulator.carrier import Carrier
from gateway.simulator.config import Account, CarrierConfig, RingCentralAccount
from gateway.simulator.records import Message
from gateway.simulator.scripts import Script
from gateway.simulator.server import running_carrier
from gateway.store.audit import AuditReader
from gateway.store.closing import ClosedAccounts
from gateway.store.copies import CopyStore
from gateway.store.holds import HoldTable
from tests.integration.world import World, environment_for, open_world, settings_for, until
from tests.support import free_port, run_apart

HOUR, DAY = 3600.0, 86_400.0
OURS, THEIRS = "+14155550110", "+14155550119"
PEOPLE = ("+12025550101", "+12025550102")
TWILIO = {"ACCOUNT_SID": "AC" + "0" * 32, "AUTH_TOKEN": "secret"}
RING = {
    "PROVIDER": "ringcentral",
    "CLIENT_ID": "app",
    "CLIENT_SECRET": "secret",
    "JWT": "jwt",
    "VERIFICATION_TOKEN": "what-ringcentral-shows",
    "HIGH_VOLUME": "false",
}
Kind = Literal["twilio", "ringcentral"]
both = pytest.mark.parametrize("kind", ["twilio", "ringcentral"])


def policy(retention: str, tenant: str = "shop", sender: str = OURS, account: str = "copied") -> str:
    return f"""
tenant: {tenant}
name: The Shop
providers: [twilio, ringcentral]
region: US
retention: {{{retention}}}
programmes:
  orders:
    categories: [service]
    senders: [{{number: "{sender}", account: {account}}}]
    help_contact: help@shop.example
"""


class Clock:
    """The store's time, the carrier's and a process's own, which nothing waits for."""

    def __init__(self) -> None:
        self.carrier = 0.0
        self.seconds = 0.0

    def __call__(self) -> float:
        return time.time() + self.carrier


@dataclass
class Shop:
    """A gateway, its one account, and that account's carrier."""

    world: World
    carrier: Carrier
    clock: Clock

    @property
    def provider(self) -> Any:
        return self.world.parts.providers["copied"]

    def place(
        self, provider: Eraser | None = None, chance: Callable[[], float] = lambda: 0.0, *, taking_time: bool = False
    ) -> ProviderPlace:
        """As another process would make it, but that it waits for nothing; ``taking_time``: its clock goes on as if it had."""
        parts = self.world.parts

        async def pause(seconds: float) -> None:
            if taking_time:
                self.clock.seconds += max(0.0, seconds)

        notes, holds = CopyStore(parts.database, parts.name), HoldTable(parts.database)
        closings = ClosedAccounts(parts.database).closings
        policies, uses = list(parts.policies), parts.policies.sender_map().values()
        one = provider or self.provider
        erasing = Erasing(
            one,
            policies,
            notes,
            holds,
            parts.metrics,
            closings,
            chance=chance,
            elapsed=lambda: time.monotonic() + self.clock.seconds,
            pause=pause,
        )
        return ProviderPlace(one, policies, uses, None, notes, erasing, holds, closings)

    async def pass_by(self, seconds: float) -> None:
        await self.world.shift(seconds)
        self.clock.seconds += seconds

    async def run(self, place: ProviderPlace | None = None, most: int = 100) -> int:
        return await (place or self.place()).run(await self.world.parts.control.now(), most)

    async def text(self, *people: str) -> None:
        """Texts to these people, taken by the carrier."""
        for person in people:
            await self.world.publish(tenant="shop", programme="orders", to=person, body="Your order has left.")
        async with self.world.sending():
            await until(self._all_sent)

    async def _all_sent(self) -> bool:
        rows = await self.world.rows("select 1 from messages where state = 'accepted'")
        return not rows

    async def be_texted(self, person: str, body: str = "Where is it?") -> str:
        """A person's text, which the gateway took; returns the provider's id."""
        result = await self.carrier.inbound(person, OURS, body, deliver=False)
        sid = f"sms:{result.sid}" if self.provider.name == "ringcentral" else result.sid
        text = self.world.inbound(body, sender=person, to=OURS, sid=sid)
        object.__setattr__(text, "account", "copied")
        await self.world.parts.replies().receive(text)
        return sid

    def copies(self) -> list[Message]:
        """What the carrier has."""
        return [one for one in self.carrier.book.messages.values() if not one.deleted]

    async def audited(self) -> list[tuple[str, str]]:
        rows = await self.world.rows(
            "select evidence, reason from audit_unchained where step = 'provider_copy_erased' order by id"
        )
        return [(row["evidence"], row["reason"]) for row in rows]

    async def well(self) -> dict[str, bool]:
        return {one.data_class: one.well for one in await self.found()}

    async def found(self) -> Any:
        return await self.place().verify(await self.world.parts.control.now())

    def counted(self, result: str) -> float | None:
        labels = {"account": "copied", "result": result}
        return self.world.parts.registry.get_sample_value("sms_gateway_provider_copies_total", labels)


@asynccontextmanager
async def shop(
    database_url: str, folder: Path, kind: Kind = "twilio", retention: str = "content: 6d", final_ms: float = 0
) -> AsyncIterator[Shop]:
    clock = Clock()
    account: Account | RingCentralAccount = (
        Account(TWILIO["ACCOUNT_SID"], "secret", senders=(OURS, THEIRS))
        if kind == "twilio"
        else RingCentralAccount("405", "app", "secret", "jwt", senders=(OURS, THEIRS), keeps_opt_outs=False)
    )
    config = CarrierConfig(accounts=(account,), sent_ms=0, final_ms=final_ms)
    (folder / "policies").mkdir(exist_ok=True)
    (folder / "policies" / "shop.yaml").write_text(policy(retention))
    async with (
        running_carrier(config, clock=clock) as carrier,
        open_world(database_url, folder, None, **environment(kind, carrier.url)) as world,
    ):
        providers = world.parts.providers = open_providers(world.parts.settings)
        try:
            yield Shop(world, carrier, clock)
        finally:
            for provider in providers.values():
                await provider.close()


def environment(kind: Kind, url: str) -> dict[str, str]:
    settings = {**(TWILIO if kind == "twilio" else RING), "API_BASE": url}
    return {f"GATEWAY_ACCOUNTS__COPIED__{name}": value for name, value in settings.items()}


@both
async def test_a_copy_lives_until_its_deadline_and_is_gone_after_it(database_url: str, tmp_path: Path, kind: Kind) -> None:
    async with shop(database_url, tmp_path, kind) as one:
        await one.text(*PEOPLE)
        await one.be_texted(PEOPLE[0])
        assert len(one.copies()) == 3

        await one.pass_by(6 * DAY - 60)
        assert await one.run() == 0
        assert len(one.copies()) == 3
        assert all(message.body for message in one.copies())
        planned = await one.place().plan(await one.world.parts.control.now())
        now = await one.world.parts.control.now()
        assert {(plan.tenant, plan.data_class, plan.count) for plan in planned} == {
            ("shop", "content", 3),
            ("shop", "address", 3),
        }
        assert all(plan.due_at is not None and 0 < (plan.due_at - now).total_seconds() < 60 for plan in planned)

        await one.pass_by(90)
        assert await one.run() == 3
        assert one.copies() == []
        assert await one.run() == 0
        assert await one.audited() == [("all", "done")] * 3
        assert await one.world.rows("select * from provider_copies") == []
        assert one.counted("done") == 3
        report = await Verification(AuditReader(one.world.parts.database), None).look()
        assert report.findings == []


async def test_a_text_goes_before_the_number_where_they_die_apart(database_url: str, tmp_path: Path) -> None:
    async with shop(database_url, tmp_path, retention="content: 2d, address: 6d") as one:
        await one.text(*PEOPLE)
        await one.pass_by(2 * DAY - 60)
        assert await one.run() == 0
        await one.pass_by(120)
        assert await one.run() == 2
        assert [message.body for message in one.copies()] == ["", ""]
        await one.pass_by(4 * DAY - 120)
        assert await one.run() == 0
        assert len(one.copies()) == 2
        await one.pass_by(120)
        assert await one.run() == 2
        assert one.copies() == []
        assert await one.audited() == [("text", "done")] * 2 + [("all", "done")] * 2


async def test_where_a_text_cannot_go_alone_all_goes_with_it(database_url: str, tmp_path: Path) -> None:
    async with shop(database_url, tmp_path, "ringcentral", "content: 2d, address: 6d") as one:
        await one.text(*PEOPLE)
        await one.pass_by(2 * DAY + 60)
        assert await one.run() == 2
        assert one.copies() == []


async def test_what_cannot_be_deleted_yet_is_deleted_later(database_url: str, tmp_path: Path) -> None:
    async with shop(database_url, tmp_path, final_ms=30 * DAY * 1000) as one:
        await one.text(*PEOPLE)
        await one.pass_by(6 * DAY + 60)
        assert await one.run() == 0
        assert (await one.audited(), one.counted("later")) == ([], 2)
        assert await one.run() == 0
        assert one.counted("later") == 2, "not at once again"

        one.clock.carrier = 31 * DAY
        await one.pass_by(HOUR)
        assert await one.run() == 2
        assert one.copies() == []
        assert await one.audited() == [("all", "done")] * 2


async def test_what_is_put_off_for_ever_is_given_up_and_stays_in_sight(database_url: str, tmp_path: Path) -> None:
    async with shop(database_url, tmp_path, final_ms=3000 * DAY * 1000) as one:
        await one.text(PEOPLE[0])
        await one.pass_by(6 * DAY + 60)
        for _ in range(LATERS - 1):
            assert await one.run() == 0
            await one.pass_by(6 * HOUR + 1)
        assert await one.audited() == []
        assert await one.run() == 1
        assert await one.audited() == [("all", "exhausted")]
        assert await one.well() == {"content": False, "address": False}


@dataclass
class Unsteady:
    """An account that does not answer while it is away, and refuses some ids for ever."""

    inner: Any
    away: bool = False
    refused: str | None = None
    seconds: float | None = None
    asked: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return str(self.inner.name)

    @property
    def account(self) -> str:
        return str(self.inner.account)

    @property
    def abilities(self) -> Abilities:
        able: Abilities = self.inner.abilities
        return able if self.seconds is None else replace(able, erasure_seconds=self.seconds)

    async def redact(self, provider_message_id: str) -> Erasure:
        return await self._ask(self.inner.redact, provider_message_id)

    async def delete(self, provider_message_id: str) -> Erasure:
        return await self._ask(self.inner.delete, provider_message_id)

    async def _ask(self, ask: Any, provider_message_id: str) -> Erasure:
        self.asked.append(provider_message_id)
        if self.away or provider_message_id == self.refused:
            raise ProviderUnavailable("HTTP 500")
        erasure: Erasure = await ask(provider_message_id)
        return erasure

    async def oldest_copies(self, sender: str, before: Any) -> Copies:
        copies: Copies = await self.inner.oldest_copies(sender, before)
        return copies


async def test_an_account_that_is_away_for_long_is_asked_seldom_and_loses_nothing(database_url: str, tmp_path: Path) -> None:
    async with shop(database_url, tmp_path) as one:
        await one.text(*PEOPLE)
        provider = Unsteady(one.provider, away=True)
        place = one.place(provider)
        await one.pass_by(6 * DAY + 60)
        for _ in range(120):  # a look a minute
            assert await one.run(place) == 0
            await one.pass_by(60)
        assert 10 < len(provider.asked) < 60
        for _ in range(LATERS + 1):  # and for weeks
            await one.pass_by(12 * HOUR)
            assert await one.run(place) == 0
        assert await one.audited() == []
        provider.away = False
        await one.pass_by(HOUR)
        assert await one.run(place) == 2
        assert one.copies() == []
        assert await one.audited() == [("all", "done")] * 2


async def test_what_many_copies_meet_is_asked_of_few(database_url: str, tmp_path: Path) -> None:
    """Some dozens that each wait for the time limit would take minutes; and those that were asked for let others go first."""
    async with shop(database_url, tmp_path) as one:
        await one.text(*[f"+1202555{number:04d}" for number in range(100, 120)])
        provider = Unsteady(one.provider, away=True)
        place = one.place(provider)
        await one.pass_by(6 * DAY + 60)
        assert await one.run(place) == 0
        first = list(provider.asked)
        assert 4 <= len(first) <= 8
        await one.pass_by(6)
        assert await one.run(place) == 0
        assert not set(first) & set(provider.asked[len(first) :])
        provider.away = False
        await one.pass_by(HOUR)
        assert await one.run(place) == 20


async def test_a_copy_that_the_provider_chokes_on_keeps_no_other_waiting(database_url: str, tmp_path: Path) -> None:
    async with shop(database_url, tmp_path) as one:
        await one.text(*PEOPLE)
        first, _ = one.copies()
        provider = Unsteady(one.provider, refused=first.sid)
        await one.pass_by(6 * DAY + 60)
        assert await one.run(one.place(provider)) == 1
        assert one.copies() == [first]
        await one.pass_by(HOUR)
        assert await one.run() == 1
        assert one.copies() == []


DIES = """
import asyncio, os, signal, sys
from gateway.app.copies import provider_places
from gateway.app.wiring import open_parts
from gateway.settings import load
from gateway.store.copies import CopyStore

async def killed(*_): os.kill(os.getpid(), signal.SIGKILL)

async def main(point):
    async with open_parts(load(os.environ), "test") as parts:
        (place,) = [place for place in provider_places(parts) if place.name == "provider copied"]
        if point == "before":
            provider = type(parts.providers["copied"])
            provider.redact = provider.delete = killed
        else:
            CopyStore.settle = killed
        await place.run(await parts.control.now(), 10)

for line in sys.stdin:
    child = os.fork()
    if not child:
        asyncio.run(main(line.strip()))
    print(-os.waitpid(child, 0)[1], flush=True)
"""


@both
async def test_one_that_is_killed_before_or_after_the_answer_leaves_the_copy_to_the_next(
    database_url: str, tmp_path: Path, kind: Kind
) -> None:
    """kill -9 of a real process that has taken the copy: before the provider is asked, and once it has deleted and nobody has noted it."""
    async with shop(database_url, tmp_path, kind) as one:
        await one.text(PEOPLE[0])
        copies = one.copies()
        await one.pass_by(6 * DAY + 60)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-c", DIES),
            env=environment_for(database_url, tmp_path, **environment(kind, one.carrier.url)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        for point, there in (("before", copies), ("after", [])):
            process.stdin.write(f"{point}\n".encode())
            while not (said := (await asyncio.wait_for(process.stdout.readline(), 60)).decode().strip()).startswith("-"):
                assert said, "it ended"  # else a line of its log
            assert int(said) == -signal.SIGKILL
            assert one.copies() == there
            assert await one.audited() == []
            assert await one.run() == 0, "it is the other's for the length of a lease"
            await one.pass_by(130)
        process.stdin.close()
        assert await process.wait() == 0
        assert await one.run() == 1
        assert one.copies() == []
        assert await one.audited() == [("all", "done")]


async def test_two_at_once_end_each_copy_once(database_url: str, tmp_path: Path) -> None:
    async with shop(database_url, tmp_path) as one:
        await one.text(*[f"+1202555{number:04d}" for number in range(100, 120)])
        await one.pass_by(6 * DAY + 60)
        assert sum(await asyncio.gather(*(one.run() for _ in range(4)))) == 20
        assert one.copies() == []
        assert await one.audited() == [("all", "done")] * 20


async def test_a_copy_outlives_neither_its_message_nor_its_number_here(database_url: str, tmp_path: Path) -> None:
    """What is known of a message may be gone from the tables before the provider answers."""
    async with shop(database_url, tmp_path) as one:
        await one.text(*PEOPLE)
        await one.pass_by(6 * DAY - HOUR)
        assert await one.run() == 0
        await one.world.parts.database.execute("delete from messages")
        await one.pass_by(2 * HOUR)
        assert await one.run() == 2
        assert one.copies() == []


async def test_a_copy_is_noted_before_its_row_goes_at_the_midnight_before(database_url: str, tmp_path: Path) -> None:
    """Rows end by the day, copies by the moment: of a text of the evening the row goes nearly a day before its copy has to."""
    async with shop(database_url, tmp_path) as one:
        await one.text(*PEOPLE)
        await one.pass_by(5 * DAY)
        assert await one.run() == 0
        await one.world.parts.database.execute("delete from messages")
        await one.pass_by(DAY - HOUR)
        assert await one.run() == 0
        assert len(one.copies()) == 2
        await one.pass_by(2 * HOUR)
        assert await one.run() == 2
        assert one.copies() == []


async def test_an_outcome_that_nobody_knew_is_erased_once_its_id_is_known(database_url: str, tmp_path: Path) -> None:
    async with shop(database_url, tmp_path) as one:
        one.carrier.script(PEOPLE[0], Script(answer="error_after", status=502))
        one.carrier.script(PEOPLE[1], Script(answer="error_after", status=502))
        await one.text(*PEOPLE)
        assert {row["state"] for row in await one.world.rows("select state from messages")} == {"unknown"}
        await one.world.parts.database.execute("update messages set final = true")
        await one.pass_by(6 * DAY + 60)
        assert await one.run() == 0
        (uid, attempt) = (await one.world.rows("select uid, attempt from messages order by uid limit 1"))[0].values()
        (copy,) = [message for message in one.copies() if message.to == PEOPLE[0]]
        await one.world.parts.receipts().receive(Receipt("copied", uid, attempt, copy.sid, "delivered", None))
        await one.pass_by(7 * HOUR)
        assert await one.run() == 1
        assert [message.to for message in one.copies()] == [PEOPLE[1]]

        for _ in range(LATERS):
            await one.pass_by(7 * HOUR)
            await one.run()
        assert await one.audited() == [("all", "done"), ("all", "unknown")]
        assert (await one.well())["address"] is False, "whatever nobody knew of, the provider lists"


@both
async def test_verify_finds_what_was_hidden_from_the_sweep(database_url: str, tmp_path: Path, kind: Kind) -> None:
    async with shop(database_url, tmp_path, kind) as one:
        hidden = Text(uuid4(), 1, "copied", OURS, PhoneNumber(PEOPLE[0]), MessageBody("Hidden."), "https://gateway.example/x")
        foreign = Text(
            uuid4(), 1, "copied", THEIRS, PhoneNumber(PEOPLE[0]), MessageBody("Another's."), "https://gateway.example/x"
        )
        for text in (hidden, foreign):
            await one.provider.send([text])
        assert len(one.copies()) == 2
        for seconds, well in ((6 * DAY, True), (2 * HOUR, False)):
            await one.pass_by(seconds)
            await one.run()
            assert set((await one.well()).values()) == {well}
        (address,) = [found for found in await one.found() if found.data_class == "address"]
        assert abs(address.oldest.timestamp() - one.copies()[0].created_at) < 1
        assert address.oldest < address.not_before
        assert address.why == "1 copies that should be gone are listed"
        await one.provider.delete(f"sms:{one.copies()[0].sid}" if kind == "ringcentral" else one.copies()[0].sid)
        assert set((await one.well()).values()) == {True}
        assert len(one.copies()) == 1, "what is from no sender of ours is nothing of ours"


@both
async def test_verify_finds_a_text_of_a_persons(database_url: str, tmp_path: Path, kind: Kind) -> None:
    async with shop(database_url, tmp_path, kind) as one:
        await one.carrier.inbound(PEOPLE[0], OURS, "Hidden", deliver=False)
        await one.pass_by(6 * DAY + 2 * HOUR)
        assert set((await one.well()).values()) == {False}


@both
@pytest.mark.parametrize("by", ["uid", "subject_id"])
async def test_a_legal_hold_keeps_a_copy_and_is_said(database_url: str, tmp_path: Path, by: str, kind: Kind) -> None:
    async with shop(database_url, tmp_path, kind) as one:
        await one.text(*PEOPLE)
        rows = await one.world.rows("select uid, subject_id from messages order by uid")
        holds = Holds(HoldTable(one.world.parts.database))
        whose = {by: rows[0][by]}
        hold = await holds.add("shop", "counsel", "a dispute", "test", **whose)
        await holds.add("another", "counsel", "of somebody else", "test", **whose)
        await one.pass_by(6 * DAY + 2 * HOUR)
        assert await one.run() == 1
        assert len(one.copies()) == 1
        found = await one.found()
        assert {(each.well, each.why) for each in found} == {(True, "a legal hold keeps 1")}
        await holds.release(hold, "test")
        assert set((await one.well()).values()) == {False}
        await one.pass_by(HOUR + 1)
        assert await one.run() == 1
        assert one.copies() == []


async def test_a_hold_on_a_person_keeps_a_copy_that_is_noted_when_its_message_names_nobody_any_more(
    database_url: str, tmp_path: Path
) -> None:
    async with shop(database_url, tmp_path) as one:
        await one.text(*PEOPLE)
        (row, other) = await one.world.rows("select uid, subject_id from messages order by uid")
        hold = await Holds(HoldTable(one.world.parts.database)).add(
            "shop", "counsel", "a dispute", "test", subject_id=row["subject_id"]
        )
        await one.world.parts.database.execute("insert into held values ($1, 'address', $2, '')", hold, str(row["uid"]))
        await one.world.parts.database.execute("update messages set subject_id = null")
        await one.pass_by(6 * DAY + 2 * HOUR)
        assert await one.run() == 1
        assert await one.world.rows("select uid from provider_copies") == [{"uid": row["uid"]}]
        assert len(one.copies()) == 1
        found = await one.found()
        assert {(each.well, each.why) for each in found} == {(True, "a legal hold keeps 1")}
        assert other["uid"] != row["uid"]


async def test_a_step_ends_by_its_time_and_all_of_them_erase_all(database_url: str, tmp_path: Path) -> None:
    """An account that allows twenty calls a minute, as RingCentral does: a step is over long before all of its copies are."""
    async with shop(database_url, tmp_path) as one:
        await one.text(*[f"+1202555{number:04d}" for number in range(100, 130)])
        await one.pass_by(6 * DAY + 60)
        now = await one.world.parts.control.now()
        place = one.place(Unsteady(one.provider, seconds=3.0), taking_time=True)
        first = await one.run(place, 500)
        assert 0 < first < 30, "what the account allows in a minute"
        assert await place.left(now) == f"{30 - first} copies are due, and the account does not answer or puts them off"
        assert first + await end_all(place, now) == 30
        assert (one.copies(), await place.left(now)) == ([], "")


async def test_what_is_due_and_not_erased_is_left_and_said(database_url: str, tmp_path: Path) -> None:
    async with shop(database_url, tmp_path) as one:
        await one.text(*PEOPLE)
        provider = Unsteady(one.provider, away=True)
        place = one.place(provider)
        await one.pass_by(6 * DAY - 60)
        now = await one.world.parts.control.now()
        assert (await end_all(place, now), await place.left(now)) == (0, "")
        await one.pass_by(120)
        now = await one.world.parts.control.now()
        assert await end_all(place, now) == 0
        assert await place.left(now) == "2 copies are due, and the account does not answer or puts them off"
        rows = await one.world.rows("select uid from messages order by uid")
        await Holds(HoldTable(one.world.parts.database)).add("shop", "counsel", "a dispute", "test", uid=rows[0]["uid"])
        assert (await place.left(now)).startswith("1 copies are due"), "what a hold keeps is not"
        await one.world.parts.database.execute("delete from provider_copies_noted")
        assert (await place.left(now)).endswith("; not all copies that are due are noted yet")


def test_the_command_says_that_it_is_not_finished(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The account is away: what is due is still there, so that the command did not do what it was asked for."""

    async def texted() -> None:
        async with shop(database_url, tmp_path) as one:
            await one.text(*PEOPLE)
            await one.pass_by(6 * DAY + 60)

    run_apart(texted())
    capsys.readouterr()
    for name, value in environment_for(
        database_url, tmp_path, **environment("twilio", f"http://127.0.0.1:{free_port()}")
    ).items():
        monkeypatch.setenv(name, value)
    assert run_command(["retention", "run", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["left"]["provider copied"] == "2 copies are due, and the account does not answer or puts them off"
    assert (told["ended"]["provider copied"], told["failed"]) == (0, {})


IDLE = """
tenant: idle
name: Once A Shop
enabled: false
providers: [twilio]
retention: {{content: {content}}}
programmes: UNSET
"""


@asynccontextmanager
async def once_live(one: Shop, folder: Path, content: str | None) -> AsyncIterator[list[ProviderPlace]]:
    """The shop's places in a process that starts when the shop is not enabled any more, or, without a period, has no policy."""
    parts, file = one.world.parts, folder / "policies" / "shop.yaml"
    file.unlink()
    (folder / "policies" / "other.yaml").write_text(policy("content: 20d", "other", THEIRS))
    if content is not None:
        file.write_text(IDLE.format(content=content).replace("tenant: idle", "tenant: shop"))
    kept = parts.policies
    parts.policies = load_policies(folder / "policies")
    try:
        yield [place for place in provider_places(parts) if place.name == "provider copied"]
    finally:
        parts.policies = kept


@both
async def test_the_copies_of_a_tenant_that_is_not_enabled_any_more_end_all_the_same(
    database_url: str, tmp_path: Path, kind: Kind
) -> None:
    async with shop(database_url, tmp_path, kind, "content: 2d") as one:
        await one.text(*PEOPLE)
        async with once_live(one, tmp_path, "2d") as (place,):
            await one.pass_by(2 * DAY - 60)
            now = await one.world.parts.control.now()
            due = {(plan.tenant, plan.data_class): plan.due_at for plan in await place.plan(now)}
            assert due.keys() == {("shop", "content"), ("shop", "address")}
            assert all(at is not None and 0 < (at - now).total_seconds() < 60 for at in due.values())
            assert await one.run(place) == 0
            await one.pass_by(2 * HOUR)
            now = await one.world.parts.control.now()
            assert {(found.tenant, found.well) for found in await place.verify(now)} == {("shop", False), ("other", True)}
            assert await one.run(place) == 2
            assert one.copies() == []
            assert all(found.well for found in await place.verify(now))


async def test_copies_of_which_nobody_knows_how_long_they_may_stay_are_found(database_url: str, tmp_path: Path) -> None:
    async with shop(database_url, tmp_path) as one:
        await one.text(*PEOPLE)
        async with once_live(one, tmp_path, "UNSET") as (place,):
            await one.pass_by(HOUR)
            found = [found for found in await place.verify(await one.world.parts.control.now()) if found.tenant == "shop"]
            assert [(one.data_class, one.well, one.why) for one in found] == [
                ("content", False, "the policy leaves retention.content open"),
                ("address", False, "the policy leaves retention.address open"),
            ]


async def test_the_copies_of_a_tenant_that_has_no_policy_end_by_the_shortest_period(database_url: str, tmp_path: Path) -> None:
    async with shop(database_url, tmp_path, retention="content: 60d") as one:
        await one.text(*PEOPLE)
        async with once_live(one, tmp_path, None) as (place,):
            await one.pass_by(20 * DAY - 60)
            assert await one.run(place) == 0
            assert {plan.tenant for plan in await place.plan(await one.world.parts.control.now())} == {"shop"}
            await one.pass_by(2 * HOUR)
            now = await one.world.parts.control.now()
            assert {(found.tenant, found.well) for found in await place.verify(now)} == {("shop", False), ("other", True)}
            assert await one.run(place) == 2
            assert one.copies() == []


async def test_what_nobody_can_delete_of_a_tenant_that_is_not_enabled_is_not_well_where_it_must_end(
    database_url: str, tmp_path: Path
) -> None:
    async with shop(database_url, tmp_path, "ringcentral") as one:
        await one.text(PEOPLE[0])
        async with once_live(one, tmp_path, "6d, provider_copies: must_end"):
            place = provider_places(with_high_volume(one))[0]
            now = await one.world.parts.control.now()
            (found,) = [found for found in await place.verify(now) if found.tenant == "shop"]
            assert (found.well, "retention.provider_copies is must_end" in found.why) == (False, True)


async def test_what_a_sender_has_that_no_policy_names_any_more_is_looked_for(database_url: str, tmp_path: Path) -> None:
    async with shop(database_url, tmp_path, retention="content: 6d") as one:
        hidden = Text(uuid4(), 1, "copied", OURS, PhoneNumber(PEOPLE[0]), MessageBody("Hidden."), "https://gateway.example/x")
        await one.provider.send([hidden])
        (tmp_path / "policies" / "shop.yaml").write_text(policy("content: 6d", sender=THEIRS))
        kept, one.world.parts.policies = one.world.parts.policies, load_policies(tmp_path / "policies")
        place = next(place for place in provider_places(one.world.parts) if place.name == "provider copied")
        for seconds, well in ((6 * DAY, True), (2 * HOUR, False)):
            await one.pass_by(seconds)
            found = await place.verify(await one.world.parts.control.now())
            assert {(each.tenant, each.well) for each in found} == {("shop", well)}
        one.world.parts.policies = kept


@pytest.mark.parametrize("rows", ["there", "gone"])
async def test_the_copies_of_an_account_that_no_settings_have_any_more_are_found_and_not_forgotten(
    database_url: str, tmp_path: Path, rows: str
) -> None:
    """Nobody can erase them; whoever sets the account again can, also when the rows that told of them are gone."""
    async with shop(database_url, tmp_path) as one:
        await one.text(*PEOPLE)
        await one.be_texted(PEOPLE[1])
        parts = one.world.parts
        assert "copied" in parts.settings.accounts
        assert await lost_accounts(parts).verify(await parts.control.now()) == []
        others = {alias: account for alias, account in parts.settings.accounts.items() if alias != "copied"}
        without = replace(parts, settings=parts.settings.model_copy(update={"accounts": others}), providers={})
        (place,) = [place for place in retention_places(without) if place.name == "lost accounts"]

        async def found() -> set[tuple[str, str, bool, str]]:
            now = await parts.control.now()
            planned = {(plan.place, plan.tenant, plan.due_at) for plan in await place.plan(now)}
            there = await place.verify(now)
            assert planned == {(each.place, each.tenant, None) for each in there}
            return {(each.place, each.tenant, each.well, each.why.partition(":")[0]) for each in there}

        lost = {("provider copied", "shop", False, "the account is in no settings any more")}
        assert await found() == lost
        await one.pass_by(6 * DAY - 11 * HOUR)
        now = await parts.control.now()
        assert (await place.run(now, 500), await place.left(now)) == (0, "")
        if rows == "gone":
            for table in ("messages", "inbound", "bodies", "queue"):
                await parts.database.execute(f"delete from {table}")
        await one.pass_by(12 * HOUR)
        now = await parts.control.now()
        assert (await place.run(now, 500), await found()) == (0, lost)
        assert await place.left(now) == "of 1 tenants something is due at accounts that are in no settings any more"
        assert len(one.copies()) == 3
        assert await one.run() == 3
        assert one.copies() == []
        assert (await found(), await place.left(now)) == (set(), "")


async def test_an_account_that_never_comes_back_is_abandoned_with_an_audit(database_url: str, tmp_path: Path) -> None:
    async with shop(database_url, tmp_path) as one:
        await one.text(*PEOPLE)
        await one.be_texted(PEOPLE[1])
        parts, now = one.world.parts, await one.world.parts.control.now()
        with pytest.raises(NotFound, match="copied is no account that was taken out"):
            await lost_accounts(parts).abandon("copied", now)
        others = {alias: account for alias, account in parts.settings.accounts.items() if alias != "copied"}
        place = lost_accounts(replace(parts, settings=parts.settings.model_copy(update={"accounts": others})))
        assert not all(each.well for each in await place.verify(now))
        assert await place.abandon("copied", now) == 3
        assert (await place.verify(now), await place.plan(now)) == ([], [])
        assert await one.audited() == [("all", "abandoned")] * 3
        assert await place.abandon("copied", now) == 0
        report = await Verification(AuditReader(parts.database), None).look()
        assert report.findings == []


def with_high_volume(one: Shop) -> Any:
    """The shop's parts in a process whose settings say that the account sends high-volume texts."""
    parts = one.world.parts
    accounts = {**parts.settings.accounts, "copied": parts.settings.accounts["copied"].model_copy(update={"high_volume": True})}
    return replace(parts, settings=parts.settings.model_copy(update={"accounts": accounts}))


@pytest.mark.parametrize(
    "said, refused",
    [
        ("provider_copies: must_end", "is must_end, and of the account copied"),
        ("provider_copies: UNSET", "is UNSET, and of the account copied"),
        ("provider_copies: {may_stay: the contract says so}", None),
        ("content: 6d", None),
    ],
)
async def test_copies_that_nobody_can_delete_are_refused_where_a_policy_forbids_them(
    database_url: str, tmp_path: Path, said: str, refused: str | None
) -> None:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "shop.yaml").write_text(policy(said))
    more = environment("ringcentral", "http://127.0.0.1:9") | {"GATEWAY_ACCOUNTS__COPIED__HIGH_VOLUME": "true"}
    settings = settings_for(database_url, tmp_path, **more)
    policies = load_policies(settings.policies_directory)
    if refused is not None:
        with pytest.raises(PolicyError, match=f"shop.yaml.*retention.provider_copies.*{refused}.*high-volume texts"):
            check_accounts(settings, policies)
        return
    (note,) = [note for note in check_accounts(settings, policies) if "copied" in note]
    why = "the contract says so" if "may_stay" in said else "does not speak of them"
    assert "high-volume texts and their numbers of the account copied stay at the provider for ever" in note
    assert why in note
    async with open_world(database_url, tmp_path, None, **more) as world:
        providers = world.parts.providers = open_providers(world.parts.settings)
        (place,) = [place for place in provider_places(world.parts) if place.name == "provider copied"]
        now = await world.parts.control.now()
        assert [(plan.data_class, plan.due_at) for plan in await place.plan(now)] == [("content", None), ("address", None)]
        assert all(why in plan.how and "cannot be deleted" in plan.how for plan in await place.plan(now))
        assert [(found.well, why in found.why) for found in await place.verify(now)] == [(True, True)]
        for provider in providers.values():
            await provider.close()
