"""The root of all commands, and how what goes wrong becomes a line and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from gateway.cli.commands import LazyGroup
from gateway.cli.invocation import Invocation
from gateway.domain.errors import GatewayError, PolicyError, SettingsError

__all__ = ["main", "root", "run"]

_SECTIONS = {
    "Start": {
        "run": ("gateway.cli.run:run", "Run the gateway until it is told to stop."),
        "demo": ("gateway.cli.trying:demo", "Show the gateway at work, and check what it did."),
        "simulator": ("gateway.cli.trying:simulator", "Run a simulated carrier that texts nobody."),
        "migrate": ("gateway.cli.servers:migrate", "Bring the database to this version's schema."),
        "topics": ("gateway.cli.servers:topics", "Make the Kafka topics, or look at them."),
        "settings": ("gateway.cli.settings:settings", "Show the settings, or write them down."),
        "policy": ("gateway.cli.policy:policy", "Check, show and compare the tenants' policies, or ask them for a way out."),
        "schemas": ("gateway.cli.schemas:schemas", "Write the events' schemas, or check what a change breaks."),
    },
    "Messages": {
        "publish": ("gateway.cli.publish:publish", "Publish messages to send."),
        "status": ("gateway.cli.messages:status", "Tell what became of a message, and why."),
        "cancel": ("gateway.cli.messages:cancel", "Cancel a message that is not sent yet."),
    },
    "People": {
        "consent": ("gateway.cli.consent:consent", "Show, stop, start or import people's consent."),
    },
    "Operate": {
        "audit": ("gateway.cli.audit:audit", "Verify the audit's chains, or export them."),
        "providers": ("gateway.cli.providers:providers", "Show the accounts with providers, or try one."),
        "keys": ("gateway.cli.keys:keys", "Look the key ring through, wrap it anew, take and put back its backup."),
        "retention": ("gateway.cli.retention:retention", "Plan, end and verify what may not be kept any longer."),
        "tenants": (
            "gateway.cli.tenants:tenants",
            "Close a tenant's customer account, list those that are closed, open one again.",
        ),
        "holds": ("gateway.cli.holds:holds", "Keep what may not be deleted yet: add, list or release legal holds."),
        "data-map": ("gateway.cli.data_map:data_map", "Show where personal data is, why, how long, and how it dies."),
        "restore": (
            "gateway.cli.restore:restore",
            "Put right a database that was restored or failed over, and let the gateway go on.",
        ),
        "pause": ("gateway.cli.pauses:pause", "Stop sending: everything, or a part."),
        "resume": ("gateway.cli.pauses:resume", "Let what was paused go on."),
        "pauses": ("gateway.cli.pauses:pauses", "Show what is paused, since when, by whom and why."),
        "dead-letters": ("gateway.cli.dead_letters:dead_letters", "Look at what could not be processed, and put it back."),
        "tokens": ("gateway.cli.tokens:tokens", "Make, show or revoke bearer tokens."),
    },
}

_INTERRUPTED = 128 + 2  # as a shell tells of SIGINT


def _tell_version(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from importlib.metadata import PackageNotFoundError, version

        try:
            click.echo(f"gateway {version('sms-privacy-gateway')}")
        except PackageNotFoundError:
            click.echo("gateway (a checkout that is not installed)")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    sections=_SECTIONS,
    examples=[
        ("everything on this machine: embedded PostgreSQL and Kafka, a simulated carrier", "gateway run"),
        (
            "in another terminal: send a text, and see what became of it",
            "gateway publish message.json\ngateway status order-4711",
        ),
        ("opt somebody out; the number is asked for", "gateway consent stop --tenant harbour-books"),
    ],
)
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="TOML file with settings; variables such as GATEWAY_WEB_PORT go before it. Else the one that GATEWAY_CONFIG_FILE names.",
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_tell_version, help="Show the version and leave."
)
@click.pass_context
def root(ctx: click.Context, config: Path | None) -> None:
    """An event in, a text out, STOP honoured: the SMS privacy gateway.

    Telephone numbers are never taken from arguments, which shells and process lists keep: they come from files, standard input or a
    prompt. Exit codes: 0 done, 1 not done, 2 wrong usage, settings or policy, 130 interrupted.
    """
    ctx.obj = Invocation(os.environ, config)


def main() -> None:
    """The entry point: run the command line, and leave with its exit code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command; what a person can act on becomes one line on standard error. Returns the exit code."""
    try:
        code = root.main(args=list(arguments), prog_name="gateway", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as fault:
        _show(fault)
        return fault.exit_code
    except click.exceptions.Abort as fault:
        if isinstance(fault.__cause__ or fault.__context__, EOFError):
            return _failed("nothing was given: the input ended", 1)
        return _INTERRUPTED
    except KeyboardInterrupt:
        return _INTERRUPTED
    except (SettingsError, PolicyError) as fault:
        return _failed(str(fault), 2)
    except GatewayError as fault:
        return _failed(str(fault), 1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the flush at exit would complain
        return 1
    except Exception as fault:  # noqa: BLE001 -- a traceback may show a number: where it failed is told, not with what
        return _failed(_described(fault), 1)
    return code if isinstance(code, int) else 0


def _failed(text: str, code: int) -> int:
    click.echo(f"{click.style('error:', fg='red', bold=True)} {' '.join(text.split())}", err=True)
    return code


def _show(fault: click.ClickException) -> None:
    """A usage error quotes what it did not understand, which may be a number after all."""
    from io import StringIO

    from gateway.telemetry.redaction import hide_numbers

    shown = StringIO()
    fault.show(shown)
    click.echo(hide_numbers(shown.getvalue()), err=True, nl=False)


def _described(fault: BaseException) -> str:
    from gateway.telemetry.redaction import describe_exception

    described = describe_exception(fault)
    frames = described.get("frames") or ["?"]
    return f"a fault of the gateway itself, please report it: {described['error']} at {frames[-1]}"
