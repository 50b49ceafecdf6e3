from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.crypto.keyring import KeyRing
from gateway.crypto.sealing import OVERHEAD, Sealer
from gateway.domain.errors import CannotOpen, KeyDestroyed, KeyMissing
from tests.rings import ring_at

DAY = date(2026, 11, 23)
BODY = b"Your table is ready, canary."


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ring(tmp_path: Path, clock: Clock) -> KeyRing:
    return ring_at(tmp_path / "ring", monotonic=clock)


@pytest.fixture
def sealer(ring: KeyRing) -> Sealer:
    return Sealer(ring)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(plaintext=st.binary(max_size=2000), context=st.binary(max_size=40))
def test_what_is_sealed_opens(sealer: Sealer, plaintext: bytes, context: bytes) -> None:
    sealed = sealer.seal("acme", "content", DAY, plaintext, context)
    assert len(sealed) == len(plaintext) + OVERHEAD
    assert sealed[0] == 1
    assert sealer.open("acme", "content", DAY, sealed, context) == plaintext


def test_the_same_text_is_sealed_differently_every_time(sealer: Sealer) -> None:
    assert len({sealer.seal("acme", "content", DAY, BODY, b"uid") for _ in range(100)}) == 100


def test_every_changed_byte_is_noticed(sealer: Sealer) -> None:
    sealed = sealer.seal("acme", "content", DAY, BODY, b"uid")
    for place in range(len(sealed)):
        changed = bytearray(sealed)
        changed[place] ^= 1
        with pytest.raises(CannotOpen) as problem:
            sealer.open("acme", "content", DAY, bytes(changed), b"uid")
        assert "canary" not in str(problem.value)
        assert problem.value.__cause__ is None
    for length in range(len(sealed)):
        with pytest.raises(CannotOpen):
            sealer.open("acme", "content", DAY, sealed[:length], b"uid")


def test_it_opens_in_its_own_place_alone(sealer: Sealer) -> None:
    sealed = sealer.seal("acme", "content", DAY, BODY, b"uid")
    sealer.seal("other", "content", DAY, BODY, b"uid")
    sealer.seal("acme", "address", DAY, BODY, b"uid")
    sealer.seal("acme", "content", DAY + timedelta(days=1), BODY, b"uid")
    with pytest.raises(CannotOpen):
        sealer.open("acme", "content", DAY, sealed, b"another uid")
    with pytest.raises(CannotOpen):
        sealer.open("other", "content", DAY, sealed, b"uid")
    with pytest.raises(CannotOpen):
        sealer.open("acme", "address", DAY, sealed, b"uid")
    with pytest.raises(CannotOpen):
        sealer.open("acme", "content", DAY + timedelta(days=1), sealed, b"uid")


def test_the_place_is_bound_even_where_the_key_is_the_same(ring: KeyRing, sealer: Sealer, tmp_path: Path) -> None:
    sealed = sealer.seal("acme", "content", DAY, BODY, b"uid")
    ring.key("other", "content", DAY)
    key = ring.key("acme", "content", DAY).reveal()
    (tmp_path / "ring/other/content/2026-11-23.key").write_bytes(ring.masters.wrap("other/content/2026-11-23", key))
    fresh = Sealer(ring_at(tmp_path / "ring"))
    assert fresh.open("acme", "content", DAY, sealed, b"uid") == BODY
    with pytest.raises(CannotOpen):
        fresh.open("other", "content", DAY, sealed, b"uid")


def test_without_its_key_nothing_opens(ring: KeyRing, sealer: Sealer, clock: Clock) -> None:
    sealed = sealer.seal("acme", "content", DAY, BODY, b"uid")
    ring.destroy("acme", "content", DAY)
    with pytest.raises(KeyMissing):
        Sealer(ring).open("acme", "content", DAY, sealed, b"uid")


def test_ciphers_end_with_their_keys_minute_and_not_a_minute_later(ring: KeyRing, sealer: Sealer, clock: Clock) -> None:
    sealed = sealer.seal("acme", "content", DAY, BODY, b"uid")
    clock.now = 59.0
    sealer.open("acme", "content", DAY, sealed, b"uid")  # a cipher made late from a key that the ring has had for 59 s
    ring.destroy("acme", "content", DAY)
    clock.now = 60.0
    with pytest.raises(KeyMissing):
        sealer.open("acme", "content", DAY, sealed, b"uid")
    with pytest.raises(KeyDestroyed):
        sealer.seal("acme", "content", DAY, BODY, b"uid")
    sealer.seal("other", "content", DAY, BODY, b"uid")
    clock.now = 119.9
    ring.forget_expired()  # as an idle process does, every few seconds
    assert (len(sealer._ciphers), len(ring._cache)) == (1, 1)
    clock.now = 120.0
    ring.forget_expired()
    assert (len(sealer._ciphers), len(ring._cache)) == (0, 0)
