"""A CSV of consents: read with the line of every fault, and never with what a faulty row holds, which may be a number anywhere."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
from pydantic import TypeAdapter, ValidationError

from gateway.cli.fields import some_number
from gateway.domain.consent import Scope
from gateway.domain.event_fields import Moment
from gateway.domain.events import OptInProof
from gateway.domain.policy import Policies
from gateway.flow.imports import ImportRow

__all__ = ["Rejected", "reach_fault", "read_consents"]

_NEEDED: Final = ("number", "tenant", "scope", "name", "status", "stated_at")
_PROOF: Final = ("medium", "wording", "form_text_sha256", "form_version", "purpose", "seller", "ip", "campaign", "receipt_id")
_MOMENT: Final = TypeAdapter(Moment)


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that is not taken, and why; never what it holds."""

    line: int
    reason: str


class _Fault(Exception):
    """Why a row is not taken."""


def read_consents(file: Path, policies: Policies) -> Iterator[ImportRow | Rejected]:
    """Every row of a file in UTF-8 whose first line names the columns. UsageError when it is no such file."""
    try:
        with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as opened:
            reader = csv.DictReader(opened, strict=True)
            _check_columns(file, list(reader.fieldnames or ()))
            while True:
                line = reader.line_num + 1
                try:
                    row = next(reader, None)
                    if row is None:
                        return
                    yield _row(line, row, policies)
                except csv.Error:
                    yield Rejected(line, "not CSV: a quote that is not closed, or text after one; what follows is not read")
                    return
                except _Fault as fault:
                    yield Rejected(line, str(fault))
    except OSError as fault:
        raise click.UsageError(f"{file} cannot be read: {fault.strerror}") from None


def reach_fault(policies: Policies, tenant: str | None, scope: Scope, name: str) -> str:
    """What is wrong with a consent's reach, in words that show nothing of it; empty when nothing is."""
    if scope is Scope.ALL:
        return "" if tenant is None and not name else "tenant and name do not go with scope all"
    policy = policies.tenant(tenant) if tenant is not None else None
    if tenant is None:
        return "tenant: is needed, but not with scope all"
    if policy is None:
        return "tenant: no policy has this tenant"
    if scope is Scope.TENANT:
        return "name: goes with scope programme or sender only" if name else ""
    known = list(policy.programmes)
    if scope is Scope.SENDER:
        known = sorted({sender.number for programme in policy.programmes.values() for sender in programme.senders})
    return "" if name in known else f"name: the tenant's policy has no such {scope.value}: there are {', '.join(known)}"


def _check_columns(file: Path, columns: list[str]) -> None:
    missing = [name for name in _NEEDED if name not in columns]
    unknown = sum(name not in (*_NEEDED, *_PROOF) for name in columns)
    if missing or unknown or len(set(columns)) != len(columns):
        what = f"lacks {', '.join(missing)}" if missing else "has columns that are unknown or stand there twice"
        raise click.UsageError(
            f"{file}:1: the first line {what}; it names the columns {', '.join(_NEEDED)}, and of an opt-in's proof {', '.join(_PROOF)}"
        )


def _row(line: int, row: Mapping[str | None, Any], policies: Policies) -> ImportRow:
    if None in row or None in row.values():
        raise _Fault("has not as many cells as the first line")
    cells = {str(name): str(value).strip() for name, value in row.items()}
    if any(not _is_text(value) for value in cells.values()):
        raise _Fault("is not text in UTF-8")
    try:
        scope = Scope(cells["scope"] or "tenant")
    except ValueError:
        raise _Fault("scope: must be sender, programme, tenant or all") from None
    if cells["status"] not in ("in", "out"):
        raise _Fault("status: must be in or out")
    tenant = cells["tenant"] or None
    if fault := reach_fault(policies, tenant, scope, cells["name"]):
        raise _Fault(fault)
    policy = policies.tenant(tenant) if tenant is not None else None
    number = some_number(cells["number"], policy.region if policy is not None else None)
    if isinstance(number, str):
        raise _Fault(f"number: {number}")
    try:
        if cells["status"] == "in":
            proof = OptInProof.model_validate(_proof(cells))
            return ImportRow(line, tenant, number, scope, cells["name"], proof.at, proof)
        stated_at = _MOMENT.validate_python(cells["stated_at"]) if cells["stated_at"] else None
    except ValidationError as error:
        raise _Fault(_first(error)) from None
    return ImportRow(line, tenant, number, scope, cells["name"], stated_at, None)


def _proof(cells: Mapping[str, str]) -> dict[str, str]:
    given = {name: cells[name] for name in _PROOF if cells.get(name)}
    return {**given, **({"at": cells["stated_at"]} if cells["stated_at"] else {})}


def _first(fault: ValidationError) -> str:
    error = fault.errors(include_url=False, include_context=False, include_input=False)[0]
    name = str(error["loc"][0]) if error["loc"] else "stated_at"
    column = "stated_at" if name == "at" else name
    if error["type"] == "missing":
        return f"{column}: is needed for an opt-in"
    return f"{column}: {error['msg']}"


def _is_text(value: str) -> bool:
    return value.isprintable() or not any("\ud800" <= character <= "\udfff" or character == "\0" for character in value)
