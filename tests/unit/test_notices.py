"""The five notices: each row of what they promise, against what the tenant's policy says. A promise that is changed breaks this."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from gateway.domain.errors import PolicyError
from gateway.domain.policy import Policy
from gateway.domain.policy_files import PolicyFile, find_policies, load_policies
from gateway.domain.policy_keys import ENFORCED, NEEDED, all_keys, said, stated, unset
from gateway.domain.policy_retention import CLASSES, RetentionClass
from gateway.domain.retention import UNSET, Duration, deadline

TENANTS: Final = ("leatherscin", "leadmark", "leadnlead", "leman", "technology-toolbox")
POLICIES: Final = Path("policies")
PAGE: Final = Path("docs/notices.md")
UNLIMITED: Final = {"forever": "the notice sets no limit; it ends when the person asks"}
LIFE: Final = "0d after closing"

# Topic, then by key what each tenant's notice says; None where it says nothing. A topic without a key has none: the page says why.
PROMISES: Final[dict[str, dict[str, tuple[Any, Any, Any, Any, Any]]]] = {
    "what it is": {"name": ("Leatherscin", "LeadMark", "LeadNLead", "Leman", "Technology Toolbox")},
    "role": {"notice.role": (["controller"], ["controller", "processor"], ["controller"], ["controller"], ["processor"])},
    "SMS providers": {
        "providers": (["twilio", "ringcentral", "attentive"], "UNSET", "UNSET", "UNSET", "UNSET"),
        "programmes": ("UNSET", "UNSET", "UNSET", "UNSET", "UNSET"),
        "regions": (None, None, None, None, ["eu"]),
        "notice.processors": (["attentive"], None, None, None, None),
    },
    "other systems": {
        "notice.other_systems": (
            ["Marketo: e-mail subscriptions"],
            ["card processor", "service providers and partners under contract"],
            ["Stripe: payment data", "Google Analytics: only in aggregate"],
            None,
            None,
        )
    },
    "opt-out": {
        "opt_out.scope": ("tenant", "programme", "programme", "tenant", "tenant"),
        "notice.opt_out": (
            ["by_email", "by_post", "by_any_channel", "no_cookie", "no_login", "list_survives_erasure"],
            ["service_messages_go_on", "administrative_messages_go_on"],
            ["any_time", "service_messages_go_on"],
            ["on_request"],
            ["in_every_marketing_message", "after_verification", "controller_told"],
        ),
    },
    "content of messages kept": {"retention.content": ("UNSET", "UNSET", LIFE, UNLIMITED, "6d")},
    "events and statistics kept": {"retention.events": ("UNSET", "UNSET", LIFE, UNLIMITED, "13mo")},
    "account data kept": {
        "retention.customer_account": ("UNSET", "UNSET", LIFE, LIFE, "3mo after closing"),
        "notice.account_ends_by": (None, None, None, ["cancellation_request", "dissolution", "bankruptcy"], None),
        "notice.account_then": (None, None, ["delete", "anonymise"], None, None),
    },
    "proof of consent kept": {"retention.consent_proof": ("UNSET", "UNSET", "UNSET", "UNSET", "UNSET")},
    "backups": {"notice.backups": (None, "may_outlive_deletion", "isolated_until_deleted", None, None)},
    "exceptions to erasure": {
        "notice.erasure_exceptions": (
            ["legal"],
            ["legal"],
            ["tax_and_accounting", "fraud", "disputes", "enforcing_terms"],
            ["legal"],
            ["legal"],
        )
    },
    "rights requests answered": {
        "rights.answer": ("UNSET", "10bd", ["30d", "1mo"], "UNSET", ["30d", "1mo"]),
        "rights.kinds": (None, None, ["access", "rectify", "erase", "restrict", "port", "object"], None, None),
        "rights.counted_from": (None, None, None, None, "proof_of_identity"),
        "calendar": (None, "NL", None, None, None),
    },
    "complaints": {
        "rights.complaint": (None, None, None, "1d", None),
        "notice.complaints": ("recorded", None, None, None, None),
    },
    "minors": {
        "notice.minors": (
            None,
            {"under": 18, "found": "erased"},
            {"under": 18, "unless": "parent_authorises", "found": "erased"},
            None,
            None,
        )
    },
    "residency": {
        "notice.residency": (None, {"within": ["NL"]}, None, None, {"within": ["EU"], "covers": ["storage", "processing"]})
    },
    "breach": {
        "notice.breach": (
            None,
            None,
            None,
            ["authorities_told", "customers_told", "promptly"],
            ["customers_told", "without_undue_delay", "with_every_assistance"],
        )
    },
    "official orders": {
        "notice.official_orders": (
            ["court_order", "subpoena", "emergency", "authorities_abroad"],
            ["legal_process", "enforceable_request"],
            ["court_order", "legal_duty"],
            ["state_agency"],
            ["customer_told_where_allowed"],
        )
    },
    "disclosure to third parties": {
        "notice.disclosure": (
            ["aggregate_only"],
            ["explicit_consent_beyond_service", "never_sold"],
            ["never_sold", "never_rented", "analytics_aggregate_only"],
            ["with_consent_only"],
            ["never_sold", "never_rented"],
        )
    },
    "change of the notice": {
        "notice.change": (
            None,
            {"ahead": "30d", "by": ["primary_email"], "minor": "untold"},
            {"marked": ["version", "date"]},
            None,
            {"ahead": "30d", "by": ["web_site", "email"]},
        )
    },
    "data never to be kept": {
        "notice.never_kept": (
            ["card_data"],
            ["sensitive_data", "card_data"],
            None,
            ["card_verification_codes"],
            ["national_ids", "driving_licences", "tax_ids", "card_numbers", "medical_data"],
        )
    },
    "export": {"notice.export": (None, None, None, None, "contacts_at_any_time")},
}

# What no part of the gateway does anything about. Whoever enforces one of these says so in policy_keys.ENFORCED, and takes it out here.
STATED: Final = {
    "retention.exports", "rights.answer", "rights.counted_from", "rights.kinds", "rights.complaint", "notice.role", "notice.processors",
    "notice.other_systems", "notice.opt_out", "notice.account_ends_by", "notice.account_then", "notice.backups",
    "notice.erasure_exceptions", "notice.complaints", "notice.minors", "notice.residency", "notice.breach", "notice.official_orders",
    "notice.disclosure", "notice.change", "notice.never_kept", "notice.export",
}  # fmt: skip

_KEPT: Final = "retention: {"
FILLED: Final = {
    "providers": "providers: [twilio]",
    "programmes": "programmes: {news: {categories: [marketing], help_contact: a, senders: [{number: '12345', account: main}]}}",
    "retention.content": "content: 20d",
    "retention.events": "events: 13mo",
    "retention.consent_proof": "consent_proof: 60mo",
    "retention.customer_account": "customer_account: 3mo after closing",
}


def filling(keys: Sequence[str], *more: str) -> list[str]:
    """The lines of an overlay that fills these in, and says more; what is said of retention is together."""
    inside = [line.removeprefix(_KEPT).removesuffix("}") for line in more if line.startswith(_KEPT)]
    lines = [FILLED[key] for key in keys if "." not in key] + [line for line in more if not line.startswith(_KEPT)]
    kept = [FILLED[key] for key in keys if key.startswith("retention.")] + inside
    return lines + ([f"{_KEPT}{', '.join(kept)}}}"] if kept else [])


def shipped(tenant: str) -> PolicyFile:
    (found,) = find_policies(POLICIES / f"{tenant}.yaml")
    return found


def installed(folder: Path, tenant: str, *overlay: str) -> Policy:
    """The tenant's policy, enabled, with an overlay that fills in what something needs that runs, and more."""
    (folder / f"{tenant}.yaml").write_text((POLICIES / f"{tenant}.yaml").read_text())
    filled = filling([key for key in unset(shipped(tenant).content) if key in FILLED], *overlay)
    (folder / f"{tenant}.overlay.yaml").write_text("\n".join(["enabled: true", *filled]))
    policy = load_policies(folder).tenant(tenant)
    assert policy is not None
    return policy


@pytest.mark.parametrize("number, tenant", list(enumerate(TENANTS)), ids=TENANTS)
class TestEach:
    @pytest.mark.parametrize("topic", PROMISES)
    def test_says_what_its_notice_promises(self, number: int, tenant: str, topic: str) -> None:
        says = said(shipped(tenant).content)
        assert {key: says.get(key) for key in PROMISES[topic]} == {key: row[number] for key, row in PROMISES[topic].items()}

    def test_says_nothing_that_no_notice_promises(self, number: int, tenant: str) -> None:
        promised = {key for topic in PROMISES.values() for key in topic}
        assert set(said(shipped(tenant).content)) <= promised | {"tenant", "enabled"}

    def test_is_not_enabled_as_it_has_no_senders(self, number: int, tenant: str) -> None:
        assert not shipped(tenant).policy.enabled

    def test_is_refused_until_an_overlay_fills_in_what_something_needs(self, number: int, tenant: str, tmp_path: Path) -> None:
        (tmp_path / f"{tenant}.yaml").write_text((POLICIES / f"{tenant}.yaml").read_text())
        open_keys = [key for key in unset(shipped(tenant).content) if key in FILLED]
        assert open_keys
        for missing in open_keys:
            rest = filling([key for key in open_keys if key != missing])
            (tmp_path / f"{tenant}.overlay.yaml").write_text("\n".join(["enabled: true", *rest]))
            with pytest.raises(PolicyError) as raised:
                load_policies(tmp_path)
            assert (raised.value.file, raised.value.key) == (str(tmp_path / f"{tenant}.yaml"), missing)
        assert installed(tmp_path, tenant).enabled


START: Final = datetime(2026, 1, 30, 12, tzinfo=UTC)
CLOSED: Final = datetime(2026, 8, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "tenant, data_class, end",
    [
        ("technology-toolbox", "content", START + timedelta(days=6)),
        ("technology-toolbox", "address", START + timedelta(days=6)),
        ("technology-toolbox", "dead_letters", START + timedelta(days=6)),
        ("technology-toolbox", "exports", START + timedelta(days=6)),
        ("technology-toolbox", "events", datetime(2027, 3, 1, tzinfo=UTC)),  # no 30th of February: its end
        ("technology-toolbox", "customer_account", datetime(2026, 12, 1, tzinfo=UTC)),  # no 31st of November
        ("leadnlead", "content", CLOSED),
        ("leadnlead", "events", CLOSED),
        ("leadnlead", "customer_account", CLOSED),
        ("leadnlead", "dead_letters", START + timedelta(days=30)),
        ("leman", "content", None),
        ("leman", "events", None),
        ("leman", "exports", START + timedelta(days=7)),
        ("leman", "customer_account", CLOSED),
        ("leatherscin", "content", "UNSET"),
        ("leatherscin", "events", "UNSET"),
        ("leadmark", "content", "UNSET"),
        ("leadmark", "customer_account", "UNSET"),
    ],
)
def test_when_data_of_a_class_has_to_be_gone(tenant: str, data_class: RetentionClass, end: datetime | str | None) -> None:
    kept = shipped(tenant).policy.retention.of(data_class)
    assert end == (deadline(START, kept, closed=CLOSED) if isinstance(kept, Duration) else "UNSET")


@pytest.mark.parametrize("tenant", TENANTS)
def test_suppression_outlives_everything(tenant: str) -> None:
    kept = shipped(tenant).policy.retention.of("suppression")
    assert isinstance(kept, Duration)
    assert deadline(START, kept, closed=CLOSED) is None


@pytest.mark.parametrize(
    "tenant, asked, answer",
    [
        (
            "leadmark",
            datetime(2026, 12, 18, 9, tzinfo=UTC),
            datetime(2027, 1, 5, 9, tzinfo=UTC),
        ),  # ten working days of the Netherlands
        (
            "leadnlead",
            datetime(2026, 1, 30, 9, tzinfo=UTC),
            datetime(2026, 3, 1, tzinfo=UTC),
        ),  # thirty days and a month end in one day
        ("leadnlead", datetime(2026, 2, 10, 9, tzinfo=UTC), datetime(2026, 3, 10, 9, tzinfo=UTC)),  # a month
        ("leadnlead", datetime(2026, 3, 10, 9, tzinfo=UTC), datetime(2026, 4, 9, 9, tzinfo=UTC)),  # thirty days
        ("technology-toolbox", datetime(2026, 2, 10, 9, tzinfo=UTC), datetime(2026, 3, 10, 9, tzinfo=UTC)),
    ],
)
def test_by_when_a_request_is_answered(tenant: str, asked: datetime, answer: datetime) -> None:
    policy = shipped(tenant).policy
    assert isinstance(policy.rights.answer, Duration)
    assert deadline(asked, policy.rights.answer, policy.business_days) == answer


def test_ten_working_days_always_come_before_the_laws_month() -> None:
    policy = shipped("leadmark").policy
    month = Policy.model_fields["rights"].default.answer
    assert isinstance(policy.rights.answer, Duration)
    for day in range(8 * 365):
        asked = START + timedelta(days=day)
        ends = [deadline(asked, one, policy.business_days) for one in (policy.rights.answer, month)]
        assert ends == sorted(ends)  # type: ignore[type-var] # neither is for ever


@pytest.mark.parametrize(
    "tenant, overlay, key",
    [
        ("leatherscin", "providers: [twilio, vonage]", "providers"),  # "and no other"
        ("technology-toolbox", "retention: {content: 7d}", "retention.content"),
        ("technology-toolbox", "retention: {events: 14mo}", "retention.events"),
        ("technology-toolbox", "regions: [eu, us]", "regions"),
        ("technology-toolbox", "notice: {residency: {within: [EU, US]}}", "notice.residency"),
        ("leadmark", "rights: {answer: 11bd}", "rights.answer"),
        ("leadnlead", "retention: {content: 1d after closing}", "retention.content"),
        ("leman", "opt_out: {scope: programme}", "opt_out.scope"),
    ],
)
def test_no_overlay_breaks_a_promise(tmp_path: Path, tenant: str, overlay: str, key: str) -> None:
    with pytest.raises(PolicyError) as raised:
        installed(tmp_path, tenant, overlay)
    assert raised.value.key == key


def test_an_overlay_may_set_a_limit_where_the_notice_has_none(tmp_path: Path) -> None:
    policy = installed(tmp_path, "leman", "retention: {content: 24mo, events: 36mo}", "rights: {complaint: 3bd}", "calendar: IT")
    assert (str(policy.retention.of("content")), str(policy.retention.of("events"))) == ("24mo", "36mo")
    assert str(policy.rights.complaint) == "3bd"


def test_no_period_that_is_enforced_may_be_left_open() -> None:
    """What ends by a period that nobody has said never ends, and is found not well for good. Of providers' copies it is refused elsewhere."""
    periods = {key for key in ENFORCED if key.startswith("retention.")} - {"retention.provider_copies"}
    assert periods == {key for key in NEEDED if key.startswith("retention.")}
    assert set(FILLED) == {key for tenant in TENANTS for key in unset(shipped(tenant).content) if key in NEEDED}


class TestStated:
    def test_what_is_stated_and_not_enforced_is_exactly_this(self) -> None:
        assert all_keys() - set(ENFORCED) == STATED
        assert {key for tenant in TENANTS for key in stated(shipped(tenant).content)} <= STATED

    def test_no_code_acts_on_what_is_only_stated(self) -> None:
        """Who reads one of these sections outside what reads and shows policies enforces something: then it is no more only stated.

        Kafka has settings with such names, too: ``delete.retention.ms``, ``log.retention.check.interval.ms``.
        """
        readers = {"domain/policy.py", "domain/policy_overlay.py", "domain/policy_report.py", "domain/policy_retention.py"}
        acting = set()
        for path in Path("gateway").rglob("*.py"):
            if str(path.relative_to("gateway")) in readers:
                continue
            for section, key in re.findall(
                r"(?<!delete)(?<!log)\.(retention|rights|notice)\.(?!of\b)(\w+)", path.read_text(encoding="utf-8")
            ):
                acting |= {f"{path}: {section}.{key}"} - {f"{path}: {enforced}" for enforced in ENFORCED}
        assert acting == set()


class TestPage:
    def test_every_topic_has_its_row_and_its_keys(self) -> None:
        rows = re.findall(r"^\| ([^|]+?) \| ([^|]+?) \| ([^|]+?) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
        shown = {topic: (re.findall(r"`([a-z_.]+)`", keys), state) for topic, keys, state in rows if topic in PROMISES}
        assert {topic: keys for topic, (keys, _) in shown.items()} == {topic: list(keys) for topic, keys in PROMISES.items()}
        for topic, (keys, state) in shown.items():
            held = {"enforced" if key in ENFORCED else "stated" for key in keys}
            assert {word for word in ("enforced", "stated") if word in state} == held, topic


def test_every_class_of_data_is_in_the_glossary() -> None:
    words = set(re.findall(r"^\| \*\*([^*]+)\*\* \|", Path("docs/glossary.md").read_text(encoding="utf-8"), re.MULTILINE))
    assert {one.replace("_", " ") for one in CLASSES} <= {word.replace("-", " ") for word in words}
    assert UNSET.value in words
