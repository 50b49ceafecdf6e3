"""One process of the gateway: start the parts of its role, keep them running, drain and leave on SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import signal
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, Literal

from gateway.app.accounts import Closers, accounts_of
from gateway.app.kafka import broker_address, event_publisher, input_topics, relay_publisher
from gateway.app.lag import Lag
from gateway.app.retention import retention_sweeps
from gateway.app.wiring import Parts, open_parts
from gateway.bus.consumer import RecordSource
from gateway.bus.records import Gap
from gateway.crypto.bearer import token_hash
from gateway.crypto.tokens import AttemptTokens
from gateway.domain.errors import BrokerUnavailable, GatewayError, StoreUnavailable
from gateway.domain.phone import normal_form
from gateway.flow.fuse import Fuse
from gateway.flow.spooling import Spooling, SpoolingReplies, SpoolingRequests
from gateway.settings import Settings
from gateway.telemetry import get_logger, handle_loop_exception
from gateway.web.api import Api, Stops
from gateway.web.bodies import Limits as WebLimits
from gateway.web.grants import Bearers
from gateway.web.health import AdminApp, Check
from gateway.web.hooks import Replies as HookReplies
from gateway.web.hooks import Webhooks
from gateway.web.public import PublicApp
from gateway.web.room import Room
from gateway.web.server import WebServer

__all__ = ["ROLES", "Role", "run_process"]

Role = Literal["all", "worker", "web", "relay", "sweep"]
ROLES: Final[tuple[Role, ...]] = ("all", "worker", "web", "relay", "sweep")

log = get_logger("process")


class _Process:
    """The parts of a role, started in order and stopped in the reverse one."""

    def __init__(self, parts: Parts, role: Role) -> None:
        self._parts = parts
        self._settings = parts.settings
        self._role = role
        self._tasks: list[asyncio.Task[None]] = []
        self._ends: list[Callable[[], Awaitable[object]]] = []
        self._keys = parts.key_watch()
        self._checks = [Check("postgresql", parts.control.ready), Check("keys", self._keys.check)]
        # A web takes people's texts all the same: a STOP must not be turned away because nothing is sent.
        self._checks.append(Check("database", parts.lineage.check, vital=not self._has("web")))
        self._ports: dict[str, int] = {}
        self._fuse = Fuse(parts.settings.dispatch.fuse_seconds)
        self._catch_up = parts.catch_up()
        self._stopping = False
        self._names = ["relay", "spool"]  # that it may hold alone

    def _has(self, role: Role) -> bool:
        return self._role in ("all", role)

    async def start(self) -> dict[str, int]:
        """Start; returns the ports that are listened on."""
        self._fuse.start()
        dispatch = self._parts.dispatch(self._catch_up) if self._has("worker") else None
        receipts = self._parts.receipts()
        self._run("keys", self._keys.run())
        self._ends.append(_calling(self._keys.stop))
        self._run("lineage", self._parts.lineage.run())
        self._ends.append(_calling(self._parts.lineage.stop))
        if self._has("web"):
            await self._start_web(receipts)
        if self._has("worker") or self._has("web"):
            self._run("catch-up", self._keep_caught_up())
        if dispatch is not None:
            sources = {topic: await self._source(topic) for topic in input_topics(self._settings, self._parts.policies)}
            intakes = [self._parts.intake(source, dispatch) for source in sources.values()]
            self._ends += [source.stop for source in sources.values()]
            self._ends.append(lambda: dispatch.stop(self._settings.drain_seconds))
            self._run("dispatch", dispatch.run())
            for intake in intakes:
                self._run("intake", intake.run())
                self._ends.append(_calling(intake.stop))
            lag = Lag(sources, broker_address(self._settings), self._parts.metrics)
            self._run("lag", lag.tell_records())
            self._run("overdue", lag.tell_overdue())
        if self._parts.spool is not None and (self._has("worker") or self._has("relay")):
            applier = self._parts.spool_applier(self._parts.spool)
            self._run("spool", applier.run())
            self._ends.append(_calling(applier.stop))
        if self._has("relay"):
            publisher = relay_publisher(self._settings)
            await publisher.start()
            self._checks.append(Check("kafka-out", publisher.check))
            relay = self._parts.relay(publisher)
            self._ends.append(publisher.stop)
            self._run("relay", relay.run())
            self._ends.append(_calling(relay.stop))
            chain = self._parts.chain(publisher)
            self._run("chain", chain.run())
            self._ends.append(_calling(chain.stop))
        if self._has("sweep"):
            sweeps = {
                "sweep": self._parts.sweep(),
                "inquiries": self._parts.inquiries(self._catch_up),
                **self._parts.propagation(),
                **self._parts.upkeep(),
                **retention_sweeps(self._parts),
            }
            self._names += sweeps
            for name, sweep in sweeps.items():
                self._run(name, sweep.run())
                self._ends.append(_calling(sweep.stop))
        await self._start_admin()
        return self._ports

    def _run(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.create_task(work, name=name))

    async def _source(self, topic: str) -> RecordSource:
        """A reader of one topic. Each has a consumer group of its own: a rebalance of one topic leaves the others alone."""

        async def on_gap(gap: Gap) -> None:
            count = gap.next_offset - gap.first_offset
            log.error("records were not read", why=gap.why, partition=gap.partition, first=gap.first_offset, count=max(count, 0))
            # first what may fail: it is called again then
            await self._parts.control.note_gap(gap.topic, gap.partition, gap.first_offset, gap.next_offset, gap.why)
            if gap.why == "retention":
                self._parts.metrics.consumer_lost_records_total.inc(count)

        kafka = self._settings.kafka
        shared = topic == kafka.topics.outbound
        source = RecordSource(
            broker_address(self._settings),
            topic,
            kafka.group if shared else f"{kafka.group}.{topic}",
            on_gap=on_gap,
            session_timeout=kafka.session_seconds,
            fetch_wait=kafka.fetch_wait_seconds,
        )
        await source.start()
        self._checks.append(Check("kafka" if shared else f"kafka {topic}", source.check))
        return source

    async def _keep_caught_up(self) -> None:
        """At the start, and whenever a text may have been missed, list what people texted; until then nothing is claimed."""
        while True:
            try:
                await self._parts.control.ready()
            except StoreUnavailable:
                self._catch_up.shut()
            else:
                await self._catch_up.ensure()
            await asyncio.sleep(0.5)

    def _missed(self, account: str | None) -> None:
        """A text was not heeded: it is in its account's list. One that nobody read may be anybody's: for that nothing is held up."""
        if account is not None:
            self._catch_up.shut([account])
        else:
            self._catch_up.look_soon()

    async def _start_web(self, receipts: Any) -> None:
        settings, parts = self._settings, self._parts
        heed, ask = parts.replies(), parts.requests("api")
        replies: HookReplies = heed
        requests: Stops = ask
        if parts.spool is not None:
            spool = await self._start_spooling(parts.spool)
            replies, requests = SpoolingReplies(heed, spool), SpoolingRequests(ask, spool)
        room = Room(settings.web_requests)
        limits = WebLimits(body=settings.web_body_limit)
        webhooks = Webhooks(
            public_url=settings.public_url or "",
            accounts=parts.providers,
            tokens=AttemptTokens(parts.ring.token_key()),
            receipts=receipts,
            replies=replies,
            opt_outs=parts.learning(),
            metrics=parts.metrics,
            room=room,
            limits=limits,
            missed=self._missed,
        )
        api = Api(
            stops=requests,
            stories=parts.operate,
            closings=accounts_of(parts),
            bearers=Bearers(parts.control, token_hash),
            closers=Bearers(Closers(parts.control), token_hash),
            normalise=normal_form,
            metrics=parts.metrics,
            room=room,
            limits=limits,
        )
        app = PublicApp(webhooks, api, public_url=settings.public_url or "")
        self._ports["web"] = await self._serve(app, settings.web_host, settings.web_port, reuse=True)

    async def _start_spooling(self, topic: str) -> Spooling:
        """Connect ahead: what is wrong with the way to Kafka is not to be found out in an outage. The web starts without it all the same."""
        publisher = event_publisher(self._settings)
        self._ends.append(publisher.stop)
        try:
            await publisher.start(3)
        except BrokerUnavailable as fault:
            log.warning("a STOP could not be spooled now", why=str(fault))
        return Spooling(publisher, topic, self._parts.ring.fingerprint(), self._parts.vault, self._parts.metrics)

    async def _start_admin(self) -> None:
        settings = self._settings
        app = AdminApp(self._parts.registry, self._checks)
        self._ports["admin"] = await self._serve(app, settings.admin_host, settings.admin_port, reuse=False)

    async def _serve(self, app: Any, host: str, port: int, *, reuse: bool) -> int:
        server = WebServer(app, host, port, drain_seconds=min(5.0, self._settings.drain_seconds), reuse_port=reuse)
        await server.start()
        self._ends.append(server.stop)
        return server.port

    async def wait(self, stop: asyncio.Event) -> None:
        """Until told to stop. A part that ends by itself is a fault that ends the process: its supervisor starts it anew."""
        stopped = asyncio.create_task(stop.wait())
        done, _ = await asyncio.wait([stopped, *self._tasks], return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        for task in done - {stopped}:
            task.result()
            raise GatewayError(f"{task.get_name()} ended by itself")

    async def stop(self) -> None:
        """Take nothing new, finish what is under way, let go of what others may have; within the drain time."""
        self._stopping = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.drain_seconds):
                for end in reversed(self._ends):
                    try:
                        await end()
                    except GatewayError as fault:
                        log.warning("not ended in order", why=str(fault))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for name in self._names:
            with contextlib.suppress(GatewayError):
                await self._parts.control.release(name, self._parts.name)
        self._fuse.stop()


def _calling(function: Callable[[], None]) -> Callable[[], Awaitable[object]]:
    async def call() -> None:
        function()

    return call


def _calm_collector() -> None:
    """Collect cycles seldom: by Python's own threshold, made for scripts, it takes a fifteenth of a busy worker's time.

    What was made at the start stays as long as the process, and is not looked through again. Nearly all that a message needs is freed
    by its reference counts; what forms cycles (tasks with exceptions) is some objects a message.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


async def run_process(settings: Settings, role: Role, *, ready_fd: int | None = None) -> None:
    """Run a role until SIGTERM or SIGINT. ``ready_fd``: where to write a line of JSON with the ports once all is started."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(handle_loop_exception)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with open_parts(settings, role) as parts:
        process = _Process(parts, role)
        try:
            _calm_collector()  # before the fuse burns: on a busy machine it takes its time
            ports = await process.start()
            log.info("started", role=role, **ports)
            if ready_fd is not None:
                os.write(ready_fd, json.dumps(ports).encode() + b"\n")
                os.close(ready_fd)
            await process.wait(stop)
        finally:
            await process.stop()
    log.info("left", role=role)
