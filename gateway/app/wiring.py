"""Build the parts of the gateway from its settings. Everything below gets values; nothing below reads the settings."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property, partial
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import CollectorRegistry

from gateway.app.dispatching import dispatch_of
from gateway.app.kafka import broker_address, input_topics, spool_topic
from gateway.app.keys import check_apart, hurry, open_ring
from gateway.app.providers import check_accounts, open_providers
from gateway.app.telling import canceling_accounts, listed_accounts, telling_times, told_accounts
from gateway.bus.records import Gap
from gateway.bus.spool import SpoolSource
from gateway.crypto.keyring import KeyRing
from gateway.crypto.sealing import Sealer
from gateway.crypto.signing import verified
from gateway.crypto.subjects import Subjects
from gateway.crypto.tokens import ReplayTokens
from gateway.domain.changes import Horizons
from gateway.domain.errors import SettingsError
from gateway.domain.policy import Policies
from gateway.domain.policy_files import load_policies
from gateway.domain.routing import Router
from gateway.flow.accept import Accepter, Route
from gateway.flow.breaker import Breaker
from gateway.flow.catch_up import CatchUp
from gateway.flow.chain import Chain
from gateway.flow.closing import Closures
from gateway.flow.counts import Counting
from gateway.flow.dispatch import Dispatch, Gate
from gateway.flow.evidence import Evidence
from gateway.flow.exchange import Exchange
from gateway.flow.intake import Intake, Kind, Source
from gateway.flow.keys import KeyEnding, KeyWatch
from gateway.flow.leading import Leading
from gateway.flow.learning import Learning
from gateway.flow.letters import Letters
from gateway.flow.level import Level
from gateway.flow.lineage import LineageWatch
from gateway.flow.operate import Operate
from gateway.flow.people import WatchedPeople
from gateway.flow.provider import Provider
from gateway.flow.publishers import PublisherCheck
from gateway.flow.receipts import Receipts
from gateway.flow.relay import Publisher, Relay, Topics
from gateway.flow.replaying import LetterPublisher, Replaying
from gateway.flow.replies import Replies
from gateway.flow.requests import ConsentRequests
from gateway.flow.requests import Source as AskedBy
from gateway.flow.rerouting import Rerouting
from gateway.flow.rescue import Rescue
from gateway.flow.spool_applier import SpoolApplier
from gateway.flow.stop import Stop
from gateway.flow.sweep import Step, Sweep
from gateway.flow.telling import Telling
from gateway.flow.upkeep import Upkeep
from gateway.flow.vault import SYSTEM_TENANT, Vault
from gateway.settings import Settings, read_allow_list
from gateway.store.chain import Chains
from gateway.store.closing import ClosedAccounts, closed_tenants
from gateway.store.consents import Consents
from gateway.store.control import Control
from gateway.store.counts import Counts
from gateway.store.database import Database
from gateway.store.ended import Ended
from gateway.store.intake import Admission
from gateway.store.ledger import Ledger
from gateway.store.letters import DeadLetters
from gateway.store.lineage import LineageStore
from gateway.store.noting import Noting
from gateway.store.outbox import Outbox
from gateway.store.propagations import PropagationStore
from gateway.store.routing import Routing
from gateway.store.spool import SpoolPlace
from gateway.store.subject_keys import SubjectKeyTable
from gateway.store.watch import Watch
from gateway.telemetry import Metrics

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
    providers: Mapping[str, Provider]
    router: Router[Route]
    routing: Routing
    noting: Noting
    lineage: LineageWatch
    people: WatchedPeople

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
        return Receipts(self.ledger, self.hasher, self.metrics, self.horizons)

    def intake(self, source: Source[Kind], dispatch: Dispatch | None) -> Intake[Kind]:
        """Records to messages."""
        return Intake(
            source,
            self._admission,
            self.accepter(self.allow_list),
            self._level,
            self.metrics,
            batch=self.settings.intake.batch,
            accepted=dispatch.wake if dispatch is not None else None,
        )

    @cached_property
    def _admission(self) -> Admission:
        return Admission(self.database, self.hasher.person_key, self.name, self.noting, self.people)

    @cached_property
    def _level(self) -> Level:
        limits = self.settings.intake
        return Level(self._admission, self.metrics, high=limits.waiting_high, low=limits.waiting_low)

    def accepter(self, allow_list: Collection[bytes] | None) -> Accepter:
        """What reads a record and decides."""
        window = timedelta(days=self.settings.message_id_window_days)
        publishers = PublisherCheck(self.policies, verified, window)
        return Accepter(self.policies, self.router, window, self.vault, self.hasher, allow_list, publishers, self.replay_marks)

    @property
    def replay_marks(self) -> ReplayTokens:
        """What stands beside a record that was put back."""
        return ReplayTokens(self.ring.token_key())

    def key_ending(self) -> KeyEnding:
        """What ends a day's key, for whoever knows when."""
        return KeyEnding(self.ring, Ended(self.database))

    def key_watch(self) -> KeyWatch:
        """Whether keys can be read."""
        return KeyWatch(self.ring, self.metrics.keys_unreadable_seconds, people=self.people)

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
    def allow_list(self) -> set[bytes] | None:
        """The only people who may be texted, by their first ids; None: everybody."""
        file = self.settings.allow_list_file
        return None if file is None else {self.hasher.subject_id(number) for number in read_allow_list(file)}

    def dispatch(self, gate: Gate) -> Dispatch:
        """Messages to the provider, while the gate is open."""
        return dispatch_of(self, gate)

    def breaker(self) -> Breaker:
        """What requests tell of accounts."""
        times = self.settings.routing
        return Breaker(self.routing, failures=times.failures, first=times.open_first_seconds, most=times.open_most_seconds)

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
        closures = Closures(ClosedAccounts(self.database), self.ledger, self.metrics)
        window = self.settings.message_id_window_days * 86_400.0
        counting = Counting(Counts(self.database), smallest=self.settings.smallest_count)
        exchange = Exchange(SubjectKeyTable(self.database, self.name), self.people, self.hasher.next_id)
        return Sweep(
            self.leading("sweep"),
            [
                Step("rescue", rescue.claims, 0.5, most=500),
                Step("stops", self.stop.finish_pending, 0.5, while_held=True),
                Step("expired", rescue.expired, 1, most=500),
                Step("news", rescue.without_news, 1, most=500),
                Step("closed accounts", closures.end_waiting, 5, most=500),
                Step("measure", partial(self.watch.measure, self.metrics, self.spool), 2, while_held=True),
                Step("days", self.watch.ensure_days, 3600, while_held=True),
                Step("keys", self._make_keys, 3600, while_held=True),
                Step("lineage", self.lineage.move, 5),
                Step("subject keys", exchange.move, 5, most=500),
                Step("reroute", Rerouting(self.routing, self.router, self.routes, self.metrics).move, 1, most=500),
                Step("senders", partial(self.routing.forget_senders, self.settings.routing.keep_sender_days), 60, most=5000),
                Step("ended keys", self.key_ending().finish, 5, most=100),
                Step("ids", partial(self.watch.forget_ids, window), 10, most=5000),
                Step("counts", counting.tell, 5, most=100),
            ],
            lost=self.metrics.forget_levels,
            held=lambda: self.lineage.held,
        )

    @property
    def sent_lists(self) -> dict[str, Provider]:
        """The accounts whose lists of what they sent can be evidence."""
        return {alias: provider for alias, provider in self.providers.items() if provider.abilities.lists_sent}

    def inquiries(self, catch_up: CatchUp) -> Sweep:
        """What is asked of providers by the clock: evidence, and texts whose webhook never came."""
        times = self.settings.dispatch
        within = times.lease_seconds - times.fuse_seconds
        lists = self.sent_lists
        evidence = Evidence(self.watch, self.ledger, lists, self.vault, self.hasher, self.metrics, self.horizons, within=within)
        return Sweep(
            self.leading("inquiries"),
            [
                Step("catch-up", catch_up.finish, 5, while_held=True),
                Step("evidence", evidence.look, 1, most=20),
                Step("inbound lists", catch_up.refresh, 3600, while_held=True),
            ],
            held=lambda: self.lineage.held,
        )

    def upkeep(self) -> Mapping[str, Sweep]:
        """What runs out at providers, renewed by the clock; apart from all else, as it waits for providers."""
        upkeep = Upkeep(self.providers, self.settings.public_url or "", self.metrics)
        return {"upkeep": Sweep(self.leading("upkeep"), [Step("upkeep", upkeep.renew, 1)])}

    def telling(self) -> Telling:
        """Opt-outs told to the provider accounts that can be told, and at which they cancel what is scheduled."""
        heard = told_accounts(self.settings) | canceling_accounts(self.settings)
        tellers = {alias: self.providers[alias] for alias in sorted(heard)}
        store, times = PropagationStore(self.database, self.people), telling_times(self.settings)
        return Telling(store, tellers, self.policies.sender_map(), self.vault, self.metrics, times)

    def learning(self) -> Learning:
        """Opt-outs that providers keep of themselves, by their lists and webhooks."""
        lists = {alias: self.providers[alias] for alias in sorted(listed_accounts(self.settings))}
        store, uses = PropagationStore(self.database, self.people), self.policies.sender_map()
        within = telling_times(self.settings).lease
        return Learning(store, self.consents, lists, uses, self.stop, self.hasher, self.vault, self.metrics, within=within)

    def propagation(self) -> Mapping[str, Sweep]:
        """Telling and learning by the clock, apart from each other: an account's first list may be long."""
        telling = self.telling()
        return {
            "telling": Sweep(
                self.leading("telling"),
                [Step("opt-outs told", telling.tell, 0.5, most=1), Step("measure", telling.measure, 5)],
                lost=self.metrics.forget_opt_outs,
            ),
            "opt-out lists": Sweep(self.leading("opt-out lists"), [Step("opt-out lists", self.learning().read, 10)]),
        }

    async def _make_keys(self) -> None:
        """Make tomorrow's keys ahead: a key is made durable on the disk, and midnight must not wait for many at once."""
        tomorrow = (await self.ledger.now() + timedelta(days=1)).date()
        closed = await closed_tenants(self.database)
        for policy in self.policies:
            for data_class in ("address", "content") if policy.tenant not in closed else ():
                self.ring.key(policy.tenant, data_class, tomorrow)
                await asyncio.sleep(0)
        if self.noting.stopped:  # the numbers of opt-outs from every tenant
            self.ring.key(SYSTEM_TENANT, "address", tomorrow)


@asynccontextmanager
async def open_parts(settings: Settings, role: str, *, with_providers: bool = True) -> AsyncIterator[Parts]:
    """Everything that a role or a command stands on, closed again at the end.

    Raises SettingsError, PolicyError, StoreUnavailable, or a GatewayError of the key ring.
    """
    if settings.database_url is None:
        raise SettingsError("settings: database_url is missing (set GATEWAY_DATABASE_URL)")
    policies = load_policies(settings.policies_directory)
    check_accounts(settings, policies)
    told, canceling = (
        [use for use in policies.sender_map().values() if use.account in accounts]
        for accounts in (told_accounts(settings), canceling_accounts(settings))
    )
    noting = Noting(told, telling_times(settings).lease, canceling)
    registry = CollectorRegistry()
    metrics = Metrics(registry, version=_version())
    name = f"{role}@{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
    async with AsyncExitStack() as stack:
        database = await Database(settings.database_url.get_secret_value(), sessions=settings.database_pool).open()
        stack.push_async_callback(database.close)
        control = Control(database, name)
        ring = stack.enter_context(open_ring(settings, make_own=await control.fingerprint() is None))
        await check_apart(ring, database)
        hasher = Subjects(ring.subject_key(), ring.message_id_key(), ring.later_subject_key)
        people = WatchedPeople(SubjectKeyTable(database, name), hasher)
        await people.look()
        ring.token_key()  # missing or unreadable now rather than with the first callback
        vault = Vault(Sealer(ring), keeps_numbers=bool(noting.stopped))
        await control.keep_fingerprint(ring.fingerprint(), ring.place.shown)
        hurry(ring, settings)
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
        regions = {alias: account.place for alias, account in settings.accounts.items()}
        consents = Consents(database, routes, hasher.person_key, name, noting, people)
        ledger = Ledger(database, name, people)
        lineage = LineageWatch(LineageStore(database), ring, metrics.held_seconds, trust_failover=settings.trust_failover)
        await lineage.begin()
        providers = open_providers(settings) if with_providers else {}
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
            watch=Watch(database, people),
            routes=routes,
            ring=ring,
            vault=vault,
            hasher=hasher,
            metrics=metrics,
            registry=registry,
            stop=Stop(consents, policies.sender_map(), metrics, wait=settings.dispatch.stop_wait_seconds),
            operate=Operate(control, ledger, hasher, vault),
            providers=providers,
            router=Router(policies, routes, regions),
            routing=Routing(database, routes, name, people),
            noting=noting,
            lineage=lineage,
            people=people,
        )


def _version() -> str:
    try:
        return version("sms-privacy-gateway")
    except PackageNotFoundError:  # run from its folder, without being installed
        return "unknown"
