from __future__ import annotations

from pathlib import Path

import pytest

from gateway.app.providers import check_accounts
from gateway.app.simulated import account_settings, carrier_arguments, simulated_accounts
from gateway.domain.policy import Policies
from gateway.domain.policy_files import load_policies
from gateway.settings import load
from gateway.simulator.arguments import parse_arguments
from gateway.simulator.config import Account, RingCentralAccount

POLICY = """
tenant: acme
name: Acme
languages: [en]
providers: [{providers}]
regions: [eu]
region: US
opt_out: {{scope: tenant}}
retention: {{content: 14d, provider_copies: {{may_stay: tests say so}}}}
programmes:
  orders:
    categories: [service]
    senders:
      - {{number: "+447700900123", account: {account}}}
    help_contact: help@acme.example
"""


def policies_in(folder: Path, account: str, providers: str) -> Policies:
    (folder / "acme.yaml").write_text(POLICY.format(account=account, providers=providers))
    return load_policies(folder)


@pytest.mark.parametrize(
    "alias, providers, simulated",
    [
        ("main", "twilio, ringcentral", "twilio"),
        ("main", "ringcentral, twilio", "ringcentral"),
        ("ringcentral", "twilio, ringcentral", "ringcentral"),
        ("ringcentral-bulk", "twilio, ringcentral", "ringcentral"),
        ("ringcentral_bulk", "twilio, ringcentral", "ringcentral"),
        ("twilio", "ringcentral, twilio", "twilio"),
        ("ringcentrals", "twilio, ringcentral", "twilio"),
    ],
)
def test_an_account_is_simulated_with_the_provider_that_its_alias_or_its_policy_names(
    tmp_path: Path, alias: str, providers: str, simulated: str
) -> None:
    policies = policies_in(tmp_path, alias, providers)
    (account,) = simulated_accounts(policies)
    assert (account.alias, account.provider) == (alias, simulated)
    settings = load({"GATEWAY_PUBLIC_URL": "http://127.0.0.1:1", **account_settings([account], "http://127.0.0.1:2", "secret")})
    assert [line for line in check_accounts(settings, policies) if not line.endswith("tests say so")] == []  # no way is left out
    assert (settings.accounts[alias].provider, settings.accounts[alias].place) == (simulated, "eu")


def test_the_shipped_policies_are_simulated_with_both_providers_and_both_sides_know_the_same_secrets() -> None:
    accounts = simulated_accounts(load_policies(Path("policies")))
    assert {one.alias: one.provider for one in accounts} == {"main": "twilio", "ringcentral": "ringcentral", "spare": "twilio"}
    settings = load({"GATEWAY_PUBLIC_URL": "http://127.0.0.1:1", **account_settings(accounts, "http://127.0.0.1:2", "secret")})
    parsed, _, _ = parse_arguments(carrier_arguments(accounts, "http://127.0.0.1:1", "secret"))
    for account in parsed.accounts:
        ours = next(settings.accounts[one.alias] for one in accounts if one.sid == account.sid)
        if isinstance(account, RingCentralAccount):
            assert ours.provider == "ringcentral"
            assert account.a2p_senders == ("+14155550112",)
            assert (ours.client_id, ours.client_secret.get_secret_value()) == (account.client_id, account.client_secret)
            assert ours.jwt.get_secret_value() == account.jwt
        else:
            assert isinstance(account, Account)
            assert ours.provider == "twilio"
            assert (ours.account_sid, ours.auth_token.get_secret_value()) == (account.sid, account.token)
