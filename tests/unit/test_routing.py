"""Routing is policy: what may be used, in which order, and what is refused."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from datetime import date
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as some

from gateway.domain.errors import PolicyError
from gateway.domain.policy import Policies
from gateway.domain.policy_files import read_policy
from gateway.domain.reasons import Reason
from gateway.domain.routing import Router, Ways, check_ways, in_order
from gateway.flow.accept import Route, own_sender


@dataclass(frozen=True)
class Way:
    tenant: str
    programme: str
    provider: str
    account: str
    sender: str


US, US_TOO, EU, AWAY = "+14155550110", "+14155550111", "+447700900123", "+14155550119"
SHOP = """\
tenant: shop
name: The Shop
providers: [twilio]
regions: [us, eu]
programmes:
  offers:
    categories: [marketing, service]
    help_contact: help@shop.example
    senders:
      - {number: "+14155550110", account: main}
      - {number: "+14155550111", account: main, weight: 3}
      - {number: "+447700900123", account: ireland}
      - {number: "+14155550119", account: spare, weight: 0}
    routes:
      - {name: europe, countries: [EEA, GB], accounts: [ireland]}
      - {name: offers, categories: [marketing], senders: ["+14155550111"]}
      - {name: else, countries: [US, CA], providers: [twilio]}
  orders:
    categories: [service]
    help_contact: help@shop.example
    senders: [{number: "+14155550111", account: main}, {number: "+14155550112", account: elsewhere}]
"""
ACCOUNTS = {
    "main": ("twilio", "us"),
    "ireland": ("twilio", "eu"),
    "spare": ("twilio", "us"),
    "elsewhere": ("ringcentral", "us"),
}


def router(text: str = SHOP, accounts: dict[str, tuple[str, str]] = ACCOUNTS) -> Router[Way]:
    policies = Policies([read_policy(text, "shop.yaml")])
    ways = [
        Way(route.tenant, route.programme, accounts[route.account][0], route.account, route.sender) for route in policies.routes()
    ]
    return Router(policies, ways, {alias: region for alias, (_, region) in accounts.items()})


def senders(found: Ways[Way] | Reason) -> list[str] | Reason:
    return found if isinstance(found, Reason) else [way.sender for way in found.ways]


class TestWhatMayBeUsed:
    @pytest.mark.parametrize(
        "category, country, asked, found",
        [
            ("marketing", "NO", None, [EU]),
            ("service", "GB", None, [EU]),
            ("marketing", "US", None, [US_TOO]),  # the first route that fits decides
            ("marketing", "JP", None, [US_TOO]),  # that route limits no country
            ("service", "CA", None, [US, US_TOO, EU, AWAY]),
            ("service", "JP", None, Reason.NO_ROUTE),
            ("service", "", None, Reason.NO_ROUTE),  # a number without a country fits no route that names some
            ("service", None, None, [US, US_TOO, EU, AWAY]),  # not known: whatever may fit
            ("security", "US", None, Reason.CATEGORY_NOT_ALLOWED),
            ("service", "US", US, [US]),
            ("service", "NO", US, Reason.SENDER_NOT_ALLOWED),  # the route over Ireland does not lead over it
            ("service", "US", "+15005550006", Reason.SENDER_NOT_ALLOWED),
        ],
    )
    def test_by_category_country_and_the_sender_asked_for(
        self, category: str, country: str | None, asked: str | None, found: list[str] | Reason
    ) -> None:
        assert senders(router().ways("shop", "offers", category, country, asked)) == found

    def test_what_a_policy_does_not_have(self) -> None:
        assert router().ways("shop", "nothing", "service", "US") is Reason.UNKNOWN_PROGRAMME
        assert router().ways("nobody", "offers", "service", "US", US) is Reason.UNKNOWN_PROGRAMME

    def test_the_rule_names_the_route(self) -> None:
        found = router().ways("shop", "offers", "service", "DE")
        assert isinstance(found, Ways)
        assert found.rule == "routing.route.europe"
        assert router().ways("shop", "orders", "service", None) == Ways(
            (Way("shop", "orders", "twilio", "main", US_TOO),), "routing.senders"
        )

    def test_a_forbidden_way_is_left_out_and_refused_when_it_is_asked_for(self) -> None:
        assert senders(router().ways("shop", "orders", "service", None)) == [US_TOO]
        assert router().ways("shop", "orders", "service", None, "+14155550112") is Reason.PROVIDER_NOT_ALLOWED

    @pytest.mark.parametrize(
        "account, reason",
        [(("twilio", "au"), Reason.REGION_NOT_ALLOWED), (("ringcentral", "eu"), Reason.PROVIDER_NOT_ALLOWED)],
    )
    def test_nothing_left_says_why(self, account: tuple[str, str], reason: Reason) -> None:
        changed = router(accounts=ACCOUNTS | {"ireland": account})
        assert changed.ways("shop", "offers", "service", "NO") is reason
        assert changed.ways("shop", "offers", "service", "NO", EU) is reason

    def test_the_country_is_asked_only_where_a_route_hangs_on_it(self) -> None:
        assert router().asks_country("shop", "offers")
        assert not router().asks_country("shop", "orders")
        assert not router().asks_country("nobody", "orders")


WEIGHTS = {US: 1, US_TOO: 3, EU: 1, AWAY: 0}
WAYS = [Way("shop", "offers", "twilio", account, sender) for account, sender in
        (("main", US), ("main", US_TOO), ("ireland", EU), ("spare", AWAY))]  # fmt: skip
people = some.binary(min_size=16, max_size=32)
ills = some.frozensets(some.sampled_from([("main", ""), ("main", US), ("ireland", EU), ("ireland", ""), ("spare", "")]))


def unwell(way: Way, ill: frozenset[tuple[str, str]]) -> bool:
    return bool({(way.account, ""), (way.account, way.sender)} & ill)


class TestTheOrder:
    @given(people, some.permutations(WAYS), some.sampled_from([None, US, US_TOO, EU, AWAY, "+1"]), ills)
    def test_is_the_same_for_a_person_on_every_worker_and_leaves_nothing_out(
        self, person: bytes, ways: list[Way], sticky: str | None, ill: frozenset[tuple[str, str]]
    ) -> None:
        found = in_order(ways, WEIGHTS, person, sticky, ill)
        assert list(found) == list(in_order(WAYS, WEIGHTS, person, sticky, ill))
        assert sorted(way.sender for way in found) == sorted(way.sender for way in WAYS)

    @given(people, some.sampled_from(WAYS), ills)
    def test_the_persons_sender_goes_first_and_what_is_ill_last(
        self, person: bytes, kept: Way, ill: frozenset[tuple[str, str]]
    ) -> None:
        found = in_order(WAYS, WEIGHTS, person, kept.sender, ill)
        assert [unwell(way, ill) for way in found] == sorted(unwell(way, ill) for way in found)
        if not unwell(kept, ill):
            assert found[0] == kept

    @given(people, some.sampled_from(WAYS))
    def test_one_that_goes_moves_only_its_own_people(self, person: bytes, gone: Way) -> None:
        before = in_order(WAYS, WEIGHTS, person)
        after = in_order([way for way in WAYS if way != gone], WEIGHTS, person)
        assert [way for way in before if way != gone] == list(after)

    @given(people, ills)
    def test_one_that_stands_by_is_used_only_when_all_others_are_ill(
        self, person: bytes, ill: frozenset[tuple[str, str]]
    ) -> None:
        assume(not unwell(WAYS[3], ill))
        first = in_order(WAYS, WEIGHTS, person, None, ill)[0]
        assert (first.sender == AWAY) is all(unwell(way, ill) for way in WAYS[:3])

    def test_shares_are_as_the_weights(self) -> None:
        chance = random.Random(7)
        chosen = [in_order(WAYS, WEIGHTS, chance.randbytes(16))[0].sender for _ in range(5000)]
        for sender, share in ((US, 0.2), (US_TOO, 0.6), (EU, 0.2), (AWAY, 0.0)):
            assert math.isclose(chosen.count(sender) / 5000, share, abs_tol=0.03)


class TestAtTheStart:
    def test_what_is_left_out_is_said(self) -> None:
        policies = Policies([read_policy(SHOP, "shop.yaml")])
        assert check_ways(policies, ACCOUNTS) == ["shop's orders does not use +14155550112: provider not allowed"]

    @pytest.mark.parametrize(
        "change, key, said",
        [
            ({"main": ("ringcentral", "us")}, "programmes.offers.routes.1", "its senders are with ringcentral in us"),
            ({"ireland": ("twilio", "au")}, "programmes.offers.routes.0", "twilio in au, and the policy allows providers twilio"),
            (dict.fromkeys(ACCOUNTS, ("twilio", "ca")), "programmes.offers.senders", "regions us, eu"),
        ],
    )
    def test_a_programme_or_route_that_nothing_may_leave_by_is_refused(
        self, change: dict[str, tuple[str, str]], key: str, said: str
    ) -> None:
        with pytest.raises(PolicyError) as refused:
            check_ways(Policies([read_policy(SHOP, "shop.yaml")]), ACCOUNTS | change)
        assert str(refused.value).startswith(f"shop.yaml: {key}: nothing may leave by it: ")
        assert said in str(refused.value)

    @pytest.mark.parametrize(
        "old, new, said",
        [
            ("accounts: [ireland]", "accounts: [mars]", "route europe names an account that no sender of the programme is with"),
            (
                'senders: ["+14155550111"]',
                'senders: ["+14155550199"]',
                "route offers names a sender that the programme does not have",
            ),
            ("categories: [marketing], senders", "categories: [security], senders", "route offers names a category"),
            ("name: else", "name: offers", "two routes have one name"),
            ("accounts: [ireland]", 'accounts: [ireland], senders: ["+14155550110"]', "route europe has no sender"),
            ("EEA, GB", "EEA, UK", "must be a country by its two letters"),
            ("weight: 3", "weight: -1", "greater than or equal to 0"),
        ],
    )
    def test_routes_that_make_no_sense_are_refused_with_file_and_key(self, old: str, new: str, said: str) -> None:
        with pytest.raises(PolicyError) as refused:
            read_policy(SHOP.replace(old, new), "shop.yaml")
        assert "shop.yaml" in str(refused.value)
        assert "programmes.offers" in str(refused.value)
        assert said in str(refused.value)


def test_the_groups_of_countries_hold_what_they_should() -> None:
    found = router()
    for country in ("IS", "LI", "NO", "DE", "HR"):
        assert senders(found.ways("shop", "offers", "service", country)) == [EU]
    assert all(one < other for one, other in pairwise(sorted(WEIGHTS)))


def test_a_persons_own_sender_is_one_that_may_be_used_and_of_several_the_last() -> None:
    ways = [Route(n, "shop", "offers", "twilio", "main", sender, None) for n, sender in enumerate((US, US_TOO))]
    june, july = date(2026, 6, 1), date(2026, 7, 1)
    assert own_sender({}, ways) is None
    assert own_sender({EU: july}, ways) is None
    assert own_sender({EU: july, US: june}, ways) == US
    assert own_sender({US: june, US_TOO: july}, ways) == own_sender({US_TOO: july, US: june}, ways) == US_TOO
