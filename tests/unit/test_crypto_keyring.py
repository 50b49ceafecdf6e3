from __future__ import annotations

import logging
import os
import pickle
import signal
import stat
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.crypto.files import UnsafeKeyRing, create_once
from gateway.crypto.keyring import KeyRing, safe_name
from gateway.crypto.secret import Secret, secret_bytes
from gateway.domain.errors import GatewayError, KeyDestroyed, KeyMissing, KeyUnreadable
from tests.rings import ring_at

DAY = date(2026, 11, 23)

MAKE_KEYS = """
import sys, hashlib
from datetime import date, timedelta
from pathlib import Path
from tests.rings import ring_at
ring = ring_at(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for number in range(30):
    key = ring.key("acme", "content", date(2026, 11, 1) + timedelta(days=number))
    print(hashlib.sha256(key.reveal()).hexdigest())
print(hashlib.sha256(ring.subject_key().reveal()).hexdigest())
"""


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    return ring_at(tmp_path / "ring")


def test_a_key_is_32_bytes_and_the_same_for_every_ring_on_the_folder(ring: KeyRing, tmp_path: Path) -> None:
    key = ring.key("acme", "content", DAY)
    assert len(key.reveal()) == 32
    assert ring_at(tmp_path / "ring").key("acme", "content", DAY, create=False) == key


def test_tenants_classes_days_and_purposes_have_keys_of_their_own(ring: KeyRing) -> None:
    keys = [
        ring.key("acme", "content", DAY),
        ring.key("acme", "address", DAY),
        ring.key("acme", "content", date(2026, 11, 24)),
        ring.key("other", "content", DAY),
        ring.key("_system", "dead_letters", DAY),
        ring.subject_key(),
        ring.message_id_key(),
        ring.token_key(),
    ]
    assert len({key.reveal() for key in keys}) == len(keys)


def test_a_missing_key_is_named_and_not_made(ring: KeyRing, tmp_path: Path) -> None:
    with pytest.raises(KeyMissing) as missing:
        ring.key("acme", "address", DAY, create=False)
    assert "acme/address/2026-11-23" in str(missing.value)
    assert list((tmp_path / "ring").iterdir()) == []


def test_folders_and_files_are_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        ring_at(tmp_path / "ring").key("acme", "content", DAY)
    finally:
        os.umask(before)
    modes = {path.relative_to(tmp_path).as_posix(): stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    assert modes == {"ring": 0o700, "ring/acme": 0o700, "ring/acme/content": 0o700, "ring/acme/content/2026-11-23.key": 0o600}


@pytest.mark.parametrize("place", [".", "acme", "acme/content", "acme/content/2026-11-23.key"])
def test_what_others_may_read_is_refused(ring: KeyRing, tmp_path: Path, place: str) -> None:
    ring.key("acme", "content", DAY)
    path = tmp_path / "ring" / place
    path.chmod(path.stat().st_mode | 0o040)
    with pytest.raises(UnsafeKeyRing, match="chmod"):
        ring_at(tmp_path / "ring").key("acme", "content", DAY)


@pytest.mark.parametrize("place", [".", "acme", "acme/content", "acme/content/2026-11-23.key"])
def test_symbolic_links_are_refused(ring: KeyRing, tmp_path: Path, place: str) -> None:
    ring.key("acme", "content", DAY)
    path = tmp_path / "ring" / place
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnsafeKeyRing, match="symbolic link"):
        ring_at(tmp_path / "ring").key("acme", "content", DAY)


def test_a_foreign_owner_is_refused(ring: KeyRing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    with pytest.raises(UnsafeKeyRing, match=f"belongs to user {me}"):
        ring_at(tmp_path / "ring")


def test_a_file_instead_of_a_folder_and_a_damaged_key_are_refused(ring: KeyRing, tmp_path: Path) -> None:
    ring.key("acme", "content", DAY)
    key = tmp_path / "ring/acme/content/2026-11-23.key"
    key.write_bytes(b"x" * 129)
    with pytest.raises(UnsafeKeyRing, match="128 bytes"):
        ring_at(tmp_path / "ring").key("acme", "content", DAY)
    key.write_bytes(b"short")
    with pytest.raises(KeyUnreadable, match="acme/content/2026-11-23: damaged"):
        ring_at(tmp_path / "ring").key("acme", "content", DAY)
    (tmp_path / "file").write_text("")
    with pytest.raises(UnsafeKeyRing):
        ring_at(tmp_path / "file")


def test_a_ring_that_cannot_be_made_says_so_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(GatewayError, match="key ring"):
        ring_at(tmp_path / "file" / "ring")


def test_keys_stay_in_memory_for_a_minute_at_most(tmp_path: Path) -> None:
    clock = Clock()
    ring = ring_at(tmp_path / "ring", monotonic=clock)
    ring.key("acme", "content", DAY)
    (tmp_path / "ring/acme/content/2026-11-23.key").unlink()
    clock.now += 59.9
    ring.key("acme", "content", DAY, create=False)
    clock.now += 0.1
    with pytest.raises(KeyMissing):
        ring.key("acme", "content", DAY, create=False)
    with pytest.raises(ValueError, match="60"):
        ring_at(tmp_path / "ring", cache_seconds=61)


def test_expired_keys_leave_memory_when_any_key_is_asked_for(tmp_path: Path) -> None:
    clock = Clock()
    ring = ring_at(tmp_path / "ring", monotonic=clock)
    ring.key("acme", "content", DAY)
    clock.now += 60
    ring.key("other", "content", DAY)
    assert len(ring._cache) == 1


def test_a_destroyed_key_is_gone_with_every_trace_that_a_crash_left(ring: KeyRing, tmp_path: Path) -> None:
    ring.key("acme", "content", DAY)
    folder = tmp_path / "ring/acme/content"
    wrapped = (folder / "2026-11-23.key").read_bytes()
    os.link(folder / "2026-11-23.key", folder / ".2026-11-23.key.0123456789abcdef")
    os.link(folder / "2026-11-23.key", tmp_path / "the same block of the disk")
    assert ring.destroy("acme", "content", DAY)
    assert [path.name for path in folder.iterdir()] == ["2026-11-23.key"]
    assert (folder / "2026-11-23.key").read_bytes() == b"destroyed\n"
    assert (tmp_path / "the same block of the disk").read_bytes() == bytes(len(wrapped))
    with pytest.raises(KeyDestroyed):
        ring.key("acme", "content", DAY, create=False)
    assert not ring.destroy("acme", "content", DAY)
    assert not ring.destroy("nobody", "content", DAY)


def test_the_fingerprint_tells_rings_apart(ring: KeyRing, tmp_path: Path) -> None:
    assert ring.fingerprint() == ring_at(tmp_path / "ring").fingerprint()
    assert ring.fingerprint() != ring_at(tmp_path / "new").fingerprint()
    assert ring.subject_key().reveal().hex().find(ring.fingerprint()) == -1


def test_processes_that_make_the_same_keys_at_once_agree(tmp_path: Path) -> None:
    makers = [
        subprocess.Popen(
            [sys.executable, "-c", MAKE_KEYS, str(tmp_path / "ring")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    for maker in makers:
        assert maker.stdout is not None
        assert maker.stdout.readline() == "ready\n"
    for maker in makers:
        assert maker.stdin is not None
        maker.stdin.write("go\n")
        maker.stdin.flush()
    told = {maker.communicate(timeout=30)[0] for maker in makers}
    assert [maker.returncode for maker in makers] == [0, 0, 0, 0]
    assert len(told) == 1
    assert len(set(told.pop().split())) == 31
    assert not list((tmp_path / "ring").rglob(".*"))


@pytest.mark.parametrize("step", ["write", "fsync", "link", "unlink"])
def test_a_process_killed_while_it_makes_a_key_leaves_nothing_half_written(tmp_path: Path, step: str) -> None:
    ring_at(tmp_path / "ring")
    dies = f"""
import os, signal, sys
from datetime import date
from pathlib import Path
from gateway.crypto import files
from tests.rings import ring_at
original = os.{step}
def die(*arguments, **named):
    if "{step}" == "write":
        original(arguments[0], arguments[1][:7])
    os.kill(os.getpid(), signal.SIGKILL)
ring = ring_at(Path(sys.argv[1]))
(Path(sys.argv[1]) / "acme").mkdir(mode=0o700)
(Path(sys.argv[1]) / "acme" / "content").mkdir(mode=0o700)
if "{step}" == "fsync":
    ring.place._synced |= {{("acme",), ("acme", "content")}}
os.{step} = die
ring.key("acme", "content", date(2026, 11, 23))
"""
    died = subprocess.run([sys.executable, "-c", dies, str(tmp_path / "ring")], check=False, capture_output=True)
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()
    folder = tmp_path / "ring/acme/content"
    assert len(list(folder.glob(".*"))) == 1  # what the crash left, which nothing reads
    assert (folder / "2026-11-23.key").exists() == (step == "unlink")
    ring = ring_at(tmp_path / "ring")
    assert len(ring.key("acme", "content", DAY).reveal()) == 32
    ring.destroy("acme", "content", DAY)
    assert [path.name for path in folder.iterdir()] == ["2026-11-23.key"]  # which says that it is destroyed


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    monkeypatch.setattr(os, "write", lambda *_: 7)
    with pytest.raises(OSError, match="no room"):
        create_once("a.key", descriptor, b"x" * 32)
    os.close(descriptor)
    assert list(tmp_path.iterdir()) == []


@given(st.text(min_size=1, max_size=16))
def test_any_tenant_is_one_plain_name(tenant: str) -> None:
    name = safe_name(tenant)
    assert "/" not in name
    assert not name.startswith(".")
    assert name == name.lower()
    assert name.isascii()


@given(st.text(min_size=1, max_size=8), st.text(min_size=1, max_size=8))
def test_two_tenants_never_share_a_name(one: str, other: str) -> None:
    assert (safe_name(one) == safe_name(other)) == (one == other)


@pytest.mark.parametrize("tenant", ["", "x" * 201, "/" * 67])
def test_an_empty_or_endless_tenant_is_refused(ring: KeyRing, tenant: str) -> None:
    with pytest.raises(GatewayError, match="empty or too long"):
        ring.key(tenant, "content", DAY)


def test_hostile_tenants_stay_inside_the_ring(ring: KeyRing, tmp_path: Path) -> None:
    for tenant in ("..", ".", "../../etc", "/etc", "a\0b", "Acme", "acme"):
        ring.key(tenant, "content", DAY)
    assert [path.name for path in tmp_path.iterdir()] == ["ring"]
    assert len(list((tmp_path / "ring").iterdir())) == 7


def test_a_secret_shows_itself_nowhere(ring: KeyRing, caplog: pytest.LogCaptureFixture) -> None:
    secret = Secret(b"canary-bytes-of-a-key-0123456789")
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("test").warning("%s %r %s", secret, secret, ring.loaded("acme", "content", DAY, create=True))
    shown = f"{secret} {secret!r} {secret:>40} {[secret]} {caplog.text}"
    assert "canary" not in shown
    assert "•••" in shown
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        hash(secret)
    assert secret == Secret(secret.reveal())
    assert secret != Secret(b"other")
    assert secret != secret.reveal()
    with pytest.raises(ValueError, match="32"):
        secret_bytes(b"short")
