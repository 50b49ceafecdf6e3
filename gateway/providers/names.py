"""The names of the providers, as they stand in policies, settings, commands and webhook URLs: the one list of them."""

from __future__ import annotations

from typing import Final, Literal, get_args

__all__ = ["PROVIDERS", "ProviderName"]

ProviderName = Literal["twilio", "ringcentral"]
PROVIDERS: Final[tuple[ProviderName, ...]] = get_args(ProviderName)
