from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from gateway.app.providers import check_accounts, open_providers
from gateway.domain.errors import SettingsError
from gateway.domain.policy_files import load_policies
from gateway.providers.names import PROVIDERS
from gateway.settings import RingCentralSettings, Settings, TwilioSettings, load

TWILIO = {"GATEWAY_ACCOUNTS__MAIN__ACCOUNT_SID": "AC" + "0" * 32, "GATEWAY_ACCOUNTS__MAIN__AUTH_TOKEN": "x"}
RINGCENTRAL = {
    "GATEWAY_ACCOUNTS__MAIN__PROVIDER": "ringcentral",
    "GATEWAY_ACCOUNTS__MAIN__CLIENT_ID": "x",
    "GATEWAY_ACCOUNTS__MAIN__CLIENT_SECRET": "x",
    "GATEWAY_ACCOUNTS__MAIN__JWT": "x",
    "GATEWAY_ACCOUNTS__MAIN__VERIFICATION_TOKEN": "x" * 16,
}
POLICY = """
tenant: acme
name: Acme
languages: [en]
providers: [twilio, ringcentral]
region: US
opt_out: {{scope: tenant}}
retention: {{content: 14d}}
programmes:
  orders:
    categories: [service]
    senders: [{{number: "{sender}", account: main}}]
    help_contact: help@acme.example
"""


def settings(account: dict[str, str]) -> Settings:
    return load({"GATEWAY_PUBLIC_URL": "https://sms.example.com", **account})


@pytest.mark.parametrize("account,sender", [(TWILIO, "40404"), (RINGCENTRAL, "+15005550006")])
def test_an_account_that_knows_its_senders_is_in_order(tmp_path: Path, account: dict[str, str], sender: str) -> None:
    (tmp_path / "acme.yaml").write_text(POLICY.format(sender=sender))
    check_accounts(settings(account), load_policies(tmp_path))


def test_an_account_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "acme.yaml").write_text(POLICY.format(sender="40404"))
    with pytest.raises(SettingsError, match=r"accounts\.main is missing"):
        check_accounts(settings({}), load_policies(tmp_path))


def test_every_provider_that_is_named_has_its_folder_and_its_section_of_settings() -> None:
    folders = {place.parent.name for place in Path("gateway/providers").glob("*/provider.py")}
    fields = [section.model_fields["provider"] for section in (TwilioSettings, RingCentralSettings)]
    assert set(PROVIDERS) == folders == {name for field in fields for name in get_args(field.annotation)}


@pytest.mark.parametrize(
    "account",
    [
        TWILIO,
        TWILIO | {"GATEWAY_ACCOUNTS__MAIN__CONSENTS_API": "true"},
        TWILIO | {"GATEWAY_ACCOUNTS__MAIN__CANCEL_SCHEDULED": "false"},
        RINGCENTRAL,
    ],
)
async def test_what_an_account_can_is_the_same_by_its_settings_and_once_it_is_open(account: dict[str, str]) -> None:
    one = settings(account)
    (section,), (provider,) = one.accounts.values(), open_providers(one).values()
    able = provider.abilities
    assert (section.tells_opt_outs, section.lists_opt_outs) == (able.tells_opt_outs, able.lists_opt_outs)
    assert section.cancels_scheduled == able.cancels_scheduled
    await provider.close()


@pytest.mark.parametrize("account,name", [(TWILIO, "twilio"), (RINGCENTRAL, "ringcentral")])
async def test_every_account_has_its_provider(account: dict[str, str], name: str) -> None:
    (provider,) = open_providers(settings(account)).values()
    assert (provider.name, provider.account) == (name, "main")
    await provider.close()
