"""The documents speak of the code: what they name exists, and what is made from the code is today's."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import get_args

import click
import pytest
from prometheus_client import CollectorRegistry

from gateway.cli.root import root
from gateway.domain.states import mermaid
from gateway.store.statements import statements
from gateway.telemetry import Metrics
from tests.chaos.faults import FaultKind

ARCHITECTURE = Path("docs/architecture.md")
OPERATIONS = Path("docs/operations.md")
DOCUMENTS = sorted([*Path().glob("*.md"), *Path("docs").rglob("*.md")])
COMMAND = re.compile(r"(?:^|[\s`(|])(?:\.venv/bin/)?gateway((?: [a-z][a-z-]*)+)")
METRIC = re.compile(r"\bsms_gateway_\w+")


def between(document: Path, marker: str) -> list[str]:
    """What stands between ``<!-- marker -->`` and ``<!-- end -->``, each time."""
    found = re.findall(rf"<!-- {marker} -->\n(.*?)<!-- end -->", document.read_text(encoding="utf-8"), re.DOTALL)
    assert found, f"{document} has no part called {marker}"
    return found


def rows(table: str) -> Iterator[list[str]]:
    for line in table.splitlines()[2:]:
        yield [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")]


def named(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def code_in(document: Path) -> str:
    """The commands of a document: its fenced blocks in sh, and what stands in backticks."""
    text = document.read_text(encoding="utf-8")
    fenced = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return re.sub(r"--config \S+ ", "", "\n".join([*fenced, *inline]))


class TestArchitecture:
    def test_the_state_machine_is_that_of_the_code(self) -> None:
        assert between(ARCHITECTURE, "states") == [f"```mermaid\n{mermaid()}```\n"]

    def test_the_layers_are_those_that_the_linter_holds(self) -> None:
        contracts = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
        (held,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
        (picture,) = between(ARCHITECTURE, "layers")
        drawn = re.findall(r'(l\d)\["([^"]+)"\]', picture)
        arrows = re.findall(r"(l\d)(?:\[[^\]]*\])? --> (l\d)", picture)
        assert [layer for _, layer in drawn] == held
        names = [name for name, _ in drawn]
        assert arrows == list(pairwise(names))

    def test_the_way_names_files_functions_and_statements_that_exist(self) -> None:
        for table in between(ARCHITECTURE, "way"):
            for cells in rows(table):
                (file,) = named(cells[1])
                text = Path("gateway", file).read_text(encoding="utf-8")
                for function in named(cells[2]):
                    assert re.search(rf"def {function}\(", text), f"{file} has no {function}"
                for statement in named(cells[3]):
                    chapter, _, name = statement.partition(".")
                    assert name in statements(chapter), f"{chapter}.sql has no {name}"

    def test_every_table_has_its_line(self) -> None:
        sources = [*Path("gateway/store/migrations").glob("*.sql"), Path("gateway/store/migrate.py")]
        pattern = re.compile(r"(create|drop) table (?:if not exists )?([a-z_]+)(?: \(|;)")
        made: set[str] = set()
        for source in sorted(sources):
            for done, name in pattern.findall(source.read_text(encoding="utf-8")):
                made = made | {name} if done == "create" else made - {name}
        (table,) = between(ARCHITECTURE, "tables")
        assert sorted(name for cells in rows(table) for name in named(cells[0])) == sorted(made)


class TestOperations:
    @cache  # noqa: B019 -- one instance a run
    def _metrics(self) -> frozenset[str]:
        registry = CollectorRegistry()
        Metrics(registry)
        samples = {family.name + ("_total" if family.type == "counter" else "") for family in registry.collect()}
        return frozenset(name for name in samples if name.startswith("sms_gateway_"))

    def test_every_metric_has_its_line(self) -> None:
        (table,) = between(OPERATIONS, "metrics")
        told = [f"sms_gateway_{name}" for cells in rows(table) for name in named(cells[0])]
        assert sorted(told) == sorted(self._metrics())

    @pytest.mark.parametrize("document", DOCUMENTS, ids=str)
    def test_metrics_that_are_named_exist(self, document: Path) -> None:
        known = self._metrics() | {"sms_gateway_build_info"}
        for name in METRIC.findall(document.read_text(encoding="utf-8")):
            assert re.sub(r"_(?:bucket|sum|count)$", "", name) in known, f"{document}: {name}"


def test_figures_beside_other_systems_are_those_of_the_table() -> None:
    """When the bench has written new ones they are to be copied."""
    page = Path("docs/performance.md").read_text(encoding="utf-8")
    table, _, rest = page.partition("<!-- end -->")
    measured = dict(re.findall(r"^\| `(\w+)` \| ([0-9.,]+) \|", table, re.MULTILINE))
    beside = re.findall(r"^\| ours[^|]*`(\w+)` \| ([0-9.,]+) \|", rest, re.MULTILINE)
    assert len(beside) == 5
    assert {name: measured[name] for name, _ in beside} == dict(beside)


def test_every_fault_of_chaos_has_its_line() -> None:
    table = Path("docs/chaos.md").read_text(encoding="utf-8").partition("| fault | what happens |")[2].partition("\n\n")[0]
    told = [name for line in table.splitlines() if line.startswith("| `") for name in named(line.split("|")[1])]
    assert sorted(told) == sorted(get_args(FaultKind))


def test_modules_are_as_short_as_the_rules_say() -> None:
    rule = " ".join(Path("CONTRIBUTING.md").read_text(encoding="utf-8").split())
    assert "Nine modules of ten have at most 230 lines, and none has more than 500" in rule
    lengths = {str(file): len(file.read_text(encoding="utf-8").splitlines()) for file in Path("gateway").rglob("*.py")}
    assert [name for name, length in lengths.items() if length > 500] == []
    assert sum(length > 230 for length in lengths.values()) <= len(lengths) / 10


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
class TestCommands:
    def test_commands_of_the_gateway_exist(self, document: Path) -> None:
        context = click.Context(root)
        for words in COMMAND.findall(code_in(document)):
            name, *more = words.split()
            command = root.get_command(context, name)
            assert command is not None, f"{document}: gateway{words}"
            if isinstance(command, click.Group):
                assert not more or command.get_command(context, more[0]) is not None, f"{document}: gateway{words}"

    def test_targets_of_make_exist(self, document: Path) -> None:
        targets = set(re.findall(r"^([a-z-]+):", Path("Makefile").read_text(encoding="utf-8"), re.MULTILINE))
        assert set(re.findall(r"\bmake ([a-z][a-z-]+)", code_in(document))) <= targets

    def test_links_to_headings_lead_to_one(self, document: Path) -> None:
        text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
        for target, heading in re.findall(r"\[[^\]]*\]\(([^)#\s:]*)#([^)\s]+)\)", text):
            other = document.parent / target if target else document
            if other.suffix == ".md":
                assert heading in headings(other), f"{document}: {target}#{heading}"


@cache
def headings(document: Path) -> frozenset[str]:
    """The names by which headings are linked to, as GitHub makes them."""
    text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return frozenset(re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles)
