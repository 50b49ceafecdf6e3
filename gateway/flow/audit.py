"""Audit: look every chain through, in PostgreSQL and in the topic, and tell where it is not what was written.

Three looks. PostgreSQL: each record by its hash, its place and the one before it, from an anchor or the beginning to the head. The
messages: each has as many records as its own counter says, chained or not. The topic: each record by its hash, its place, and the one
that PostgreSQL holds; it must reach as far as PostgreSQL knows it to be published. Nothing is locked, and the gateway may run meanwhile.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, NamedTuple, Protocol
from uuid import UUID

from gateway.domain.chain import GENESIS, Anchor, Chained, decode
from gateway.domain.chain_check import ChainCheck, Finding, wrong_numbers

__all__ = ["AuditReader", "AuditTopic", "ChainEnd", "Counted", "Looked", "Report", "Tell", "Verification", "silently"]

_POSTGRESQL: Final = "PostgreSQL"
_TOPIC: Final = "the topic"
_BATCH: Final = 1000
_NO_UID: Final = UUID(int=0)
_MOST_FINDINGS: Final = 1000  # of messages' counters; the chain's own are runs

Tell = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""Shows the progress of a look: what it is called and how much there is to do; gives what moves it on."""


def silently(_what: str, _total: int) -> AbstractContextManager[Callable[[int], None]]:
    """Shows nothing."""
    return nullcontext(lambda _count: None)


@dataclass(frozen=True, slots=True)
class ChainEnd:
    """The end of a tenant's chain, and how far it was published; ``published_recently``: so that the topic must have it still."""

    tenant: str
    head: Anchor
    published: int
    published_recently: bool


class Counted(NamedTuple):
    """A message, how many audit records it says that it has, and the numbers of those that there are, in order."""

    tenant: str
    uid: UUID
    steps: int
    numbers: Sequence[int]


class AuditReader(Protocol):
    """What PostgreSQL holds."""

    async def ends(self, recent: timedelta | None) -> list[ChainEnd]:
        """The end of every chain; ``recent``: how long ago counts as such, None for ever."""
        ...

    async def anchors(self, tenant: str) -> list[Anchor]:
        """The anchors of a chain, in order."""
        ...

    async def first(self, tenant: str) -> int | None:
        """The lowest sequence that is there."""
        ...

    async def records(self, tenant: str, after: int, upto: int, most: int) -> list[Chained]:
        """The next records of a chain, in order; of one sequence all."""
        ...

    async def beyond(self, tenant: str) -> tuple[int, int] | None:
        """The first and the last sequence past the head, where there is one."""
        ...

    async def hashes(self, tenant: str, sequences: Sequence[int]) -> dict[int, bytes]:
        """The hashes of those of these records that are there."""
        ...

    async def messages(self) -> int:
        """About how many messages there are."""
        ...

    async def unchained(self) -> dict[str, int]:
        """How many records of each tenant wait to be chained."""
        ...

    async def counted(self, after: UUID, most: int) -> list[Counted]:
        """The next messages by uid, all of one moment."""
        ...


class Logged(Protocol):
    """A record of the topic."""

    @property
    def offset(self) -> int:
        """Where it stands."""
        ...

    @property
    def value(self) -> bytes | None:
        """What it holds."""
        ...


class AuditTopic(Protocol):
    """What the topic holds. ``keeps``: how long; None for ever. ``unreadable``: damaged records, by partition and offset."""

    keeps: timedelta | None
    unreadable: list[tuple[int, int]]

    async def spans(self) -> dict[int, tuple[int, int]]:
        """By partition: its first offset, and the one after its last."""
        ...

    def read(self, partition: int, first: int, end: int) -> AsyncIterator[Sequence[Logged]]:
        """The records of a partition, some at a time."""
        ...


@dataclass(slots=True)
class Looked:
    """What was looked at of one tenant. ``first`` is the record before the first one looked at: an anchor, or 0."""

    first: int = 0
    head: Anchor = GENESIS
    records: int = 0
    published: int = 0
    unchained: int = 0
    topic_records: int | None = None
    topic_repeats: int = 0


@dataclass(slots=True)
class Report:
    """What was looked at, and all that was found."""

    tenants: dict[str, Looked] = field(default_factory=dict)
    messages: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Whether nothing was found."""
        return not self.findings


async def beginning(reader: AuditReader, tenant: str, anchors: Collection[Anchor]) -> Anchor:
    """Where a chain begins: the last of its anchors before the first record that is there."""
    first = await reader.first(tenant)
    return max((one for one in anchors if first is None or one.sequence < first), default=GENESIS)


async def links_of(reader: AuditReader, end: ChainEnd, start: Anchor) -> AsyncIterator[list[Chained]]:
    """The records of a chain after ``start`` up to its head, some at a time."""
    after = start.sequence
    while links := await reader.records(end.tenant, after, end.head.sequence, _BATCH):
        yield links
        after = links[-1].sequence


class Verification:
    """One verification, of all tenants or of some. ``topic`` None leaves the topic out; ``stored`` False all but the topic."""

    def __init__(
        self, reader: AuditReader, topic: AuditTopic | None, tenants: Collection[str] | None = None, *, stored: bool = True
    ) -> None:
        self._reader = reader
        self._topic = topic
        self._tenants = tenants
        self._stored = stored
        self._report = Report()

    async def look(self, tell: Tell = silently) -> Report:
        """Look it all through. Raises StoreUnavailable, BrokerUnavailable."""
        ends = await self._ends()
        unchained = await self._reader.unchained()
        for tenant in ends.keys() | {one for one in unchained if self._wanted(one)}:
            end = ends.get(tenant)
            self._report.tenants[tenant] = Looked(
                head=end.head if end else GENESIS, published=end.published if end else 0, unchained=unchained.get(tenant, 0)
            )
        # The topic's ends are read after the heads: what was published by then stands in it.
        spans = await self._topic.spans() if self._topic is not None else {}
        if self._stored:
            with tell("PostgreSQL", sum(end.head.sequence for end in ends.values())) as advance:
                for end in ends.values():
                    await self._chain(end, advance)
            with tell("messages", await self._reader.messages()) as advance:
                await self._messages(advance)
        if self._topic is not None:
            with tell("topic", sum(end - first for first, end in spans.values())) as advance:
                await self._published(self._topic, spans, ends, advance)
        return self._report

    def _wanted(self, tenant: str) -> bool:
        return self._tenants is None or tenant in self._tenants

    async def _ends(self) -> dict[str, ChainEnd]:
        recent = self._topic.keeps if self._topic is not None else None
        return {end.tenant: end for end in await self._reader.ends(recent) if self._wanted(end.tenant)}

    # -- PostgreSQL -----------------------------------------------------------------------------------------------------------

    async def _chain(self, end: ChainEnd, advance: Callable[[int], None]) -> None:
        """From the last anchor before the first record that there is, up to the head as it was at the beginning."""
        looked = self._report.tenants[end.tenant]
        anchors = await self._reader.anchors(end.tenant)
        start = await beginning(self._reader, end.tenant, anchors)
        looked.first = start.sequence
        advance(start.sequence)
        check = ChainCheck(end.tenant, _POSTGRESQL, start, anchors=dict(anchors))
        after = start.sequence
        async for links in links_of(self._reader, end, start):
            for link in links:
                check.take(link)
            advance(links[-1].sequence - after)
            after = links[-1].sequence
        looked.records = check.records
        self._report.findings += check.end(end.head)
        beyond = await self._reader.beyond(end.tenant)
        if beyond is not None:
            self._report.findings.append(Finding("beyond", _POSTGRESQL, end.tenant, *beyond, detail="past the chain's head"))

    async def _messages(self, advance: Callable[[int], None]) -> None:
        after = _NO_UID
        while messages := await self._reader.counted(after, _BATCH):
            for message in messages:
                if self._wanted(message.tenant):
                    self._report.messages += 1
                    self._counter(message)
            advance(len(messages))
            after = messages[-1].uid

    def _counter(self, message: Counted) -> None:
        looked = self._report.tenants.get(message.tenant)
        begun_later = looked is not None and looked.first > 0  # its first records may lie before the anchor
        wrong = wrong_numbers(message.steps, message.numbers, begun_later=begun_later)
        if wrong and len(self._report.findings) < _MOST_FINDINGS:
            self._report.findings.append(Finding("counter", _POSTGRESQL, message.tenant, uid=message.uid, detail=wrong))

    # -- the topic ------------------------------------------------------------------------------------------------------------

    async def _published(
        self,
        topic: AuditTopic,
        spans: Mapping[int, tuple[int, int]],
        ends: Mapping[str, ChainEnd],
        advance: Callable[[int], None],
    ) -> None:
        checks: dict[str, ChainCheck] = {}
        for partition, (first, end) in spans.items():
            async for records in topic.read(partition, first, end):
                await self._compare(partition, records, checks)
                advance(len(records))
        for partition, offset in topic.unreadable:
            self._report.findings.append(Finding("unreadable", f"{_TOPIC}, partition {partition}, offset {offset}"))
        later = await self._ends()  # only now: what the topic has was in PostgreSQL before
        for tenant in sorted(ends.keys() | checks.keys()):
            check = checks.get(tenant)
            looked = self._report.tenants.setdefault(tenant, Looked())
            looked.topic_records = 0 if check is None else check.records
            looked.topic_repeats = 0 if check is None else check.repeated
            published = ends[tenant].published if tenant in ends else 0
            if check is None:
                # Nothing of it is there, as after a week of silence. What was published lately must be.
                if published and ends[tenant].published_recently:
                    self._report.findings.append(Finding("cut", _TOPIC, tenant, published, published, detail="nothing is there"))
                continue
            self._report.findings += check.end(None)
            last, head = check.last or 0, later[tenant].head.sequence if tenant in later else 0
            if last < published:
                self._report.findings.append(Finding("cut", _TOPIC, tenant, last + 1, published))
            elif last > head:
                self._report.findings.append(Finding("cut", _POSTGRESQL, tenant, head + 1, last, detail="the topic has more"))

    async def _compare(self, partition: int, records: Sequence[Logged], checks: dict[str, ChainCheck]) -> None:
        chains: dict[str, list[tuple[int, Chained]]] = {}
        for record in records:
            try:
                link = decode(record.value or b"")
            except ValueError:
                place = f"{_TOPIC}, partition {partition}, offset {record.offset}"
                self._report.findings.append(Finding("unreadable", place))
                continue
            if self._wanted(link.record.tenant):
                chains.setdefault(link.record.tenant, []).append((record.offset, link))
        for tenant, links in chains.items():
            known = await self._reader.hashes(tenant, [link.sequence for _, link in links])
            check = checks.setdefault(tenant, ChainCheck(tenant, _TOPIC, None, repeats=True))
            for offset, link in links:
                check.take(link, f"partition {partition}, offset {offset}", known=known.get(link.sequence))
