"""The audit's chain: one form for one record, a hash that hangs on every field, and a check that says where."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha256
from typing import Any
from uuid import UUID

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gateway.domain.chain import GENESIS, Anchor, AuditRecord, Chained, chained, decode, encode, hash_of
from gateway.domain.chain_check import ChainCheck, wrong_numbers
from gateway.domain.events import AuditEvent

AT = datetime(2026, 11, 24, 10, 30, 0, 123456, tzinfo=UTC)
UID = UUID("019abcde-0000-7000-8000-000000000001")

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
maybe = st.none() | texts
moments = st.integers(0, 7_258_032_000_000_000).map(lambda us: datetime.fromtimestamp(0, UTC) + timedelta(microseconds=us))
records = st.builds(
    AuditRecord,
    at=moments,
    tenant=st.sampled_from(["clinic", "shop", "_system"]),
    uid=st.none() | st.uuids(),
    number=st.integers(0, 2**31 - 1),
    step=texts,
    state=maybe,
    reason=maybe,
    rule=maybe,
    policy=maybe,
    attempt=st.none() | st.integers(0, 2**31 - 1),
    provider=maybe,
    account=maybe,
    code=maybe,
    evidence=maybe,
    actor=texts,
    person=st.none() | st.from_regex(r"\A[0-9a-f]{32}\Z"),
)
hashes = st.binary(min_size=32, max_size=32)
links = st.builds(Chained, records, st.integers(1, 2**62), hashes, moments, hashes)


def record(number: int = 1, **more: Any) -> AuditRecord:
    plain: dict[str, Any] = dict.fromkeys(AuditRecord._fields)
    return AuditRecord(
        **plain | {"at": AT, "tenant": "clinic", "uid": UID, "number": number, "step": "sent", "actor": "worker@host:1"} | more
    )


def chain(count: int = 8, start: Anchor = GENESIS) -> list[Chained]:
    return list(chained(start, [record(number) for number in range(1, count + 1)], AT))


class TestForm:
    @given(links)
    def test_what_is_read_back_is_what_was_written(self, link: Chained) -> None:
        """So no two records have one form: each can be made from its form again."""
        assert decode(encode(link)) == link

    @given(links, links)
    def test_records_that_differ_have_hashes_that_differ(self, one: Chained, other: Chained) -> None:
        assume(one[:-1] != other[:-1])
        assert hash_of(*one[:-1]) != hash_of(*other[:-1])

    @given(records)
    def test_a_moment_has_one_form_in_whatever_zone_it_is_told(self, one: AuditRecord) -> None:
        elsewhere = one._replace(at=one.at.astimezone(timezone(timedelta(hours=-3, minutes=-30))))
        assert hash_of(elsewhere, 1, bytes(32), AT) == hash_of(one, 1, bytes(32), AT)

    @given(records)
    def test_others_can_check_it_with_a_hash_function_alone(self, one: AuditRecord) -> None:
        (link,) = chained(GENESIS, [one], AT)
        line = encode(link)
        form = line[: line.rindex(b',"hash":')] + b"}"
        assert sha256(form).hexdigest() == json.loads(line)["hash"]

    def test_it_is_what_it_was_in_the_first_release(self) -> None:
        """The form is never changed; another one gets another number."""
        (link,) = chained(GENESIS, [record(rule="default.allowed", evidence="Grüße \U0001f600\n")], AT)
        assert encode(link).decode() == (
            '{"chain":1,"tenant":"clinic","sequence":1,"previous":"' + "0" * 64 + '",'
            '"chained_at":"2026-11-24T10:30:00.123456Z","at":"2026-11-24T10:30:00.123456Z",'
            '"uid":"019abcde-0000-7000-8000-000000000001","number":1,"step":"sent","state":null,"reason":null,'
            '"rule":"default.allowed","policy":null,"attempt":null,"provider":null,"account":null,"code":null,'
            '"evidence":"Gr\\u00fc\\u00dfe \\ud83d\\ude00\\n","actor":"worker@host:1","person":null,'
            '"hash":"6f92a93181b1113676e2d254114b9c828c26eefe3cc335773a8a50a3c0626a83"}'
        )

    def test_the_event_that_readers_know_has_the_same_fields(self) -> None:
        (link,) = chained(GENESIS, [record(person="a" * 32)], AT)
        data = encode(link)
        assert list(json.loads(data)) == list(AuditEvent.model_fields)
        event = AuditEvent.model_validate_json(data)
        assert (event.at, event.uid, event.person, event.hash) == (AT.replace(microsecond=123000), UID, "a" * 32, link.hash.hex())

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda line: line + b" ",
            lambda line: line.replace(b'"number":1', b'"number": 1'),
            lambda line: line.replace(b'"number":1', b'"number":1.0'),
            lambda line: line.replace(b'"number":1', b'"number":true'),
            lambda line: line.replace(b'"number":1', b'"number":"1"'),
            lambda line: line.replace(b'"number":1', b'"number":2,"number":1'),
            lambda line: line.replace(b'"state":null', b'"state":null,"more":1'),
            lambda line: line.replace(b'"state":null,', b""),
            lambda line: line.replace(b'"chain":1', b'"chain":2'),
            lambda line: line.replace(b'"sent"', b'"s\\u0065nt"'),
            lambda line: line.replace(b".123456Z", b".123456+00:00"),
            lambda line: line.replace(b'"uid":"019a', b'"uid":"{019a'),
            lambda line: line[:-3] + line[-3:].upper() if line[-3:-2].isalpha() else line[:-1],
            lambda line: line[:40],
            lambda _line: b"[]",
            lambda _line: b"",
            lambda _line: b"[" * 100_000,
            lambda _line: b"\xff",
        ],
    )
    def test_anything_else_is_no_record(self, spoil: Any) -> None:
        line = spoil(encode(chain(1)[0]))
        with pytest.raises(ValueError, match="not a record of an audit chain"):
            decode(line)


def found(
    links: list[Chained], head: Anchor | None = None, start: Anchor | None = GENESIS, **more: Any
) -> list[tuple[str, Any, Any]]:
    check = ChainCheck("clinic", "here", start, **more)
    for link in links:
        check.take(link)
    return [(one.what, one.sequence, one.last) for one in check.end(head)]


OTHER: dict[str, Any] = {
    "at": AT + timedelta(microseconds=1), "tenant": "shop", "uid": UUID(int=5), "number": 77, "step": "x", "state": "x", "reason": "x",
    "rule": "x", "policy": "x", "attempt": 7, "provider": "x", "account": "x", "code": "x", "evidence": "x", "actor": "x", "person": "x",
}  # fmt: skip


class TestCheck:
    @given(st.lists(records, max_size=20), moments)
    def test_a_chain_as_it_was_made_is_whole(self, made: list[AuditRecord], at: datetime) -> None:
        links = list(chained(GENESIS, [one._replace(tenant="clinic") for one in made], at))
        assert found(links, links[-1].anchor if links else GENESIS) == []

    def test_it_may_begin_at_an_anchor_and_a_wrong_anchor_shows(self) -> None:
        links = chain()
        assert found(links[4:], links[-1].anchor, links[3].anchor) == []
        assert found(links[4:], links[-1].anchor, Anchor(4, bytes(32))) == [("unlinked", 5, 5)]
        assert found(links[4:], links[-1].anchor, links[2].anchor) == [("missing", 4, 4)]
        assert found(links, links[-1].anchor, anchors={3: links[2].hash}) == []
        assert found(links, links[-1].anchor, anchors={3: links[1].hash}) == [("anchor", 3, 3)]

    @pytest.mark.parametrize("place", [0, 3, 7])
    @pytest.mark.parametrize("field", AuditRecord._fields)
    def test_each_changed_field_is_found_at_its_record(self, field: str, place: int) -> None:
        links = chain()
        links[place] = links[place]._replace(record=links[place].record._replace(**{field: OTHER[field]}))
        assert found(links, chain()[-1].anchor) == [("changed", place + 1, place + 1)]

    @pytest.mark.parametrize("place", [0, 3, 7])
    @pytest.mark.parametrize(
        "change", [{"previous": b"x" * 32}, {"hash": b"x" * 32}, {"chained_at": AT + timedelta(microseconds=1)}], ids=str
    )
    def test_so_is_a_changed_place(self, change: dict[str, Any], place: int) -> None:
        links = chain()
        links[place] = links[place]._replace(**change)
        assert found(links, chain()[-1].anchor)[0] == ("changed", place + 1, place + 1)
        assert len(found(links, chain()[-1].anchor)) == 1

    def test_one_that_was_changed_together_with_its_hash_no_longer_fits(self) -> None:
        links = chain()
        (links[3],) = chained(links[2].anchor, [record(99)], AT)
        assert found(links, links[-1].anchor) == [("unlinked", 5, 5)]
        links = chain()
        head = links[-1].anchor
        (links[7],) = chained(links[6].anchor, [record(99)], AT)
        assert found(links, head) == [("head", 8, 8)]

    def test_what_is_missing_is_named(self) -> None:
        links = chain()
        head = links[-1].anchor
        assert found(links[:3] + links[5:], head) == [("missing", 4, 5)]
        assert found(links[1:], head) == [("missing", 1, 1)]
        assert found(links[:-2], head) == [("cut", 7, 8)]
        assert found([], head) == [("cut", 1, 8)]
        assert found(links[2:-1], head, None) == [("cut", 8, 8)]

    def test_two_that_were_swapped_are_named(self) -> None:
        links = chain()
        head = links[-1].anchor
        assert found([*links[:2], links[3], links[2], *links[4:]], head) == [("disordered", 3, 3)]
        contents = [
            *links[:2],
            links[2]._replace(record=links[4].record),
            links[3],
            links[4]._replace(record=links[2].record),
            *links[5:],
        ]
        assert found(contents, head) == [("changed", 3, 3), ("changed", 5, 5)]
        places = [*links[:2], links[4]._replace(sequence=3), links[3], links[2]._replace(sequence=5), *links[5:]]
        assert found(places, head) == [("changed", 3, 3), ("changed", 5, 5)]

    def test_one_that_was_put_in_is_named(self) -> None:
        links = chain()
        head = links[-1].anchor
        (forged,) = chained(links[3].anchor, [record(99)], AT)
        assert found([*links[:5], forged, *links[5:]], head) == [("twice", 5, 5)]
        (forged,) = chained(links[7].anchor, [record(99)], AT)
        assert found([*links, forged], head) == [("beyond", 9, 9)]

    @given(st.integers(0, 7), st.integers(1, 8))
    def test_equal_repeats_are_dropped_where_they_may_be_and_unequal_ones_never(self, start: int, count: int) -> None:
        links = chain()
        again = links[start : start + count]
        upto = min(8, start + count)
        check = ChainCheck("clinic", "topic", None, repeats=True)
        for link in [*links[:upto], *again, *links[upto:]]:
            check.take(link)
        assert check.end(links[-1].anchor) == []
        assert check.repeated == len(again)
        assert found([*links[:upto], *again, *links[upto:]], links[-1].anchor)[0][0] == "twice"
        (other,) = chained(Anchor(start, bytes(32)), [record(99)], AT)
        assert found([*links, other], links[-1].anchor, repeats=True) == [("twice", start + 1, start + 1)]

    def test_what_the_other_copy_holds_is_compared(self) -> None:
        links = chain()
        (forged,) = chained(links[2].anchor, [record(99)], AT)
        check = ChainCheck("clinic", "topic", None, repeats=True)
        for link in links:
            check.take(forged if link.sequence == 4 else link, "offset 1", known=link.hash)
        (finding,) = check.end(None)
        assert str(finding) == "clinic record 4 in topic, offset 1: is not the record that PostgreSQL holds"

    def test_a_run_is_told_as_one(self) -> None:
        links = [link._replace(record=link.record._replace(code="x")) if 2 < link.sequence < 7 else link for link in chain()]
        assert found(links, chain()[-1].anchor) == [("changed", 3, 6)]

    @given(st.data())
    def test_whatever_is_done_to_records_something_is_found(self, data: st.DataObject) -> None:
        """Records taken out, repeated, moved, changed: any other list than the one that was written."""
        links = chain()
        pool = [*links, *(link._replace(record=link.record._replace(code="x")) for link in links)]
        done = data.draw(st.lists(st.sampled_from(pool), max_size=10))
        assume(done != links)
        assert found(done, links[-1].anchor) != []


class TestCounter:
    @pytest.mark.parametrize(
        "steps, numbers, later, wrong",
        [
            (4, [1, 2, 3, 4], False, ""),
            (4, [1, 2, 3], False, "number 4 of 4 is missing"),
            (4, [1, 3, 4], False, "number 2 of 4 is missing"),
            (4, [], False, "4 of 4 are missing"),
            (4, [], True, ""),
            (4, [3, 4], True, ""),
            (4, [2, 3], True, "number 4 of 4 is missing"),
            (2, [1, 2, 2], False, "number 2 is there twice"),
            (2, [1, 2, 3], False, "number 3 is one too many"),
        ],
    )
    def test_it_says_what_is_missing(self, steps: int, numbers: list[int], later: bool, wrong: str) -> None:
        assert wrong_numbers(steps, numbers, begun_later=later) == wrong
