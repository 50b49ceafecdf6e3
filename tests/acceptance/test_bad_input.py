"""Whatever lies in the input topic: each record is a message, a repeat of one, or a dead letter, and nothing raises."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.bus.records import Record
from tests.integration.world import World, open_world

TOPIC = "sms.outbound.v1"
GOOD: dict[str, Any] = {
    "message_id": "m", "tenant": "clinic", "programme": "visits", "category": "service", "to": "+12025550101", "body": "Hello",
}  # fmt: skip
HEADERS = [
    ("ce_specversion", b"1.0"), ("ce_id", b"e1"), ("ce_source", b"test"), ("ce_type", b"sms.outbound.message.v1"),
    ("content-type", b"application/json"),
]  # fmt: skip

# -- what may come ---------------------------------------------------------------------------------------------------------------

odd_texts = st.sampled_from(
    [
        "", " ", "\0", "a\0b", "\u0000", "\ud800", "\udfff", "\ufeff", "\u202e", "\U0001f4a9" * 10, "x" * 9000, "é" * 1601, "🧑‍🚀" * 400,
        "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "2026-05-01T09:30:00", "2026-02-30T00:00:00Z", "1e999", "NaN", "-0", "null",
        "+1", "+12025550101", "12025550101", "+123456789012345678", "tel:+12025550101;ext=9", "'; drop table messages; --", "%s%n{0}",
        "../../etc/passwd", "{}", "[]", "\\u0000", "\\", '"', "\r\n", "\t", "MG" + "0" * 32, "visits", "clinic", "shop", "offers",
    ]
)  # fmt: skip
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40) | odd_texts
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10) | odd_texts, inner, max_size=4),
    max_leaves=8,
)
fields = st.sampled_from(
    [*GOOD, "recipient_ref", "sender", "not_before", "expires_at", "opt_in_proof", "metadata", "traceparent", "no_such_field"]
)
proofs = st.fixed_dictionaries(
    {
        "medium": st.sampled_from(["web", "paper", "no"]),
        "at": st.sampled_from(["2024-01-01T00:00:00+02:00", "2199-01-01T00:00:00Z", "x"]),
    },
    optional={"ip": scalars, "wording": scalars, "form_version": scalars, "confirmed_by": values},
)


def dumped(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


@st.composite
def mutated_events(draw: st.DrawFn) -> bytes:
    """A valid event of which something was changed, taken out, doubled or cut."""
    event = {**GOOD, "message_id": f"m{draw(st.integers(0, 5))}", "body": draw(st.sampled_from(["Hello", "Hello", "Hello, you"]))}
    for name in draw(st.lists(fields, max_size=3)):
        how = draw(st.sampled_from(["change", "remove", "proof"]))
        if how == "remove":
            event.pop(name, None)
        else:
            event[name] = draw(proofs if how == "proof" else odd_texts | values)
    raw = dumped(event)
    how = draw(st.sampled_from(["as it is"] * 6 + ["cut", "flip", "double", "escape", "deep"]))
    if how == "cut":
        return raw[: draw(st.integers(0, len(raw)))]
    if how == "flip":
        place = draw(st.integers(0, len(raw) - 1))
        return raw[:place] + draw(st.binary(min_size=1, max_size=3)) + raw[place + 1 :]
    if how == "double":
        return raw.replace(b'"tenant"', b'"tenant": "shop", "tenant"')
    if how == "escape":
        return raw.replace(b"Hello", draw(st.sampled_from([b"\\u0000", b"\\ud83d", b"\\udca9\\ud83d", b"\\x", b"\\\\u0000"])))
    if how == "deep":
        return raw.replace(b'"Hello"', b"[" * 3000 + b"]" * 3000)
    return raw


payloads = st.none() | st.binary(max_size=200) | values.map(dumped) | mutated_events() | mutated_events() | mutated_events()
names = st.sampled_from(
    ["ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time", "ce_traceparent", "content-type", "CE_TYPE", "x", ""]
)
contents = st.binary(max_size=30) | st.sampled_from(
    [b"1.0", b"sms.outbound.message.v1", b"application/json", b"application/cloudevents+json", b"application/cloudevents+json; charset=utf-8",
     b"application/cloudevents-batch+json", b"text/plain", b"2026-05-01T00:00:00Z", b"0000-00-00T99:99:99Z", b"\xff", b"\0", b"x" * 2000]
)  # fmt: skip
headers = (
    st.just(HEADERS)
    | st.just(HEADERS)
    | st.just(HEADERS)
    | st.lists(st.tuples(names | st.text(max_size=8), contents | st.none()), max_size=7)
)


@st.composite
def structured(draw: st.DrawFn) -> tuple[bytes, list[tuple[str, bytes]]]:
    """An event in CloudEvents' structured mode, good or less so."""
    envelope: dict[str, Any] = {"specversion": "1.0", "id": "e1", "source": "test", "type": "sms.outbound.message.v1"}
    event = {**GOOD, "message_id": f"s{draw(st.integers(0, 5))}"}
    how = draw(st.sampled_from(["data", "data_base64", "both", "broken"]))
    if how in {"data", "both"}:
        envelope["data"] = draw(st.just(event) | values)
    if how in {"data_base64", "both"}:
        envelope["data_base64"] = base64.b64encode(dumped(event)).decode()
    if how == "broken":
        envelope["data_base64"] = draw(scalars)
    for name in draw(st.lists(st.sampled_from([*envelope, "time", "datacontenttype", "traceparent"]), max_size=2)):
        envelope[name] = draw(values)
    return dumped(envelope), [("content-type", b"application/cloudevents+json")]


records = st.tuples(payloads, headers) | structured()
stamps = st.sampled_from([-1, 0, 1, 1_790_000_000_000, 4_102_444_800_000, 2**62])


# -- where it goes ---------------------------------------------------------------------------------------------------------------

offsets = count()


async def account_for(world: World, batch: Sequence[tuple[bytes | None, Any]], stamp: int) -> None:
    made = [Record(next(offsets), b"k", value, found, stamp) for value, found in batch]
    before = await counts(world)
    await world.intake().admit(TOPIC, 0, made)
    after = await counts(world)
    taken = {name: after[name] - before[name] for name in after}
    assert taken["accepted"] + taken["duplicate"] + taken["dead_letter"] == len(made)
    letters = await world.rows(
        "select record_offset from dead_letters where record_offset = any($1)", [record.offset for record in made]
    )
    assert len(letters) == taken["dead_letter"]
    # what was accepted is whole: a message, a body, a queue row or an end, an audit record and a status event
    uneven = await world.rows(
        """select m.uid from messages m
            where not exists (select from bodies b where b.uid = m.uid)
               or m.final = exists (select from queue q where q.uid = m.uid)
               or (select count(*) from audit a where a.uid = m.uid) <> 1
               or not exists (select from outbox o where o.uid = m.uid and o.kind = 'status')
               or not exists (select from message_ids i where i.uid = m.uid)"""
    )
    assert uneven == []
    assert len(await world.rows("select from dead_letters d where not exists (select from outbox o where o.uid = d.uid)")) == 0
    # the same once more: nothing new
    await world.intake().admit(TOPIC, 0, made)
    again = await counts(world)
    assert again["accepted"] == after["accepted"]
    assert again["stored"] == after["stored"]


async def counts(world: World) -> dict[str, float]:
    value = world.parts.registry.get_sample_value
    found = {
        result: value("sms_gateway_intake_records_total", {"result": result}) or 0.0
        for result in ("accepted", "duplicate", "dead_letter")
    }
    rows = await world.rows("select (select count(*) from messages) + (select count(*) from dead_letters) as stored")
    return found | {"stored": rows[0]["stored"]}


def test_every_record_is_accounted_for(database_url: str, tmp_path: Path) -> None:
    loop = asyncio.new_event_loop()
    opened = contextlib.AsyncExitStack()
    try:
        world = loop.run_until_complete(opened.enter_async_context(open_world(database_url, tmp_path)))

        @given(st.lists(records, min_size=1, max_size=6), stamps)
        @settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
        def whatever_comes(batch: list[tuple[bytes | None, Any]], stamp: int) -> None:
            loop.run_until_complete(account_for(world, batch, stamp))

        whatever_comes()
        reasons = {row["reason"] for row in loop.run_until_complete(world.rows("select distinct reason from dead_letters"))}
        assert {"not_json", "wrong_schema", "bad_cloudevent"} <= reasons  # it has met some of what it was made for
    finally:
        loop.run_until_complete(opened.aclose())
        loop.close()


def test_whatever_people_text_is_answered(database_url: str, tmp_path: Path) -> None:
    loop = asyncio.new_event_loop()
    opened = contextlib.AsyncExitStack()
    numbers = st.sampled_from(
        ["+12025550101", "+12025550102", "12345", "", "+", "Bank", "+5215512345678", "+999999999999999999", "\u202e+1", "+1 202"]
    )
    ours = st.sampled_from(["+12125550120", "+14155550110", "+14155550199", "", "MG" + "0" * 32, "12345"])
    words = st.sampled_from(
        [
            "STOP",
            "stop.",
            "START",
            "YES",
            "HELP",
            "Info",
            "ARRET",
            "hello",
            "",
            "\u200bSTOP\u200b",
            "\uff33\uff34\uff2f\uff30",
            "🛑",
        ]
    )
    try:
        world = loop.run_until_complete(opened.enter_async_context(open_world(database_url, tmp_path)))
        replies = world.parts.replies()

        @given(numbers, ours, words | st.text(max_size=100), st.sampled_from([None, "STOP", "START", "HELP"]))
        @settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
        def whatever_is_said(sender: str, to: str, body: str, replied: Any) -> None:
            text = world.inbound(body, sender=sender, to=to, replied=replied)
            fate = loop.run_until_complete(replies.receive(text))
            assert fate in {"stop", "start", "help", "other"}
            assert loop.run_until_complete(replies.receive(text)) in {"repeated", "stop"}

        whatever_is_said()
    finally:
        loop.run_until_complete(opened.aclose())
        loop.close()
