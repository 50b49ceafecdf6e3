"""The sections of provider accounts: one for each provider, chosen by its ``provider``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import Discriminator, SecretStr, Tag

from gateway.providers.names import PROVIDERS
from gateway.settings.parts import Section, Url, required, setting

__all__ = ["Account", "AccountSettings", "RingCentralSettings", "TwilioSettings"]

_NUMBER_OR_SHORT_CODE: Final = re.compile(r"\+?[0-9]+")

# https://www.twilio.com/docs/messaging/api/service-resource
_TWILIO_SERVICE: Final = re.compile(r"MG[0-9a-f]{32}")
TwilioRegion = Literal["us1", "ie1", "au1"]
# A region is reached by its own edge: https://www.twilio.com/docs/global-infrastructure/using-the-twilio-rest-api-in-a-non-us-region
_TWILIO_API: Final[dict[TwilioRegion, str]] = {
    "us1": "https://api.twilio.com",
    "ie1": "https://api.dublin.ie1.twilio.com",
    "au1": "https://api.sydney.au1.twilio.com",
}
_TWILIO_PLACE: Final[dict[TwilioRegion, str]] = {"us1": "us", "ie1": "eu", "au1": "au"}
# https://www.twilio.com/docs/global-infrastructure/messaging-api-with-twilio-regions and, beside it, regional-product-and-feature-availability
_TWILIO_NOTES: Final[dict[TwilioRegion, str | None]] = {
    "us1": None,
    "ie1": "region: SMS in ie1 is a beta of Twilio's, without its service level agreement",
    "au1": "region: Twilio names no SMS among what au1 has; ask Twilio before you rely on it",
}


class AccountSettings(Section):
    """What every account has."""

    concurrency: int = setting(100, "Create requests under way at once, over all workers.", unit="requests", ge=1, le=10_000)
    per_second: float | None = setting(
        None, "Messages a second, over all workers; none sets no limit.", unit="messages/s", example=50.0, gt=0, le=100_000
    )

    @property
    def place(self) -> str:
        """Where the provider keeps what passes through the account: ``us``, ``eu`` or ``au``."""
        return "us"

    def sender_fault(self, sender: str) -> str | None:
        """Why the account can't have this sender, a line that begins with the setting's name; None when nothing speaks against it.

        What is neither a number nor a short code is some provider's own form of a sender: whose it is says so in place of this.
        """
        return None if _NUMBER_OR_SHORT_CODE.fullmatch(sender) else "provider: sends from numbers and short codes alone"

    @property
    def tells_opt_outs(self) -> bool:
        """Whether the provider's own list can be told of opt-outs."""
        return True

    @property
    def lists_opt_outs(self) -> bool:
        """Whether the provider tells of the opt-outs in its own list."""
        return True

    @property
    def cancels_scheduled(self) -> bool:
        """Whether other systems may have scheduled texts by the account, which an opt-out cancels."""
        return False

    @property
    def copies_stay(self) -> str | None:
        """What of the provider's copies of texts nobody can delete; None where all of them can be."""
        return None

    @property
    def notes(self) -> tuple[str, ...]:
        """What an operator should know of these settings; each line begins with the setting's name."""
        return ()


class TwilioSettings(AccountSettings):
    """An account with Twilio. Its alias stands in webhook URLs and metrics."""

    provider: Literal["twilio"] = setting("twilio", "Whose account it is.")
    account_sid: str = required("Account SID.", example="AC" + "0" * 32, pattern=r"^AC[0-9a-fA-F]{32}$")
    auth_token: SecretStr = required(
        "Auth token; requests and webhooks are signed with it.", example="from your secret store", min_length=1
    )
    region: TwilioRegion = setting(
        "us1",
        "Region of Twilio: us1, ie1 (Ireland, ``eu`` in a policy's ``regions``) or au1 (Sydney). Numbers and the auth token are each region's own.",
    )
    api_base: Url | None = setting(
        None, "Address of the provider's API; none is the region's. A simulator has its own.", example="https://api.twilio.com"
    )
    content_retention: Literal["retain", "discard"] | None = setting(
        None,
        "Whether Twilio keeps the texts; none leaves it to the account. Needs Message Redaction. What is discarded is no evidence.",
        example="discard",
    )
    address_retention: Literal["retain", "obfuscate"] | None = setting(
        None,
        "Whether Twilio keeps people's numbers; none leaves it to the account. Needs Message Redaction."
        " With obfuscate Twilio's own STOP filter does not work, and its list is no evidence.",
        example="obfuscate",
    )
    consents_api: bool = setting(
        False,
        "Whether Twilio has opened its Consent Management API to the account: opt-outs from elsewhere are then told to Twilio.",
    )

    cancel_scheduled: bool = setting(
        True,
        "Whether an opt-out cancels what other systems have scheduled at Twilio for the person; a list is read for each opt-out.",
    )

    @property
    def api(self) -> str:
        """The address of the API."""
        return self.api_base or _TWILIO_API[self.region]

    @property
    def place(self) -> str:
        """Where Twilio keeps what passes through the account."""
        return _TWILIO_PLACE[self.region]

    def sender_fault(self, sender: str) -> str | None:
        """Messaging services are Twilio's own. Numbers of the United States and Canada (+1) cannot be moved to Ireland."""
        if self.region == "ie1" and sender.startswith("+1"):
            return "region: ie1 has no +1 numbers"
        return None if _TWILIO_SERVICE.fullmatch(sender) else super().sender_fault(sender)

    @property
    def tells_opt_outs(self) -> bool:
        """Only by the API for it, which Twilio opens to some."""
        return self.consents_api

    @property
    def lists_opt_outs(self) -> bool:
        """Twilio shows no list."""
        return False

    @property
    def cancels_scheduled(self) -> bool:
        """As it is set."""
        return self.cancel_scheduled

    @property
    def notes(self) -> tuple[str, ...]:
        """On the region, and on what is no evidence."""
        forgets = [
            f"{name}: Twilio forgets, so that its list is no evidence: an unknown outcome stays unknown unless a callback comes"
            for name, value, forgetful in (
                ("content_retention", self.content_retention, "discard"),
                ("address_retention", self.address_retention, "obfuscate"),
            )
            if value == forgetful
        ]
        region = _TWILIO_NOTES[self.region]
        return (*([region] if region is not None else []), *forgets)


class RingCentralSettings(AccountSettings):
    """An account with RingCentral. Its alias stands in webhook URLs and metrics."""

    provider: Literal["ringcentral"] = required("Whose account it is.", example="ringcentral")
    client_id: str = required("Client ID of the app.", example="from RingCentral's developer console", min_length=1)
    client_secret: SecretStr = required("Its secret.", example="from your secret store", min_length=1)
    jwt: SecretStr = required("Credential (JWT) of the user whose numbers send.", example="from your secret store", min_length=1)
    verification_token: SecretStr = required(
        "What RingCentral shall show in each webhook; at least 16 characters, made up by you.",
        example="from your secret store",
        min_length=16,
        max_length=256,
    )
    high_volume: bool = setting(
        True, "Whether the senders are high-volume (A2P) numbers, which take many messages in one request."
    )
    region: Literal["us", "eu", "au"] = setting(
        "us",
        "Where RingCentral keeps what passes through the account, by your contract; a policy's ``regions`` are compared with it.",
    )
    api_base: Url = setting("https://platform.ringcentral.com", "Address of the provider's API; a simulator has its own.")

    @property
    def api(self) -> str:
        """The address of the API."""
        return self.api_base

    @property
    def place(self) -> str:
        """Where RingCentral keeps what passes through the account."""
        return self.region

    @property
    def copies_stay(self) -> str | None:
        """RingCentral has no way to delete a high-volume text."""
        return "high-volume texts and their numbers" if self.high_volume else None

    def sender_fault(self, sender: str) -> str | None:
        """Short codes are not sent from by this API."""
        return None if sender.startswith("+") else "provider: ringcentral sends from numbers in E.164 form"


def _provider(account: Any) -> Any:
    return account.get("provider", "twilio") if isinstance(account, Mapping) else getattr(account, "provider", None)


Account = Annotated[
    Annotated[TwilioSettings, Tag("twilio")] | Annotated[RingCentralSettings, Tag("ringcentral")],
    Discriminator(
        _provider,
        custom_error_type="unknown_provider",
        custom_error_message="provider must be one of " + ", ".join(PROVIDERS),
    ),
]
