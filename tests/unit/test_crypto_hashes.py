from __future__ import annotations

import hashlib
import re
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.crypto.bearer import new_token, token_hash
from gateway.crypto.secret import Secret
from gateway.crypto.subjects import Subjects
from gateway.crypto.tokens import AttemptTokens
from gateway.domain.personal import PhoneNumber

KEY = Secret(bytes(range(32)))
OTHER_KEY = Secret(bytes(32))
NUMBER = PhoneNumber("+15005550006")


def test_hashes_are_16_bytes_fixed_for_ever_and_never_the_same_for_two_uses() -> None:
    subjects = Subjects(KEY)
    subject = subjects.subject_id(NUMBER)
    # Stored in the database: a change of these values would lose every opt-out.
    assert subject.hex() == "d79ca5c33280f631361c5da2c06eda52"
    assert subjects.message_id_hash("acme", "m-1").hex() == "471a39cc5e4802ea26057f046e15d718"
    assert subjects.content_digest(b"+15005550006").hex() == "aa5cd2fbb4cc9af6ab27a62aa27738a2"
    assert subjects.person_key("acme", subject) == "00e1bb510b2f917d32a5d63c738b67e0"
    assert len({subject, subjects.message_id_hash("", "+15005550006"), subjects.content_digest(b"+15005550006")}) == 3


def test_another_key_gives_other_hashes() -> None:
    mine, other = Subjects(KEY), Subjects(OTHER_KEY)
    assert mine.subject_id(NUMBER) != other.subject_id(NUMBER)
    assert mine.person_key("acme", b"x" * 16) != other.person_key("acme", b"x" * 16)
    split = Subjects(KEY, message_ids=OTHER_KEY)
    assert split.subject_id(NUMBER) == mine.subject_id(NUMBER)
    assert split.message_id_hash("acme", "1") == other.message_id_hash("acme", "1")
    assert split.content_digest(b"1") == other.content_digest(b"1")


def test_two_tenants_cannot_match_their_pseudonyms() -> None:
    subjects = Subjects(KEY)
    subject = subjects.subject_id(NUMBER)
    assert subjects.person_key("acme", subject) != subjects.person_key("other", subject)
    assert re.fullmatch("[0-9a-f]{32}", subjects.person_key("acme", subject))


@given(st.text(max_size=6), st.text(max_size=6), st.text(max_size=6), st.text(max_size=6))
def test_message_ids_of_tenants_do_not_run_together(tenant: str, name: str, other_tenant: str, other_name: str) -> None:
    subjects = Subjects(KEY)
    same = (tenant, name) == (other_tenant, other_name)
    assert (subjects.message_id_hash(tenant, name) == subjects.message_id_hash(other_tenant, other_name)) == same


@given(st.uuids(), st.integers(0, 0xFFFF), st.text(max_size=30))
def test_an_attempt_token_is_read_as_it_was_made(uid: UUID, attempt: int, account: str) -> None:
    tokens = AttemptTokens(KEY)
    token = tokens.make(uid, attempt, account)
    assert re.fullmatch(r"[A-Za-z0-9_-]{40}", token)
    assert tokens.read(token, account) == (uid, attempt)


def test_a_token_is_good_for_its_account_and_key_alone() -> None:
    token = AttemptTokens(KEY).make(uuid4(), 1, "main")
    assert AttemptTokens(KEY).read(token, "other") is None
    assert AttemptTokens(OTHER_KEY).read(token, "main") is None


def test_every_changed_character_makes_a_token_worthless() -> None:
    tokens = AttemptTokens(KEY)
    token = tokens.make(uuid4(), 1, "main")
    for place in range(len(token)):
        for letter in "Ab-_":
            changed = token[:place] + letter + token[place + 1 :]
            assert changed == token or tokens.read(changed, "main") is None


@given(st.text(max_size=60))
def test_any_text_is_answered(text: str) -> None:
    assert AttemptTokens(KEY).read(text, "main") is None


@pytest.mark.parametrize(
    "token", ["", "A" * 39, "A" * 41, "A" * 40, "=" * 40, "A" * 39 + "=", "+" * 40, "\n" * 40, "é" * 40, " " * 40]
)
def test_misshapen_tokens_are_answered(token: str) -> None:
    assert AttemptTokens(KEY).read(token, "main") is None


@pytest.mark.parametrize("attempt", [-1, 65536])
def test_attempts_are_bounded(attempt: int) -> None:
    with pytest.raises(ValueError, match="65535"):
        AttemptTokens(KEY).make(uuid4(), attempt, "main")


def test_keys_may_be_bytes_but_not_short_ones() -> None:
    assert AttemptTokens(KEY.reveal()).make(UUID(int=1), 1, "a") == AttemptTokens(KEY).make(UUID(int=1), 1, "a")
    with pytest.raises(ValueError, match="32"):
        AttemptTokens(b"short")
    with pytest.raises(ValueError, match="32"):
        Subjects(b"short")


def test_bearer_tokens_are_new_each_time_and_found_by_their_hash() -> None:
    text, kept = new_token()
    assert re.fullmatch(r"smsgw_[A-Za-z0-9_-]{43}", text)
    assert kept == token_hash(text) == hashlib.sha256(text.encode()).digest()
    assert new_token()[0] != text
    assert len(token_hash("\udcff")) == 32
