"""The command line against a gateway that runs: real processes, embedded servers, a simulated carrier."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest
import structlog

from gateway.app.keys import open_ring
from gateway.app.running import running_environment
from gateway.app.simulated import account_settings, simulated_accounts
from gateway.bus.address import BrokerAddress
from gateway.bus.topics import TopicSpec, apply, describe
from gateway.cli.root import run
from gateway.crypto.subjects import Subjects
from gateway.domain.policy_files import load_policies
from gateway.embedded.postgres import EmbeddedPostgres
from gateway.settings import load
from tests.canary import CANARY_BODY, CANARY_NUMBER, traces_in
from tests.kafka.server import KafkaServer
from tests.support import free_port, run_apart, until_sync

PROJECT = Path(__file__).parents[2]
START_SECONDS = 60.0  # on a busy machine
SHOP = ["--tenant", "harbour-books"]

Cli = Callable[..., tuple[int, str, str]]


class Gateway:
    """``gateway run`` as a process of its own, and all that it starts."""

    def __init__(self, directory: Path, **environment: str) -> None:
        self.directory = directory
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")},
            "GATEWAY_STATE_DIRECTORY": str(directory / "state"),
            "GATEWAY_WEB_PORT": "0",
            "GATEWAY_ADMIN_PORT": "0",
            **environment,
        }
        self.process: subprocess.Popen[bytes] | None = None
        self.addresses: dict[str, str] = {}

    def start(self, *arguments: str) -> None:
        out, err = self.directory / "out", self.directory / "err"
        with out.open("wb") as stdout, err.open("ab") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gateway", "run", "--json", *arguments],
                stdout=stdout,
                stderr=stderr,
                cwd=PROJECT,
                env=self.environment,
                start_new_session=True,
            )
        told = until_sync(self._told, START_SECONDS, "the start")
        assert told is not None
        self.addresses = told["addresses"]

    def _told(self) -> dict[str, Any] | None:
        assert self.running.poll() is None, self.log()
        try:
            told: dict[str, Any] = json.loads((self.directory / "out").read_text())
        except ValueError:
            return None
        return told

    @property
    def running(self) -> subprocess.Popen[bytes]:
        assert self.process is not None
        return self.process

    def log(self) -> str:
        return (self.directory / "err").read_text()

    def family(self) -> list[psutil.Process]:
        """All processes below it."""
        return psutil.Process(self.running.pid).children(recursive=True)

    def child(self) -> psutil.Process:
        return next(one for one in self.family() if "--child" in one.cmdline())

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Its exit code; when it has left, nothing that it started is there."""
        family = self.family()
        self.running.send_signal(number)
        code = self.running.wait(40)
        _, left = psutil.wait_procs(family, timeout=20)
        assert [one.cmdline() for one in left] == []
        return code

    def clean(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.end(signal.SIGKILL)
        if data := self.addresses.get("postgresql", "").partition("data in ")[2].rstrip(")"):
            shutil.rmtree(data, ignore_errors=True)

    def metrics(self) -> str:
        """What Prometheus would read of its first process."""
        with urllib.request.urlopen(f"{self.addresses['admin']}/metrics", timeout=30) as answer:  # noqa: S310 -- its own address
            return str(answer.read().decode())

    def carrier(self, path: str, body: Mapping[str, object] | None = None) -> Any:
        """A call of the carrier's control API."""
        request = urllib.request.Request(  # noqa: S310 -- its own address
            f"{self.addresses['carrier']}/_carrier{path}",
            None if body is None else json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return json.load(answer)


def make_gateway(directory: Path, **environment: str) -> Iterator[Gateway]:
    gateway = Gateway(directory, **environment)
    try:
        yield gateway
    finally:
        gateway.clean()


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    """One that a test starts, and ends as it likes."""
    yield from make_gateway(tmp_path)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One that runs for all tests of this file that do not end it."""
    for gateway in make_gateway(tmp_path_factory.mktemp("gateway")):
        gateway.start()
        yield gateway
        assert gateway.end() == 0
        assert not traces_in(gateway.log())


@pytest.fixture
def commands(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Cli]:
    """Commands in this process; what they print holds neither a number nor a text."""
    root = logging.getLogger()
    kept = root.handlers[:], root.level, sys.excepthook, threading.excepthook
    monkeypatch.chdir(PROJECT)

    def call(*arguments: str, given: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given.encode())))
        code = run(arguments)
        out, err = capsys.readouterr()
        assert not traces_in(out + err)
        assert "Traceback" not in err
        return code, out, err

    yield call
    root.handlers[:], root.level, sys.excepthook, threading.excepthook = kept
    structlog.reset_defaults()


@pytest.fixture
def cli(running: Gateway, commands: Cli, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Commands that find the gateway that runs, by its state directory alone."""
    for name in ("GATEWAY_STATE_DIRECTORY", "GATEWAY_WEB_PORT", "GATEWAY_ADMIN_PORT"):
        monkeypatch.setenv(name, running.environment[name])
    return commands


def event(message_id: str, **fields: str) -> str:
    return json.dumps(
        {
            "message_id": message_id,
            "tenant": "harbour-books",
            "programme": "orders",
            "category": "service",
            "to": "+12025550101",
            "body": CANARY_BODY,
            **fields,
        }
    )


def story(cli: Cli, message_id: str) -> dict[str, Any]:
    code, out, _ = cli("status", *SHOP, message_id, "--json")
    told: dict[str, Any] = json.loads(out) if code == 0 else {}
    return told


def until_state(cli: Cli, message_id: str, *states: str) -> dict[str, Any]:
    told: dict[str, Any] = {}

    def reached() -> bool:
        told.update(story(cli, message_id))
        return told.get("state") in states

    until_sync(reached, 30, f"{message_id} {states}")
    return told


# -- accounts ---------------------------------------------------------------------------------------------------------------


def test_accounts_are_shown_and_tried_without_a_text(cli: Cli, running: Gateway) -> None:
    told: list[str] = []

    def well() -> bool:
        code, out, _ = cli("providers", "status", "--json")
        told.append(out)
        return code == 0

    until_sync(well, 30, "the barriers of the start are gone")
    out = told[-1]
    accounts = {one["account"]: one for one in json.loads(out)["accounts"]}
    assert {(one["account"], one["provider"], one["region"], one["health"]) for one in accounts.values()} == {
        ("main", "twilio", "us", "well"),
        ("ringcentral", "ringcentral", "us", "well"),
        ("spare", "twilio", "us", "well"),
    }
    assert all("harbour-books/offers" in one["used_by"] for one in accounts.values())
    assert running.addresses["simulated"] == "main (twilio), ringcentral (ringcentral), spare (twilio)"
    before = running.carrier("/stats")["accepted"]
    for account in accounts:
        code, out, _ = cli("providers", "test", account)
        assert (code, "the account is in order" in out) == (0, True)
    assert running.carrier("/stats")["accepted"] == before
    code, _, err = cli("providers", "test", "other")
    assert (code, "there is main, ringcentral, spare" in err) == (2, True)


def test_an_account_that_is_not_well_is_told_by_the_exit_code(
    cli: Cli, running: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender = "+12125550122"  # nothing else here is sent by it
    url = running_environment(running.directory / "state")["GATEWAY_DATABASE_URL"]
    held = "update paces set hold_until = gateway_now() + interval '1 hour', hold_reason = 'test' where sender = '{}' returning account"
    try:
        assert one_of(url, held.format(sender)) == "main"
        code, out, _ = cli("providers", "status", "--json")
        assert (code, [one["sender"] for one in json.loads(out)["held_senders"]]) == (1, [sender])
    finally:
        one_of(url, f"update paces set hold_until = '-infinity', hold_reason = null where sender = '{sender}' returning 1")
    for name, value in (("ACCOUNT_SID", "AC" + "f" * 32), ("AUTH_TOKEN", "wrong"), ("API_BASE", running.addresses["carrier"])):
        monkeypatch.setenv(f"GATEWAY_ACCOUNTS__MAIN__{name}", value)
    monkeypatch.setenv("GATEWAY_PUBLIC_URL", "https://gateway.example")
    code, out, _ = cli("providers", "test", "main", "--json")
    assert code == 1
    assert [one["what"] for one in json.loads(out)["findings"] if not one["well"]] == ["signs in"]


def test_a_way_out_is_shown_and_the_number_is_not(cli: Cli) -> None:
    asked = ["--tenant", "northside-clinic", "--programme", "appointments", "--category"]
    code, out, _ = cli("policy", "route", *asked, "service", "--json", given=f"{CANARY_NUMBER}\n")
    told = json.loads(out)
    assert (code, told["rule"], told["country"]) == (0, "routing.senders", "US")
    assert sorted(way["sender"] for way in told["ways"]) == ["+12125550120", "+12125550121"]
    assert cli("policy", "route", *asked, "service", given=f"{CANARY_NUMBER}\n")[0] == 0
    code, out, _ = cli("policy", "route", *asked, "marketing", given=f"{CANARY_NUMBER}\n")
    assert (code, "refused: category_not_allowed (routing.category_not_allowed)" in out) == (1, True)


# -- messages -----------------------------------------------------------------------------------------------------------------


def test_a_message_is_published_sent_and_its_story_told(cli: Cli, running: Gateway) -> None:
    code, out, _ = cli("publish", "-", "--json", given=event("told-1", to=CANARY_NUMBER[:-4] + "0101"))
    assert code == 0
    assert json.loads(out)["published"] == 1
    told = until_state(cli, "told-1", "delivered")
    assert told["rule"] == "default.allowed"
    assert told["policy"]
    assert [step["step"] for step in told["steps"]][:2] == ["decided", "claimed"]
    assert told["steps"][-1]["evidence"] == "callback"
    code, out, _ = cli("status", *SHOP, "told-1")
    assert code == 0
    assert out.startswith("delivered (final): the carrier reports delivery")
    assert told["provider_message_id"] in out
    assert running.carrier("/stats")["duplicates"] == 0


def test_many_are_published_from_a_file_and_the_same_again_is_heeded_once(cli: Cli, running: Gateway, tmp_path: Path) -> None:
    file = tmp_path / "many.jsonl"
    file.write_text("\n".join(event(f"many-{number}", to=f"+1202555{number:04d}") for number in range(1100, 1130)))
    before = running.carrier("/stats")["accepted"]
    for _ in range(2):
        assert cli("publish", str(file))[1] == "30 events published to sms.outbound.v1\n"
    assert running.carrier(f"/stats?accepted={before + 30}&within=30")["accepted"] == before + 30
    until_state(cli, "many-1129", "delivered")
    assert running.carrier("/stats?quiet=1")["accepted"] == before + 30


def test_a_message_from_options_takes_its_number_from_standard_input(cli: Cli) -> None:
    options = [*SHOP, "--programme", "offers", "--category", "marketing", "--message-id", "asked-1"]
    assert cli("publish", *options, given=f"{CANARY_NUMBER}\n{CANARY_BODY}\n")[0] == 0
    assert until_state(cli, "asked-1", "blocked")["reason"] == "no_opt_in"
    assert "no opt-in of the person is on record" in cli("status", *SHOP, "asked-1")[1]


def test_a_message_that_is_not_there_is_said_so(cli: Cli) -> None:
    code, out, err = cli("status", *SHOP, "no-such-message")
    assert (code, out) == (1, "")
    assert err.startswith("error: no message of this tenant")
    assert cli("cancel", *SHOP, "no-such-message")[0] == 1
    assert cli("status", "no-tenant-named")[0] == 2
    assert cli("status", "--tenant", "nobody", "x")[0] == 2


def test_a_paused_message_waits_and_can_be_canceled(cli: Cli) -> None:
    scope = [*SHOP, "--programme", "orders"]
    assert cli("pause", *scope, "--why", "wrong prices")[1] == "paused\n"
    try:
        assert cli("pause", *scope)[1] == "was paused already\n"
        listed = json.loads(cli("pauses", "--json")[1])["pauses"]
        assert [(one["scope"], one["tenant"], one["name"], one["why"]) for one in listed] == [
            ("programme", "harbour-books", "orders", "wrong prices")
        ]
        assert listed[0]["actor"].startswith("cli:")
        assert cli("publish", "-", given=event("held-1") + "\n" + event("held-2"))[0] == 0
        until_sync(lambda: story(cli, "held-1") and story(cli, "held-2"), 30)
        assert story(cli, "held-1")["queued"] == "waiting"
        assert "wrong prices" in cli("status", *SHOP, "held-1")[1]
        assert cli("cancel", *SHOP, "held-1")[1] == "canceled\n"
        assert story(cli, "held-1")["state"] == "canceled"
        assert cli("cancel", *SHOP, "held-1")[0] == 1
    finally:
        assert cli("resume", *scope)[1] == "resumed\n"
    assert json.loads(cli("pauses", "--json")[1]) == {"pauses": []}
    until_state(cli, "held-2", "delivered")


@pytest.mark.parametrize("scope", [[], ["--provider", "twilio"], SHOP], ids=["everything", "provider", "tenant"])
def test_each_kind_of_pause_is_made_and_taken_back(cli: Cli, scope: list[str]) -> None:
    assert cli("pause", *scope)[1] == "paused\n"
    assert len(json.loads(cli("pauses", "--json")[1])["pauses"]) == 1
    assert cli("resume", *scope)[1] == "resumed\n"
    assert cli("resume", *scope)[1] == "was not paused\n"


@pytest.mark.parametrize(
    "scope", [["--provider", "twilio", *SHOP], [*SHOP, "--programme", "nonsense"], ["--programme", "orders"]]
)
def test_a_pause_of_what_is_not_there_is_wrong_usage(cli: Cli, scope: list[str]) -> None:
    assert cli("pause", *scope)[0] == 2


# -- people -------------------------------------------------------------------------------------------------------------------


def test_a_text_of_stop_is_in_force_for_what_follows(cli: Cli, running: Gateway) -> None:
    person = "+12025550102"
    answer = running.carrier("/inbound", {"from": person, "to": "+14155550111", "body": "STOP"})
    assert [webhook["status"] for webhook in answer["webhooks"]] == [204]
    shown = json.loads(cli("consent", "show", "--json", given=person)[1])["consents"]
    assert [(one["scope"], one["name"], one["status"]) for one in shown] == [("programme", "orders", "out")]
    assert shown[0]["in_force_at"]
    assert cli("publish", "-", given=event("after-stop", to=person))[0] == 0
    assert until_state(cli, "after-stop", "blocked")["reason"] == "opted_out"


def test_consent_is_stopped_started_and_shown_by_number(cli: Cli) -> None:
    reach = [*SHOP, "--scope", "programme", "--name", "offers"]
    assert cli("consent", "show", given=CANARY_NUMBER)[1].startswith("nothing is on record")
    assert cli("consent", "stop", *reach, given=f"{CANARY_NUMBER}\n")[1] == "in force\n"
    proof = ["--medium", "paper", "--wording", "Yes, text me."]
    code, _, err = cli("consent", "start", *reach, *proof, "--at", "2020-01-01T00:00:00Z", given=CANARY_NUMBER)
    assert code == 1
    assert "an opt-out stands" in err
    code, out, _ = cli("consent", "start", *reach, *proof, "--at", "2199-01-01T00:00:00Z", "--json", given=CANARY_NUMBER)
    assert code == 1
    assert json.loads(out) == {"granted": False, "why": "proof_from_the_future"}
    assert cli("consent", "start", *SHOP, *proof, "--at", "2020-01-01", given=CANARY_NUMBER)[0] == 2
    code, out, _ = cli("consent", "show", *SHOP, given=CANARY_NUMBER)
    assert "out" in out
    assert cli("consent", "show", "--tenant", "northside-clinic", given=CANARY_NUMBER)[1].startswith("nothing")
    assert cli("consent", "show", given="nonsense")[0] == 1
    assert cli("consent", "show", given="")[0] == 1


COLUMNS = ["number", "tenant", "scope", "name", "status", "stated_at", "medium"]


def write(file: Path, rows: list[tuple[str, ...]], columns: list[str] | None = None) -> Path:
    with file.open("w", encoding="utf-8", newline="") as out:
        csv.writer(out).writerows([columns or COLUMNS, *rows])
    return file


def offers(number: str, status: str, stated_at: str = "", medium: str = "") -> tuple[str, ...]:
    return (number, "harbour-books", "programme", "offers", status, stated_at, medium)


def imported(cli: Cli, file: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    code, out, _ = cli("consent", "import", str(file), "--json", *arguments)
    return code, json.loads(out)


def test_an_import_never_resubscribes_and_may_be_repeated(cli: Cli, tmp_path: Path) -> None:
    stopped, fresh, canary = "+12025550111", "+12025550112", CANARY_NUMBER[:-1] + "4"
    assert cli("consent", "stop", *SHOP, given=stopped)[1] == "in force\n"  # of the whole tenant: it covers the programme
    file = write(
        tmp_path / "list.csv",
        [
            offers(stopped, "in", "2026-05-01T09:00:00Z", "web"),
            offers(fresh, "in", "2026-05-01T09:00:00Z", "web"),
            offers(canary, "out", "2026-05-01T09:00:00+02:00"),
            offers(canary, "in", "2026-06-01T09:00:00Z", "web"),  # later than the list's own opt-out: still it undoes none
        ],
    )
    code, told = imported(cli, file, "--dry-run")
    assert (code, told["rows"], told["opted_out"]) == (0, 4, 0)
    code, told = imported(cli, file)
    assert code == 0
    assert {name: told[name] for name in ("opted_in", "opted_out", "kept_out", "unchanged")} == {
        "opted_in": 1,
        "opted_out": 1,
        "kept_out": 2,
        "unchanged": 0,
    }
    code, told = imported(cli, file)
    assert (told["unchanged"], told["kept_out"], told["opted_in"], told["opted_out"]) == (2, 2, 0, 0)
    shown = json.loads(cli("consent", "show", "--json", given=canary)[1])["consents"]
    assert [(one["status"], one["stated_at"], one["version"]) for one in shown] == [("out", "2026-05-01T07:00:00.000+00:00", 1)]
    older = write(tmp_path / "older.csv", [offers(fresh, "out", "2026-04-01T09:00:00Z")])
    assert imported(cli, older)[1]["kept_in"] == 1
    undated = write(tmp_path / "undated.csv", [offers(fresh, "out")])
    assert imported(cli, undated)[1]["opted_out"] == 1


def test_rows_that_are_wrong_are_reported_by_line_and_the_others_taken(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "list.csv"
    good = offers("+12025550113", "out")
    rows = [
        good,
        offers("12", "out"),
        offers(CANARY_NUMBER, "gone"),
        offers(CANARY_NUMBER, "in", "2026-05-01T09:00:00Z"),
        offers(CANARY_NUMBER, "in", "", "web"),
        offers(CANARY_NUMBER, "in", "2199-05-01T09:00:00Z", "web"),
        offers(CANARY_NUMBER, "out", CANARY_NUMBER),
        (CANARY_NUMBER, CANARY_NUMBER, "tenant", "", "out", "", ""),
        (CANARY_NUMBER, "harbour-books", CANARY_NUMBER, "", "out", "", ""),
        (CANARY_NUMBER, "harbour-books", "programme", CANARY_NUMBER, "out", "", ""),
        (CANARY_NUMBER, "harbour-books"),
        ("+1 202 555\n0114", "harbour-books", "tenant", "", "out", "", ""),
        offers("+12025550115", "out"),
    ]
    write(file, rows)
    code, told = imported(cli, file)
    assert code == 1
    assert (told["rows"], told["rejected"]) == (13, 10), told
    assert told["opted_out"] == 3
    reasons = {one["line"]: one["reason"] for one in told["rejects"]}
    assert reasons[3] == "number: too_short"
    assert reasons[4].startswith("status:")
    assert reasons[5].startswith("medium:")
    assert reasons[6].startswith("stated_at:")
    assert reasons[7] == "stated_at: lies in the future"
    assert reasons[8].startswith("stated_at:")
    assert reasons[9].startswith("tenant:")
    assert reasons[10].startswith("scope:")
    assert reasons[11].startswith("name:")
    assert reasons[12] == "has not as many cells as the first line"
    report = Path(told["rejects_file"])
    assert not traces_in(report.read_text())
    with report.open(newline="") as lines:
        assert [int(row["line"]) for row in csv.DictReader(lines)] == sorted(reasons)
    code, out, err = cli("consent", "import", str(file))
    assert f"{file}:4: status: must be in or out" in err
    assert "rejected" in out


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"number,tenant\n",
        b"number,tenant,scope,name,status,stated_at,colour\n",
        b"number,number,tenant,scope,name,status,stated_at\n",
    ],
)
def test_a_file_that_is_no_list_is_wrong_usage(cli: Cli, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "list.csv"
    file.write_bytes(content)
    code, _, err = cli("consent", "import", str(file))
    assert code == 2
    assert "list.csv:1: the first line" in err


def test_bytes_that_are_no_text_are_a_rejected_row(cli: Cli, tmp_path: Path) -> None:
    file = write(tmp_path / "list.csv", [offers("+12025550116", "out")])
    file.write_bytes(file.read_bytes() + b"+12025550117,harbour-books,tenant,,out,,\xff\n" + b'"+12025550118,never closed')
    code, told = imported(cli, file)
    assert code == 1
    assert told["opted_out"] == 1
    assert [one["line"] for one in told["rejects"]] == [3, 4]


# -- audit --------------------------------------------------------------------------------------------------------------------


def audited(cli: Cli, tmp_path: Path) -> Path:
    """A file with the chains of the gateway that runs, once a message of the shop is in them."""
    assert cli("publish", "-", given=event("audited"))[0] == 0
    until_state(cli, "audited", "delivered")

    def chained() -> bool:
        code, out, err = cli("audit", "verify", "--json")
        told = json.loads(out)
        assert code == 0, (err, told["findings"])
        return all(chain["unchained"] == 0 and chain["published"] == chain["to"] > 0 for chain in told["chains"])

    until_sync(chained, 30, "chains")
    file = tmp_path / "audit.jsonl"
    code, out, _ = cli("audit", "export", str(file))
    assert code == 0
    assert f"records written to {file}" in out
    return file


def test_the_audit_is_verified_where_it_is_and_in_a_file(cli: Cli, tmp_path: Path) -> None:
    file = audited(cli, tmp_path)
    assert file.stat().st_mode & 0o777 == 0o600
    code, out, _ = cli("audit", "verify", *SHOP)
    assert code == 0
    assert "harbour-books" in out
    assert "northside-clinic" not in out
    assert "whole: nothing was found" in out
    assert "Not seen: a chain that was made anew" in out
    for where in ("postgresql", "topic"):
        assert cli("audit", "verify", "--in", where)[0] == 0
    code, out, _ = cli("audit", "verify", str(file), "--json")
    told = json.loads(out)
    assert (code, told["whole"], told["findings"]) == (0, True, [])
    assert sum(chain["records"] for chain in told["chains"]) == len(file.read_text().splitlines()) - len(told["chains"])

    code, _, err = cli("audit", "export", str(file))  # it is there, and stays as it is
    assert code == 1
    assert f"{file} cannot be written: File exists" in err
    code, _, err = cli("audit", "verify", "--tenant", "nobody")
    assert code == 1
    assert "there is no audit of a tenant nobody" in err
    assert cli("audit", "verify", str(file), *SHOP)[0] == 2
    assert cli("audit", "verify", str(tmp_path / "none"))[0] == 2


def test_whatever_is_done_to_a_file_is_found_at_its_line(cli: Cli, tmp_path: Path) -> None:
    assert cli("audit", "export", *SHOP, str(audited(cli, tmp_path).with_name("shop.jsonl")))[0] == 0
    lines = (tmp_path / "shop.jsonl").read_bytes().splitlines(keepends=True)
    assert len(lines) > 4
    last = len(lines) - 1
    head, *records = lines
    opening = json.loads(head)
    anchor = {**opening, "anchor": {**opening["anchor"], "hash": "ab" * 32}}
    spoilt: list[tuple[list[bytes], str]] = [
        (
            [head, records[0], records[1].replace(b'"actor":"', b'"actor":"x'), *records[2:]],
            "harbour-books record 2 in {}, line 3: changed",
        ),
        ([head, records[0], records[2], records[1], *records[3:]], "record 2 in {}, line 4: comes after a later record"),
        ([head, records[0], *records[2:]], "record 2 in {}: missing"),
        ([head, *records[:-2]], f"records {last - 1} to {last} in {{}}: missing at the end"),
        ([head, *records, records[0]], f"record 1 in {{}}, line {last + 2}: there twice"),
        ([head, *records[:-1], records[-1][:-20]], f"a record in {{}}, line {last + 1}: is no record of a chain"),
        ([json.dumps(anchor).encode() + b"\n", *records], "record 1 in {}, line 2: does not follow the record before it"),
        (records, "a record in {}, line 1: is no record of a chain (it belongs to no chain that is begun above it)"),
        ([b"{}\n"], "a record in {}, line 1: is no record of a chain"),
        ([], "a record in {}: is no record of a chain (no chain begins in it)"),
    ]
    for number, (content, expected) in enumerate(spoilt):
        file = tmp_path / f"spoilt-{number}.jsonl"
        file.write_bytes(b"".join(content))
        code, out, _ = cli("audit", "verify", str(file))
        assert code == 1, expected
        assert expected.format(file) in out, out


# -- tokens, topics, database -------------------------------------------------------------------------------------------------


def test_a_token_opens_the_api_until_it_is_revoked(cli: Cli, running: Gateway) -> None:
    code, out, err = cli("tokens", "create", "shop-backend", *SHOP)
    assert code == 0
    assert "cannot be shown again" in err
    token = out.strip()

    def status_of(path: str) -> int:
        request = urllib.request.Request(f"{running.addresses['web']}{path}", headers={"Authorization": f"Bearer {token}"})  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
                return int(answer.status)
        except urllib.request.HTTPError as answer:
            with answer:
                return int(answer.code)

    assert status_of("/v1/messages/harbour-books/none") == 404
    assert status_of("/v1/messages/northside-clinic/none") == 403
    listed = cli("tokens", "list", "--json")[1]
    assert token not in listed
    assert [(one["name"], one["tenants"], one["revoked_at"]) for one in json.loads(listed)["tokens"]] == [
        ("shop-backend", ["harbour-books"], None)
    ]
    assert cli("tokens", "create", "shop-backend", "--all-tenants")[0] == 1
    assert cli("tokens", "revoke", "shop-backend")[1] == "revoked\n"
    until_sync(lambda: status_of("/v1/messages/harbour-books/none") == 401, 30)
    assert cli("tokens", "revoke", "shop-backend")[0] == 1
    assert cli("tokens", "create", "other", "--tenant", "nobody")[0] == 2


def test_topics_are_shown_and_left_as_they_are(cli: Cli) -> None:
    code, out, _ = cli("topics", "show", "--json")
    assert code == 0
    assert {one["topic"]: one["partitions"] for one in json.loads(out)["topics"]}["sms.outbound.v1"] == 6
    code, out, _ = cli("topics", "apply", "--json")
    assert code == 0
    assert {one["what"] for one in json.loads(out)["topics"]} == {"unchanged"}
    assert cli("topics", "apply", "--partitions", "3")[0] == 1
    assert cli("migrate")[1] == "the database is up to date\n"


def test_a_command_reaches_the_server_that_is_set_and_no_embedded_one(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as own:
        own.setenv("GATEWAY_DATABASE_URL", f"postgresql://nobody:secret@127.0.0.1:{free_port()}/none")
        for command in (["migrate"], ["status", *SHOP, "x"], ["pauses"]):
            code, out, err = cli(*command)
            assert (code, out) == (1, "")
            assert err.startswith("error: PostgreSQL cannot be reached")
        assert cli("topics", "show")[0] == 0  # what is not set is still the embedded one
    monkeypatch.setenv("GATEWAY_KAFKA__SERVERS", f"127.0.0.1:{free_port()}")
    for command in (["topics", "show"], ["publish", "-"]):
        code, out, err = cli(*command, given=event("elsewhere-1"))
        assert (code, out) == (1, "")
        assert err.splitlines()[-1].startswith("error: Kafka")
    assert cli("migrate")[1] == "the database is up to date\n"


def test_topics_are_altered_on_apache_kafka(
    commands: Cli, kafka_server: KafkaServer, unique: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What can be changed is; partitions cannot, and what was set by hand stays."""
    monkeypatch.setenv("GATEWAY_STATE_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("GATEWAY_KAFKA__SERVERS", kafka_server.bootstrap_servers)
    for name in ("OUTBOUND", "STATUS", "INBOUND", "CONSENT", "DEAD_LETTER", "METRICS", "AUDIT", "STOP_SPOOL"):
        monkeypatch.setenv(f"GATEWAY_KAFKA__TOPICS__{name}", f"{unique}.{name}")
    address, outbound = BrokerAddress(kafka_server.bootstrap_servers), f"{unique}.OUTBOUND"
    by_hand = TopicSpec(outbound, 3, {"retention.ms": "1000", "max.message.bytes": "50000"})
    assert [one.what for one in run_apart(apply(address, [by_hand]))] == ["created"]

    def applied(*arguments: str) -> tuple[int, dict[str, dict[str, str]]]:
        code, out, _ = commands("topics", "apply", "--json", *arguments)
        return code, {one["topic"]: one for one in json.loads(out)["topics"]}

    code, changes = applied("--partitions", "3")
    assert code == 0
    assert changes[outbound]["what"] == "altered"
    # the strictest of the policies, of a tenant that is not enabled, keeps content for 6 days: a day for the segment, two hours for clocks and the broker
    assert "retention.ms=424800000 (is 1000)" in changes[outbound]["detail"]
    assert {one["what"] for topic, one in changes.items() if topic != outbound} == {"created"}
    facts = run_apart(describe(address, [outbound, f"{unique}.CONSENT"]))
    assert facts[outbound].retention_ms == (5 * 24 - 2) * 3600 * 1000
    assert facts[outbound].config["max.message.bytes"] == "50000"
    assert facts[f"{unique}.CONSENT"].config["cleanup.policy"] == "compact"
    code, changes = applied("--partitions", "3")
    assert (code, {one["what"] for one in changes.values()}) == (0, {"unchanged"})
    code, changes = applied("--partitions", "4")
    assert (code, changes[outbound]["what"]) == (1, "differs")
    assert run_apart(describe(address, [outbound]))[outbound].partitions == 3


def accounts_of_the_shipped_policies() -> dict[str, str]:
    """Settings of every account that they send by, at an address where nobody is."""
    accounts = simulated_accounts(load_policies(Path("policies")))
    return account_settings(accounts, f"http://127.0.0.1:{free_port()}", "secret")


def test_a_start_on_servers_that_lack_something_is_refused_with_the_command_that_makes_it(
    commands: Cli, empty_database_url: str, broker: str, unique: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environment = {
        "GATEWAY_STATE_DIRECTORY": str(tmp_path),
        "GATEWAY_DATABASE_URL": empty_database_url,
        "GATEWAY_KAFKA__SERVERS": broker,
        "GATEWAY_KAFKA__IDEMPOTENT": "false",
        "GATEWAY_KAFKA__SPOOL": "false",
        "GATEWAY_PUBLIC_URL": "http://127.0.0.1:9",
        **accounts_of_the_shipped_policies(),
        "GATEWAY_WEB_PORT": "0",
        "GATEWAY_ADMIN_PORT": "0",
    }
    environment |= {f"GATEWAY_KAFKA__TOPICS__{name}": f"{unique}.{name}" for name in ("OUTBOUND", "STATUS", "INBOUND", "CONSENT")}
    environment["GATEWAY_KAFKA__TOPICS__DEAD_LETTER"] = f"{unique}.dead"
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    def refused(*arguments: str) -> str:
        code, out, err = commands("run", *arguments)
        assert (code, out) == (1, "")
        said = err.splitlines()[-1]  # what Kafka's client logs before it is not ours
        assert said.startswith("error: ")
        return said

    assert "gateway migrate" in refused("--role", "web")
    assert json.loads(commands("migrate", "--json")[1])["applied"]
    assert json.loads(commands("migrate", "--json")[1])["applied"] == []
    assert "gateway topics apply" in refused()
    assert commands("topics", "show")[0] == 1
    code, out, _ = commands("topics", "apply", "--partitions", "2")
    assert code == 0
    assert "created" in out
    monkeypatch.setenv("GATEWAY_MESSAGE_ID_WINDOW_DAYS", "4")
    assert "longer than message ids are remembered" in refused("--role", "worker")
    monkeypatch.delenv("GATEWAY_MESSAGE_ID_WINDOW_DAYS")
    monkeypatch.setenv("GATEWAY_KAFKA__SERVERS", f"127.0.0.1:{free_port()}")
    assert "Kafka" in refused("--role", "relay")
    monkeypatch.setenv("GATEWAY_DATABASE_URL", f"postgresql://nobody:secret@127.0.0.1:{free_port()}/none")
    assert "secret" not in refused()

    for part in make_gateway(tmp_path, **environment):
        part.start("--role", "web")
        assert set(part.addresses) == {"web", "admin"}
        assert part.end() == 0


def test_a_gateway_with_servers_of_its_own_does_not_share_the_web_port_of_another(
    commands: Cli, running: Gateway, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    port = running.addresses["web"].rpartition(":")[2]
    monkeypatch.setenv("GATEWAY_STATE_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("GATEWAY_WEB_PORT", port)
    code, out, err = commands("run")
    assert (code, out) == (1, "")
    assert f"error: can't listen on 127.0.0.1:{port}: " in err


@pytest.mark.parametrize("directory", ["/proc/none/state", "/etc/passwd", "/etc/passwd/state"])
def test_a_state_directory_that_cannot_be_used_is_named(commands: Cli, monkeypatch: pytest.MonkeyPatch, directory: str) -> None:
    monkeypatch.setenv("GATEWAY_STATE_DIRECTORY", directory)
    code, out, err = commands("run")
    assert (code, out) == (2, "")
    assert f"error: settings: state_directory {directory} cannot be used: " in err


def test_a_file_of_any_depth_is_refused_in_a_line(commands: Cli, tmp_path: Path) -> None:
    file = tmp_path / "deep.json"
    file.write_text("[" * 100_000)
    code, out, err = commands("publish", "--validate-only", str(file))
    assert (code, out) == (1, "")
    assert err.startswith("error: not_json: ")


def test_a_part_alone_embeds_nothing(commands: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GATEWAY_STATE_DIRECTORY", str(tmp_path))
    code, _, err = commands("run", "--role", "worker")
    assert code == 2
    assert "database_url and kafka.servers and accounts must be set" in err


# -- processes ----------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_killed_process_is_started_anew_and_a_killed_parent_leaves_nothing(
    gateway: Gateway, commands: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GATEWAY_STATE_DIRECTORY", "GATEWAY_WEB_PORT", "GATEWAY_ADMIN_PORT"):
        monkeypatch.setenv(name, gateway.environment[name])
    gateway.start()
    code, out, err = commands("run")  # a second one on the same state directory
    assert (code, out) == (1, "")
    assert "another gateway runs" in err

    first = gateway.child()
    first.kill()
    until_sync(lambda: "process serves again" in gateway.log(), START_SECONDS)
    assert gateway.child().pid != first.pid
    assert commands("publish", "-", given=event("killed-1"))[0] == 0
    until_state(commands, "killed-1", "delivered")

    assert gateway.end(signal.SIGKILL) == -signal.SIGKILL
    assert commands("status", *SHOP, "killed-1")[0] == 2  # its addresses are no longer told

    gateway.start()
    assert story(commands, "killed-1")["state"] == "delivered"
    # Ctrl-C in a terminal reaches the whole group
    family = gateway.family()
    os.killpg(gateway.running.pid, signal.SIGINT)
    assert gateway.running.wait(40) == 0
    assert psutil.wait_procs(family, timeout=20)[1] == []
    assert not traces_in(gateway.log())
    assert "Traceback" not in gateway.log()


@pytest.mark.slow
def test_sigterm_while_messages_are_under_way_drains_and_leaves_in_order(
    gateway: Gateway, commands: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("GATEWAY_STATE_DIRECTORY", "GATEWAY_WEB_PORT", "GATEWAY_ADMIN_PORT"):
        monkeypatch.setenv(name, gateway.environment[name])
    gateway.start("--workers", "2")
    assert sum("--child" in one.cmdline() for one in gateway.family()) == 2
    gateway.carrier("/account", {"sid": "AC" + "0" * 28 + "0001", "latency_ms": 300})
    file = tmp_path / "many.jsonl"
    file.write_text("\n".join(event(f"drain-{number}", to=f"+1202555{number:04d}") for number in range(1200, 1240)))
    assert commands("publish", str(file))[0] == 0
    assert gateway.carrier("/stats?accepted=3&within=30")["accepted"] >= 3
    carrier = next(one for one in gateway.family() if "gateway.simulator" in one.cmdline())
    assert carrier.is_running()
    assert gateway.end() == 0
    assert gateway.log().count('"event":"left"') == 2
    gateway.start()
    # What was not taken in yet went with the embedded broker; of the rest no request was cut off.
    told = [story(commands, f"drain-{number}").get("state") for number in range(1200, 1240)]
    assert "delivered" in told
    assert "unknown" not in told
    assert gateway.end() == 0


@pytest.mark.slow
def test_a_gateway_stops_when_its_embedded_broker_has_died(gateway: Gateway) -> None:
    gateway.start()
    family = gateway.family()
    next(one for one in family if "tansu" in one.name()).kill()
    assert gateway.running.wait(40) == 1
    assert psutil.wait_procs(family, timeout=20)[1] == []
    assert "error: the embedded broker has ended" in gateway.log()


def test_an_opt_out_by_command_is_spooled_while_postgresql_is_away(
    commands: Cli, broker: str, unique: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    topic = f"{unique}.spool"
    run_apart(apply(BrokerAddress(broker), [TopicSpec(topic, 1)]))
    environment = {
        "GATEWAY_STATE_DIRECTORY": str(tmp_path),
        "GATEWAY_DATABASE_URL": f"postgresql://nobody@127.0.0.1:{free_port()}/gateway",
        "GATEWAY_KAFKA__SERVERS": broker,
        "GATEWAY_KAFKA__IDEMPOTENT": "false",
        "GATEWAY_KAFKA__TOPICS__STOP_SPOOL": topic,
        "GATEWAY_PUBLIC_URL": "http://127.0.0.1:9",
        **accounts_of_the_shipped_policies(),
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with open_ring(
        load(environment), make_own=True
    ) as ring:  # of a gateway that was there before: new keys would mean nothing to it
        Subjects(ring.subject_key(), ring.message_id_key())
    code, out, err = commands("consent", "stop", *SHOP, given=CANARY_NUMBER)
    assert code == 0, err
    assert out.splitlines()[-1].startswith("written to Kafka; in force soon after PostgreSQL is back")
    assert commands("consent", "show", given=CANARY_NUMBER)[0] == 1
    monkeypatch.setenv("GATEWAY_KAFKA__SERVERS", f"127.0.0.1:{free_port()}")
    code, out, err = commands("consent", "stop", *SHOP, given=CANARY_NUMBER)
    assert (code, out) == (1, "")
    assert err.splitlines()[-1] == "error: PostgreSQL is away, and Kafka did not take the STOP for it"
    monkeypatch.setenv("GATEWAY_KAFKA__SPOOL", "false")
    code, out, err = commands("consent", "stop", *SHOP, given=CANARY_NUMBER)
    assert (code, out) == (1, "")
    assert err.splitlines()[-1] == "error: PostgreSQL cannot be reached, and there is no spool: nothing was written"


def test_a_whole_gateway_sends_by_its_spool_and_puts_a_stop_in_force_that_found_postgresql_away(
    commands: Cli, own_postgres: EmbeddedPostgres, broker: str, unique: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    topics = ("outbound", "status", "inbound", "consent", "dead_letter", "stop_spool")
    environment = {
        "GATEWAY_DATABASE_URL": own_postgres.url,
        "GATEWAY_KAFKA__SERVERS": broker,
        "GATEWAY_KAFKA__IDEMPOTENT": "false",
        "GATEWAY_KAFKA__SESSION_SECONDS": "2",
        **{f"GATEWAY_KAFKA__TOPICS__{name.upper()}": f"{unique}.{name}" for name in topics},
    }
    for name, value in {**environment, "GATEWAY_STATE_DIRECTORY": str(tmp_path / "state")}.items():
        monkeypatch.setenv(name, value)
    assert commands("migrate")[0] == 0
    assert commands("topics", "apply", "--partitions", "2")[0] == 0
    with contextmanager(make_gateway)(tmp_path, **environment) as gateway:
        gateway.start()
        assert commands("publish", "-", given=event("spool-1", to=STOPPED))[0] == 0
        until_sync(lambda: one_of(own_postgres.url, "select state from messages") in ("sent", "delivered"), 40)
        own_postgres.stop()
        gateway.carrier("/inbound", {"from": STOPPED, "to": "+14155550111", "body": "STOP"})
        spooled = 'sms_gateway_webhooks_total{kind="inbound",result="spooled"} 1.0'
        until_sync(lambda: spooled in gateway.metrics(), 40)
        own_postgres.start()
        until_sync(lambda: one_of(own_postgres.url, "select count(*) from consents where in_force_at is not null") == 1, 40)
        assert commands("publish", "-", given=event("spool-2", to=STOPPED))[0] == 0
        until_sync(lambda: one_of(own_postgres.url, "select state from messages where message_id = 'spool-2'") == "blocked", 40)
        assert gateway.end() == 0
        assert not traces_in(gateway.log())


STOPPED = "+12025550123"


def one_of(url: str, statement: str) -> object:
    """The one value that a statement gives; None also while PostgreSQL is still starting."""

    async def ask() -> object:
        session = await asyncpg.connect(url)
        try:
            return await session.fetchval(statement)
        finally:
            await session.close()

    try:
        return run_apart(ask())
    except (OSError, asyncpg.PostgresError):
        return None
