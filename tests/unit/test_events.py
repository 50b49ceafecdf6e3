from __future__ import annotations

import json
import timeit
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as some
from pydantic import ValidationError

from gateway.domain.consent import Scope
from gateway.domain.errors import BadEvent
from gateway.domain.event_reading import LONGEST_EVENT, read_message
from gateway.domain.events import (
    ConsentEvent,
    DeadLetterEvent,
    InboundEvent,
    OptInProof,
    OutboundMessage,
    StatusEvent,
    content_bytes,
    encode,
)
from gateway.domain.personal import MessageBody, PhoneNumber
from gateway.domain.reasons import Reason

NUMBER = "+14155550177"
TEXT = "the canary sings at dawn"
NOW = datetime(2026, 5, 1, 9, 30, 0, 123_000, tzinfo=UTC)

LEAST: dict[str, Any] = {
    "message_id": "order-1234",
    "tenant": "harbour-books",
    "programme": "orders",
    "category": "service",
    "to": NUMBER,
    "body": TEXT,
}
MOST: dict[str, Any] = {
    **LEAST,
    "recipient_ref": "customer-77",
    "sender": "+14155550111",
    "not_before": "2026-05-01T10:00:00Z",
    "expires_at": "2026-05-02T10:00:00.250+02:00",
    "opt_in_proof": {
        "medium": "web",
        "at": "2026-04-30T18:00:00-07:00",
        "wording": "Yes, text me.",
        "form_text_sha256": "a" * 64,
        "form_version": "v3",
        "purpose": "offers",
        "seller": "Harbour Books Ltd",
        "ip": "192.0.2.7",
        "campaign": "spring",
        "receipt_id": "r-1",
        "confirmed_by": ["m-1", "m-2"],
    },
    "metadata": {"order": "1234", "naïve key": "any ✓ text"},
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
}


def event(**changed: Any) -> bytes:
    return json.dumps({**LEAST, **changed}).encode()


def refused(data: bytes) -> BadEvent:
    with pytest.raises(BadEvent) as raised:
        read_message(data)
    fault = raised.value
    assert fault.what
    assert fault.__context__ is None, "a traceback would show the library's error"
    for hidden in (NUMBER, TEXT, "canary"):
        assert hidden not in str(fault) + repr(fault)
    return fault


class TestReading:
    def test_the_least(self) -> None:
        message = read_message(event())
        assert message.to.reveal() == NUMBER
        assert message.body == MessageBody(TEXT)
        assert (message.recipient_ref, message.sender, message.opt_in_proof, message.metadata) == (None, None, None, {})

    def test_the_most(self) -> None:
        message = read_message(json.dumps(MOST).encode())
        assert message.not_before == datetime(2026, 5, 1, 10, tzinfo=UTC)
        assert message.expires_at == datetime(2026, 5, 2, 8, 0, 0, 250_000, tzinfo=UTC)
        proof = message.opt_in_proof
        assert proof is not None
        assert proof.at.utcoffset() == timedelta(hours=-7), "the zone in which the person said so is kept"
        assert proof.confirmed_by == ("m-1", "m-2")

    def test_moments_are_kept_to_the_millisecond(self) -> None:
        message = read_message(event(not_before="2026-05-01T10:00:00.123999Z"))
        assert message.not_before == datetime(2026, 5, 1, 10, 0, 0, 123_000, tzinfo=UTC)

    @pytest.mark.parametrize("data", [event(), json.dumps(MOST).encode()])
    def test_it_does_not_change_and_hides_what_is_personal(self, data: bytes) -> None:
        message = read_message(data)
        with pytest.raises(ValidationError, match="frozen"):
            message.tenant = "other"  # type: ignore[misc] # what mypy says, too
        shown = f"{message!r} {message} {message.model_dump_json()} {message.model_dump()} {message.opt_in_proof!r}"
        for hidden in (NUMBER, TEXT, "192.0.2.7", "Yes, text me."):
            assert hidden not in shown
        assert "naïve key" not in repr(message)

    def test_a_missing_number_is_for_the_decision_to_refuse(self) -> None:
        assert read_message(event(to="")).to.reveal() == ""

    def test_reading_is_cheap(self) -> None:
        data = event(recipient_ref="customer-77", expires_at="2026-05-02T10:00:00Z", body="a" * 120)
        spent = min(timeit.repeat(lambda: read_message(data), number=500, repeat=5)) / 500
        assert spent < 150e-6  # about 9 µs on the machine of docs/performance.md; the bound only catches a blunder


BYTES_REFUSED = [
    # data, reason, what
    (b"", "not_json", "line 1"),
    (b"{", "not_json", "line 1"),
    (b"canary", "not_json", "line 1"),
    (b"\xef\xbb\xbf" + event(), "not_json", ""),
    (event() + b"{}", "not_json", ""),
    (b"[" * 100_000, "not_json", ""),
    (event()[:-1] + b',"to":"canary"}', "not_json", "twice"),
    (event()[:-1] + b',"t\\u006f":"canary"}', "not_json", "twice"),
    (event(metadata={})[:-2] + b'"canary":"1","canary":"2"}}', "not_json", "twice"),
    (event().replace(b"canary", b"\xff"), "not_utf8", "byte"),
    (event().replace(b"canary", b"\xed\xa0\x80"), "not_utf8", "byte"),  # a surrogate, encoded
    (event().replace(b"canary", b"\\ud800"), "not_utf8", "surrogate"),
    (event().replace(b"canary", b"\\udc00 canary"), "not_utf8", ""),
    (event().replace(b"canary", b"\0"), "nul", "NUL"),
    (event().replace(b"canary", b"\\u0000"), "nul", "NUL"),
    (event().replace(b"canary", b"\\\\\\u0000"), "nul", "NUL"),
    (event() + b" " * LONGEST_EVENT, "too_large", str(LONGEST_EVENT)),
    (b"null", "wrong_schema", "the event"),
    (b'["canary"]', "wrong_schema", "the event"),
    (b'"canary"', "wrong_schema", "the event"),
    (b"{}", "wrong_schema", "message_id: is missing"),
]

FIELDS_REFUSED = [
    # field, value, what
    ("message_id", "", "message_id"),
    ("message_id", "a" * 129, "message_id"),
    ("message_id", "a" * 9_000, "message_id"),
    ("message_id", "two words", "message_id"),
    ("message_id", "é", "message_id"),
    ("message_id", "a\n", "message_id"),
    ("message_id", 12, "message_id"),
    ("message_id", None, "message_id"),
    ("tenant", "Harbour Books", "tenant"),
    ("tenant", "a" * 65, "tenant"),
    ("tenant", "-a", "tenant"),
    ("programme", "", "programme"),
    ("category", "spam", "category"),
    ("category", "MARKETING", "category"),
    ("to", 14155550177, "to"),
    ("to", NUMBER + "0" * 64, "to"),
    ("to", None, "to"),
    ("body", "", "body"),
    ("body", " \n\u2003", "body"),
    ("body", "canary" * 300, "body"),
    ("body", ["canary"], "body"),
    ("recipient_ref", "", "recipient_ref"),
    ("recipient_ref", "a b", "recipient_ref"),
    ("sender", "HarbourBks", "sender"),
    ("sender", "+1 415 555 0111", "sender"),
    ("not_before", 1777629600, "not_before"),
    ("not_before", "1777629600", "not_before"),
    ("not_before", "2026-05-01", "not_before"),
    ("not_before", "2026-05-01T10:00:00", "not_before"),
    ("not_before", "2026-02-30T10:00:00Z", "not_before"),
    ("expires_at", "9999-12-31T23:59:59Z", "expires_at"),
    ("expires_at", "1969-12-31T23:59:59Z", "expires_at"),
    ("expires_at", "-001-01-01T00:00:00Z", "expires_at"),
    ("opt_in_proof", "canary", "opt_in_proof"),
    ("opt_in_proof", {"medium": "web"}, "opt_in_proof.at: is missing"),
    ("opt_in_proof", {"medium": "canary", "at": "2026-05-01T10:00:00Z"}, "opt_in_proof.medium"),
    ("opt_in_proof", {"medium": "web", "at": "2026-05-01T10:00:00Z", "ip": NUMBER * 9}, "opt_in_proof.ip"),
    ("opt_in_proof", {"medium": "web", "at": "2026-05-01T10:00:00Z", "canary": 1}, "opt_in_proof.…"),
    ("metadata", {"canary": 1}, "metadata.…"),
    ("metadata", {NUMBER: None}, "metadata.…"),
    ("metadata", {"canary" * 11: "x"}, "metadata"),
    ("metadata", {"": "x"}, "metadata"),
    ("metadata", {"a": "canary" * 50}, "metadata.…"),
    ("metadata", {str(n): "x" for n in range(21)}, "metadata"),
    ("metadata", {"a": {"b": "canary"}}, "metadata.…"),
    ("traceparent", "00-canary", "traceparent"),
    (NUMBER, "x", "…: no field"),
    ("messageId", "x", "messageId: no field"),
    ("Body", TEXT, "Body: no field"),
]


class TestRefusing:
    @pytest.mark.parametrize("data, reason, what", BYTES_REFUSED, ids=range(len(BYTES_REFUSED)))
    def test_bytes_that_are_no_event(self, data: bytes, reason: str, what: str) -> None:
        fault = refused(data)
        assert fault.reason == reason
        assert what in fault.what

    @pytest.mark.parametrize("field, value, what", FIELDS_REFUSED, ids=range(len(FIELDS_REFUSED)))
    def test_a_field_that_is_wrong_is_named_and_not_shown(self, field: str, value: object, what: str) -> None:
        fault = refused(event(**{field: value}))
        assert fault.reason == "wrong_schema"
        assert what in fault.what

    def test_many_faults_make_a_short_text(self) -> None:
        fault = refused(json.dumps({f"{NUMBER}{n}": n for n in range(5_000)}).encode())
        assert len(fault.what) < 500
        assert "more" in fault.what

    def test_an_escaped_backslash_before_u0000_is_text(self) -> None:
        assert read_message(event().replace(b"canary", b"\\\\u0000")).body.reveal() == TEXT.replace("canary", "\\u0000")

    def test_surrogates_in_pairs_are_a_character(self) -> None:
        assert read_message(event().replace(b"canary", b"\\ud83d\\ude00")).body.reveal() == TEXT.replace("canary", "😀")

    def test_the_longest_texts_are_taken(self) -> None:
        message = read_message(event(body="é" * 1600, message_id="~" * 128, metadata={f"{n:064}": "😀" * 256 for n in range(20)}))
        assert len(message.body.reveal()) == 1600

    @given(some.binary(max_size=300))
    def test_any_bytes_are_refused_with_a_reason(self, data: bytes) -> None:
        with pytest.raises(BadEvent):
            read_message(data)

    @given(some.data())
    def test_any_small_change_of_a_good_event_is_read_or_refused(self, data: some.DataObject) -> None:
        good = json.dumps(MOST).encode()
        place, cut = data.draw(some.integers(0, len(good))), data.draw(some.integers(0, 4))
        added = data.draw(
            some.one_of(
                some.binary(max_size=4), some.sampled_from([b"\\u0000", b"\\ud800", b'"', b"{", b"null", b"1e999", b"NaN"])
            )
        )
        try:
            read_message(good[:place] + added + good[place + cut :])
        except BadEvent as fault:
            assert fault.__context__ is None  # noqa: PT017 -- some changes are allowed
            assert len(fault.what) < 600  # noqa: PT017

    @given(
        some.recursive(
            some.none() | some.booleans() | some.integers() | some.floats() | some.text(max_size=20),
            lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text(max_size=10), inner, max_size=3),
            max_leaves=8,
        ),
        some.sampled_from(sorted(MOST)),
    )
    def test_any_value_in_any_field_is_read_or_refused(self, value: object, field: str) -> None:
        try:
            read_message(json.dumps({**MOST, field: value}).encode())
        except BadEvent as fault:
            assert fault.reason in {"wrong_schema", "nul", "not_utf8", "not_json"}  # noqa: PT017 -- some values are allowed


class TestContent:
    def test_key_order_blanks_and_zones_make_no_other_content(self) -> None:
        one = read_message(json.dumps(MOST).encode())
        moved = {**MOST, "expires_at": "2026-05-02T08:00:00.250Z"}
        other = read_message(json.dumps(dict(reversed(moved.items())), indent=3).encode())
        assert content_bytes(one) == content_bytes(other)

    def test_a_null_is_the_same_as_nothing(self) -> None:
        nulls = dict.fromkeys(MOST.keys() - LEAST.keys() - {"metadata"})
        assert content_bytes(read_message(event(**nulls, metadata={}))) == content_bytes(read_message(event()))

    def test_a_repeat_has_its_own_trace(self) -> None:
        assert content_bytes(read_message(event(traceparent=MOST["traceparent"]))) == content_bytes(read_message(event()))

    @pytest.mark.parametrize("field", sorted(MOST.keys() - LEAST.keys() - {"traceparent"}))
    def test_every_other_field_is_content(self, field: str) -> None:
        assert content_bytes(read_message(event(**{field: MOST[field]}))) != content_bytes(read_message(event()))

    @pytest.mark.parametrize(
        "field, value",
        [
            ("message_id", "b"),
            ("tenant", "b"),
            ("programme", "b"),
            ("category", "security"),
            ("to", "+14155550178"),
            ("body", "b"),
        ],
    )
    def test_so_is_every_needed_one(self, field: str, value: str) -> None:
        assert content_bytes(read_message(event(**{field: value}))) != content_bytes(read_message(event()))

    def test_the_bytes_are_the_same_for_good(self) -> None:
        # their digests are stored for the dedupe window: a change makes every repeat of those days a dead letter
        assert content_bytes(read_message(event(expires_at="2026-05-01T00:00:00Z", metadata={"b": "é", "a": "1"}))) == (
            b'{"body":"the canary sings at dawn","category":"service","expires_at":1777593600000,"message_id":"order-1234",'
            b'"metadata":{"a":"1","b":"\\u00e9"},"programme":"orders","tenant":"harbour-books","to":"+14155550177"}'
        )


STATUS = StatusEvent(
    message_id="order-1234",
    tenant="harbour-books",
    programme="orders",
    category="service",
    recipient_ref="customer-77",
    state="sent",
    reason=Reason.ACCEPTED,
    final=False,
    version=2,
    provider="twilio",
    parts=1,
    occurred_at=NOW,
    policy="0123456789ab",
    rule="default.allowed",
    account="main",
    sender="+14155550111",
    attempt=1,
)
INBOUND = InboundEvent(
    inbound_id=UUID(int=7),
    tenant="harbour-books",
    programme=None,
    number=PhoneNumber(NUMBER),
    sender="+14155550111",
    body=MessageBody(TEXT),
    provider="twilio",
    account="main",
    received_at=NOW,
)
CONSENT = ConsentEvent(
    person="ab" * 16,
    tenant="*",
    scope=Scope.ALL,
    status="out",
    version=1,
    final=False,
    source="text",
    stated_at=NOW,
    written_at=NOW,
)
DEAD = DeadLetterEvent(
    dead_letter_id=UUID(int=8),
    reason="nul",
    detail="a NUL character",
    topic="sms.outbound.v1",
    partition=0,
    offset=12,
    length=3,
    sha256="0" * 64,
    sealed="AAAA",
    key_day=NOW.date(),
    occurred_at=NOW,
)


class TestOutgoing:
    @pytest.mark.parametrize("outgoing", [STATUS, INBOUND, CONSENT, DEAD], ids=lambda one: type(one).__name__)
    def test_every_field_is_always_written_and_can_be_read_again(
        self, outgoing: StatusEvent | InboundEvent | ConsentEvent | DeadLetterEvent
    ) -> None:
        data = encode(outgoing)
        assert set(json.loads(data)) == set(type(outgoing).model_fields)
        assert type(outgoing).model_validate_json(data) == outgoing

    def test_a_status_as_it_is_written(self) -> None:
        assert json.loads(encode(STATUS)) == {
            "message_id": "order-1234",
            "tenant": "harbour-books",
            "programme": "orders",
            "category": "service",
            "recipient_ref": "customer-77",
            "state": "sent",
            "reason": "accepted",
            "final": False,
            "version": 2,
            "correction": False,
            "provider": "twilio",
            "parts": 1,
            "occurred_at": "2026-05-01T09:30:00.123000Z",
            "policy": "0123456789ab",
            "rule": "default.allowed",
            "account": "main",
            "sender": "+14155550111",
            "attempt": 1,
        }

    def test_only_encode_lets_personal_data_out(self) -> None:
        assert json.loads(encode(INBOUND))["number"] == NUMBER
        assert json.loads(encode(INBOUND))["body"] == TEXT
        shown = f"{INBOUND!r} {INBOUND} {INBOUND.model_dump()} {INBOUND.model_dump_json()} {INBOUND.model_dump(mode='json')}"
        assert NUMBER not in shown
        assert TEXT not in shown

    def test_a_proof_is_encoded_to_be_sealed(self) -> None:
        proof = read_message(json.dumps(MOST).encode()).opt_in_proof
        assert proof is not None
        said = json.loads(encode(proof))
        assert (said["wording"], said["ip"], said["at"]) == ("Yes, text me.", "192.0.2.7", "2026-04-30T18:00:00-07:00")
        assert OptInProof.model_validate_json(encode(proof)) == proof

    def test_what_is_wrong_is_refused_and_not_shown(self) -> None:
        with pytest.raises(ValidationError) as raised:
            StatusEvent.model_validate({**STATUS.model_dump(), "state": TEXT, "version": 0, NUMBER: 1})
        assert TEXT not in str(raised.value)

    @pytest.mark.parametrize("text", ["", "a" * 10_000, "\n"])
    def test_people_may_text_anything(self, text: str) -> None:
        assert json.loads(encode(INBOUND.model_copy(update={"body": MessageBody(text)})))["body"] == text


def test_types_are_told_apart() -> None:
    types = [model.TYPE for model in (OutboundMessage, StatusEvent, InboundEvent, ConsentEvent, DeadLetterEvent)]
    assert len(set(types)) == 5
