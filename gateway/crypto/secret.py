"""Key bytes as a type that hides itself."""

from __future__ import annotations

import hmac
from typing import Final, final

__all__ = ["Secret", "secret_bytes"]

HIDDEN: Final = "•••"


@final
class Secret:
    """Bytes of a key: not shown by ``repr``, ``str`` or ``format``, never pickled, compared in constant time."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def reveal(self) -> bytes:
        """The bytes themselves, for the primitive that needs them."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({HIDDEN})"

    def __str__(self) -> str:
        return HIDDEN

    def __format__(self, spec: str) -> str:
        return HIDDEN

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value, other._value)

    __hash__ = None  # type: ignore[assignment]  # a key is no dictionary key

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a Secret is not pickled: it would leave its type unseen")


def secret_bytes(key: Secret | bytes) -> bytes:
    """The bytes of a key from the ring, or of a key given as bytes; ValueError when it has fewer than 32."""
    value = key.reveal() if isinstance(key, Secret) else key
    if len(value) < 32:
        raise ValueError("a key has at least 32 bytes")
    return value
