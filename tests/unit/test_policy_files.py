"""Overlays, what is UNSET, and who is enabled: what a directory of policies comes to."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.domain.errors import PolicyError
from gateway.domain.policy import Policy
from gateway.domain.policy_files import find_policies, load_policies, read_policy
from gateway.domain.policy_keys import ENFORCED, IN_PART, NEEDED, all_keys, unset
from gateway.domain.policy_report import notes, values
from gateway.domain.retention import UNSET
from gateway.domain.yaml12 import read_yaml

SHOP = """\
tenant: shop
name: The Shop
providers: [twilio, other]
calendar: NL
opt_out: {scope: tenant}
retention:
  content: 30d
  events: UNSET
  consent_proof: [13mo, 36mo]
  customer_account: {forever: "the notice says so"}
rights: {answer: 10bd, counted_from: request, kinds: [access, erase]}
notice:
  role: [controller]
programmes:
  orders: {categories: [service], help_contact: a, senders: [{number: "12345", account: main}]}
"""

RUNNING = SHOP.replace("events: UNSET", "events: 13mo\n  exports: UNSET")  # which leaves open only what nothing that runs needs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop.yaml").write_text(SHOP)
    return tmp_path


def together(folder: Path, overlay: str, policy: str = SHOP) -> Policy:
    (folder / "shop.yaml").write_text(policy)
    (folder / "shop.overlay.yaml").write_text(overlay)
    return find_policies(folder)[0].policy


class TestOverlay:
    def test_its_values_win_key_by_key(self, folder: Path) -> None:
        policy = together(folder, "name: Our Shop\nretention: {events: 2mo, content: 6d}\n")
        assert policy.name == "Our Shop"
        assert (str(policy.retention.events), str(policy.retention.content)) == ("2mo", "6d")
        assert policy.providers == ("twilio", "other")
        assert str(policy.retention.consent_proof) == "the longest of 13mo, 36mo"

    def test_is_part_of_the_version_as_far_as_it_says_something_else(self, folder: Path) -> None:
        alone = read_policy(SHOP, "shop.yaml").version
        assert together(folder, "# nothing new\nname: The Shop\n").version == alone
        filled = together(folder, "retention: {events: 2mo}\n").version
        assert filled not in (alone, together(folder, "retention: {events: 3mo}\n").version)
        assert filled == read_policy(SHOP.replace("events: UNSET", "events: 2mo"), "shop.yaml").version

    def test_serves_a_single_file_too(self, folder: Path) -> None:
        (folder / "shop.overlay.yml").write_text("name: Our Shop\n")
        assert [one.policy.name for one in find_policies(folder / "shop.yaml")] == ["Our Shop"]

    def test_one_over_no_policy_is_refused(self, folder: Path) -> None:
        (folder / "ship.overlay.yaml").write_text("name: A\n")
        with pytest.raises(PolicyError, match=r"ship\.overlay\.yaml: lies over no policy: there is no ship\.yaml"):
            load_policies(folder)

    def test_one_alone_is_no_policy(self, folder: Path) -> None:
        (folder / "shop.overlay.yaml").write_text("name: A\n")
        with pytest.raises(PolicyError, match=r"shop\.overlay\.yaml: is an overlay"):
            find_policies(folder / "shop.overlay.yaml")

    def test_two_over_one_policy_are_refused(self, folder: Path) -> None:
        for suffix in ("yml", "yaml"):
            (folder / f"shop.overlay.{suffix}").write_text("name: A\n")
        with pytest.raises(PolicyError, match="another file"):
            load_policies(folder)

    @pytest.mark.parametrize(
        "overlay, line, key, what",
        [
            ("name: A\ntenant: shop\n", 2, "tenant", "must be left out"),
            ("retention:\n  content: UNSET\n", 2, "retention.content", "cannot be UNSET"),
            ("retention:\n  content: 31d\n", 2, "retention.content", "may not be longer than the policy's 30d"),
            ("retention:\n  content: 1mo\n", 2, "retention.content", "may not be longer"),  # in January
            ("retention:\n  content: [31d, 1mo]\n", 2, "retention.content", "may not be longer"),
            ("retention:\n  content: {forever: x}\n", 2, "retention.content", "may not be longer"),
            ("retention:\n  content: 1d after closing\n", 2, "retention.content", "may not be longer"),
            ("retention:\n  address: 31d\n", 2, "retention.address", "may not be longer"),
            ("retention:\n  dead_letters: 60d\n", 2, "retention.dead_letters", "may not be longer"),
            ("retention:\n  exports: 60d\n", 2, "retention.exports", "may not be longer"),
            ("retention:\n  consent_proof: 35mo\n", 2, "retention.consent_proof", "may not be shorter"),
            ("retention:\n  consent_proof: 13mo after closing\n", 2, "retention.consent_proof", "may not be shorter"),
            ("rights:\n  answer: 11bd\n", 2, "rights.answer", "may not be later than the policy's 10bd"),
            ("rights:\n  answer: 1mo\n", 2, "rights.answer", "may not be later"),
            ("providers: [twilio, cheap]\n", 1, "providers", "may not add cheap"),
            ("opt_out:\n  scope: programme\n", 2, "opt_out.scope", "may not be narrower than the policy's tenant"),
            ("calendar: AE\n", 1, "calendar", "may not be another"),
            ("rights:\n  counted_from: proof_of_identity\n", 2, "rights.counted_from", "may not be another"),
            ("rights:\n  kinds: [access]\n", 2, "rights.kinds", "may not be another"),
            ("retention:\n  events: [UNSET]\n", 2, "retention.events.0", "cannot be UNSET"),
            ("notice:\n  role: [processor]\n", 2, "notice.role", "no overlay changes it"),
            ("name: ''\n", 1, "name", "not empty"),
            ("retention:\n  contents: 6d\n", 2, "retention.contents", "no key"),
            ("retention: 6d\n", 1, "retention", ""),
            ("calendar: XX\n", 1, "calendar", "holidays are known"),
        ],
    )  # fmt: skip
    def test_loosens_nothing_and_says_nothing_wrong(self, folder: Path, overlay: str, line: int, key: str, what: str) -> None:
        with pytest.raises(PolicyError) as raised:
            together(folder, overlay)
        fault = raised.value
        assert (fault.file, fault.line, fault.key) == (str(folder / "shop.overlay.yaml"), line, key)
        assert what in fault.what

    @pytest.mark.parametrize(
        "overlay",
        [
            "retention: {content: [30d, 1mo]}",
            "retention: {content: 20bd}",
            "retention: {content: [30d, 0d after closing]}",
            "retention: {address: 1d, dead_letters: 1d, exports: 1d}",
            "retention: {consent_proof: [36mo, 60mo]}",
            "retention: {consent_proof: {forever: a court asks for it}}",
            "retention: {events: {forever: why}}",  # the policy leaves it open
            "retention: {customer_account: 60mo}",
            "rights: {answer: [10bd, 1mo], complaint: 3bd}",
            "providers: [other]",
            "opt_out: {scope: all}",
            "notice: {export: contacts_at_any_time}",
            "enabled: false",
            "programmes: {offers: {categories: [marketing], help_contact: b, senders: [{number: '54321', account: main}]}}",
        ],
    )  # fmt: skip
    def test_may_tighten_and_add(self, folder: Path, overlay: str) -> None:
        if "20bd" in overlay:
            with pytest.raises(
                PolicyError, match="may not be longer"
            ):  # over Christmas twenty business days are more than thirty days
                together(folder, overlay)
        else:
            together(folder, overlay)

    def test_a_fault_of_the_policy_is_told_at_its_own_place(self, folder: Path) -> None:
        with pytest.raises(PolicyError, match=r"shop\.yaml:2: name: "):
            together(folder, "region: GB\n", policy=SHOP.replace("The Shop", "''"))

    def test_a_key_that_the_overlay_brings_stands_in_the_overlay(self, folder: Path) -> None:
        together(folder, "\nretention:\n  events: 2mo\n")
        (file,) = find_policies(folder)
        assert file.place("retention.events") == (str(folder / "shop.overlay.yaml"), 3)
        assert file.place("retention.content") == (str(folder / "shop.yaml"), 7)
        assert file.place("region") is None


class TestUnset:
    @pytest.mark.parametrize("key", sorted(NEEDED))
    def test_what_something_needs_that_runs_refuses_an_enabled_tenant(self, folder: Path, key: str) -> None:
        text = {
            "providers": RUNNING.replace("[twilio, other]", "UNSET"),
            "programmes": RUNNING[: RUNNING.index("programmes:")] + "programmes: UNSET\n",
            "retention.content": RUNNING.replace("content: 30d", "content: UNSET"),
            "retention.address": RUNNING.replace("content: 30d", "content: 30d\n  address: UNSET"),
            "retention.dead_letters": RUNNING.replace("content: 30d", "content: 30d\n  dead_letters: UNSET"),
            "retention.consent_proof": RUNNING.replace("consent_proof: [13mo, 36mo]", "consent_proof: UNSET"),
            "retention.events": SHOP,
            "retention.customer_account": RUNNING.replace('{forever: "the notice says so"}', "UNSET"),
        }[key]
        (folder / "shop.yaml").write_text(text)
        with pytest.raises(PolicyError) as raised:
            load_policies(folder)
        line = next(number for number, row in enumerate(text.splitlines(), 1) if f"{key.rpartition('.')[2]}: UNSET" in row)
        assert (raised.value.file, raised.value.line, raised.value.key) == (str(folder / "shop.yaml"), line, key)
        assert "shop.overlay.yaml" in raised.value.what
        assert len(find_policies(folder)) == 1  # to check it is no fault
        (folder / "live.yaml").write_text(RUNNING.replace("tenant: shop", "tenant: live"))
        (folder / "shop.yaml").write_text(text + "enabled: false\n")
        assert [policy.tenant for policy in load_policies(folder)] == ["live"]

    def test_an_overlay_fills_it(self, folder: Path) -> None:
        (folder / "shop.yaml").write_text(RUNNING.replace("content: 30d", "content: UNSET"))
        (folder / "shop.overlay.yaml").write_text("retention: {content: 6d}\n")
        policy = load_policies(folder).tenant("shop")
        assert policy is not None
        assert str(policy.retention.of("content")) == "6d"

    def test_what_nothing_needs_yet_does_not_hinder(self, folder: Path) -> None:
        (folder / "shop.yaml").write_text(RUNNING)
        policy = load_policies(folder).tenant("shop")
        assert policy is not None
        assert policy.retention.of("exports") is UNSET

    def test_is_found_however_deep(self) -> None:
        text = SHOP.replace("notice:\n", "notice:\n  change: {ahead: UNSET}\n")
        assert unset(read_yaml(text, "shop.yaml")[0]) == ["retention.events", "notice.change.ahead"]

    def test_without_a_provider_or_programme_nothing_is_sent(self) -> None:
        policy = read_policy(
            SHOP[: SHOP.index("programmes:")].replace("[twilio, other]", "UNSET") + "programmes: UNSET\n", "shop.yaml"
        )
        assert (policy.providers, policy.programmes) == ((), {})

    def test_all_that_is_needed_is_enforced(self) -> None:
        assert set(NEEDED) <= set(ENFORCED)


class TestCalendar:
    def test_one_that_nobody_knows_refuses_a_start(self, folder: Path) -> None:
        (folder / "shop.yaml").write_text(RUNNING.replace("calendar: NL", "calendar: XX"))
        with pytest.raises(PolicyError, match=r"shop\.yaml:4: calendar: must be a country whose holidays are known"):
            load_policies(folder)


class TestEnabled:
    def test_no_enabled_tenant_is_no_policy(self, folder: Path) -> None:
        (folder / "shop.yaml").write_text(SHOP + "enabled: false\n")
        with pytest.raises(PolicyError, match="holds no policy that is enabled"):
            load_policies(folder)

    def test_one_that_is_not_has_no_routes_and_no_senders(self, folder: Path) -> None:
        (folder / "live.yaml").write_text(RUNNING.replace("tenant: shop", "tenant: live").replace("12345", "54321"))
        (folder / "shop.yaml").write_text(SHOP + "enabled: false\npublishers: {topics: [shop.v1]}\n")
        policies = load_policies(folder)
        assert {route.tenant for route in policies.routes()} == {"live"}
        assert set(policies.sender_map()) == {"54321"}
        assert policies.topics() == ()


class TestReport:
    def test_notes_say_what_somebody_should_know(self, folder: Path) -> None:
        found = notes(find_policies(folder)[0], {"twilio"})
        shop = str(folder / "shop.yaml")
        assert [(note.what, note.key, note.source, note.more) for note in found if note.what != "stated, not enforced"] == [
            ("UNSET", "retention.events", f"{shop}:8", "ending what became of messages needs it"),
            ("not built", "providers.1", f"{shop}:3", "other"),
            ("for ever", "retention.customer_account", f"{shop}:10", "the notice says so"),
            (
                "enforced in part",
                "retention.consent_proof",
                f"{shop}:9",
                "a proof's key ends with it, once no opt-in that it proves stands; what is clear of the proof stays",
            ),
        ]
        stated = [note.key for note in found if note.what == "stated, not enforced"]
        assert stated == [
            "rights.answer",
            "rights.counted_from",
            "rights.kinds",
            "notice.role",
        ]

    def test_every_value_has_its_place(self, folder: Path) -> None:
        together(folder, "retention: {events: 2mo}\n")
        found = {value.key: value for value in values(find_policies(folder)[0])}
        shop, overlay = folder / "shop.yaml", folder / "shop.overlay.yaml"
        shown = {key: (found[key].value, found[key].source, found[key].held) for key in found}
        assert shown["retention.events"] == ("2mo", f"{overlay}:1", "enforced")
        assert shown["retention.content"] == ("30d", f"{shop}:7", "enforced")
        assert shown["providers"] == ("twilio, other", f"{shop}:3", "enforced")
        assert shown["programmes.orders.senders.0.number"] == ("12345", f"{shop}:15", "enforced")
        assert shown["retention.customer_account.forever"] == ("the notice says so", f"{shop}:10", "enforced")
        assert shown["retention.address"] == ("30d", "follows content", "enforced")
        assert shown["enabled"] == ("true", "default", "enforced")
        assert shown["retention.suppression"] == ("forever", "always", "enforced")

    def test_every_key_is_either_enforced_or_stated(self) -> None:
        assert set(ENFORCED) <= all_keys()
        assert set(IN_PART) <= set(ENFORCED)
        page = Path("docs/policies.md").read_text(encoding="utf-8")
        held = {
            key: row[-1]
            for row in re.findall(r"^\| (`.+?) \|.*\| ([a-z ]+) \|$", page, re.MULTILINE)
            for key in re.findall(r"`([a-z_.]+)`", row[0])
        }
        said = {key: "enforced in part" if key in IN_PART else "enforced" if key in ENFORCED else "stated" for key in all_keys()}
        assert held == said
