"""How long a topic may keep what it holds, how long its settings keep it, and that what is set by us is never longer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.app.kafka import topics_wanted
from gateway.app.topic_limits import closed_accounts, idle_topics, longer_than_allowed, topic_limits
from gateway.bus.keeping import BrokerTimes, Kept, kept_by
from gateway.bus.retention import _judge_closed, _Topic
from gateway.bus.topics import TopicFacts
from gateway.domain.closing import Closing
from gateway.domain.policy import Policies
from gateway.domain.policy_files import load_policies, read_policy
from gateway.domain.topic_limits import ClosedIn, TopicLimit
from gateway.settings import Settings
from gateway.settings.parts import Topics
from tests.integration.world import settings_for

DAY = timedelta(days=1)
NAMES = Topics()
POLICY = """
tenant: {tenant}
name: A Shop
providers: [twilio]
programmes:
  offers:
    categories: [service]
    senders: [{{number: "{number}", account: main}}]
    help_contact: help@shop.example
retention: {retention}
"""


def policies(**retention: str) -> Policies:
    texts = {
        tenant: POLICY.format(tenant=tenant, number=f"+1415555{number:04d}", retention=said)
        for number, (tenant, said) in enumerate(retention.items(), 110)
    }
    return Policies(read_policy(text, f"{tenant}.yaml") for tenant, text in texts.items())


def facts(**config: str) -> TopicFacts:
    return TopicFacts("t", 1, 1, {"segment.bytes": "1", **{name.replace("_", "."): value for name, value in config.items()}}, {})


class TestLimits:
    def test_the_strictest_tenant_of_those_whose_data_it_is(self) -> None:
        limits = topic_limits(NAMES, [NAMES.outbound], policies(one="{content: 14d, events: 2mo}", two="{content: 6d}"))
        shown = {topic: (one.tenant, one.data_class, one.longest) for topic, one in limits.items()}
        assert shown == {
            NAMES.outbound: ("two", "content", 6 * DAY),
            NAMES.inbound: ("two", "content", 6 * DAY),
            NAMES.status: ("one", "events", 59 * DAY),
            NAMES.consent: ("one", "events", 59 * DAY),
            NAMES.audit: ("one", "events", 59 * DAY),
            NAMES.dead_letter: ("two", "dead_letters", 6 * DAY),
        }

    def test_a_number_may_have_to_go_before_the_text(self) -> None:
        limit = topic_limits(NAMES, [NAMES.outbound], policies(one="{content: 14d, address: 3d}"))[NAMES.outbound]
        assert (limit.data_class, limit.longest) == ("address", 3 * DAY)

    def test_a_topic_of_a_tenants_own_has_its_limit_alone(self) -> None:
        own = read_policy(
            POLICY.format(tenant="own", number="+14155550199", retention="{content: 6d}") + "publishers: {topics: [own.v1]}\n",
            "own.yaml",
        )
        limits = topic_limits(NAMES, [NAMES.outbound, "own.v1"], Policies([*policies(one="{content: 14d}"), own]))
        assert (limits["own.v1"].tenant, limits[NAMES.outbound].tenant, limits[NAMES.inbound].tenant) == ("own", "one", "own")

    def test_what_has_no_end_sets_no_limit(self) -> None:
        limits = topic_limits(NAMES, [NAMES.outbound], policies(one="{content: {forever: why}, events: 0d after closing}"))
        assert (limits[NAMES.outbound].longest, limits[NAMES.status].longest) == (None, None)
        assert limits[NAMES.dead_letter].longest == 30 * DAY


class TestIdle:
    """A tenant that is not enabled any more has records in the topics for as long as those keep them."""

    def test_sets_the_limit_like_any_other(self, tmp_path: Path) -> None:
        for number, (tenant, said) in enumerate({"one": "{content: 14d}", "idle": "{content: 2d, events: UNSET}"}.items(), 110):
            text = POLICY.format(tenant=tenant, number=f"+1415555{number:04d}", retention=said)
            (tmp_path / f"{tenant}.yaml").write_text(text + ("enabled: false\n" if tenant == "idle" else ""))
        limits = topic_limits(NAMES, [NAMES.outbound], load_policies(tmp_path))
        shown = {topic: (one.tenant, one.longest) for topic, one in limits.items()}
        assert shown[NAMES.outbound] == shown[NAMES.inbound] == shown[NAMES.dead_letter] == ("idle", 2 * DAY)
        assert shown[NAMES.status][0] == "one"
        fault = longer_than_allowed(limits, {NAMES.outbound: Kept(7 * DAY, "up to 7 days")}, tmp_path)
        assert fault is not None
        assert f"{tmp_path / 'idle.yaml'}:10 allows (retention.content, 2d)" in fault

    def test_a_calendar_that_nobody_knows_sets_none(self) -> None:
        idle = read_policy(
            POLICY.format(tenant="idle", number="+14155550199", retention="{content: 2bd}") + "calendar: XX\nenabled: false\n",
            "idle.yaml",
        )
        limits = topic_limits(NAMES, [NAMES.outbound], Policies(policies(one="{content: 14d}"), [idle]))
        assert (limits[NAMES.outbound].tenant, limits[NAMES.outbound].longest) == ("one", 14 * DAY)

    def test_a_topic_of_its_own_is_looked_at_and_need_not_be_there(self) -> None:
        text = POLICY.format(tenant="idle", number="+14155550199", retention="{content: 2d}")
        idle = read_policy(text + "publishers: {topics: [own.v1]}\nenabled: false\n", "idle.yaml")
        said = Policies(policies(one="{content: 14d}"), [idle])
        limits = topic_limits(NAMES, [NAMES.outbound], said)
        assert (limits["own.v1"].tenant, limits[NAMES.outbound].tenant, limits[NAMES.inbound].tenant) == ("idle", "one", "idle")
        assert idle_topics(NAMES, said) == ["own.v1"]


class TestKept:
    def test_all_that_adds_up(self) -> None:
        config = {
            "retention_ms": "1000", "segment_ms": "200", "file_delete_delay_ms": "30", "message_timestamp_after_max_ms": "4000",
        }  # fmt: skip
        assert kept_by(facts(**config), BrokerTimes(check_ms=5)).longest == timedelta(milliseconds=5235)
        by_broker = facts(**config, message_timestamp_type="LogAppendTime")
        assert kept_by(by_broker, BrokerTimes(check_ms=5)).longest == timedelta(milliseconds=1235)

    def test_of_a_compacted_one(self) -> None:
        config = {"cleanup_policy": "compact", "delete_retention_ms": "1000", "file_delete_delay_ms": "30"}
        lag = {"max_compaction_lag_ms": "500"}
        assert kept_by(facts(**config, **lag), BrokerTimes(cleaner_ms=7)).longest == timedelta(milliseconds=2044)
        assert kept_by(facts(**config), BrokerTimes()).longest is None
        assert kept_by(facts(**config, **lag), BrokerTimes(cleans=False)).longest is None

    @pytest.mark.parametrize(
        "config",
        [{"retention_ms": "-1"}, {"message_timestamp_after_max_ms": str(2**63 - 1)}, {"segment_ms": str(2**63 - 1)}],
    )
    def test_for_ever_names_the_setting(self, config: dict[str, str]) -> None:
        kept = kept_by(facts(**config), BrokerTimes())
        assert kept.longest is None
        assert next(iter(config)).replace("_", ".") in kept.shown


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return settings_for("postgresql://nobody@127.0.0.1:9/none", tmp_path_factory.mktemp("settings"))


@given(
    content=st.sampled_from(["1d", "2d", "6d", "14d", "30d", "1mo", "13mo", "[30d, 1mo]"]),
    events=st.sampled_from(["1d", "2d", "9d", "1mo", "13mo"]),
    letters=st.sampled_from(["1d", "3d", "30d"]),
)
def test_what_is_set_is_never_longer_than_what_is_allowed(settings: Settings, content: str, events: str, letters: str) -> None:
    said = policies(one=f"{{content: {content}, events: {events}, dead_letters: {letters}}}")
    limits = topic_limits(settings.kafka.topics, [settings.kafka.topics.outbound], said)
    for spec in topics_wanted(settings, said):
        if spec.name in limits:
            longest = kept_by(TopicFacts(spec.name, 1, 1, spec.config, {}), BrokerTimes()).longest
            allowed = limits[spec.name].longest
            assert longest is not None
            assert allowed is not None
            assert timedelta(hours=6) < longest <= allowed
            assert all(int(value) > 0 for name, value in spec.config.items() if name.endswith(".ms"))


class TestRefusal:
    def test_names_topic_setting_file_and_key(self, tmp_path: Path) -> None:
        (tmp_path / "one.yaml").write_text(POLICY.format(tenant="one", number="+14155550110", retention="{content: 6d}"))
        said = load_policies(tmp_path)
        limits = topic_limits(NAMES, [NAMES.outbound], said)
        week = kept_by(facts(retention_ms="604800000", segment_ms="1"), BrokerTimes())
        fault = longer_than_allowed(limits, {NAMES.dead_letter: week}, tmp_path)
        assert fault is not None
        assert fault.startswith(f"the topic {NAMES.dead_letter} keeps records up to 7 days (retention.ms 604800000, ")
        assert fault.endswith(f"longer than {tmp_path / 'one.yaml'}:10 allows (retention.content, the shortest of 6d, 30d)")

    def test_a_limit_that_the_policy_leaves_out_has_no_line(self, tmp_path: Path) -> None:
        (tmp_path / "one.yaml").write_text(POLICY.format(tenant="one", number="+14155550110", retention="{content: 6d}"))
        limits = topic_limits(NAMES, [NAMES.outbound], load_policies(tmp_path))
        fault = longer_than_allowed(limits, {NAMES.audit: Kept(None, "for ever (retention.ms)")}, tmp_path)
        assert fault is not None
        assert fault.endswith(f"longer than {tmp_path / 'one.yaml'} allows (retention.events, 13mo)")

    def test_exactly_as_long_is_allowed(self, tmp_path: Path) -> None:
        limits = topic_limits(NAMES, [], policies(one="{content: 6d}"))
        assert longer_than_allowed(limits, {NAMES.inbound: Kept(6 * DAY, "")}, tmp_path) is None


class TestClosedAccounts:
    """What of topics is over because a tenant's account is closed: only where its policy speaks of the closing."""

    def test_of_whose_closing_a_period_speaks(self) -> None:
        known = policies(one="{content: 0d after closing, events: [13mo, 3mo after closing]}", two="{content: 6d}")
        at = datetime(2026, 1, 31, 15, tzinfo=UTC)
        closings = {tenant: Closing(at, at) for tenant in ("one", "two", "gone")}
        found = closed_accounts(NAMES, [NAMES.outbound], known, closings)
        months = datetime(2026, 5, 1, tzinfo=UTC)  # no 31st of April
        assert {(one.topic, one.tenant, one.data_class, one.over_at) for one in found} == {
            (NAMES.outbound, "one", "content", at),
            (NAMES.outbound, "one", "address", at),
            (NAMES.inbound, "one", "content", at),
            (NAMES.inbound, "one", "address", at),
            (NAMES.dead_letter, "one", "dead_letters", at),
            *((topic, "one", "events", months) for topic in (NAMES.status, NAMES.consent, NAMES.audit)),
        }
        assert {one.closed_at for one in found} == {at}
        assert closed_accounts(NAMES, [NAMES.outbound], known, {}) == []

    def test_of_a_tenant_that_is_not_enabled_as_far_as_anybody_knows(self) -> None:
        text = POLICY.format(
            tenant="idle", number="+14155550199", retention="{content: 2bd after closing, events: 1d after closing}"
        )
        bound = "publishers: {topics: [own.v1]}\nenabled: false\n"
        at = datetime(2026, 1, 30, 15, tzinfo=UTC)  # a Friday

        def found(calendar: str) -> set[tuple[str, str, datetime]]:
            idle = read_policy(text + bound + f"calendar: {calendar}\n", "idle.yaml")
            known = Policies(policies(one="{content: 6d}"), [idle])
            over = closed_accounts(NAMES, [NAMES.outbound], known, {"idle": Closing(at, at)})
            return {(one.topic, one.data_class, one.over_at) for one in over}

        events = {(topic, "events", at + DAY) for topic in (NAMES.status, NAMES.consent, NAMES.audit)}
        tuesday = at + 4 * DAY
        texts = {(topic, one, tuesday) for topic in ("own.v1", NAMES.inbound) for one in ("content", "address")}
        assert found("NL") == events | texts | {(NAMES.dead_letter, "dead_letters", tuesday)}
        assert found("XX") >= events
        assert not {one for one in found("XX") if one[1] in ("content", "address")}

    def test_a_topic_without_an_end_is_not_well_and_one_with_is_waited_for(self) -> None:
        at = datetime(2026, 1, 31, 15, tzinfo=UTC)
        closed = ClosedIn("t", "one", "events", at, at)
        for kept, now, well in (
            (Kept(None, "for ever"), at, False),
            (Kept(7 * DAY, "up to 7 days"), at + 7 * DAY - timedelta(seconds=1), True),
            (Kept(7 * DAY, "up to 7 days"), at + 7 * DAY, False),
        ):
            topic = _Topic(facts(), TopicLimit("t", "*", "events"), kept, at)
            assert _judge_closed(topic, closed, now).well is well
        later = _Topic(facts(), TopicLimit("t", "*", "events"), Kept(None, "for ever"), at + DAY)
        assert _judge_closed(later, closed, at + DAY).well, "nothing of it is there"
