"""The demo from its set-up to its verdict."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from pathlib import Path
from typing import Final

from gateway.app.audit import verify_audit
from gateway.bus.producer import EventPublisher
from gateway.demo.backend import Backend
from gateway.demo.checks import Check, checked, summary
from gateway.demo.display import Display
from gateway.demo.evidence import collect
from gateway.demo.facts import HELD_BY_RINGCENTRAL, TAKEN, Facts
from gateway.demo.kill import kill_midway
from gateway.demo.people import BOOKS, CARRIER_SCRIPTS, CLINIC
from gateway.demo.retention import retention_checks
from gateway.demo.scenes import Scenes
from gateway.demo.stage import Stage, set_stage
from gateway.demo.traffic import Traffic
from gateway.demo.watch import Watch, watching
from gateway.domain.errors import GatewayError
from gateway.simulator.http_client import NoAnswer

__all__ = ["main"]

_SEED: Final = 2026
_WARM_SECONDS: Final = 60.0
_SETTLE_SECONDS: Final = 40.0
_TOLD_SECONDS: Final = 30.0
_MOST_SECONDS: Final = 90.0
_OWED: Final = "select count(*) as pairs from propagations where due_at is not null"
# A count is told by the clock, also in the moment in which the gateway leaves; the next start publishes it.
_LEFT: Final = "select (select count(*) from queue) + (select count(*) from outbox where kind <> 'metrics') as rows"


def main(json: bool) -> int:
    """Run the demo; the exit code is 0 when every check holds, 1 when one does not, 130 when it was interrupted.

    With ``json`` the last line on standard output is the summary as one JSON object, and the only one.
    """
    display = Display(as_json=json)
    try:
        return asyncio.run(_demo(display))
    except GatewayError as fault:
        display.fail(str(fault))
        return 1
    except NoAnswer:
        display.fail("the carrier or the gateway does not answer")
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        display.fail("interrupted; what the demo started is ended and removed")
        return 130


async def _demo(display: Display) -> int:
    this = asyncio.current_task()
    assert this is not None
    for number in (signal.SIGTERM, signal.SIGHUP):  # SIGINT does the same by itself
        asyncio.get_running_loop().add_signal_handler(number, this.cancel)
    began = time.monotonic()
    async with set_stage(display.tell) as stage:
        publisher = EventPublisher(stage.broker, idempotent=False)
        await publisher.start()
        try:
            async with watching(stage.broker, stage.settings.kafka.topics) as watch:
                play = _Play(stage, publisher, watch, display)
                return await play.through(began)
        finally:
            await publisher.stop()


class _Play:
    """One demo on a stage that is set."""

    def __init__(self, stage: Stage, publisher: EventPublisher, watch: Watch, display: Display) -> None:
        self._stage = stage
        self._watch = watch
        self._display = display
        self._traffic = Traffic(_SEED)
        self._backend = Backend(publisher, stage.settings.kafka.topics.outbound)
        self._scenes = Scenes(stage, self._backend, watch, self._traffic, display.tell)

    async def through(self, began: float) -> int:
        """All of it; the exit code. Raises GatewayError when the gateway, the carrier or a topic goes away meanwhile."""
        playing = asyncio.create_task(self._play(began))
        ends = [asyncio.create_task(self._stage.gateway.ended()), asyncio.create_task(self._carrier_ended())]
        try:
            done, _ = await asyncio.wait({playing, *ends, *self._watch.readers}, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {playing}:
                task.result()
            facts, numbers = await playing
        finally:
            for task in (playing, *ends):
                task.cancel()
            await asyncio.gather(playing, *ends, return_exceptions=True)
            self._scenes.close()
        return await self._conclude(facts, numbers)

    async def _carrier_ended(self) -> None:
        code = await self._stage.carrier.process.wait()
        raise GatewayError(f"the simulated carrier ended by itself with exit code {code}")

    async def _play(self, began: float) -> tuple[Facts, dict[str, float]]:
        await self._stage.carrier.post(
            "/script", {"scripts": {self._traffic.people[part].number.reveal(): name for part, name in CARRIER_SCRIPTS.items()}}
        )
        await self._warm_up()
        await self._scenes.register()
        set_up = time.monotonic() - began
        self._display.tell(f"set up in {set_up:.1f} s; two tenants begin to publish")
        started = time.monotonic()
        async with self._display.showing(self._backend, self._watch, self._scenes, self._stage.carrier.stats):
            _, killed = await asyncio.gather(self._backend.keep_pace(self._traffic.plan()), self._play_and_kill())
            await self._watch.until(self._all_told, _SETTLE_SECONDS)
            taken = sum(event.state in TAKEN for event in self._watch.latest.values()) + len(self._scenes.replies)
            # RingCentral takes down, and drops, what is for somebody who has opted out there
            taken -= (await self._stage.carrier.stats()).get(f"refused_{HELD_BY_RINGCENTRAL}", 0)
            await self._stage.carrier.get(f"/stats?accepted={taken}&within=10")
            await self._accounts_told()
        special = [self._traffic.people[part].ref for part in ("silent", "vanishing")]
        wanted = [key for key, message in self._backend.messages.items() if message.person.ref in special]
        evidence = await collect(self._stage, wanted, killed)
        facts = Facts(self._backend, self._watch, self._scenes, self._traffic, evidence)
        return facts, {"set_up_seconds": round(set_up, 1), "seconds": round(time.monotonic() - started, 1)}

    async def _play_and_kill(self) -> str:
        await self._scenes.play()
        return await kill_midway(self._stage, self._backend, self._traffic, self._display.tell)

    async def _accounts_told(self) -> None:
        """Wait until no account is owed a person's word; what is still owed then is found by a check."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_TOLD_SECONDS):
                while (await self._stage.database.fetch(_OWED))[0]["pairs"]:  # noqa: ASYNC110 -- the state is in PostgreSQL
                    await asyncio.sleep(0.2)

    async def _warm_up(self) -> None:
        """Send one message the whole way, and wait until RingCentral would tell of others: then everything works."""
        first = self._traffic.first
        await self._backend.publish(first)
        if not await self._watch.until(lambda: self._settled(first.key), _WARM_SECONDS):
            words = self._stage.gateway.last_words()
            raise GatewayError(
                f"the first message was not delivered within {_WARM_SECONDS:g} s; the end of the gateway's log:\n{words}"
            )

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_WARM_SECONDS):
                while not (await self._stage.carrier.stats())["subscriptions"]:  # noqa: ASYNC110 -- the carrier is another process
                    await asyncio.sleep(0.1)
                return
        raise GatewayError(f"RingCentral was not subscribed to within {_WARM_SECONDS:g} s")

    def _settled(self, key: tuple[str, str]) -> bool:
        event = self._watch.latest.get(key)
        return event is not None and event.final

    def _all_told(self) -> bool:
        return len(self._watch.dead_letters) >= len(self._backend.malformed) and all(map(self._settled, self._backend.messages))

    async def _conclude(self, facts: Facts, numbers: dict[str, float]) -> int:
        """Let the gateway leave, look at what it left behind, and judge."""
        code = await self._stage.leave()
        left = (await self._stage.database.fetch(_LEFT))[0]["rows"]
        checks = [
            *checked(facts),
            Check("the gateway's exit code after SIGTERM", 0, code),
            Check("left in the queue and the outbox", 0, left),
            *await self._audited(),
            *await retention_checks(self._stage),
            Check("numbers and texts in the gateway's log", 0, self._personal_lines(self._stage.gateway.log)),
            Check(f"the end within {_MOST_SECONDS:g} s", True, numbers["seconds"] <= _MOST_SECONDS),
        ]
        self._display.conclude({**summary(facts), **numbers}, checks)
        return 0 if all(check.passed for check in checks) else 1

    async def _audited(self) -> list[Check]:
        """Every tenant's chain, in PostgreSQL and in the topic."""
        stage = self._stage
        report = await verify_audit(stage.database, stage.broker, stage.settings.kafka.topics.audit)
        chained = {tenant for tenant, looked in report.tenants.items() if looked.records and looked.topic_records}
        return [
            Check("what was done to the audit since it was written", [], [str(finding) for finding in report.findings][:5]),
            Check("tenants whose audit is chained and published", True, {BOOKS, CLINIC} <= chained),
        ]

    def _personal_lines(self, log: Path) -> int:
        said = [
            part for message in self._backend.messages.values() for part in (message.person.number.reveal()[1:], message.body)
        ]
        return sum(any(part in line for part in said) for line in log.read_text("utf-8", "replace").splitlines())
