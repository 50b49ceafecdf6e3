"""A file with audit chains: JSON lines. Before each chain a line that says where it begins and ends; then its records, as published."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import IO, Any, Final

from gateway.domain.chain import GENESIS, Anchor, decode, encode
from gateway.domain.chain_check import ChainCheck, Finding
from gateway.flow.audit import AuditReader, ChainEnd, beginning, links_of

__all__ = ["FileReport", "read_chains", "write_chains"]

_FORMAT: Final = "sms-gateway-audit"


@dataclass(slots=True)
class FileReport:
    """What a file holds: its chains, as (tenant, the record before the first one, head, records), and what was found."""

    chains: list[tuple[str, int, Anchor, int]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


async def write_chains(
    out: IO[bytes], reader: AuditReader, ends: list[ChainEnd], at: datetime, advance: Callable[[int], None]
) -> int:
    """Write chains from their anchors to these ends; how many records. Raises StoreUnavailable, OSError."""
    count = 0
    for end in ends:
        start = await beginning(reader, end.tenant, await reader.anchors(end.tenant))
        advance(start.sequence)
        head = {
            "format": _FORMAT,
            "tenant": end.tenant,
            "anchor": _shown(start),
            "head": _shown(end.head),
            "exported_at": _iso(at),
        }
        out.write(json.dumps(head).encode() + b"\n")
        async for links in links_of(reader, end, start):
            out.writelines(encode(link) + b"\n" for link in links)
            count += len(links)
            advance(len(links))
    return count


def read_chains(source: IO[bytes], place: str, advance: Callable[[int], None]) -> FileReport:
    """Look the chains of a file through. It must be read from its beginning; ``advance`` hears of bytes."""
    report = FileReport()
    check: ChainCheck | None = None
    start = head = GENESIS

    def finish() -> None:
        if check is not None:
            report.findings += check.end(head)
            report.chains.append((check.tenant, start.sequence, head, check.records))

    for number, line in enumerate(source, start=1):
        advance(len(line))
        opening = _opening(line)
        if opening is not None:
            finish()
            tenant, start, head = opening
            check = ChainCheck(tenant, place, start)
            continue
        try:
            link = decode(line.rstrip(b"\n"))
        except ValueError:
            report.findings.append(Finding("unreadable", f"{place}, line {number}"))
            continue
        if check is None or link.record.tenant != check.tenant:
            report.findings.append(
                Finding("unreadable", f"{place}, line {number}", detail="it belongs to no chain that is begun above it")
            )
            continue
        check.take(link, f"line {number}")
    finish()
    if not report.chains and not report.findings:
        report.findings.append(Finding("unreadable", place, detail="no chain begins in it"))
    return report


def _opening(line: bytes) -> tuple[str, Anchor, Anchor] | None:
    try:
        found = json.loads(line)
        if found["format"] == _FORMAT:
            return str(found["tenant"]), _anchor(found["anchor"]), _anchor(found["head"])
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    return None


def _shown(anchor: Anchor) -> dict[str, Any]:
    return {"sequence": anchor.sequence, "hash": anchor.hash.hex()}


def _anchor(found: Any) -> Anchor:
    return Anchor(int(found["sequence"]), bytes.fromhex(found["hash"]))


def _iso(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
