"""The five notices' tenants as they ship, with overlays that fill in what they leave open, and how long each class of data is kept then."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any, Final

from gateway.domain.policy import Policy
from gateway.domain.policy_retention import RetentionClass
from gateway.domain.retention import Duration, deadline, read_duration

__all__ = ["LIMITED", "POLICIES", "TENANTS", "Tenant", "install"]

POLICIES: Final = Path("policies")

# By Twilio in Ireland and by plain numbers at RingCentral: both keep what is sent in the European Union, and both delete what they have.
_FILLED: Final[Mapping[str, Any]] = {"enabled": True, "providers": ["twilio", "ringcentral"]}
_NUMBERS: Final = {"main": "+4477009001{number:02d}", "ring": "+4477009002{number:02d}"}


@dataclass(frozen=True)
class Tenant:
    """A tenant, what its overlay says of retention, and what is in force with it: None where nothing ends a class."""

    name: str
    number: int
    overlay: Mapping[RetentionClass, str]
    kept: Mapping[RetentionClass, str | list[str] | None]

    def sender(self, account: str) -> str:
        """Its number at the account ``main``, which is Twilio's, or ``ring``, which is RingCentral's."""
        return _NUMBERS[account].format(number=self.number)

    def person(self, which: int) -> str:
        """Somebody whom this tenant alone texts."""
        return f"+12025550{self.number}{which:02d}"

    def end(self, data_class: RetentionClass, made: datetime, policy: Policy) -> datetime | None:
        """When what was made then must be gone. A message's text and number never outlive what is told of it."""
        classes: tuple[RetentionClass, ...] = (data_class, "events") if data_class in ("content", "address") else (data_class,)
        ends = []
        for one in classes:
            said = self.kept[one]
            if said is not None:
                period = read_duration(said, longest=one == "consent_proof")
                assert isinstance(period, Duration)
                ends.append(deadline(made, period, policy.business_days if period.needs_calendar else None))
        return min((end for end in ends if end is not None), default=None)

    def day_end(self, data_class: RetentionClass, day: date, policy: Policy) -> datetime | None:
        """When a day's rows and keys must be gone: as what was made at its first moment."""
        return self.end(data_class, datetime.combine(day, time(tzinfo=UTC)), policy)

    def filling(self, **instead: Any) -> dict[str, Any]:
        """The overlay: providers, programmes, and the periods that the notice leaves open."""
        programmes = {
            account: {
                "categories": ["service"],
                "help_contact": f"help@{self.name}.example",
                "senders": [{"number": self.sender(account), "account": account}],
            }
            for account in ("main", "ring")
        }
        return {**_FILLED, "programmes": programmes, "retention": dict(self.overlay), **instead}


_CLOSED: Final = "1mo after closing"

TENANTS: Final = (
    Tenant(
        "leatherscin",
        1,
        {"content": "20d", "address": "25d", "events": "3mo", "customer_account": _CLOSED, "consent_proof": "24mo"},
        {"content": "20d", "address": "25d", "dead_letters": "20d", "events": "3mo", "consent_proof": "24mo"},
    ),
    Tenant(
        "leadmark",
        2,
        {"content": "10bd", "events": "2mo", "customer_account": _CLOSED, "consent_proof": "5mo"},
        {"content": "10bd", "address": "10bd", "dead_letters": ["10bd", "30d"], "events": "2mo", "consent_proof": "5mo"},
    ),
    Tenant(
        "leadnlead",
        3,
        {"consent_proof": "5mo"},
        {"content": None, "address": None, "dead_letters": "30d", "events": None, "consent_proof": "5mo"},
    ),
    Tenant(
        "leman",
        4,
        {"consent_proof": "5mo"},
        {"content": None, "address": None, "dead_letters": "30d", "events": None, "consent_proof": "5mo"},
    ),
    Tenant(
        "technology-toolbox",
        5,
        {"consent_proof": "24mo"},
        {"content": "6d", "address": "6d", "dead_letters": "6d", "events": "13mo", "consent_proof": "24mo"},
    ),
)
"""With accounts that are open: what is kept for their life has no end. What their closing ends is tested where that is."""

LIMITED: Final = Tenant(
    "leman",
    4,
    {"content": "2mo", "events": "4mo", "consent_proof": "5mo"},
    {"content": "2mo", "address": "2mo", "dead_letters": ["2mo", "30d"], "events": "4mo", "consent_proof": "5mo"},
)
"""The notice sets no limit, and an overlay may."""


def install(folder: Path, tenant: Tenant, overlay: Mapping[str, Any] | None = None) -> Path:
    """Put the tenant's policy into a folder as it ships, and an overlay beside it; returns the policy's place."""
    folder.mkdir(exist_ok=True)
    shutil.copy(POLICIES / f"{tenant.name}.yaml", folder)
    (folder / f"{tenant.name}.overlay.yaml").write_text(json.dumps(tenant.filling() if overlay is None else overlay))
    return folder / f"{tenant.name}.yaml"
