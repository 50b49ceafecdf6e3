"""What the carrier does with the messages to one number: scripts, the named ones, and the numbers whose last digits choose one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Final, Literal, get_args

from gateway.domain.errors import GatewayError

__all__ = ["NAMED", "SUFFIXES", "Answer", "BadScript", "CallbackFate", "Fate", "Script", "read_script"]

Answer = Literal[
    "accept",  # 201, the ordinary case
    "refuse",  # an error of the API (`status`, `code`): nothing accepted
    "error_before",  # a bare 5xx (`status`): nothing accepted
    "reset_before",  # the request is read, then the connection is reset: nothing accepted
    "hang_before",  # the request is read and never answered: nothing accepted
    "error_after",  # accepted, then a bare 5xx (`status`)
    "reset_after",  # accepted, then the connection is reset
    "hang_after",  # accepted and never answered
    "broken_after",  # accepted; 201 with a body that is not JSON
    "cut_after",  # accepted; 201, and the connection ends in the middle of the body
]
Fate = Literal["delivered", "undelivered", "failed", "sent", "queued"]
CallbackFate = Literal["normal", "lost", "repeated", "reversed", "late", "forged"]

_BEFORE: Final = frozenset({"refuse", "error_before", "reset_before", "hang_before"})


class BadScript(GatewayError):
    """A script that names an unknown field, or gives a field a value that it cannot have."""


@dataclass(frozen=True, slots=True)
class Script:
    """One way to treat a create request and the message that it makes. All times are in milliseconds.

    ``answer`` is what the client sees; with ``times`` it holds for that many create requests to the number, and the ones after are
    accepted as usual. ``status`` and ``code`` belong to an answer that is an error; a code is a number at Twilio and text at
    RingCentral, which has words of its own for the numbers of the named scripts. ``before_ms`` passes before the carrier decides
    (a message is accepted after it), ``after_ms`` between its decision and its answer. ``fate`` is how an accepted message ends,
    with ``fate_code`` as its error; ``sent_ms`` and ``final_ms`` count from acceptance (None: the carrier's own).
    ``callbacks`` tells what becomes of its status callbacks; ``late_ms`` is how late, ``repeats`` how often again; forged ones lack
    what proves that they are the carrier's.
    """

    answer: Answer = "accept"
    times: int | None = None
    status: int = 0
    code: int | str = 0
    message: str = ""
    retry_after: int | None = None
    before_ms: float = 0
    after_ms: float = 0
    fate: Fate = "delivered"
    fate_code: int | str | None = None
    sent_ms: float | None = None
    final_ms: float | None = None
    callbacks: CallbackFate = "normal"
    late_ms: float = 1000
    repeats: int = 2

    def __post_init__(self) -> None:
        for name, allowed in (("answer", Answer), ("fate", Fate), ("callbacks", CallbackFate)):
            if getattr(self, name) not in get_args(allowed):
                raise BadScript(f"script: {name} must be one of {', '.join(get_args(allowed))}")
        for name in ("times", "before_ms", "after_ms", "sent_ms", "final_ms", "late_ms", "repeats", "retry_after"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or value < 0):
                raise BadScript(f"script: {name} must be a number that is not negative")
        for name in ("times", "repeats", "status", "retry_after"):
            if not isinstance(getattr(self, name), int | None):
                raise BadScript(f"script: {name} must be a whole number")
        for name in ("code", "fate_code"):
            if not isinstance(getattr(self, name), int | str | None):
                raise BadScript(f"script: {name} must be a whole number or text")
        if not isinstance(self.message, str):
            raise BadScript("script: message must be text")
        if self.status and not 400 <= self.status <= 599:
            raise BadScript("script: status must be 400 to 599")
        if self.answer == "refuse" and not self.code:
            raise BadScript("script: refuse needs a code")

    @property
    def accepts(self) -> bool:
        """Whether the carrier takes the message, whatever the client then sees."""
        return self.answer not in _BEFORE


#: The scripts that have a name, for configuration, the control API and people who try things out.
NAMED: Final[Mapping[str, Script]] = {
    "deliver": Script(),
    "undelivered": Script(fate="undelivered", fate_code=30003),
    "failed": Script(fate="failed", fate_code=30008),
    "filtered": Script(fate="undelivered", fate_code=30007),
    "stays_sent": Script(fate="sent"),
    "slow": Script(after_ms=3000),
    "busy_twice": Script(answer="refuse", times=2, status=429, code=20429, message="Too Many Requests"),
    "error_before": Script(answer="error_before", status=500),
    "error_after": Script(answer="error_after", status=502),
    "reset_before": Script(answer="reset_before"),
    "reset_after": Script(answer="reset_after"),
    "hang_after": Script(answer="hang_after"),
    "hang_after_silent": Script(answer="hang_after", callbacks="lost"),
    "hang_before": Script(answer="hang_before"),
    "broken_answer": Script(answer="broken_after"),
    "cut_answer": Script(answer="cut_after"),
    "callbacks_lost": Script(callbacks="lost"),
    "callbacks_repeated": Script(callbacks="repeated"),
    "callbacks_reversed": Script(callbacks="reversed"),
    "callbacks_late": Script(callbacks="late", late_ms=5000),
    "callbacks_forged": Script(callbacks="forged"),
    "opted_out": Script(answer="refuse", status=400, code=21610, message="Attempt to send to unsubscribed recipient"),
    "not_textable": Script(answer="refuse", status=400, code=21614, message="'To' number is not a valid mobile number"),
    "queue_full": Script(answer="refuse", status=429, code=21611, message="This 'From' number has exceeded its message queue"),
}

#: Fictional North American numbers (NXX-555-01xx) whose last two digits choose a script: +1 202 555 0184 is ``filtered``.
#: 0100 to 0179 are ordinary, so that examples have numbers to use.
SUFFIXES: Final[Mapping[str, str]] = {
    f"5550{180 + place}": name
    for place, name in enumerate((
        "deliver", "undelivered", "failed", "opted_out", "filtered", "slow", "busy_twice", "error_before", "error_after",
        "reset_before", "reset_after", "hang_after", "hang_after_silent", "hang_before", "broken_answer", "callbacks_lost",
        "callbacks_repeated", "callbacks_reversed", "callbacks_late", "not_textable",
    ))
}  # fmt: skip


def read_script(source: object) -> Script:
    """A script from JSON: the name of a named one, or an object with a script's fields (``name`` to start from a named one).

    Raises BadScript for an unknown name or field, or a value that a field cannot have.
    """
    if isinstance(source, str):
        source = {"name": source}
    if not isinstance(source, dict):
        raise BadScript("script: a name or an object is needed")
    values = dict(source)
    name = values.pop("name", "deliver")
    if not isinstance(name, str) or name not in NAMED:
        raise BadScript(f"script: no such name; there are {', '.join(NAMED)}")
    known = {field.name: getattr(NAMED[name], field.name) for field in fields(Script) if field.default is not MISSING}
    unknown = sorted(set(values) - set(known), key=str)
    if unknown:
        raise BadScript(f"script: unknown fields; there are {', '.join(known)}")
    return Script(**(known | values))
