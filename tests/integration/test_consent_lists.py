"""Opt-outs that stand against opt-ins, however they arrive: by lists, and between an opt-in's look and its write."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from gateway.domain.consent import EVERY_TENANT, ConsentKey, Scope, meet
from gateway.store.database import Database
from gateway.store.statements import statements

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
PERSON = b"p" * 16
OTHER = ConsentKey(PERSON, "clinic", Scope.TENANT)
TENANT = ConsentKey(PERSON, "shop", Scope.TENANT)
OFFERS = ConsentKey(PERSON, "shop", Scope.PROGRAMME, "offers")
ORDERS = ConsentKey(PERSON, "shop", Scope.PROGRAMME, "orders")
SENDER = ConsentKey(PERSON, "shop", Scope.SENDER, "+14155550110")
EVERYTHING = ConsentKey(PERSON, EVERY_TENANT, Scope.ALL)


@pytest.mark.parametrize(
    "one, other, expected",
    [
        (TENANT, TENANT, True),
        (TENANT, OFFERS, True),
        (OFFERS, ORDERS, False),
        (OFFERS, SENDER, True),
        (EVERYTHING, OTHER, True),
        (OTHER, TENANT, False),
        (OTHER, OFFERS, False),
    ],
)
def test_reaches_meet_where_a_message_may_be_covered_by_both(one: ConsentKey, other: ConsentKey, expected: bool) -> None:
    assert meet(one, other) is meet(other, one) is expected


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = await Database(database_url).open()
    yield opened
    await opened.close()


@pytest.mark.parametrize(
    "source, later, proven, written",
    [
        ("api", timedelta(hours=-1), True, False),
        ("api", timedelta(0), True, False),  # a tie goes to STOP
        ("api", timedelta(hours=1), True, True),
        ("text", timedelta(hours=1), False, False),  # nobody was asked when it was said
        ("import", timedelta(hours=1), True, False),  # a list undoes nothing
    ],
)
async def test_an_opt_out_that_was_written_since_the_look_is_not_overwritten(
    database: Database, source: str, later: timedelta, proven: bool, written: bool
) -> None:
    """The person's rows are locked before an opt-in is judged; a first opt-out, of whom there was no row, slips in after that."""
    key = (PERSON, "shop", "programme", "offers")
    await database.fetch(statements("consents")["write_opt_out"], *key, "text", NOON, None, 1)
    rows = await database.fetch(statements("consents")["write_opt_in"], *key, source, NOON + later, None, None, proven, 1)
    assert bool(rows) is written
    stands = await database.fetch(statements("consents")["of"], [PERSON])
    assert [row["status"] for row in stands] == ["in" if written else "out"]
