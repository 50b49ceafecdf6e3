"""The states of a message: no way leads back."""

from __future__ import annotations

import pytest

from gateway.domain.states import MOVES, State, may_move, mermaid

BEFORE = {State.ACCEPTED, State.DEFERRED, State.SENDING}
ENDED = {State.BLOCKED, State.EXPIRED, State.FAILED, State.CANCELED, State.DELIVERED, State.UNDELIVERED}


def _reached(state: State) -> set[State]:
    found: set[State] = set()
    waiting = [state]
    while waiting:
        for following in MOVES[waiting.pop()]:
            if following not in found:
                found.add(following)
                waiting.append(following)
    return found


@pytest.mark.parametrize("state", sorted(set(State) - BEFORE))
def test_what_has_been_sent_or_ended_never_waits_again(state: State) -> None:
    assert not _reached(state) & BEFORE
    assert state not in _reached(state)


@pytest.mark.parametrize("state", sorted(ENDED))
def test_an_end_is_an_end(state: State) -> None:
    assert _reached(state) == set()
    assert not any(may_move(state, following) for following in State)


def test_only_evidence_of_acceptance_changes_an_unknown() -> None:
    assert MOVES[State.UNKNOWN] == {State.SENT, State.DELIVERED, State.UNDELIVERED}
    assert MOVES[State.SENT] == {State.DELIVERED, State.UNDELIVERED}


def test_every_state_has_its_moves_and_none_moves_to_itself() -> None:
    assert set(MOVES) == set(State)
    assert not any(may_move(state, state) for state in State)


def test_a_callback_may_overtake_the_answer() -> None:
    for state in BEFORE:
        for proven in (State.SENT, State.DELIVERED, State.UNDELIVERED):
            assert may_move(state, proven)


def test_the_diagram_shows_every_move_once() -> None:
    lines = mermaid().splitlines()
    assert lines[0] == "stateDiagram-v2"
    assert len(lines) == len(set(lines))
    for current, following in MOVES.items():
        assert {f"    {current} --> {after}" for after in following} <= set(lines)
        assert (f"    {current} --> [*]" in lines) is not bool(following)
