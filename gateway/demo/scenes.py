"""What people do midway: they text STOP while messages to them wait, START when they think better of it, HELP, and plain questions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

from gateway.demo.backend import Backend
from gateway.demo.people import BOOKS, BULK, CLINIC, Person, Wish, masked, wishes
from gateway.demo.stage import ACCOUNT_SID, Stage
from gateway.demo.traffic import Message, Traffic, proof
from gateway.demo.watch import Watch
from gateway.domain.errors import GatewayError
from gateway.domain.events import ConsentEvent
from gateway.simulator.http_client import HttpClient, NoAnswer

__all__ = ["Reply", "Scenes", "Stopped"]

#: Seconds within which the gateway must have done what a scene waits for, on however slow a machine.
_PATIENCE: Final = 30.0
_SECOND_THOUGHTS: Final = 7.5
_LATER: Final = 45.0


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer of the gateway's own that a person must get, once."""

    person: Person
    sender: str
    kind: Literal["stop", "start", "help"]
    text: str


@dataclass(frozen=True, slots=True)
class Stopped:
    """A STOP that is in force: when it was texted (Unix time), and how long it took, in seconds."""

    wish: Wish
    texted_at: float
    seconds: float


class Scenes:
    """Plays the scenes. ``tell`` hears in a line what happened."""

    def __init__(self, stage: Stage, backend: Backend, watch: Watch, traffic: Traffic, tell: Callable[[str], None]) -> None:
        self._stage = stage
        self._backend = backend
        self._watch = watch
        self._traffic = traffic
        self._tell = tell
        self._client = HttpClient()
        self._began = 0.0
        self.stopped: list[Stopped] = []
        self.started: list[Message] = []
        """The messages that people get who thought better of it."""
        self.replies: list[Reply] = []
        self.asked = 0
        self.opted_in = 0
        self.forged_answers: set[int | None] = set()
        self.troubles: list[str] = []

    def close(self) -> None:
        """End the connections."""
        self._client.close()

    async def register(self) -> None:
        """Opt some customers in by the API, as a web shop does when somebody ticks the box."""
        agreed = proof(datetime.now(UTC))
        for person in self._traffic.registered:
            body = {
                "tenant": BOOKS,
                "number": person.number.reveal(),
                "scope": "programme",
                "programme": "offers",
                "proof": agreed,
            }
            headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._stage.token}"}
            answer = await self._client.request("POST", f"{self._stage.web}/v1/opt-ins", headers, json.dumps(body).encode())
            self.opted_in += answer.status == 200

    async def play(self) -> None:
        """Every scene at its time, from now on. One that goes wrong is noted in ``troubles`` and stops no other."""
        self._began = asyncio.get_running_loop().time()
        await asyncio.gather(*(self._safely(name, scene) for name, scene in self._all()))

    def _all(self) -> Iterator[tuple[str, Coroutine[Any, Any, None]]]:
        people = self._traffic.people
        for wish in wishes(people):
            yield f"{wish.says} by {masked(wish.person)}", self._stop(wish)
        yield "HELP", self._help(people["help-1"], BOOKS, "offers", "+14155550110", "HELP", 13.0)
        yield "HELP to RingCentral", self._help(people["help-3"], BOOKS, "offers", BULK, "help", 14.0)
        yield "AIDE", self._help(people["help-2"], CLINIC, "appointments", "+12125550120", "aide", 16.0, language="fr")
        yield "a question", self._ask(people["asker"], 15.0)
        yield "a forged STOP", self._forge(people["forged"], 17.0)

    async def _safely(self, name: str, scene: Coroutine[Any, Any, None]) -> None:
        try:
            await scene
        except (GatewayError, NoAnswer, TimeoutError) as fault:
            self.troubles.append(f"{name}: {str(fault) or type(fault).__name__}")

    async def _at(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, self._began + seconds - asyncio.get_running_loop().time()))

    async def _until(self, condition: Callable[[], object], what: str) -> None:
        if not await self._watch.until(condition, _PATIENCE):
            raise GatewayError(f"not within {_PATIENCE:g} s: {what}")

    async def _stop(self, wish: Wish) -> None:
        """A STOP while a message waits for its time and others are queued; then nothing more, but what the scope leaves alone."""
        await self._at(wish.at)
        before = self._message(wish)
        await self._backend.publish(before)
        await self._until(lambda: self._is_final(before), "the first message is settled")

        deferred = self._message(wish, "blocked opted_out", after=_LATER)
        # RingCentral knows of a STOP before we do: what is on its way there then is taken, and not delivered.
        race = ("delivered", "blocked opted_out", *(["undelivered"] if wish.sender == BULK else []))
        burst = [self._message(wish, race) for _ in range(3)]
        await self._backend.publish(deferred, *burst)
        await self._until(lambda: {deferred.key, burst[0].key} <= self._watch.latest.keys(), "the queued messages are accepted")

        texted = await self._text(wish.person, wish.sender, wish.says, repeat=wish.repeats)
        self._expect(wish, "stop")
        await self._until(lambda: self._consent(wish, "out"), "the STOP is in force")
        self._note(wish, texted["webhooks"][0]["at"])

        late = [self._message(wish, "blocked opted_out") for _ in range(2)]
        await self._backend.publish(*late, *self._elsewhere(wish))
        if wish.says_again:
            await self._text(wish.person, wish.sender, wish.says_again)
        if wish.asks:
            await self._text(wish.person, wish.sender, wish.asks)
            self._expect(wish, "help")
        if wish.regrets:
            await self._regret(wish)

    async def _regret(self, wish: Wish) -> None:
        # A START counts only when it is 5 s later than the STOP, by the carrier's clock, which tells whole seconds.
        await asyncio.sleep(_SECOND_THOUGHTS)
        await self._text(wish.person, wish.sender, wish.regrets)
        self._expect(wish, "start")
        await self._until(lambda: self._consent(wish, "in"), "the START is heard")
        self._tell(f"{masked(wish.person)} texted {wish.regrets} to {wish.tenant}: subscribed again")
        again = self._message(wish)
        self.started.append(again)
        await self._backend.publish(again)
        await self._until(lambda: self._is_final(again), "the text after the START is settled")

    def _elsewhere(self, wish: Wish) -> list[Message]:
        """What another programme of the same tenant has to say: a STOP to the shop's offers leaves orders alone; the clinic's ends all."""
        if wish.tenant == BOOKS:
            return [self._traffic.make("orders", wish.person)]
        return [self._traffic.make("sign-in", wish.person, "blocked opted_out")]

    async def _help(
        self, person: Person, tenant: str, programme: str, sender: str, says: str, at: float, language: Literal["en", "fr"] = "en"
    ) -> None:
        await self._at(at)
        await self._text(person, sender, says)
        self._expect(Wish(person, tenant, programme, sender, says, at, language), "help")

    async def _ask(self, person: Person, at: float) -> None:
        await self._at(at)
        await self._text(person, "+14155550111", "Could you put a second copy aside for my sister?")
        self.asked += 1

    async def _forge(self, person: Person, at: float) -> None:
        """Somebody who does not know the accounts' secrets tries to opt a person out."""
        await self._at(at)
        form = (
            f"AccountSid={ACCOUNT_SID}&MessageSid=SM{'f' * 32}&From=%2B{person.number.reveal()[1:]}&To=%2B14155550111&Body=STOP"
        )
        headers = {"Content-Type": "application/x-www-form-urlencoded", "X-Twilio-Signature": "bm90IHRoZSBjYXJyaWVyJ3M="}
        url = f"{self._stage.web}/webhooks/twilio/main/inbound"
        self.forged_answers.add((await self._client.request("POST", url, headers, form.encode())).status)
        said = {"from": person.number.reveal(), "to": BULK, "body": "STOP", "forged": True}
        told = await self._stage.carrier.post("/inbound", said)
        self.forged_answers |= {webhook["status"] for webhook in told["webhooks"]}

    def _message(self, wish: Wish, ends: str | tuple[str, ...] = "delivered", **more: Any) -> Message:
        return self._traffic.make(wish.programme, wish.person, ends, sender=wish.sender, **more)

    async def _text(self, person: Person, sender: str, says: str, *, repeat: int = 1) -> dict[str, Any]:
        """The person texts, by the carrier, whose webhook must be answered."""
        said = {"from": person.number.reveal(), "to": sender, "body": says, "repeat": repeat}
        told: dict[str, Any] = await self._stage.carrier.post("/inbound", said)
        wrong = [webhook["status"] for webhook in told["webhooks"] if webhook["status"] not in (200, 204)]
        if wrong:
            raise GatewayError(f"the carrier's webhook was answered with {wrong}")
        return told

    def _expect(self, wish: Wish, kind: Literal["stop", "start", "help"]) -> None:
        policy = self._stage.policies.tenant(wish.tenant)
        assert policy is not None
        self.replies.append(Reply(wish.person, wish.sender, kind, policy.reply(wish.programme, kind, wish.language)))

    def _is_final(self, message: Message) -> bool:
        told = self._watch.latest.get(message.key)
        return told is not None and told.final

    def _consent(self, wish: Wish, status: Literal["in", "out"]) -> ConsentEvent | None:
        return next(
            (
                event
                for event in reversed(self._watch.consents)
                if (event.tenant, event.recipient_ref, event.status) == (wish.tenant, wish.person.ref, status)
                and (status == "in" or event.in_force_at is not None)
                and (status == "out" or event.source == "text")
            ),
            None,
        )

    def _note(self, wish: Wish, texted_at: float) -> None:
        event = self._consent(wish, "out")
        assert event is not None
        assert event.in_force_at is not None
        stopped = Stopped(wish, texted_at, event.in_force_at.timestamp() - texted_at)
        self.stopped.append(stopped)
        self._tell(f"{masked(wish.person)} texted {wish.says} to {wish.tenant}: in force after {stopped.seconds * 1000:.0f} ms")
