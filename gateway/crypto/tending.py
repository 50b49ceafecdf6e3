"""Tending a key ring: wrap its keys by the newest master key, and look each of them through. Both may run beside the gateway."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.crypto.keyring import KeyRing
from gateway.crypto.master import is_plain
from gateway.domain.errors import KeyUnreadable

__all__ = ["Looked", "look_through", "rotate"]


@dataclass(slots=True)
class Looked:
    """What was found: keys by the master key they need, how many were destroyed, what was done, and what is wrong, a line each."""

    by_master: Counter[str] = field(default_factory=Counter)
    destroyed: int = 0
    rewrapped: int = 0
    faults: list[str] = field(default_factory=list)


def rotate(ring: KeyRing, tell: Callable[[int], object] = lambda _: None) -> Looked:
    """Wrap every key by the newest master key, one at a time. It may be killed and run again, also twice at once.

    No key is changed: who opens with it meanwhile notices nothing. What cannot be unwrapped stays as it is, and is a fault. A key that
    another process made meanwhile, which has not read the new master key yet, may be missed: :func:`look_through` counts it.
    """
    looked = Looked()
    masters = ring.masters
    for kept in ring.place.entries():
        if kept.wrapped is None:
            looked.destroyed += 1
        else:
            try:
                name = kept.name
                if not is_plain(kept.wrapped) and masters.needed_by(name, kept.wrapped) == masters.newest:
                    masters.unwrap(name, kept.wrapped)
                else:
                    key = kept.wrapped if is_plain(kept.wrapped) else masters.unwrap(name, kept.wrapped)
                    looked.rewrapped += ring.place.replace(name, kept.wrapped, masters.wrap(name, key))
                looked.by_master[masters.newest] += 1
            except KeyUnreadable as fault:
                looked.faults.append(str(fault))
        tell(1)
    return looked


def look_through(ring: KeyRing, tell: Callable[[int], object] = lambda _: None) -> Looked:
    """Unwrap every key, and throw it away."""
    looked = Looked()
    for kept in ring.place.entries():
        if kept.wrapped is None:
            looked.destroyed += 1
        else:
            try:
                ring.masters.unwrap(kept.name, kept.wrapped)
                looked.by_master[ring.masters.needed_by(kept.name, kept.wrapped)] += 1
            except KeyUnreadable as fault:
                looked.faults.append(str(fault))
        tell(1)
    return looked
