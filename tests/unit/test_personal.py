from __future__ import annotations

import copy
import json
import logging
import pickle
import traceback
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as some

from gateway.domain.event_fields import HiddenText, WrittenNumber
from gateway.domain.personal import MessageBody, Personal, PhoneNumber

KINDS = [PhoneNumber, MessageBody, WrittenNumber, HiddenText]
CANARY = "+14155550177"


@pytest.mark.parametrize("kind", KINDS)
class TestPersonalData:
    def test_hides_in_every_common_way_of_showing(self, kind: type[Personal]) -> None:
        value = kind(CANARY)
        shown = [repr(value), str(value), f"{value}", f"{value!r}", f"{value:>20}", f"{[value]}", f"{ ({'a': value}) }"]
        assert not any(CANARY in text for text in shown)

    def test_hides_in_logs_and_tracebacks(self, kind: type[Personal]) -> None:
        stream = StringIO()
        logger = logging.getLogger(f"test.{kind.__name__}")
        logger.propagate = False
        logger.addHandler(logging.StreamHandler(stream))
        logger.warning("sent to %s", kind(CANARY))
        with pytest.raises(ValueError) as raised:
            self.fail_with(kind(CANARY))
        stream.write("".join(traceback.format_exception(raised.value)))
        assert CANARY not in stream.getvalue()

    @staticmethod
    def fail_with(value: Personal) -> None:
        raise ValueError(value)

    def test_is_no_json_and_is_not_pickled(self, kind: type[Personal]) -> None:
        with pytest.raises(TypeError):
            json.dumps(kind(CANARY))
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(kind(CANARY))
        with pytest.raises(TypeError):
            copy.deepcopy(kind(CANARY))

    def test_has_no_dict_to_look_into(self, kind: type[Personal]) -> None:
        with pytest.raises(TypeError):
            vars(kind(CANARY))

    def test_reveals_on_request_only(self, kind: type[Personal]) -> None:
        assert kind(CANARY).reveal() == CANARY


@given(some.text(), some.text())
def test_equal_when_of_one_kind_and_value(one: str, other: str) -> None:
    assert (PhoneNumber(one) == PhoneNumber(other)) == (one == other)
    assert PhoneNumber(one) != MessageBody(one)
    assert PhoneNumber(one) != one
    assert len({PhoneNumber(one), PhoneNumber(one), MessageBody(one)}) == 2
