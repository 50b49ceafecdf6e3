"""Whether every provider account holds in the end what people have said: by the accounts' own lists of opt-outs, and the topics."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

from tests.chaos.schedule import PROGRAMMES, number_of
from tests.chaos.witnessed import ConsentSeen, Witnessed

__all__ = ["held_wrongly"]

_REFUSED_AS_OPTED_OUT: Final = ("21610", "SMS-RC-413", "SMS-UP-413", "SMS-CAR-413")
_WORDS: Final[Mapping[str, str]] = {"out": "opted out", "in": "opted in"}


def held_wrongly(witnessed: Witnessed, opt_outs: Sequence[Mapping[str, Any]], requests: Sequence[Mapping[str, Any]]) -> list[str]:
    """The people of whom a sender's account holds something else than the gateway told last. ``opt_outs`` are the accounts' lists.

    Whom an account has refused as opted out, by the carrier's script and not by its list, it need not be told of: it said so itself.
    """
    held = {(one["from"], one["to"]) for one in opt_outs}
    said_so = {(row["from"], row["to"]) for row in requests if str(row["code"]) in _REFUSED_AS_OPTED_OUT}
    people = {
        (one.record.programme.tenant, witnessed.persons[one.message]): one.record.person
        for one in witnessed.published
        if one.message in witnessed.persons
    }
    found = []
    for seen in _last(witnessed):
        tenant, scope, name = seen.consent
        person = people.get((tenant, seen.person))
        if person is None:
            continue  # nothing was published for them
        for programme in PROGRAMMES:
            if programme.tenant == tenant and (scope == "tenant" or programme.name == name):
                found += [
                    f"{programme.name}, version {seen.version}: {_WORDS[seen.status]}, and {way.account} holds the opposite of {way.sender}"
                    for way in programme.ways
                    if _is_wrong(seen.status == "out", (way.sender, number_of(person)), held, said_so)
                ]
    return found


def _is_wrong(out: bool, pair: tuple[str, str], held: Collection[object], said_so: Collection[object]) -> bool:
    return (pair not in held and pair not in said_so) if out else pair in held


def _last(witnessed: Witnessed) -> Iterator[ConsentSeen]:
    """What was told last of each person and consent."""
    last: dict[tuple[str, tuple[str, str, str]], ConsentSeen] = {}
    for seen in sorted(witnessed.consents, key=lambda one: one.version):
        last[seen.person, seen.consent] = seen
    yield from last.values()
