from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.crypto.master import MasterKeys, is_plain, master_line, read_master_file
from gateway.domain.errors import KeyUnreadable, SettingsError
from tests.rings import masters

KEY = b"k" * 32
NAME = "acme/content/2026-11-23"
keys = st.binary(min_size=32, max_size=32)
names = st.text(min_size=1, max_size=60)


@given(keys, names)
def test_what_is_wrapped_unwraps_by_its_name_alone(key: bytes, name: str) -> None:
    wrapped = masters("a", "b").wrap(name, key)
    assert not is_plain(wrapped)
    assert key not in wrapped
    assert masters("b").needed_by(name, wrapped) == "b"
    assert masters("b", "c").unwrap(name, wrapped) == key
    with pytest.raises(KeyUnreadable):
        masters("b").unwrap(f"{name}x", wrapped)


@given(st.data())
def test_every_changed_byte_and_length_is_noticed(data: st.DataObject) -> None:
    wrapped = bytearray(masters("master-1").wrap(NAME, KEY))
    place = data.draw(st.integers(0, len(wrapped) - 1))
    changed = bytearray(wrapped)
    changed[place] ^= data.draw(st.integers(1, 255))
    for wrong in (bytes(changed), bytes(wrapped[:place]), bytes(wrapped) + b"x"):
        with pytest.raises(KeyUnreadable, match=NAME) as fault:
            masters("master-1").unwrap(NAME, wrong)
        assert "kkkk" not in str(fault.value)


def test_a_wrong_master_key_of_the_right_name_is_told_from_a_missing_one() -> None:
    one, other = (MasterKeys(partial(str, master_line("main")), "master_keys") for _ in range(2))
    wrapped = one.wrap(NAME, KEY)
    with pytest.raises(KeyUnreadable, match="the master key 'main' of master_keys is not the one that wrapped it"):
        other.unwrap(NAME, wrapped)
    with pytest.raises(KeyUnreadable, match="it needs the master key 'main', which master keys of the test does not hold"):
        masters("test").unwrap(NAME, wrapped)
    with pytest.raises(KeyUnreadable, match="gateway keys rotate"):
        one.unwrap(NAME, KEY)


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "holds no master key"),
        ("# a comment alone\n", "holds no master key"),
        ("main:canary", "line 1 is not name:base64"),
        (f"\n{master_line('main')}Main:{'A' * 43}=", "line 3 is not name:base64"),
        (f"main:{'A' * 42}==", "line 1 is not name:base64"),
        (master_line("main") * 2, "line 2: the master key 'main' is there before"),
    ],
    ids=["empty", "comment", "short", "capital", "length", "twice"],
)
def test_a_text_that_holds_none_is_refused_by_its_line(text: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said) as fault:
        MasterKeys(lambda: text, "master_keys")
    assert "canary" not in str(fault.value)
    assert "AAAA" not in str(fault.value)


def test_several_stand_on_lines_or_between_commas_and_the_last_wraps() -> None:
    text = f"# ours\n{master_line('old')} {master_line('new').strip()} , {master_line('newest')}"
    assert MasterKeys(lambda: text, "master_keys").newest == "newest"


def test_a_file_is_read_again_when_a_key_needs_a_new_one(tmp_path: Path) -> None:
    file = tmp_path / "master"
    file.write_text(master_line("old"))
    file.chmod(0o600)
    running = MasterKeys(partial(read_master_file, file), "the file")
    with file.open("a") as more:
        more.write(master_line("new"))
    wrapped = MasterKeys(partial(read_master_file, file), "the file").wrap(NAME, KEY)
    assert running.newest == "old"
    assert running.unwrap(NAME, wrapped) == KEY
    assert running.newest == "new"
    file.write_text(master_line("new"))
    with pytest.raises(SettingsError, match="'new' was exchanged"):
        running.reload()
    file.unlink()
    with pytest.raises(SettingsError, match="cannot be read"):
        running.reload()
    assert running.unwrap(NAME, wrapped) == KEY  # what it knew, it knows


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "master"
    file.write_text(master_line("main"))
    for mode in (0o644, 0o620, 0o601):
        file.chmod(mode)
        with pytest.raises(SettingsError, match=f"chmod 600 {file}"):
            read_master_file(file)
    file.chmod(0o640)  # as secrets are mounted for a group
    assert read_master_file(file).startswith("main:")
    file.write_bytes(os.urandom(64) + b"\xff")
    with pytest.raises(SettingsError, match="no text"):
        read_master_file(file)
