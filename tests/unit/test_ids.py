from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from uuid import RFC_4122, UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as some

from gateway.domain.ids import new_uid, new_uids, uid_floor, uid_time

moments = some.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=some.just(UTC))  # noqa: DTZ001


@given(moments)
def test_an_id_carries_its_moment_to_the_microsecond(now: datetime) -> None:
    uid = new_uid(now)
    assert (uid.version, uid.variant) == (7, RFC_4122)
    assert uid_time(uid) == now


@given(moments, moments)
def test_ids_sort_by_time(one: datetime, other: datetime) -> None:
    if one < other:
        assert new_uid(one) < new_uid(other)


@given(moments, some.integers(0, 50))
def test_a_batch_is_ascending_and_without_repeats(now: datetime, count: int) -> None:
    uids = new_uids(now, count)
    assert len(set(uids)) == count
    assert uids == sorted(uids)
    assert all(uid_time(uid) == now and uid.version == 7 and uid.variant == RFC_4122 for uid in uids)


@given(moments)
def test_the_floor_lies_between_a_millisecond_and_the_one_before(moment: datetime) -> None:
    start = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    assert uid_floor(moment) == uid_floor(start) <= new_uid(start)
    if start > datetime(1970, 1, 1, tzinfo=UTC):
        assert new_uid(start - timedelta(microseconds=1)) < uid_floor(start)


def test_the_floor_is_what_sql_makes_of_it() -> None:
    assert uid_floor(datetime(2026, 5, 1, tzinfo=UTC)) == UUID("019de0d5-c800-0000-0000-000000000000")


def test_any_zone_will_do() -> None:
    here = datetime(2026, 5, 1, 2, 0, tzinfo=timezone(timedelta(hours=2)))
    assert uid_time(new_uid(here)) == datetime(2026, 5, 1, tzinfo=UTC)


def test_another_version_tells_no_time() -> None:
    with pytest.raises(ValueError, match="version 7"):
        uid_time(uuid4())


def test_the_milliseconds_stand_where_the_standard_has_them() -> None:
    # the example of RFC 9562, A.6: 2022-02-22 19:22:22.00 GMT
    assert new_uid(datetime(2022, 2, 22, 19, 22, 22, tzinfo=UTC)).hex.startswith("017f22e279b0")
