"""Every metric of the gateway, in one place. Labels are bounded: closed lists, configured aliases, partitions, routes of the web.

An attribute is called what its metric is called without the prefix ``sms_gateway_``.
"""

from __future__ import annotations

import math
import platform
from contextlib import suppress
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector

from gateway.domain.changes import Change
from gateway.domain.states import State

__all__ = ["Metrics"]

PREFIX: Final = "sms_gateway_"
STAGES: Final = (
    "intake_batch",
    "claim",
    "mark",
    "request",
    "settle",
    "publish",
    "receipt",
    "accept_to_request",
    "chain",
    "publish_audit",
)

_STAGE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0)
_STOP_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 6.0, 8.0, 10.0, 11.0, 12.0, 15.0)


class Metrics:
    """The instruments, registered with the registry given; making two with one registry is a ValueError."""

    def __init__(self, registry: CollectorRegistry, *, version: str = "unknown") -> None:
        self._registry = registry
        ProcessCollector(registry=registry)
        self.build_info = Info(f"{PREFIX}build", "Which build runs.", registry=registry)
        self.build_info.info({"version": version, "python": platform.python_version()})
        self._messages()
        self._flow()
        self._stop()
        self._web()
        self._retention()
        for name in STAGES:
            self.stage_seconds.labels(stage=name)

    def forget_levels(self) -> None:
        """Another process measures the queue and the outbox now: what this one saw last is not shown any more."""
        self.queue_messages.clear()
        self.queue_oldest_seconds.clear()
        self.breaker_state.clear()
        for gauge in (
            self.outbox_events,
            self.outbox_parked_events,
            self.outbox_oldest_seconds,
            self.catch_up_barriers,
            self.audit_unchained_records,
            self.audit_unchained_oldest_seconds,
            self.audit_unpublished_records,
            self.spool_shut_seconds,
        ):
            gauge.set(math.nan)

    def forget_opt_outs(self) -> None:
        """Another process tells provider accounts now, and measures what waits."""
        self.opt_outs_untold_records.clear()
        self.opt_outs_untold_oldest_seconds.clear()

    def forget_retention(self, place: str) -> None:
        """Another process looks at a place now."""
        for gauge in (self.retention_overdue, self.retention_oldest_excess_seconds):
            with suppress(KeyError):  # it was never looked at
                gauge.remove(place)

    def moved(self, change: Change) -> None:
        """Counts a change of a message that has been committed."""
        if change.state is not None:
            self.messages_total.labels(
                state=change.state, reason=change.reason or "", provider=change.provider or "", category=change.category
            ).inc()
            if change.state is State.UNKNOWN and not change.final:
                self.unknown_outcomes_total.inc()
        if change.step == "contradicted":  # the provider speaks of an acceptance that nobody asked for, or of a second one
            self.duplicate_sends_total.inc()

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(PREFIX + name, text, labels, registry=self._registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(PREFIX + name, text, labels, registry=self._registry)

    def _messages(self) -> None:
        self.messages_total = self._counter(
            "messages_total",
            "Changes of a message's state, by the state it came to and why.",
            "state",
            "reason",
            "provider",
            "category",
        )
        self.intake_records_total = self._counter(
            "intake_records_total", "Records read from the input topic, by what became of them.", "result"
        )
        self.dead_letters_total = self._counter("dead_letters_total", "Records that can't be processed, by reason.", "reason")
        self.not_allowed_total = self._counter(
            "not_allowed_total", "Records whose producer may not publish for the tenant that they name, by what was wrong.", "why"
        )
        self.unknown_outcomes_total = self._counter(
            "unknown_outcomes_total", "Create requests of which nobody can say whether they were accepted."
        )
        self.evidence_total = self._counter(
            "evidence_total",
            "Unknown outcomes looked into, by source of evidence and what it proved.",
            "source",
            "result",
        )
        self.replies_total = self._counter("replies_total", "Texts from people, by kind.", "kind")
        self.catch_up_total = self._counter(
            "catch_up_total", "Texts from people that only the provider's list told of: no webhook had come."
        )

    def _flow(self) -> None:
        self.stage_seconds = Histogram(
            f"{PREFIX}stage_seconds",
            "How long a stage took, a batch at a time where it works in batches.",
            ("stage",),
            buckets=_STAGE_BUCKETS,
            registry=self._registry,
        )
        self.requests_total = self._counter(
            "requests_total", "Create requests to a provider, by account and outcome.", "account", "outcome"
        )
        self.requests_in_flight = self._gauge("requests_in_flight", "Create requests under way in this process.", "account")
        self.breaker_state = self._gauge(
            "breaker_state", "Whether an account is used: 0 it is, 1 one request tries it, 2 it is not for a while.", "account"
        )
        self.rerouted_total = self._counter(
            "rerouted_total", "Messages that wait for another account or sender than before, by the one before.", "account"
        )
        self.upkeep_failures_total = self._counter(
            "upkeep_failures_total",
            "Times that what runs out at an account, such as its subscription to our webhooks, was not renewed.",
            "account",
        )
        self.queue_messages = self._gauge("queue_messages", "Messages still to send, by state, over all workers.", "state")
        self.queue_oldest_seconds = self._gauge(
            "queue_oldest_seconds", "Age of the oldest message still to send, by state.", "state"
        )
        self.intake_paused = self._gauge(
            "intake_paused", "1 while intake reads nothing because too many messages wait to be sent."
        )
        self.consumer_lag_records = self._gauge(
            "consumer_lag_records", "Records of the input topics not yet read, by topic and partition.", "topic", "partition"
        )
        self.consumer_lost_records_total = self._counter(
            "consumer_lost_records_total",
            "Records of the input topic that its retention took before they were read.",
        )
        self.consumer_overdue_records = self._gauge(
            "consumer_overdue_records",
            "Records of an input topic not yet read although half of its retention is over, by topic and partition.",
            "topic",
            "partition",
        )
        self.outbox_events = self._gauge("outbox_events", "Events written and not yet published.")
        self.outbox_parked_events = self._gauge(
            "outbox_parked_events", "Events put aside because the broker will never take them."
        )
        self.outbox_oldest_seconds = self._gauge("outbox_oldest_seconds", "Age of the oldest event not yet published.")
        self.audit_chained_total = self._counter(
            "audit_chained_total", "Audit records that were bound into their tenant's chain."
        )
        self.audit_unchained_records = self._gauge("audit_unchained_records", "Audit records not yet in their tenant's chain.")
        self.audit_unchained_oldest_seconds = self._gauge(
            "audit_unchained_oldest_seconds", "Age of the oldest audit record not yet chained."
        )
        self.audit_unpublished_records = self._gauge("audit_unpublished_records", "Chained audit records not yet published.")
        self.claims_rescued_total = self._counter(
            "claims_rescued_total", "Claims of a lost worker or answer, by the state they were put in.", "to"
        )
        self.operator_needed_total = self._counter(
            "operator_needed_total", "Requests that the provider refuses until an operator acts, by account.", "account"
        )
        self.held_seconds = self._gauge(
            "held_seconds",
            "How long this process has found a database that may lack what was written to it; 0 while it does not.",
        )
        self.keys_unreadable_seconds = self._gauge(
            "keys_unreadable_seconds",
            "For how long this process has not been able to read keys; after a minute it sends nothing.",
        )
        self.catch_up_barriers = self._gauge(
            "catch_up_barriers", "Accounts of which nothing is claimed until the list of people's texts has been read."
        )

    def _stop(self) -> None:
        self.stops_total = self._counter(
            "stops_total", "Opt-outs written, by where they came from and what they cover.", "source", "scope"
        )
        self.stop_in_force_seconds = Histogram(
            f"{PREFIX}stop_in_force_seconds",
            "From an opt-out's arrival until it was in force.",
            buckets=_STOP_BUCKETS,
            registry=self._registry,
        )
        self.stops_spooled_total = self._counter(
            "stops_spooled_total", "Opt-outs written to the spool because PostgreSQL was away, by where they came from.", "source"
        )
        self.spool_records_total = self._counter(
            "spool_records_total", "Records of the spool, by what became of them: applied, repeated, parked, lost.", "result"
        )
        self.spool_unapplied_records = self._gauge("spool_unapplied_records", "Records of the spool that are not applied yet.")
        self.spool_oldest_seconds = self._gauge("spool_oldest_seconds", "Age of the oldest record that is not applied yet.")
        self.spool_shut_seconds = self._gauge(
            "spool_shut_seconds", "For how long nothing has been claimed because the spool was not read to its end."
        )
        self.opt_outs_told_total = self._counter(
            "opt_outs_told_total",
            "Opt-outs, and what undoes them, that a provider account was to be told, by what became of it.",
            "account",
            "result",
        )
        self.scheduled_canceled_total = self._counter(
            "scheduled_canceled_total", "Texts that other systems had scheduled at a provider, canceled by an opt-out.", "account"
        )
        self.provider_copies_total = self._counter(
            "provider_copies_total",
            "Copies of texts that were to be erased at a provider account, by what became of it.",
            "account",
            "result",
        )
        self.opt_outs_learned_total = self._counter(
            "opt_outs_learned_total",
            "Opt-outs, and what undoes them, that a provider told of, by what they came to.",
            "account",
            "result",
        )
        self.opt_outs_untold_records = self._gauge(
            "opt_outs_untold_records", "Pairs of person and sender of which a provider account is still to be told.", "account"
        )
        self.opt_outs_untold_oldest_seconds = self._gauge(
            "opt_outs_untold_oldest_seconds", "Age of the oldest of them.", "account"
        )
        self.sends_after_stop_total = self._counter(
            "sends_after_stop_total",
            "Requests begun for a person and scope whose opt-out was in force. Must stay 0.",
        )
        self.duplicate_sends_total = self._counter(
            "duplicate_sends_total", "Messages that a provider accepted more than once. Must stay 0."
        )

    def _web(self) -> None:
        self.webhooks_total = self._counter("webhooks_total", "Webhooks answered, by kind and result.", "kind", "result")
        self.api_requests_total = self._counter(
            "api_requests_total", "API requests answered, by route and HTTP status.", "route", "status"
        )

    def _retention(self) -> None:
        self.retention_overdue = self._gauge(
            "retention_overdue",
            "Findings in a place of personal data that are not well, at the last look: what should be gone, or could not be looked at.",
            "place",
        )
        self.retention_oldest_excess_seconds = self._gauge(
            "retention_oldest_excess_seconds", "For how long the oldest of them has been there too long.", "place"
        )
        self.retention_ended_total = self._counter(
            "retention_ended_total", "Things in a place of personal data that were ended as their time was over.", "place"
        )
