"""The allow-list of a staging system: the only numbers that are texted."""

from __future__ import annotations

from pathlib import Path

from gateway.domain.errors import SettingsError
from gateway.domain.personal import PhoneNumber

__all__ = ["read_allow_list"]


def read_allow_list(file: Path) -> frozenset[PhoneNumber]:
    """The numbers in a file with one a line; blank lines and what follows a ``#`` are passed over.

    An empty file lets no number through. Raises :class:`SettingsError`, which names the line and never the number.
    """
    from gateway.domain.phone import BadNumber, normalise  # the numbering plans take a while to load, and few starts need them

    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as fault:
        raise SettingsError(f"settings: allow_list_file {file} can't be read ({type(fault).__name__})") from None
    numbers: set[PhoneNumber] = set()
    for count, line in enumerate(lines, start=1):
        if text := line.partition("#")[0].strip():
            number = normalise(text)
            if isinstance(number, BadNumber):
                raise SettingsError(f"settings: allow_list_file {file}:{count} is not a number that can be texted ({number.why})")
            numbers.add(number)
    return frozenset(numbers)
