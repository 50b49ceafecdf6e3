"""Records of the spool: what is written is read again, and anything else is told from it."""

from __future__ import annotations

import json
from typing import Literal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.consent import ConsentKey, Scope
from gateway.domain.spooled import SpooledStop, SpooledText, decode, encode

WORDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)


@st.composite
def stops(draw: st.DrawFn) -> SpooledStop:
    subject = draw(st.binary(min_size=16, max_size=16))
    reaches = st.builds(ConsentKey, st.just(subject), WORDS, st.sampled_from(Scope), st.text(st.characters(codec="utf-8")))
    texts = st.builds(
        SpooledText, WORDS, WORDS, WORDS, st.none() | WORDS, WORDS, st.none() | st.just("STOP"), st.none() | st.binary(min_size=1)
    )
    keys = tuple(draw(st.lists(reaches, min_size=1, max_size=3)))
    source: Literal["text", "api", "cli"] = draw(st.sampled_from(["text", "api", "cli"]))
    return SpooledStop(draw(st.uuids()), draw(WORDS), source, draw(WORDS), keys, draw(st.none() | texts))


@given(stops())
def test_what_is_written_is_read_again(stop: SpooledStop) -> None:
    assert decode(encode(stop)) == stop


WHOLE = json.loads(encode(SpooledStop(UUID(int=1), "ring", "api", "backend", (ConsentKey(b"\1" * 16, "clinic", Scope.TENANT),))))


@pytest.mark.parametrize("field", sorted(WHOLE))
def test_a_record_that_lacks_a_field_is_none_of_ours(field: str) -> None:
    lacking = {name: value for name, value in WHOLE.items() if name != field}
    with pytest.raises(ValueError, match=r"^not a spooled STOP$"):
        decode(json.dumps(lacking).encode())


@pytest.mark.parametrize(
    "changed",
    [
        {"v": 2},
        {"reach": []},
        {"reach": [["clinic", "street", ""]]},
        {"subject": ""},
        {"source": "import"},
        {"id": "1"},
        {"text": []},
    ],
)
def test_a_record_that_says_something_else_is_none_of_ours(changed: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"^not a spooled STOP$"):
        decode(json.dumps(WHOLE | changed).encode())


@given(st.none() | st.binary())
def test_bytes_are_told_from_a_record(value: bytes | None) -> None:
    with pytest.raises(ValueError, match=r"^not a spooled STOP$"):
        decode(value)


def test_a_record_that_never_ends_is_none_of_ours() -> None:
    with pytest.raises(ValueError, match=r"^not a spooled STOP$"):
        decode(b"[" * 100_000)
