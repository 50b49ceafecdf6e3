from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some
from pydantic import ValidationError

from gateway.domain.consent import Scope
from gateway.domain.errors import PolicyError
from gateway.domain.policy import Policies, Policy
from gateway.domain.policy_files import load_policies, read_policy
from gateway.domain.senders import Route, SenderUse

SHOP = """\
# a comment
tenant: shop
name: The Shop
languages: [en, nb]
providers: [twilio]
region: NO
opt_out:
  scope: programme
retention: {content: 14d}
programmes:
  offers:
    categories: [marketing]
    senders:
      - number: "+14155550110"
        account: main
        per_second: 2.5
    help_contact: help@shop.example
    replies:
      nb:
        stop: "{name}: ferdig."
  orders:
    categories: [service, security]
    senders: [{number: "12345", account: main}, {number: MG0123456789abcdef0123456789abcdef, account: main}]
    help_contact: help@shop.example
"""


def shop(**changed: str) -> Policy:
    text = SHOP
    for old, new in changed.items():
        text = text.replace(old, new)
    return read_policy(text, "shop.yaml")


def tenant(name: str, programmes: Mapping[str, str], scope: str = "sender", account: str = "main") -> Policy:
    text = f"tenant: {name}\nname: {name}\nproviders: [twilio]\nopt_out: {{scope: {scope}}}\nprogrammes:\n"
    for programme, sender in programmes.items():
        text += (
            f"  {programme}: {{categories: [service], help_contact: a, senders: [{{number: '{sender}', account: {account}}}]}}\n"
        )
    return read_policy(text, f"{name}.yaml")


class TestReading:
    def test_everything_that_a_file_says(self) -> None:
        policy = shop()
        assert (policy.tenant, policy.name, policy.languages, policy.providers) == ("shop", "The Shop", ("en", "nb"), ("twilio",))
        assert (policy.region, policy.opt_out.scope, str(policy.retention.content)) == ("NO", Scope.PROGRAMME, "14d")
        offers = policy.programme("offers")
        assert offers is not None
        assert offers.categories == ("marketing",)
        assert [(sender.number, sender.account, sender.per_second) for sender in offers.senders] == [
            ("+14155550110", "main", 2.5)
        ]
        assert policy.programme("nothing") is None

    def test_what_a_file_need_not_say(self) -> None:
        policy = tenant("small", {"only": "+14155550110"}, scope="tenant")
        assert (policy.languages, policy.region, policy.opt_out.scope, policy.enabled) == (("en",), None, Scope.TENANT, True)

    def test_norway_stays_a_country(self) -> None:
        assert shop().region == "NO"  # to YAML 1.1 it is false

    @pytest.mark.parametrize("plain", ["12:00", "yes", "no", "off", "1:30:00", "1e3x", "NO"])
    def test_names_that_yaml_1_1_would_change_stay_text(self, plain: str) -> None:
        assert shop(**{"The Shop": plain}).name == plain

    def test_a_policy_does_not_change(self) -> None:
        with pytest.raises(ValidationError, match="frozen"):
            shop().name = "other"  # type: ignore[misc] # what mypy says, too

    def test_answers_are_the_programmes_own_or_the_gateways(self) -> None:
        policy = shop()
        assert policy.reply("offers", "stop", "nb") == "The Shop: ferdig."
        assert policy.reply("offers", "stop", "en").startswith("The Shop: you are unsubscribed")
        assert "help@shop.example" in policy.reply("orders", "help", "nb")
        with pytest.raises(KeyError):
            policy.reply("nothing", "help", "en")


class TestVersion:
    def test_is_twelve_hex_digits(self) -> None:
        assert re.fullmatch(r"[0-9a-f]{12}", shop().version)

    def test_comments_layout_and_key_order_do_not_change_it(self) -> None:
        other = (
            SHOP.replace("# a comment\n", "")
            .replace("name: The Shop\n", "")
            .replace("region: NO", 'name: "The Shop"   # moved\nregion: NO')
        )
        assert read_policy(other, "shop.yaml").version == shop().version

    @pytest.mark.parametrize("change", [("The Shop", "The Shop Ltd"), ("content: 14d", "content: 15d"), ("[en, nb]", "[nb, en]")])
    def test_content_does(self, change: tuple[str, str]) -> None:
        assert shop(**dict([change])).version != shop().version

    def test_is_the_same_for_good(self) -> None:
        assert shop().version == "caf3386ca868"  # stored with every decision: a change here needs a reason


FAULTS = [
    # old, new, line, key, what
    ("name: The Shop\n", "", 1, "name", "is missing"),
    ("tenant: shop", "tenant: The-Shop", 2, "tenant", "pattern"),
    ("name: The Shop", "name: ' '", 3, "name", "not empty"),
    ("name: The Shop", "name: 12", 3, "name", "quotes"),
    ("name: The Shop", "name: null", 3, "name", "quotes"),
    ("[en, nb]", "[en, no]", 4, "languages.1", "'en'"),
    ("[en, nb]", "[en, en]", 4, "languages", "twice"),
    ("[en, nb]", "[]", 4, "languages", "at least 1"),
    ("region: NO", "region: Norway", 6, "region", "two letters"),
    ("region: NO", "region: false", 6, "region", "quotes"),
    ("scope: programme", "scope: everything", 8, "opt_out.scope", "'sender'"),
    ("content: 14d", "content: 0d", 9, "retention.content", "more than nothing"),
    ("content: 14d", "content: 14", 9, "retention.content", "duration"),
    ("content: 14d", "content: true", 9, "retention.content", "duration"),
    ("content: 14d", "content: forever", 9, "retention.content", "must say why"),
    ("content: 14d", "content: {forever: ' '}", 9, "retention.content", "must say why"),
    ("content: 14d", "content: [6d, 6d]", 9, "retention.content", "twice"),
    ("content: 14d", "content: []", 9, "retention.content", "duration"),
    ("content: 14d", "content: 36501d", 9, "retention.content", "at most"),
    ("content: 14d", "content: 10bd", 1, None, "calendar is missing"),
    ("content: 14d", "contents: 14d", 9, "retention.contents", "no key"),
    ("retention: {content: 14d}", "content_days: 14", 9, "content_days", "no key"),
    ("region: NO", "region: NO\ncalendar: Norway", 7, "calendar", "pattern"),
    ("region: NO", "enabled: 'no'", 6, "enabled", "boolean"),
    ("name: The Shop", "name: UNSET", 3, "name", "cannot be UNSET"),
    ("tenant: shop", "tenant: UNSET", 2, "tenant", "pattern"),
    ("  offers:", "  Offers!:", 11, "programmes.Offers!", "pattern"),
    ("[marketing]", "[spam]", 12, "programmes.offers.categories.0", "'marketing'"),
    ('"+14155550110"', "+14155550110", 14, "programmes.offers.senders.0.number", "quotes"),
    ('"+14155550110"', "TheShop", 14, "programmes.offers.senders.0.number", "pattern"),
    ("account: main\n", "account: Main\n", 15, "programmes.offers.senders.0.account", "pattern"),
    ("per_second: 2.5", "per_second: 0", 16, "programmes.offers.senders.0.per_second", "greater"),
    ("per_second: 2.5", "per_second: .inf", 16, "programmes.offers.senders.0.per_second", "finite"),
    ("    help_contact: help@shop.example\n    replies", "    replies", 11, "programmes.offers.help_contact", "is missing"),
    ("      nb:", "      sv:", 19, "programmes.offers.replies.sv", "'en'"),
    ('"{name}: ferdig."', '""', 20, "programmes.offers.replies.nb.stop", "empty"),
    ('"{name}: ferdig."', "Ferdig", 20, "programmes.offers.replies.nb.stop", "{name}"),
    ('"{name}: ferdig."', "'{name} {number}'", 20, "programmes.offers.replies.nb.stop", "no other"),
    ("        stop:", "        stopp:", 20, "programmes.offers.replies.nb.stopp", "no key"),
    ("MG0123456789abcdef0123456789abcdef", "'12345'", 21, "programmes.orders", "twice"),
    ("name: The Shop", "name: A\nname: B", 4, None, "duplicate"),
    ("name: The Shop", "name: [", None, None, ""),
    ("name: The Shop", "\tname: A", 3, None, ""),
    ("name: The Shop", "name: &a [*a]", 3, None, ""),
    ("name: The Shop", "name: 2026-01-01", 3, "name", "quotes"),
    ("name: The Shop", "name: !secret x", 3, "name", "tag"),
    ("name: The Shop", "12: x", 3, None, "must be text"),
    ("# a comment", "%YAML 1.1\n---", 1, None, "1.2"),
]


class TestFaults:
    @pytest.mark.parametrize("old, new, line, key, what", FAULTS, ids=[new.strip() or old.strip() for old, new, *_ in FAULTS])
    def test_are_told_with_file_line_and_key(self, old: str, new: str, line: int | None, key: str | None, what: str) -> None:
        assert old in SHOP
        with pytest.raises(PolicyError) as raised:
            read_policy(SHOP.replace(old, new, 1), "policies/shop.yaml")
        fault = raised.value
        assert fault.file == "policies/shop.yaml"
        if line is not None:
            assert fault.line == line
            assert str(fault).startswith(f"policies/shop.yaml:{line}: ")
        if key is not None:
            assert fault.key == key
        assert what in fault.what
        assert "\n" not in str(fault)

    def test_the_first_of_several_is_told(self) -> None:
        with pytest.raises(PolicyError, match=r"shop.yaml:3: name: .* \(and 1 more\)"):
            shop(**{"The Shop": "''", "content: 14d": "content: 0d"})

    @pytest.mark.parametrize("text", ["", "# nothing", "- a", "text", "1", "null", "a: 1\n---\nb: 2"])
    def test_a_file_that_is_no_mapping(self, text: str) -> None:
        with pytest.raises(PolicyError):
            read_policy(text, "a.yaml")

    @given(some.text(max_size=200))
    def test_no_text_does_more_than_be_refused(self, text: str) -> None:
        with pytest.raises(PolicyError):
            read_policy(text, "a.yaml")

    @given(
        some.integers(0, len(SHOP)), some.text(some.sampled_from(" \n\t:{}[]-&*!%@'\"#a0\x00é"), max_size=3), some.integers(0, 3)
    )
    def test_no_small_change_of_a_good_file_crashes(self, place: int, added: str, cut: int) -> None:
        try:
            read_policy(SHOP[:place] + added + SHOP[place + cut :], "shop.yaml")
        except PolicyError as fault:
            assert fault.file == "shop.yaml"  # noqa: PT017 -- some changes are allowed

    def test_aliases_do_not_blow_up(self) -> None:
        levels = "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]\n" if n else "l0: &l0 [a]\n" for n in range(12))
        with pytest.raises(PolicyError, match="too much"):
            read_policy(levels, "a.yaml")


class TestDirectory:
    def test_each_file_is_a_tenant(self, tmp_path: Path) -> None:
        (tmp_path / "shop.yaml").write_text(SHOP)
        (tmp_path / "README.md").write_text("no policy")
        (tmp_path / ".shop.yaml").write_text("an editor's")
        policies = load_policies(tmp_path)
        assert [policy.tenant for policy in policies] == ["shop"]
        assert policies.tenant("shop") == shop()
        assert policies.tenant("other") is None

    def test_the_file_is_named_after_the_tenant(self, tmp_path: Path) -> None:
        (tmp_path / "other.yaml").write_text(SHOP)
        with pytest.raises(PolicyError, match=r"other\.yaml: tenant: must be the file's name, other"):
            load_policies(tmp_path)

    def test_two_files_of_one_tenant(self, tmp_path: Path) -> None:
        for name in ("shop.yaml", "shop.yml"):
            (tmp_path / name).write_text(SHOP)
        with pytest.raises(PolicyError, match="another file"):
            load_policies(tmp_path)

    def test_an_empty_or_missing_directory_is_no_policy(self, tmp_path: Path) -> None:
        with pytest.raises(PolicyError, match="no policy"):
            load_policies(tmp_path)
        with pytest.raises(PolicyError, match="cannot be read"):
            load_policies(tmp_path / "nowhere")

    def test_unreadable_files(self, tmp_path: Path) -> None:
        (tmp_path / "shop.yaml").write_bytes(b"name: \xff")
        with pytest.raises(PolicyError, match="UTF-8"):
            load_policies(tmp_path)
        (tmp_path / "shop.yaml").unlink()
        (tmp_path / "shop.yaml").mkdir()
        with pytest.raises(PolicyError, match="cannot be read"):
            load_policies(tmp_path)

    def test_those_that_come_with_the_gateway(self) -> None:
        policies = load_policies(Path("policies"))
        assert {"harbour-books", "northside-clinic"} <= {policy.tenant for policy in policies}


class TestSenders:
    def test_routes(self) -> None:
        assert Policies([shop()]).routes() == (
            Route("shop", "offers", "main", "+14155550110", 2.5),
            Route("shop", "orders", "main", "12345", None),
            Route("shop", "orders", "main", "MG0123456789abcdef0123456789abcdef", None),
        )

    @pytest.mark.parametrize("scope", list(Scope))
    def test_a_sender_of_one_programme_reaches_as_far_as_the_policy_says(self, scope: Scope) -> None:
        senders = Policies([tenant("a", {"one": "+14155550110"}, scope=scope)]).sender_map()
        assert senders == {"+14155550110": SenderUse("+14155550110", "main", (("a", "one"),), scope)}

    @pytest.mark.parametrize(
        "scope, reach", [("sender", "tenant"), ("programme", "tenant"), ("tenant", "tenant"), ("all", "all")]
    )
    def test_one_that_programmes_share_reaches_the_tenant(self, scope: str, reach: str) -> None:
        use = Policies([tenant("a", {"one": "+14155550110", "two": "+14155550110"}, scope=scope)]).sender_map()["+14155550110"]
        assert use.scope == reach
        assert use.tenants == ("a",)

    def test_one_that_tenants_share_reaches_everything(self) -> None:
        use = Policies([tenant("a", {"one": "+14155550110"}), tenant("b", {"two": "+14155550110"})]).sender_map()["+14155550110"]
        assert (use.uses, use.tenants, use.scope) == ((("a", "one"), ("b", "two")), ("a", "b"), Scope.ALL)

    def test_a_sender_has_one_account(self) -> None:
        with pytest.raises(
            PolicyError, match=r"b.yaml: programmes.two.senders: \+14155550110 has two accounts: main in a's one, other here"
        ):
            Policies([tenant("a", {"one": "+14155550110"}), tenant("b", {"two": "+14155550110"}, account="other")])

    def test_a_sender_has_one_limit(self) -> None:
        with pytest.raises(PolicyError, match="two limits"):
            Policies([shop(), tenant("b", {"two": "+14155550110"})])


PUBLIC = "MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="


class TestPublishers:
    def test_what_a_file_says_of_them(self) -> None:
        text = SHOP + f"publishers:\n  topics: [own.v1]\n  keys:\n    shop-2026: {{public: {PUBLIC}}}\n"
        publishers = read_policy(text, "shop.yaml").publishers
        assert publishers is not None
        assert publishers.topics == ("own.v1",)
        # RFC 8037, A.1 and A.2
        assert publishers.keys["shop-2026"].raw.hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
        assert not publishers.keys["shop-2026"].revoked
        assert shop().publishers is None

    @pytest.mark.parametrize(
        "said, what",
        [
            ("{}", "must name topics, keys or both"),
            ("{topics: [], keys: {}}", "must name topics, keys or both"),
            ("{topics: [a, a]}", "names a topic twice"),
            ("{topics: ['a b']}", "match"),
            ("{keys: {'a b': {public: " + PUBLIC + "}}}", "match"),
            ("{keys: {a: {public: nothing}}}", "must be an Ed25519 public key"),
            ("{keys: {a: {public: " + PUBLIC[:-8] + "}}}", "must be an Ed25519 public key"),
            ("{keys: {a: {public: MIIBIjANBgkqhkiG9w0BAQEFAAOC}}}", "must be an Ed25519 public key"),
            ("{keys: {a: {}}}", "is missing"),
            ("{keys: {a: {public: " + PUBLIC + ", revoked: 'no'}}}", "boolean"),
            ("{key: {}}", "is no key of a policy"),
        ],
    )
    def test_what_cannot_be_meant_is_refused(self, said: str, what: str) -> None:
        with pytest.raises(PolicyError, match=rf"shop\.yaml:\d+: publishers.*{what}"):
            read_policy(SHOP + f"publishers: {said}\n", "shop.yaml")

    def test_a_topic_belongs_to_all_who_name_it_and_to_nobody_else(self) -> None:
        more = "publishers: {topics: [both.v1, own.v1]}\n"
        one = read_policy(SHOP + more, "shop.yaml")
        text = "tenant: b\nname: b\nproviders: [twilio]\nprogrammes:\n  x: {categories: [service], help_contact: a, senders: [{number: '54321', account: main}]}\n"
        policies = Policies([one, read_policy(text + "publishers: {topics: [both.v1]}\n", "b.yaml")])
        assert policies.topics() == ("both.v1", "own.v1")
        assert policies.owners("both.v1") == {"shop", "b"}
        assert policies.owners("own.v1") == {"shop"}
        assert policies.owners("sms.outbound.v1") == frozenset()
