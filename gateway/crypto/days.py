"""The days' keys in a key ring: those that are alive, and those that are not."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import get_args
from urllib.parse import unquote_to_bytes

from gateway.crypto.keyring import KeyRing, day_name
from gateway.flow.keys import DayKey
from gateway.flow.vault import DataClass

__all__ = ["LivingKeys"]

_PARTS = 3


class LivingKeys:
    """Reads the ring itself, whatever was noted elsewhere."""

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring

    def living(self) -> Sequence[DayKey]:
        """Every day's key that is there and not destroyed, in the order of the names. It blocks; raises KeyRingAway."""
        kept = (_day_key(one.name) for one in self._ring.place.entries() if one.wrapped is not None)
        return [key for key in kept if key is not None]

    def destroyed(self) -> Sequence[DayKey]:
        """Every day's key whose name is used up, in the same order. It blocks; raises KeyRingAway."""
        kept = (_day_key(one.name) for one in self._ring.place.entries() if one.wrapped is None)
        return [key for key in kept if key is not None]


def _day_key(name: str) -> DayKey | None:
    """Whose key it is, from what it is called; None for the gateway's own, which no day ends."""
    parts = name.split("/")
    if len(parts) != _PARTS:
        return None
    for data_class in get_args(DataClass):
        if data_class == parts[1]:
            try:
                key = DayKey(
                    unquote_to_bytes(parts[0]).decode("utf-8", errors="surrogatepass"), data_class, date.fromisoformat(parts[2])
                )
            except ValueError:
                return None
            return key if day_name(key.tenant, key.data_class, key.day) == name else None
    return None
