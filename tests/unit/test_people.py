"""The ids of one person under several versions of the key that people are hashed with."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from gateway.crypto.keyring import fingerprint_of
from gateway.crypto.secret import Secret
from gateway.crypto.subjects import Subjects
from gateway.domain.errors import KeyMissing, KeyUnreadable, StoreUnavailable, SubjectKeysChanged
from gateway.domain.personal import PhoneNumber
from gateway.domain.subject_keys import SubjectKeys
from gateway.flow.people import KNOWN_FOR, EveryId, FirstKey, WatchedPeople, with_people

KEYS = {version: Secret(bytes([version]) * 32) for version in (1, 2, 3)}
PRINTS = {version: fingerprint_of(key) for version, key in KEYS.items() if version > 1}
NUMBER = PhoneNumber("+12025550101")


class Kept:
    """What the store says."""

    def __init__(self) -> None:
        self.keys = SubjectKeys()

    async def now(self) -> tuple[SubjectKeys, Mapping[int, str]]:
        return self.keys, {version: PRINTS[version] for version in range(2, self.keys.newest + 1)}


def subjects() -> Subjects:
    return Subjects(KEYS[1], None, KEYS.__getitem__)


@pytest.mark.parametrize("keys", [SubjectKeys(), SubjectKeys(2, 1, settled=False), SubjectKeys(12, 12, settled=True)])
def test_the_versions_are_kept_as_text(keys: SubjectKeys) -> None:
    assert SubjectKeys.of(keys.text) == keys


def test_each_id_is_made_from_the_one_before_and_from_its_own_key_alone() -> None:
    hashes = subjects()
    first = hashes.subject_id(NUMBER)
    assert hashes.line(first) == (first,)
    hashes.know(PRINTS)
    line = hashes.line(first)
    assert line[0] == first == hashes.subject_id(NUMBER)
    assert len(set(line)) == 3
    assert [hashes.next_id(2, line[0]), hashes.next_id(3, line[1])] == list(line[1:])
    other = Subjects(KEYS[1], None, {2: KEYS[3], 3: KEYS[2]}.__getitem__)
    other.know({2: PRINTS[3], 3: PRINTS[2]})
    assert not set(other.line(first)[1:]) & set(line)
    hashes.know({})
    assert hashes.line(first) == (first,)


def test_a_version_that_is_another_or_missing_is_refused_and_nothing_is_forgotten() -> None:
    hashes = subjects()
    hashes.know({2: PRINTS[2]})
    with pytest.raises(KeyUnreadable, match="version 3"):
        hashes.know({2: PRINTS[2], 3: PRINTS[2]})
    assert len(hashes.line(b"x" * 16)) == 2
    with pytest.raises(KeyMissing):
        Subjects(KEYS[1]).know({2: PRINTS[2]})


async def test_new_things_are_kept_under_the_version_in_use() -> None:
    kept = Kept()
    people = WatchedPeople(kept, subjects())
    first = subjects().subject_id(NUMBER)
    assert people.kept_under(first) == FirstKey().kept_under(first) == (first, None)
    kept.keys = SubjectKeys(2, 1, settled=False)
    assert people.line(first) == (first,)  # not read yet
    await people.look()
    one, two = people.line(first)
    assert people.kept_under(first) == (one, None)
    kept.keys = SubjectKeys(2, 2, settled=False)
    await people.look()
    assert people.kept_under(first) == (two, one)
    kept.keys = SubjectKeys(2, 2, settled=True)
    await people.look()
    assert people.kept_under(first) == (two, None)
    kept.keys = SubjectKeys()  # a database that was restored
    await people.look()
    assert people.line(first) == (first,)


async def test_ids_are_of_the_versions_that_were_read_also_while_others_are_loaded() -> None:
    kept, hashes = Kept(), subjects()
    people = WatchedPeople(kept, hashes)
    hashes.know(PRINTS)
    assert people.line(b"x") == (b"x",)
    kept.keys = SubjectKeys(3, 1, settled=False)
    await people.look()
    assert len(people.line(b"x")) == 3
    hashes.know({})
    with pytest.raises(SubjectKeysChanged):
        people.line(b"x")


async def test_no_ids_are_given_when_the_versions_were_not_read_for_a_minute() -> None:
    now = 100.0
    people = WatchedPeople(Kept(), subjects(), now=lambda: now)
    now += KNOWN_FOR + 1
    assert people.line(b"x") == (b"x",)  # a command, which looks when it starts
    people.by_the_clock = True
    with pytest.raises(StoreUnavailable):
        people.line(b"x")
    with pytest.raises(StoreUnavailable):
        people.kept_under(b"x")
    await people.look()
    now += KNOWN_FOR
    assert people.line(b"x") == (b"x",)


async def test_a_list_of_people_holds_every_id_of_theirs() -> None:
    kept = Kept()
    people = WatchedPeople(kept, subjects())
    first = subjects().subject_id(NUMBER)
    listed = EveryId([first], people)
    assert first in listed
    assert b"x" * 16 not in listed
    kept.keys = SubjectKeys(3, 3, settled=True)
    await people.look()
    assert all(one in listed for one in people.line(first))
    assert b"x" * 16 not in listed


async def test_what_meets_a_change_is_done_again_and_not_for_ever() -> None:
    class Looked(FirstKey):
        looks = 0

        async def look(self) -> None:
            self.looks += 1

    people, left = Looked(), [2]

    async def work() -> str:
        if left[0]:
            left[0] -= 1
            raise SubjectKeysChanged("")
        return "done"

    assert await with_people(people, work) == "done"
    assert people.looks == 2
    left[0] = 1000
    with pytest.raises(SubjectKeysChanged):
        await with_people(people, work)
