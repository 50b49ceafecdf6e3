"""Which word holds after a restore; what is kept of a database outside it; and how a person is sealed for the gateway alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.crypto.subjects import Subjects
from gateway.domain.consent import Scope
from gateway.domain.errors import CannotOpen
from gateway.domain.events import ConsentEvent
from gateway.domain.lineage import Lineage
from gateway.domain.restoring import Kept, judge

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
STATUS: st.SearchStrategy[Literal["in", "out"]] = st.sampled_from(["in", "out"])
MOMENTS = st.integers(-3, 3).map(lambda minutes: NOON + timedelta(minutes=minutes))
VERSIONS = st.integers(1, 4)
LINEAGES = st.builds(
    Lineage, st.binary(min_size=16, max_size=16).map(bytes.hex), st.integers(1, 2**32 - 1), st.integers(0, 2**64 - 1)
)


def told(status: Literal["in", "out"], version: int, stated_at: datetime) -> ConsentEvent:
    return ConsentEvent(
        person="0" * 32,
        tenant="clinic",
        scope=Scope.TENANT,
        status=status,
        version=version,
        final=True,
        source="text",
        stated_at=stated_at,
        written_at=stated_at,
    )


@given(STATUS, VERSIONS, MOMENTS, STATUS, VERSIONS, MOMENTS)
def test_the_later_word_holds_and_a_tie_goes_to_stop(
    said: Literal["in", "out"], version: int, at: datetime, kept: Literal["in", "out"], kept_version: int, kept_at: datetime
) -> None:
    verdict = judge(told(said, version, at), Kept(kept, kept_version, kept_at))
    holds = said if verdict == "restored" else kept
    if said != kept:
        out_at, in_at = (at, kept_at) if said == "out" else (kept_at, at)
        assert holds == ("in" if in_at > out_at else "out")
    if verdict == "tell_again":
        assert said != kept
        assert version >= kept_version


def test_what_was_never_heard_of_is_restored() -> None:
    assert judge(told("out", 3, NOON), None) == "restored"


@given(LINEAGES)
def test_a_lineage_comes_back_whole_and_fits_where_a_key_does(lineage: Lineage) -> None:
    assert len(lineage.encode()) == 32
    assert Lineage.decode(lineage.encode()) == lineage


def test_bytes_that_are_no_lineage_are_not_taken_for_one() -> None:
    with pytest.raises(ValueError, match="not a lineage"):
        Lineage.decode(bytes(range(32)))


@given(LINEAGES, st.integers(0, 2**63))
def test_a_database_follows_itself_and_never_one_that_had_come_farther(lineage: Lineage, more: int) -> None:
    later = Lineage(lineage.name, lineage.timeline, lineage.place + more)
    promoted = Lineage(lineage.name, lineage.timeline + 1, lineage.place + more)
    assert later.follows(lineage, trust_failover=False)
    assert lineage.follows(later, trust_failover=True) is (more == 0)
    assert not promoted.follows(lineage, trust_failover=False)
    assert promoted.follows(lineage, trust_failover=True)


def test_a_person_is_sealed_anew_each_time_and_opens_beside_the_own_pseudonym_of_the_own_ring_alone() -> None:
    ours, theirs = Subjects(bytes(32)), Subjects(bytes([1]) * 32)
    subject = bytes(range(16))
    sealed = ours.seal_subject("a" * 32, subject)
    assert ours.open_subject("a" * 32, sealed) == subject
    assert ours.seal_subject("a" * 32, subject) != sealed
    for gateway, person, what in (
        (theirs, "a" * 32, sealed),
        (ours, "b" * 32, sealed),
        (ours, "a" * 32, sealed[:-4]),
        (ours, "a" * 32, "é"),
    ):
        with pytest.raises(CannotOpen):
            gateway.open_subject(person, what)
