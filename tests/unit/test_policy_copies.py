"""What a policy says of the providers' copies that nobody can delete."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.domain.errors import PolicyError
from gateway.domain.policy import Policies
from gateway.domain.policy_copies import MayStay, check_copies
from gateway.domain.policy_files import find_policies, read_policy
from gateway.domain.retention import UNSET

SHOP = """
tenant: shop
name: The Shop
providers: [ringcentral]
retention: {{{0}}}
programmes:
  orders:
    categories: [service]
    senders: [{{number: "+14155550110", account: ring}}]
    help_contact: help@shop.example
"""
STAYING = {"ring": "high-volume texts"}


@pytest.mark.parametrize(
    "said, meant",
    [
        ("content: 6d", None),
        ("provider_copies: must_end", "must_end"),
        ("provider_copies: UNSET", UNSET),
        ("provider_copies: {may_stay: it is in the notice}", MayStay(may_stay="it is in the notice")),
    ],
)
def test_what_it_can_say(said: str, meant: object) -> None:
    assert read_policy(SHOP.format(said), "shop.yaml").retention.provider_copies == meant


@pytest.mark.parametrize(
    "said", ["must_stay", "may_stay", "{may_stay: ''}", "{may_stay: UNSET}", "{may_stay: 3}", "{until: 6d}", "6d", "[]"]
)
def test_anything_else_is_refused_by_its_key(said: str) -> None:
    with pytest.raises(PolicyError) as raised:
        read_policy(SHOP.format(f"provider_copies: {said}"), "shop.yaml")
    assert raised.value.key == "retention.provider_copies"


def test_nothing_is_refused_where_everything_can_be_deleted() -> None:
    for said in ("provider_copies: must_end", "provider_copies: UNSET", "content: 6d"):
        assert check_copies(Policies([read_policy(SHOP.format(said), "shop.yaml")]), {"other": "high-volume texts"}) == []


def test_what_stays_is_said_with_its_reason() -> None:
    policies = Policies([read_policy(SHOP.format("provider_copies: {may_stay: it is in the notice}"), "shop.yaml")])
    assert check_copies(policies, STAYING) == [
        "shop: high-volume texts of the account ring stay at the provider for ever: it is in the notice"
    ]


@pytest.mark.parametrize("over, fault", [("must_end", False), ("{may_stay: we wish it}", True)])
def test_an_overlay_fills_in_and_does_not_loosen(tmp_path: Path, over: str, fault: bool) -> None:
    for said, loosened in (("provider_copies: must_end", fault), ("provider_copies: UNSET", False), ("content: 6d", False)):
        (tmp_path / "shop.yaml").write_text(SHOP.format(said))
        (tmp_path / "shop.overlay.yaml").write_text(f"retention: {{provider_copies: {over}}}\n")
        if loosened:
            with pytest.raises(PolicyError) as raised:
                find_policies(tmp_path)
            assert raised.value.key == "retention.provider_copies"
        else:
            (file,) = find_policies(tmp_path)
            assert str(file.policy.retention.provider_copies) == ("must_end" if over == "must_end" else "may stay: we wish it")
