"""The command line without a server: help, wrong usage, exit codes, and what it must not import."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import resource
import select
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import click
import pytest

from gateway.app.process import ROLES
from gateway.cli import consent, letter_options, messages, pauses, run, tokens
from gateway.cli.commands import Command, Group
from gateway.cli.document import commands, document
from gateway.cli.root import root
from gateway.cli.root import run as run_command
from gateway.domain.consent import Scope
from gateway.domain.errors import DeadLetterReason
from gateway.domain.events import OptInProof
from gateway.domain.reasons import Reason
from gateway.flow.letters import READ_PAYLOADS
from gateway.providers.names import PROVIDERS
from tests.canary import CANARY_NUMBER, traces_in

PROJECT = Path(__file__).parents[2]
NUMBERS = [CANARY_NUMBER, CANARY_NUMBER[1:], "(310) 555-0193", "310-555-0193"]
ALL = list(commands())
LEAVES = [context for context in ALL if not isinstance(context.command, click.Group)]


def gateway(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    return subprocess.run(
        [sys.executable, "-m", "gateway", *arguments],
        check=False, capture_output=True, text=True, timeout=60, cwd=PROJECT, env=environment,
    )  # fmt: skip


def run_here(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = run_command(arguments)
    out, err = capsys.readouterr()
    assert not traces_in(out + err)
    assert "Traceback" not in err
    return code, out, err


def test_the_page_of_all_commands_is_todays() -> None:
    assert (PROJECT / "docs" / "cli.md").read_text(encoding="utf-8") == document(), (
        "run python -m gateway.cli.document > docs/cli.md"
    )


@pytest.mark.parametrize("context", ALL, ids=[context.command_path for context in ALL])
def test_help_begins_with_a_sentence_and_explains_every_option(context: click.Context) -> None:
    command = context.command
    assert isinstance(command, Command | Group)
    assert command.help
    first = command.help.partition("\n")[0]
    assert first.endswith(".")
    assert first[0].isupper()
    assert "..." not in command.get_short_help_str(100)
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            assert parameter.help, parameter.name
            assert parameter.help.endswith("."), parameter.name


@pytest.mark.parametrize("context", LEAVES, ids=[context.command_path for context in LEAVES])
def test_help_teaches_with_examples_that_call_the_command(context: click.Context) -> None:
    command = context.command
    assert isinstance(command, Command)
    assert command.examples
    assert "Examples:" in context.get_help()
    for what, line in command.examples:
        assert what[0].islower()
        assert len(what) < 90
        words = context.command_path.removeprefix("gateway ")
        assert "gateway " in line
        assert words in line


def test_the_roots_lines_are_those_of_the_commands() -> None:
    told = {name: line for section in root.sections.values() for name, (_, line) in section.items()}
    context = click.Context(root)
    for name, line in told.items():
        command = root.get_command(context, name)
        assert command is not None
        assert command.get_short_help_str(100) == line, name


def test_choices_are_those_of_the_gateway() -> None:
    assert run.ROLES == ROLES
    assert set(consent.SCOPES) == set(Scope)
    provider = next(option for option in pauses.pause.params if option.name == "provider")
    assert isinstance(provider.type, click.Choice)
    assert tuple(provider.type.choices) == PROVIDERS
    medium = next(option for option in consent.start.params if option.name == "medium")
    assert isinstance(medium.type, click.Choice)
    assert tuple(medium.type.choices) == get_args(OptInProof.model_fields["medium"].annotation)
    assert set(messages.WHY) == set(Reason)
    assert get_args(DeadLetterReason) == letter_options.REASONS
    assert READ_PAYLOADS in tokens.RIGHTS


def test_help_imports_next_to_nothing() -> None:
    script = (
        "import sys; from gateway.cli.root import run; run(['--help']); "
        "print([m for m in sys.modules if m.partition('.')[0] in "
        "('twilio', 'aiokafka', 'asyncpg', 'pydantic', 'rich', 'structlog', 'asyncio', 'phonenumbers', 'uvicorn')], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, cwd=PROJECT, timeout=60)
    assert done.stderr.strip() == "[]"
    assert "Examples:" in done.stdout


def test_help_is_fast() -> None:
    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert gateway("--help").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    # 0.08 on the machine of docs/performance.md; aiokafka or twilio would add 0.2
    assert min(seconds() for _ in range(5)) < 0.25


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["run", "--role", "nonsense"],
        ["status"],
        ["publish"],
        ["publish", "no-such-file.json"],
        ["publish", "--tenant", "shop"],
        ["publish", "file.json", "--tenant", "shop"],
        ["tokens", "create", "x"],
        ["tokens", "create", "x", "--tenant", "harbour-books", "--all-tenants"],
        ["settings", "--example", "--markdown"],
        ["consent", "start", "--tenant", "harbour-books"],
        ["consent", "stop", "--tenant", "nobody"],
        ["consent", "stop", "--tenant", "harbour-books", "--scope", "programme", "--name", "nonsense"],
        ["consent", "stop", "--tenant", "harbour-books", "--scope", "all"],
        ["consent", "import", "no-such-file.csv"],
        ["policy", "check", "no-such-folder"],
        ["dead-letters", "show", "no-id"],
        ["dead-letters", "list", "--since", "yesterday"],
        ["dead-letters", "list", "--tenant", "Nobody"],
        ["dead-letters", "replay"],
        ["dead-letters", "replay", "019ab1e0-7c00-7abc-8def-0123456789ab", "--tenant", "harbour-books"],
    ],
)
def test_wrong_usage_is_exit_code_2_and_no_traceback(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(PROJECT)
    code, out, err = run_here(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert err


@pytest.mark.parametrize("written", NUMBERS)
@pytest.mark.parametrize(
    "arguments",
    [["consent", "show"], ["consent", "stop", "--tenant", "harbour-books"], ["consent", "start", "--tenant", "harbour-books"]],
)
def test_a_number_as_an_argument_is_refused_with_a_hint(
    written: str, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run_here(capsys, *arguments, written)
    assert code == 2
    assert "standard input" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ["consent", "stop", f"--number={CANARY_NUMBER}"],
        ["consent", "stop", "--tenant", CANARY_NUMBER],
        ["pause", "--why", f"complaint of {CANARY_NUMBER}"],
        ["pause", "--why", "complaint of 310-555-0193"],
        ["publish", "--tenant", "shop", "--programme", CANARY_NUMBER],
        [CANARY_NUMBER],
        ["dead-letters", "show", CANARY_NUMBER],
        ["dead-letters", "replay", CANARY_NUMBER[1:]],
        ["dead-letters", "list", "--since", CANARY_NUMBER],
    ],
)
def test_a_number_in_the_wrong_place_is_not_shown_again(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_here(capsys, *arguments)[0] == 2


def test_a_wrong_setting_is_one_line_that_names_it(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_WEB_PORT", "many")
    code, out, err = run_here(capsys, "settings")
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1
    assert "GATEWAY_WEB_PORT" in err


def test_without_a_database_it_says_what_to_do(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(PROJECT)
    monkeypatch.setenv("GATEWAY_STATE_DIRECTORY", str(tmp_path))
    code, _, err = run_here(capsys, "status", "--tenant", "harbour-books", "order-1")
    assert code == 2
    assert err.count("\n") == 1
    assert "gateway run" in err
    code, _, err = run_here(capsys, "topics", "show")
    assert code == 2
    assert "GATEWAY_KAFKA__SERVERS" in err


def test_settings_are_shown_without_secrets(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_DATABASE_URL", "postgresql://gateway:hunter2@db.example/gateway")
    monkeypatch.setenv("GATEWAY_PUBLIC_URL", "https://sms.example.com")
    monkeypatch.setenv("GATEWAY_ACCOUNTS__MAIN__ACCOUNT_SID", "AC" + "0" * 32)
    monkeypatch.setenv("GATEWAY_ACCOUNTS__MAIN__AUTH_TOKEN", "hunter3")
    as_table, as_json = (run_here(capsys, *arguments) for arguments in (["settings"], ["settings", "--json"]))
    for code, out, _ in (as_table, as_json):
        assert code == 0
        assert "hunter" not in out
        assert "sms.example.com" in out
    assert json.loads(as_json[1])["kafka"]["group"] == "sms-gateway"


def test_the_settings_page_and_the_example_are_those_of_the_model(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run_here(capsys, "settings", "--markdown")
    assert code == 0
    assert out == (PROJECT / "docs" / "configuration.md").read_text(encoding="utf-8")
    code, out, _ = run_here(capsys, "settings", "--example")
    assert "# web_port = 8080" in out


def test_a_policy_is_checked_and_a_fault_has_its_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(PROJECT)
    code, out, _ = run_here(capsys, "policy", "check", "--json")
    assert code == 0
    rows = {row["tenant"]: row for row in json.loads(out)["policies"]}
    assert {tenant for tenant, row in rows.items() if row["enabled"]} == {"harbour-books", "northside-clinic"}
    assert {note["more"] for note in rows["leatherscin"]["notes"] if note["what"] == "not built"} == {"attentive"}
    assert {note["key"] for note in rows["leman"]["notes"] if note["what"] == "for ever"} == {
        "retention.content",
        "retention.events",
    }
    code, out, _ = run_here(capsys, "policy", "check", "policies/leadmark.yaml")
    assert code == 0
    assert re.search(r"leadmark +UNSET +retention\.content +policies/leadmark\.yaml:\d+ +taking messages in needs it", out)
    (tmp_path / "shop.yaml").write_text("tenant: shop\nname: Shop\nprovider: twilio\n")
    code, _, err = run_here(capsys, "policy", "check", str(tmp_path))
    assert code == 2
    assert "shop.yaml:" in err
    text = (PROJECT / "policies" / "leadmark.yaml").read_text()
    (tmp_path / "leadmark.yaml").write_text(text.replace("calendar: NL", "calendar: XX"))
    code, _, err = run_here(capsys, "policy", "check", str(tmp_path / "leadmark.yaml"))
    assert code == 2
    assert "leadmark.yaml:7: calendar: must be a country whose holidays are known" in err


def test_a_policy_is_shown_with_the_place_of_each_value(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(PROJECT / "policies" / "leman.yaml", tmp_path)
    overlay = tmp_path / "leman.overlay.yaml"
    overlay.write_text("retention:\n  content: 24mo\n")
    monkeypatch.setenv("GATEWAY_POLICIES_DIRECTORY", str(tmp_path))
    code, out, _ = run_here(capsys, "policy", "show", "leman", "--json")
    assert code == 0
    values = {row["key"]: row for row in json.loads(out)["values"]}
    assert values["retention.content"] == {
        "key": "retention.content",
        "value": "24mo",
        "source": f"{overlay}:2",
        "held": "enforced",
    }
    assert values["providers"]["held"] == "UNSET"
    assert values["notice.role"]["held"] == "stated"
    code, out, _ = run_here(capsys, "policy", "show", "leman")
    assert re.search(r"retention\.exports +the shortest of 24mo, 7d +follows content, 7d at most +stated", out)
    code, _, err = run_here(capsys, "policy", "show", "nobody")
    assert code == 2
    assert "there are leman" in err


def test_policies_are_compared_by_what_they_say(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(PROJECT)
    draft = tmp_path / "leman.yaml"
    draft.write_text(
        "# a comment\n"
        + (PROJECT / "policies" / "leman.yaml")
        .read_text()
        .replace("complaint: 1d", "complaint: 3bd\n  answer: 1mo")
        .replace("  answer: UNSET", "")
        .replace("enabled:", "calendar: IT\nenabled:")
    )
    code, out, _ = run_here(capsys, "policy", "diff", "policies/leman.yaml", str(draft), "--json")
    assert code == 0
    assert {(row["key"], row["before"], row["after"]) for row in json.loads(out)["changed"]} == {
        ("rights.complaint", "1d", "3bd"),
        ("rights.answer", "UNSET", "1mo"),
        ("calendar", None, "IT"),
    }
    code, out, _ = run_here(capsys, "policy", "diff", "policies/leman.yaml", "policies/leman.yaml")
    assert (code, out) == (0, "They say the same.\n")


@pytest.mark.parametrize(
    "arguments",
    [["run"], ["topics", "show"], ["status", "--tenant", "leman", "m1"], ["consent", "import", "/dev/null"]],
    ids=" ".join,
)
def test_an_enabled_tenant_that_leaves_open_what_is_needed_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    shutil.copy(PROJECT / "policies" / "leman.yaml", tmp_path)
    (tmp_path / "leman.overlay.yaml").write_text("enabled: true\nproviders: [twilio]\n")
    monkeypatch.setenv("GATEWAY_POLICIES_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("GATEWAY_STATE_DIRECTORY", str(tmp_path / "state"))
    monkeypatch.setenv("GATEWAY_DATABASE_URL", "postgresql://nobody@127.0.0.1:9/none")
    monkeypatch.setenv("GATEWAY_KAFKA__SERVERS", "127.0.0.1:9")
    code, _, err = run_here(capsys, *arguments)
    assert code == 2
    assert re.search(r"leman\.yaml:\d+: programmes: is UNSET, and sending needs it: fill it in leman\.overlay\.yaml", err)


def test_schemas_are_exported_and_a_break_is_found(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(PROJECT)
    assert run_here(capsys, "schemas", "check")[0] == 0
    released = tmp_path / "released" / "v1"
    assert run_here(capsys, "schemas", "export", str(released))[0] == 0
    file = released / "sms.outbound.message.v1.json"
    schema = json.loads(file.read_text())
    schema["properties"]["colour"] = {"type": "string"}  # producers may write it, and we would not read it
    file.write_text(json.dumps(schema))
    code, out, _ = run_here(
        capsys, "schemas", "check", "--released", str(tmp_path / "released"), "--current", str(released), "--json"
    )
    told = json.loads(out)
    assert code == 1
    assert [one["field"] for one in told["breaks"]] == ["colour"]
    assert told["stale"] == [str(file)]
    assert run_here(capsys, "schemas", "check", "--released", str(tmp_path))[0] == 1  # nothing there: nothing was checked


def test_events_are_validated_with_file_and_line_and_nothing_of_what_they_hold(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    good = {
        "message_id": "a",
        "tenant": "shop",
        "programme": "orders",
        "category": "service",
        "to": CANARY_NUMBER,
        "body": "hello",
    }
    file = tmp_path / "events.jsonl"
    file.write_text("\n".join([json.dumps(good), "", json.dumps({**good, "category": CANARY_NUMBER})]))
    code, _, err = run_here(capsys, "publish", "--validate-only", str(file))
    assert code == 1
    assert "events.jsonl:3: category" in err
    file.write_text(json.dumps(good, indent=2))
    code, out, _ = run_here(capsys, "publish", "--validate-only", "--json", str(file))
    assert code == 0
    assert json.loads(out) == {"valid": 1, "published": 0}
    file.write_text("")
    assert run_here(capsys, "publish", "--validate-only", str(file))[0] == 2


def test_one_message_is_put_together_from_options_and_standard_input(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--tenant", "shop", "--programme", "orders", "--category", "service", "--message-id", "order-1"]
    for given, expected in ((f"{CANARY_NUMBER}\nhello\nyou\n", 0), (f"{CANARY_NUMBER}\n", 1), ("", 1)):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given.encode())))
        assert run_here(capsys, "publish", "--validate-only", *options)[0] == expected


def test_a_reader_that_leaves_early_is_no_fault() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "gateway", "settings", "--markdown"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=PROJECT,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 1


@pytest.mark.parametrize("key, code", [(b"\x03", 130), (b"\x04", 1)])
def test_leaving_at_a_prompt(key: bytes, code: int) -> None:
    """Ctrl-C, and the end of the input, on a terminal: no traceback, and the prompt shows nothing of what was typed."""
    parent, child = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", "consent", "show"],
        stdin=child, stdout=child, stderr=child, cwd=PROJECT, start_new_session=True, preexec_fn=_take_terminal,  # noqa: PLW1509 -- no threads
        env={name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")},
    )  # fmt: skip
    os.close(child)
    shown = b""
    while b"Telephone number" not in shown:
        shown += os.read(parent, 1024)
    os.write(parent, key if key == b"\x04" else CANARY_NUMBER.encode() + key)
    # A key that comes between Python's last look for signals and its reading is seen by neither: it is pressed again.
    while not select.select([parent], [], [], 5)[0] and process.poll() is None:
        os.write(parent, key)
    shown += _rest(parent)
    assert process.wait(30) == code
    assert b"Traceback" not in shown
    assert not traces_in(shown)


def _take_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _rest(descriptor: int) -> bytes:
    pieces: list[bytes] = []
    try:
        while piece := os.read(descriptor, 1024):
            pieces.append(piece)
    except OSError:  # a terminal whose other side is closed
        pass
    os.close(descriptor)
    return b"".join(pieces)


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run_here(capsys, "--version")
    assert code == 0
    assert out.startswith("gateway")


def test_the_simulators_own_arguments_pass_through() -> None:
    assert gateway("simulator", "--help").stdout.startswith("usage: ")
    done = gateway("simulator", "--account", "nonsense")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def arguments_of(context: click.Context) -> Sequence[click.Parameter]:
    return [parameter for parameter in context.command.params if isinstance(parameter, click.Argument)]


def test_no_command_takes_a_number_or_a_text_as_an_argument() -> None:
    names = {parameter.name for context in LEAVES for parameter in arguments_of(context)}
    assert names <= {
        "file", "directory", "path", "before", "after", "tenant", "message_id", "name", "arguments", "unwanted", "letter", "letters", "alias", "hold",
        "version",
    }  # fmt: skip
