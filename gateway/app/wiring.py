"""Build the parts of the gateway from its settings. Everything below gets values; nothing below reads the settings."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property, partial
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from gateway.app.kafka import broker_address, input_topics, spool_topic
from gateway.bus.records import Gap
from gateway.bus.spool import SpoolSource
from gateway.crypto.keyring import KeyRing
from gateway.crypto.sealing import Sealer
from gateway.crypto.signing import verified
from gateway.crypto.subjects import Subjects
from gateway.crypto.tokens import AttemptTokens, ReplayTokens
from gateway.domain.changes import Horizons
from gateway.domain.decide import decide
from gateway.domain.errors import SettingsError
from gateway.domain.policy import Policies, load_policies
from gateway.domain.retry import BackOff
from gateway.flow.accept import Accepter, Route
from gateway.flow.catch_up import CatchUp
from gateway.flow.chain import Chain
from gateway.flow.claims import Claimed
from gateway.flow.counts import Counting
from gateway.flow.dispatch import Contents, Dispatch, Gate, Limits
from gateway.flow.evidence import Evidence
from gateway.flow.intake import Intake, Kind, Source
from gateway.flow.leading import Leading
from gateway.flow.letters import Letters
from gateway.flow.level import Level
from gateway.flow.operate import Operate
from gateway.flow.pacing import Pacing
from gateway.flow.publishers import PublisherCheck
from gateway.flow.receipts import Receipts
from gateway.flow.relay import Publisher, Relay, Topics
from gateway.flow.replaying import LetterPublisher, Replaying
from gateway.flow.replies import Replies
from gateway.flow.requests import ConsentRequests
from gateway.flow.requests import Source as AskedBy
from gateway.flow.rescue import Rescue
from gateway.flow.settling import Settling
from gateway.flow.spool import SpoolApplier
from gateway.flow.stop import Stop
from gateway.flow.sweep import Step, Sweep
from gateway.flow.vault import Vault
from gateway.settings import Settings, read_allow_list
from gateway.store.chain import Chains
from gateway.store.consents import Consents
from gateway.store.control import Control
from gateway.store.counts import Counts
from gateway.store.database import Database
from gateway.store.dispatch import Claims
from gateway.store.intake import Admission
from gateway.store.ledger import Ledger
from gateway.store.letters import DeadLetters
from gateway.store.outbox import Outbox
from gateway.store.spool import SpoolPlace
from gateway.store.watch import Watch
from gateway.telemetry import Metrics

if TYPE_CHECKING:
    from gateway.providers.twilio import Twilio

__all__ = ["Parts", "open_parts"]


@dataclass
class Parts:
    """What every role and command needs; the rest is made by its methods, where it is needed."""

    settings: Settings
    name: str
    policies: Policies
    database: Database
    control: Control
    ledger: Ledger
    consents: Consents
    watch: Watch
    routes: list[Route]
    ring: KeyRing
    vault: Vault
    hasher: Subjects
    metrics: Metrics
    registry: CollectorRegistry
    stop: Stop
    operate: Operate
    providers: dict[str, Twilio]

    @property
    def horizons(self) -> Horizons:
        """How long news is waited for."""
        evidence = self.settings.evidence
        return Horizons(
            unknown_after=timedelta(seconds=evidence.unknown_after_seconds),
            sent_final_after=timedelta(seconds=evidence.sent_final_after_seconds),
            first_look=timedelta(seconds=evidence.list_after_seconds),
        )

    def requests(self, source: AskedBy) -> ConsentRequests:
        """Opt-outs and opt-ins by number."""
        return ConsentRequests(self.consents, self.stop, self.vault, self.hasher, source)

    def replies(self, stop: Stop | None = None) -> Replies:
        """What people's texts are taken for."""
        return Replies(self.consents, stop or self.stop, self.policies, self.providers, self.vault, self.hasher, self.metrics)

    def catch_up(self) -> CatchUp:
        """Texts that came while our web was away."""
        senders: dict[str, list[str]] = {}
        for use in self.policies.sender_map().values():
            senders.setdefault(use.account, []).append(use.sender)
        return CatchUp(
            self.control, self.providers, senders, self.replies(), lookback=timedelta(days=self.settings.catch_up_days)
        )

    @property
    def spool(self) -> str | None:
        """The topic of the spool; None where there is none."""
        return spool_topic(self.settings)

    def spool_applier(self, topic: str) -> SpoolApplier:
        """STOPs that were spooled to what they are. It waits for none to be in force: the sweep does, and nothing is claimed meanwhile."""

        async def on_gap(gap: Gap) -> None:
            await self.control.note_gap(gap.topic, gap.partition, gap.first_offset, gap.next_offset, gap.why)
            if gap.why != "rewound":
                self.metrics.spool_records_total.labels(result="lost").inc(gap.next_offset - gap.first_offset)

        stop = Stop(self.consents, self.policies.sender_map(), self.metrics, wait=0)
        return SpoolApplier(
            SpoolPlace(self.database, topic, self.name),
            SpoolSource(broker_address(self.settings), topic, on_gap=on_gap),
            Leading(self.control, "spool", self.name, seconds=3),
            self.replies(stop),
            self.vault,
            self.ring.fingerprint(),
            self.metrics,
        )

    def receipts(self) -> Receipts:
        """Status callbacks."""
        return Receipts(self.ledger, self.metrics, self.horizons)

    def intake(self, source: Source[Kind], dispatch: Dispatch | None) -> Intake[Kind]:
        """Records to messages."""
        return Intake(
            source,
            self._admission,
            self.accepter(self._allow_list),
            self._level,
            self.metrics,
            batch=self.settings.intake.batch,
            accepted=dispatch.wake if dispatch is not None else None,
        )

    @cached_property
    def _admission(self) -> Admission:
        return Admission(self.database, self.hasher.person_key, self.name)

    @cached_property
    def _level(self) -> Level:
        limits = self.settings.intake
        return Level(self._admission, self.metrics, high=limits.waiting_high, low=limits.waiting_low)

    def accepter(self, allow_list: Collection[bytes] | None) -> Accepter:
        """What reads a record and decides."""
        window = timedelta(days=self.settings.message_id_window_days)
        publishers = PublisherCheck(self.policies, verified, window)
        return Accepter(self.policies, self.routes, window, self.vault, self.hasher, allow_list, publishers, self.replay_marks)

    @property
    def replay_marks(self) -> ReplayTokens:
        """What stands beside a record that was put back."""
        return ReplayTokens(self.ring.token_key())

    def letters(self) -> Letters:
        """Dead letters to look at."""
        return Letters(DeadLetters(self.database), self.vault)

    def replaying(self, publisher: LetterPublisher) -> Replaying:
        """Dead letters to put back."""
        return Replaying(
            DeadLetters(self.database),
            publisher,
            self.vault,
            self.replay_marks,
            topics=input_topics(self.settings, self.policies),
            window=timedelta(days=self.settings.message_id_window_days),
        )

    @cached_property
    def _allow_list(self) -> set[bytes] | None:
        """The only people who may be texted; None: everybody."""
        file = self.settings.allow_list_file
        return None if file is None else {self.hasher.subject_id(number) for number in read_allow_list(file)}

    def dispatch(self, gate: Gate) -> Dispatch:
        """Messages to the provider, while the gate is open."""
        times = self.settings.dispatch
        limits = Limits(times.request_seconds, times.fuse_seconds, times.lease_seconds, claim_batch=times.claim_batch)
        tokens = AttemptTokens(self.ring.token_key())
        versions = {policy.tenant: policy.version for policy in self.policies}
        rates = {alias: account.per_second for alias, account in self.settings.accounts.items() if account.per_second is not None}
        pacing = Pacing(
            self.control,
            {alias: account.concurrency for alias, account in self.settings.accounts.items()},
            times.request_seconds,
            self.metrics,
        )
        claims = Claims(self.database, self.name, self.routes, versions, rates, times.lease_seconds, self.spool, self._allow_list)
        back_off = BackOff(times.backoff_first_seconds, times.backoff_most_seconds)
        return Dispatch(
            claims,
            self.ledger,
            self.providers,
            pacing,
            Settling(claims, self.ledger, self.stop, self.metrics, horizons=self.horizons, back_off=back_off),
            gate,
            partial(_contents, self.vault),
            partial(_callback_url, tokens, self.settings.public_url or ""),
            decide,
            self.metrics,
            limits=limits,
            horizons=self.horizons,
        )

    def relay(self, publisher: Publisher) -> Relay:
        """The outbox to the topics."""
        names = self.settings.kafka.topics
        topics = Topics(names.status, names.inbound, names.consent, names.dead_letter, names.metrics)
        return Relay(Outbox(self.database), publisher, self.leading("relay"), topics, self.vault, self.hasher, self.metrics)

    def chain(self, publisher: Publisher) -> Chain:
        """The audit into its chains, and those to their topic: by who holds the relay's name, through the relay's publisher."""
        topic = self.settings.kafka.topics.audit
        return Chain(Chains(self.database), publisher, self.leading("relay"), topic, self.hasher, self.metrics)

    def leading(self, name: str) -> Leading:
        """A name that one process at a time holds."""
        return Leading(self.control, name, self.name)

    def sweep(self) -> Sweep:
        """What is done by the clock, with PostgreSQL alone: nothing here waits for a provider."""
        rescue = Rescue(self.watch, self.ledger, self.metrics, self.horizons)
        window = self.settings.message_id_window_days * 86_400.0
        counting = Counting(Counts(self.database), smallest=self.settings.smallest_count)
        return Sweep(
            self.leading("sweep"),
            [
                Step("rescue", rescue.claims, 0.5, most=500),
                Step("stops", self.stop.finish_pending, 0.5),
                Step("expired", rescue.expired, 1, most=500),
                Step("news", rescue.without_news, 1, most=500),
                Step("measure", partial(self.watch.measure, self.metrics, self.spool), 2),
                Step("days", self.watch.ensure_days, 3600),
                Step("keys", self._make_keys, 3600),
                Step("ids", partial(self.watch.forget_ids, window), 10, most=5000),
                Step("counts", counting.tell, 5, most=100),
            ],
            lost=self.metrics.forget_levels,
        )

    def inquiries(self, catch_up: CatchUp) -> Sweep:
        """What is asked of providers by the clock: evidence, and texts whose webhook never came."""
        times = self.settings.dispatch
        within = times.lease_seconds - times.fuse_seconds
        evidence = Evidence(self.watch, self.ledger, self.providers, self.vault, self.metrics, self.horizons, within=within)
        return Sweep(
            self.leading("inquiries"),
            [
                Step("catch-up", catch_up.finish, 5),
                Step("evidence", evidence.look, 1, most=20),
                Step("inbound lists", catch_up.refresh, 3600),
            ],
        )

    async def _make_keys(self) -> None:
        """Make tomorrow's keys ahead: a key is made durable on the disk, and midnight must not wait for many at once."""
        tomorrow = (await self.ledger.now() + timedelta(days=1)).date()
        for policy in self.policies:
            for data_class in ("address", "content"):
                self.ring.key(policy.tenant, data_class, tomorrow)
                await asyncio.sleep(0)


def _contents(vault: Vault, claimed: Claimed) -> Contents:
    return Contents(
        vault.open_number(claimed.tenant, claimed.uid, claimed.to_sealed),
        vault.open_body(claimed.tenant, claimed.uid, claimed.body_sealed),
    )


def _callback_url(tokens: AttemptTokens, public_url: str, claimed: Claimed) -> str:
    token = tokens.make(claimed.uid, claimed.attempt, claimed.account)
    # The fragment is for Twilio: try again, five times, whatever went wrong. By default it gives a 5xx up at once.
    return f"{public_url}/webhooks/{claimed.provider}/{claimed.account}/status/{token}#rc=5&rp=all"


@asynccontextmanager
async def open_parts(settings: Settings, role: str, *, with_providers: bool = True) -> AsyncIterator[Parts]:
    """Everything that a role or a command stands on, closed again at the end.

    Raises SettingsError, PolicyError, StoreUnavailable, or a GatewayError of the key ring.
    """
    if settings.database_url is None:
        raise SettingsError("settings: database_url is missing (set GATEWAY_DATABASE_URL)")
    policies = load_policies(settings.policies_directory)
    _check_accounts(settings, policies)
    ring = KeyRing(settings.key_ring)
    hasher = Subjects(ring.subject_key(), ring.message_id_key())
    vault = Vault(Sealer(ring))
    registry = CollectorRegistry()
    metrics = Metrics(registry, version=_version())
    name = f"{role}@{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
    async with AsyncExitStack() as stack:
        database = await Database(settings.database_url.get_secret_value(), sessions=settings.database_pool).open()
        stack.push_async_callback(database.close)
        control = Control(database, name)
        await control.keep_fingerprint(ring.fingerprint())
        routes = await control.put_routes(
            [
                (
                    route.tenant,
                    route.programme,
                    settings.accounts[route.account].provider,
                    route.account,
                    route.sender,
                    route.per_second,
                )
                for route in policies.routes()
            ]
        )
        consents = Consents(database, routes, hasher.person_key, name)
        ledger = Ledger(database, name)
        providers = _providers(settings) if with_providers else {}
        for provider in providers.values():
            stack.push_async_callback(provider.close)
        yield Parts(
            settings=settings,
            name=name,
            policies=policies,
            database=database,
            control=control,
            ledger=ledger,
            consents=consents,
            watch=Watch(database),
            routes=routes,
            ring=ring,
            vault=vault,
            hasher=hasher,
            metrics=metrics,
            registry=registry,
            stop=Stop(consents, policies.sender_map(), metrics, wait=settings.dispatch.stop_wait_seconds),
            operate=Operate(control, ledger, hasher),
            providers=providers,
        )


def _version() -> str:
    try:
        return version("sms-privacy-gateway")
    except PackageNotFoundError:  # run from its folder, without being installed
        return "unknown"


def _check_accounts(settings: Settings, policies: Policies) -> None:
    missing = sorted({route.account for route in policies.routes()} - set(settings.accounts))
    if missing:
        raise SettingsError(
            f"settings: accounts.{missing[0]} is missing: a policy in {settings.policies_directory} sends by it"
            f" (set GATEWAY_ACCOUNTS__{missing[0].upper()}__ACCOUNT_SID and __AUTH_TOKEN)"
        )


def _providers(settings: Settings) -> dict[str, Twilio]:
    from gateway.providers.twilio import Twilio, TwilioAccount

    return {
        alias: Twilio(
            TwilioAccount(
                alias,
                account.account_sid,
                account.auth_token.get_secret_value(),
                api_base=account.api_base,
                time_limit_seconds=settings.dispatch.request_seconds,
                connections=account.concurrency,
            )
        )
        for alias, account in settings.accounts.items()
    }
