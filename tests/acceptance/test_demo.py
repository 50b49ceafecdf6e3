"""The demo as anybody runs it; and that its checks are checks: each finds what it is there to find."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from gateway.bus.records import Record
from gateway.demo.backend import Backend
from gateway.demo.checks import checked, summary
from gateway.demo.evidence import Evidence, text_key
from gateway.demo.facts import Facts
from gateway.demo.people import BOOKS, BULK, Wish
from gateway.demo.scenes import Reply, Scenes, Stopped
from gateway.demo.traffic import Message, Traffic
from gateway.demo.watch import Watch
from gateway.demo.ways import batches, opt_outs_astray, taken_by
from gateway.domain.cloudevents import write_binary
from gateway.domain.consent import Scope
from gateway.domain.events import ConsentEvent, OutgoingEvent, StatusEvent, encode
from gateway.domain.reasons import Reason

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
OFFERS = "+14155550110"
TWILIO, RINGCENTRAL = "AC1", "405"


def start_demo() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "gateway", "demo", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def left_by(demo: subprocess.Popen[str]) -> list[Path]:
    return list(Path(tempfile.gettempdir()).glob(f"sms-gateway-demo-{demo.pid}-*"))


@pytest.mark.slow
def test_the_demo_passes_its_own_checks_and_leaves_nothing() -> None:
    with start_demo() as demo:
        out, err = demo.communicate(timeout=300)

    told = json.loads(out.splitlines()[-1])
    failed = [check for check in told.get("checks", ()) if not check["passed"]]
    assert (demo.returncode, failed) == (0, []), f"{out[-2000:]}\n{err[-4000:]}"
    assert told["passed"] is True
    assert len(out.splitlines()) == 1, "with --json progress goes to standard error"
    assert told["messages_in"] >= 500
    assert told["messages_in"] == told["settled"] + told["dead_lettered"] + told["repeated"]
    assert told["delivered"] > 450
    assert {"opted_out", "no_opt_in", "bad_number"} <= told["blocked"].keys()
    assert told["dead_letters"].keys() >= {"not_json", "wrong_schema", "unknown_tenant", "not_utf8", "id_reused"}
    assert told["taken_by"].keys() == {"twilio", "ringcentral"}
    assert told["batches"]["requests"] < told["taken_by"]["ringcentral"]
    assert told["under_way_when_killed"] > 0
    assert 1 <= told["unknown"] <= 1 + told["under_way_when_killed"]
    assert told["evidence_resolved"] >= 1
    assert (told["requests_begun_after_stop_in_force"], told["duplicates_at_carrier"]) == (0, 0)
    assert told["stops_in_force"] >= 8
    assert told["stopped_while_waiting"] >= told["stops_in_force"]
    assert told["seconds"] < 90
    assert not re.search(r"\+?1?\d{3}555\d{4}", re.sub(r"[ -]", "", out + err).replace("•", "")), "numbers are shown masked only"
    assert left_by(demo) == []


@pytest.mark.slow
def test_ctrl_c_ends_all_of_it() -> None:
    with start_demo() as demo:
        assert demo.stderr is not None
        while "the gateway is up" not in (line := demo.stderr.readline()):
            assert line, "the demo ended at its start"
        began = time.monotonic()
        demo.send_signal(signal.SIGINT)
        out, _ = demo.communicate(timeout=60)
    assert demo.returncode == 130
    assert time.monotonic() - began < 30
    assert json.loads(out.splitlines()[-1])["passed"] is False
    assert left_by(demo) == []


class Demo:
    """A small demo that never ran: what was published, told and taken is put together by each test."""

    def __init__(self) -> None:
        self.traffic = Traffic(1)
        self.person = self.traffic.people["stop-1"]
        self.backend = Backend(cast("Any", None), "sms.outbound.v1")
        self.watch = Watch()
        self.scenes = Scenes(cast("Any", None), self.backend, self.watch, self.traffic, print)
        self.requests: list[dict[str, Any]] = []

    def publish(self, programme: str, ends: str = "delivered") -> Message:
        message = self.traffic.make(programme, self.person, ends)
        self.backend.messages[message.key] = message
        self.backend.records += 1
        return message

    def tell(self, event: OutgoingEvent, event_id: str) -> None:
        headers, value = write_binary(event_type=event.TYPE, event_id=event_id, source="test", time=NOW, data=encode(event))
        asyncio.run(self.watch.take([Record(0, None, value, headers, 0)]))

    def tell_state(self, message: Message, state: str, reason: Reason, version: int = 2) -> None:
        event = StatusEvent(
            message_id=message.message_id, tenant=message.tenant, programme=message.programme, category=message.category,
            recipient_ref=message.person.ref, state=cast("Any", state), reason=reason, final=True, version=version, occurred_at=NOW,
        )  # fmt: skip
        self.tell(event, f"{message.message_id}:{version}")

    def tell_consent(self, status: str, version: int, at: datetime) -> None:
        event = ConsentEvent(
            person="ab" * 16, tenant=BOOKS, scope=Scope.PROGRAMME, name="offers", status=cast("Any", status), version=version, final=True,
            source="text", recipient_ref=self.person.ref, stated_at=at, written_at=at, in_force_at=at if status == "out" else None,
        )  # fmt: skip
        self.tell(event, f"consent:{version}")

    def take(self, message: Message, begun_at: datetime = NOW, state: str = "delivered", *, accepted: bool = True) -> None:
        to, sender, digest = text_key(message.person.number.reveal(), OFFERS, message.body)
        self.requests.append({
            "to": to, "from": sender, "body_sha256": digest, "begun_at": begun_at.timestamp(), "state": state,
            "accepted_at": begun_at.timestamp() if accepted else None, "callbacks": [{"http": 204, "status": "delivered"}],
            "account": TWILIO, "batch": None, "code": None,
        })  # fmt: skip

    def facts(self) -> Facts:
        evidence = Evidence(
            requests=self.requests,
            duplicates=0,
            carrier={},
            states={},
            dead_letters={},
            proved=frozenset(),
            metrics={},
            ready=200,
            stories={},
            accounts={TWILIO: ("main", "twilio"), RINGCENTRAL: ("ringcentral", "ringcentral")},
        )
        return Facts(self.backend, self.watch, self.scenes, self.traffic, evidence)

    def failed(self) -> set[str]:
        return {check.name for check in checked(self.facts()) if not check.passed}


@pytest.fixture
def demo() -> Iterator[Demo]:
    demo = Demo()
    yield demo
    demo.scenes.close()


def test_a_request_after_a_stop_in_force_is_found(demo: Demo) -> None:
    offer, order = demo.publish("offers"), demo.publish("orders")
    demo.tell_consent("out", 1, NOW)
    demo.take(offer, NOW - timedelta(milliseconds=2))
    demo.take(order, NOW + timedelta(seconds=1))
    assert demo.facts().begun_after_stop() == []
    demo.take(offer, NOW + timedelta(milliseconds=2), accepted=False)
    assert demo.facts().begun_after_stop() == [offer.message_id]
    assert "requests begun after a STOP was in force" in demo.failed()
    assert summary(demo.facts())["requests_begun_after_stop_in_force"] == 1


def test_an_opt_out_of_nobody_known_is_not_taken_for_compared(demo: Demo) -> None:
    demo.tell_consent("out", 1, NOW)
    assert demo.facts().opt_outs_of_known_people() == 0
    demo.publish("offers")
    assert demo.facts().opt_outs_of_known_people() == 1


def test_a_request_after_start_is_none(demo: Demo) -> None:
    offer = demo.publish("offers")
    demo.tell_consent("out", 1, NOW)
    demo.tell_consent("in", 2, NOW + timedelta(seconds=5))
    demo.take(offer, NOW + timedelta(seconds=6))
    assert demo.facts().begun_after_stop() == []


def test_a_text_taken_twice_is_found(demo: Demo) -> None:
    offer = demo.publish("offers")
    demo.take(offer)
    assert "texts that the carrier took more than once" not in demo.failed()
    demo.take(offer)
    assert "texts that the carrier took more than once" in demo.failed()


def test_a_lost_message_is_found(demo: Demo) -> None:
    offer = demo.publish("offers")
    accounted = "messages in = settled + dead-lettered + repeated"
    assert {accounted, "messages that ended otherwise than they must"} <= demo.failed()
    demo.tell_state(offer, "delivered", Reason.DELIVERED)
    assert not {accounted, "messages that ended otherwise than they must"} & demo.failed()


def test_another_end_than_expected_is_found(demo: Demo) -> None:
    offer = demo.publish("offers", "blocked opted_out")
    demo.tell_state(offer, "blocked", Reason.NO_OPT_IN)
    assert "messages that ended otherwise than they must" in demo.failed()


@pytest.mark.parametrize("ours, theirs, agree", [("delivered", "delivered", True), ("undelivered", "failed", True),
                                                       ("delivered", "undelivered", False), ("sent", "delivered", False),
                                                       ("unknown", "delivered", False)])  # fmt: skip
def test_a_state_that_differs_from_the_carriers_is_found(demo: Demo, ours: str, theirs: str, agree: bool) -> None:
    offer = demo.publish("offers")
    demo.tell_state(offer, ours, Reason.DELIVERED)
    demo.take(offer, state=theirs)
    assert (demo.facts().disagreements() == []) is agree


def test_a_message_that_only_we_call_delivered_is_found(demo: Demo) -> None:
    demo.tell_state(demo.publish("offers"), "delivered", Reason.DELIVERED)
    assert len(demo.facts().disagreements()) == 1


def test_a_text_that_nobody_wrote_is_found(demo: Demo) -> None:
    offer = demo.publish("offers")
    demo.take(replace(offer, body="Buy a bridge"))
    assert demo.facts().foreign_texts() == 1
    demo.scenes.replies.append(Reply(demo.person, OFFERS, "help", "Buy a bridge"))
    assert demo.facts().foreign_texts() == 0


def test_a_confirmation_that_is_missing_or_comes_twice_is_found(demo: Demo) -> None:
    demo.scenes.replies.append(Reply(demo.person, OFFERS, "stop", "You are unsubscribed"))
    confirmation = replace(demo.publish("offers"), body="You are unsubscribed")
    assert demo.facts().answered_once("stop") == (1, 0)
    demo.take(confirmation)
    assert demo.facts().answered_once("stop") == (1, 1)
    demo.take(confirmation)
    assert demo.facts().answered_once("stop") == (1, 0)


def test_the_traffic_is_the_same_for_the_same_seed() -> None:
    first, second = Traffic(7), Traffic(7)
    assert [one.message for one in first.plan()] == [one.message for one in second.plan()]
    assert len(first.plan()) >= 500


def test_older_news_of_a_message_is_dropped(demo: Demo) -> None:
    offer = demo.publish("offers")
    demo.tell_state(offer, "delivered", Reason.DELIVERED, version=3)
    demo.tell_state(offer, "sent", Reason.ACCEPTED, version=2)
    demo.tell_state(offer, "delivered", Reason.DELIVERED, version=3)
    assert demo.watch.latest[offer.key].state == "delivered"
    assert (demo.watch.overtaken, demo.watch.repeats) == (1, 1)


def interrupted(demo: Demo, message: Message) -> Facts:
    facts = demo.facts()
    return Facts(
        demo.backend, demo.watch, demo.scenes, demo.traffic, replace(facts.evidence, interrupted=frozenset({message.key}))
    )


def test_what_the_killed_gateway_never_asked_for_ends_as_unknown_and_nothing_else_does(demo: Demo) -> None:
    offer, other = demo.publish("offers"), demo.publish("offers")
    for message in (offer, other):
        demo.tell_state(message, "unknown", Reason.NO_EVIDENCE)
    facts = interrupted(demo, offer)
    assert facts.never_taken() == [offer.key]
    assert [facts.cut_short(one, demo.watch.latest[one.key]) for one in (offer, other)] == [True, False]
    demo.take(offer)
    assert interrupted(demo, offer).never_taken() == []
    assert not interrupted(demo, offer).cut_short(offer, demo.watch.latest[offer.key])


def test_sent_may_be_the_end_only_where_nobody_heard_of_another(demo: Demo) -> None:
    offer = demo.publish("offers")
    demo.tell_state(offer, "sent", Reason.ACCEPTED)
    demo.take(offer)
    assert not demo.facts().cut_short(offer, demo.watch.latest[offer.key])
    demo.requests[0]["callbacks"] = [{"http": 204, "status": "sent"}, {"http": None, "status": "delivered"}]
    assert demo.facts().cut_short(offer, demo.watch.latest[offer.key])


def test_ringcentral_confirms_a_stop_itself_and_nobody_else_does(demo: Demo) -> None:
    for sender in (OFFERS, BULK):
        demo.scenes.replies[:] = [Reply(demo.person, sender, "stop", "You are unsubscribed")]
        demo.requests.clear()
        demo.take(replace(demo.publish("offers"), body="You are unsubscribed"), accepted=False)
        demo.requests[0] |= {"from": sender, "code": "SMS-RC-413"}
        assert demo.facts().answered_once("stop") == (1, int(sender == BULK))


@pytest.mark.parametrize("held, regrets, astray", [({"ringcentral", "spare"}, "", False), ({"ringcentral"}, "", True), ({"spare"}, "", True),
                                                         ({"ringcentral", "spare"}, "START", True), (set(), "START", False)])  # fmt: skip
def test_an_opt_out_that_an_account_was_not_told_is_found(demo: Demo, held: set[str], regrets: str, astray: bool) -> None:
    senders = {"main": OFFERS, "ringcentral": BULK, "spare": "+14155550113"}
    demo.scenes.stopped.append(Stopped(Wish(demo.person, BOOKS, "offers", OFFERS, "STOP", 0.0, regrets=regrets), 0.0, 0.0))
    evidence = replace(
        demo.facts().evidence,
        opted_out=frozenset((account, senders[account], demo.person.number.reveal()) for account in held),
        senders=frozenset((BOOKS, "offers", account, sender) for account, sender in senders.items()),
    )
    found = opt_outs_astray(Facts(demo.backend, demo.watch, demo.scenes, demo.traffic, evidence))
    assert found == ([demo.person.ref] if astray else [])


def test_batches_are_counted_by_the_requests_that_carried_them(demo: Demo) -> None:
    for batch in ("1", "1", "2"):
        demo.take(demo.publish("offers"))
        demo.requests[-1] |= {"batch": batch, "account": RINGCENTRAL}
    demo.take(demo.publish("orders"))
    facts = demo.facts()
    assert batches(facts) == {"requests": 2, "most_messages": 2}
    assert taken_by(facts) == {"ringcentral": 3, "twilio": 1}
