"""Accounts: what their settings come to, and which senders they can have."""

from __future__ import annotations

from pathlib import Path

import pytest
from twilio.rest import Client

from gateway.app.providers import account_notes, check_accounts, open_providers
from gateway.domain.errors import SettingsError
from gateway.domain.policy_files import load_policies
from gateway.settings import Settings, TwilioSettings, load

TWILIO = {"account_sid": "AC" + "0" * 32, "auth_token": "a-token"}
RINGCENTRAL = {
    "provider": "ringcentral", "client_id": "an-app", "client_secret": "a-secret", "jwt": "a-jwt", "verification_token": "t" * 16,
}  # fmt: skip


def settings_with(account: dict[str, str], policies: Path = Path("nowhere")) -> Settings:
    fields = account if account.get("provider") == "ringcentral" else TWILIO | account
    variables = {f"GATEWAY_ACCOUNTS__MAIN__{name.upper()}": value for name, value in fields.items()}
    return load(variables | {"GATEWAY_PUBLIC_URL": "https://sms.example.com", "GATEWAY_POLICIES_DIRECTORY": str(policies)})


def twilio(**account: str) -> TwilioSettings:
    main = settings_with(account).accounts["main"]
    assert isinstance(main, TwilioSettings)
    return main


@pytest.mark.parametrize(
    "region, edge, place", [(None, None, "us"), ("us1", None, "us"), ("ie1", "dublin", "eu"), ("au1", "sydney", "au")]
)
def test_the_region_says_where_the_api_is(region: str | None, edge: str | None, place: str) -> None:
    account = twilio(**({"region": region} if region else {}))
    assert account.place == place
    sdk = Client("AC", "token", region=region if edge else None, edge=edge)
    assert account.api == sdk.get_hostname("https://api.twilio.com").rstrip("/")


def test_an_address_set_by_hand_goes_before_the_regions() -> None:
    account = twilio(region="ie1", api_base="http://127.0.0.1:9/")
    assert (account.api, account.place) == ("http://127.0.0.1:9", "eu")


@pytest.mark.parametrize(
    "name, value", [("region", "ie2"), ("region", "eu"), ("content_retention", "obfuscate"), ("address_retention", "discard")]
)
def test_a_setting_that_twilio_does_not_know_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=rf"^settings: GATEWAY_ACCOUNTS__MAIN__{name.upper()}: "):
        twilio(**{name: value})


@pytest.mark.parametrize(
    "account, notes",
    [
        ({}, []),
        ({"content_retention": "retain", "address_retention": "retain"}, []),
        ({"region": "ie1"}, ["accounts.main.region: SMS in ie1 is a beta"]),
        ({"region": "au1"}, ["accounts.main.region: Twilio names no SMS"]),
        ({"content_retention": "discard"}, ["accounts.main.content_retention: Twilio forgets"]),
        ({"address_retention": "obfuscate"}, ["accounts.main.address_retention: Twilio forgets"]),
    ],
)
def test_what_an_operator_should_know_is_told_by_the_settings_name(account: dict[str, str], notes: list[str]) -> None:
    told = account_notes(settings_with(account))
    assert len(told) == len(notes)
    assert all(one.startswith(note) for one, note in zip(told, notes, strict=True))


def policies_with(folder: Path, sender: str, providers: str = "twilio, ringcentral") -> Path:
    (folder / "shop.yaml").write_text(
        f"tenant: shop\nname: The shop\nproviders: [{providers}]\nprogrammes:\n  orders:\n    categories: [service]\n"
        f'    senders: [{{number: "{sender}", account: main}}]\n    help_contact: help@shop.example\n'
    )
    return folder


@pytest.mark.parametrize(
    "account, sender, fault",
    [
        ({"region": "ie1"}, "+14155550110", "accounts.main.region: ie1 has no +1 numbers"),
        ({"region": "ie1"}, "+353857770110", None),
        ({"region": "ie1"}, "MG" + "a" * 32, None),
        ({"region": "au1"}, "+61491570110", None),
        ({}, "+14155550110", None),
        ({}, "12345", None),
        ({}, "MG" + "a" * 32, None),
        (RINGCENTRAL, "+14155550110", None),
        (RINGCENTRAL, "12345", "accounts.main.provider: ringcentral sends from numbers in E.164 form"),
        (RINGCENTRAL, "MG" + "a" * 32, "accounts.main.provider: ringcentral sends from numbers in E.164 form"),
    ],
)
def test_a_sender_that_the_account_cannot_have_stops_the_start(
    tmp_path: Path, account: dict[str, str], sender: str, fault: str | None
) -> None:
    settings = settings_with(account, policies_with(tmp_path, sender))
    policies = load_policies(tmp_path)
    if fault is None:
        check_accounts(settings, policies)
        return
    with pytest.raises(SettingsError) as caught:
        check_accounts(settings, policies)
    line = f"settings: {fault}, and shop's orders in {tmp_path} sends by it from {sender}"
    assert str(caught.value) == line


async def test_a_provider_is_made_as_the_settings_say() -> None:
    settings = settings_with({"region": "ie1", "address_retention": "obfuscate"})
    provider = open_providers(settings)["main"]
    assert not provider.abilities.lists_sent
    await provider.close()
