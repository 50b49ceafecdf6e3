"""``gateway run``: the gateway's processes, and one of them."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NoReturn, cast

import click

from gateway.cli.commands import Command
from gateway.cli.invocation import Invocation
from gateway.cli.output import as_json, json_option, table

if TYPE_CHECKING:
    from gateway.app.process import Role
    from gateway.app.supervisor import Started
    from gateway.settings import Settings

__all__ = ["run"]

ROLES = ("all", "worker", "web", "relay", "sweep")


@click.command(
    cls=Command,
    examples=[
        ("everything on this machine, to try it out", "gateway run"),
        ("with your own servers and four worker processes", "gateway --config gateway.toml run --workers 4"),
        ("one part of a larger installation", "gateway --config gateway.toml run --role web"),
    ],
)
@click.option(
    "--role", type=click.Choice(ROLES), default="all", help="The part to run; `all` is the whole gateway in one process."
)
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    metavar="N",
    show_default="the setting workers, 1",
    help="Processes to start; with --role all the first is whole and the others are workers.",
)
@json_option
@click.option("--child", is_flag=True, hidden=True)
@click.option("--ready-fd", type=int, hidden=True)
@click.pass_obj
def run(invocation: Invocation, role: str, workers: int | None, as_json_: bool, child: bool, ready_fd: int | None) -> int:
    """Run the gateway until it is told to stop.

    Where no PostgreSQL, Kafka or provider account is set, embedded ones and a simulated carrier are started, for trying things out.
    SIGTERM and Ctrl-C let it finish what is under way, within the setting drain_seconds, and leave with exit code 0.
    """
    from gateway.telemetry import configure_logging

    settings = invocation.settings()
    configure_logging(settings.log_level, settings.log_format)
    if child:
        _be_a_process(settings, cast("Role", role), ready_fd)
    return _supervise(invocation, settings, cast("Role", role), workers, as_json_)


def _supervise(invocation: Invocation, settings: Settings, role: Role, workers: int | None, json_wanted: bool) -> int:
    import asyncio

    from gateway.app.preflight import check_servers
    from gateway.app.supervisor import supervise
    from gateway.telemetry import get_logger

    log = get_logger("run")
    if workers is not None:
        settings = settings.model_copy(update={"workers": workers})
    if sys.platform != "linux":
        log.warning("this system has no timer that could end a frozen process: for trying things out, not for service")
    for warning in asyncio.run(check_servers(settings, role)):
        log.warning(warning)

    def tell(started: Started) -> None:
        if json_wanted:
            as_json({"addresses": dict(started.addresses), "embedded": started.embedded, "pid": os.getpid()})
        else:
            _tell(started)
        sys.stdout.flush()

    return supervise(settings, role, invocation.environment, invocation.arguments, tell)


def _tell(started: Started) -> None:
    addresses = dict(started.addresses)
    if "admin" in addresses:
        addresses["metrics"] = f"{addresses['admin']}/metrics"
        addresses["health"] = f"{addresses['admin']}/readyz"
        del addresses["admin"]
    click.echo("The gateway runs. Ctrl-C ends it.")
    table(["what", "where"], list(addresses.items()))
    if started.embedded:
        click.echo("Try, in another terminal: gateway publish --help, gateway status --help, gateway consent --help")


def _be_a_process(settings: Settings, role: Role, ready_fd: int | None) -> NoReturn:
    """One of the supervisor's processes. It leaves by ``os._exit``: the HTTP client's threads may abort an orderly exit."""
    import asyncio

    import uvloop

    from gateway.app.process import run_process
    from gateway.domain.errors import GatewayError, PolicyError, SettingsError
    from gateway.flow.fuse import Fuse
    from gateway.telemetry import get_logger

    log = get_logger("run")
    code = 1
    try:
        if role != "web":
            Fuse.prove()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run_process(settings, role, ready_fd=ready_fd))
        code = 0
    except (SettingsError, PolicyError) as fault:
        log.critical(str(fault))
        code = 2
    except GatewayError as fault:
        log.critical(str(fault))
    except KeyboardInterrupt:
        code = 130
    except BaseException as fault:
        log.critical("the process ended by a fault", exc_info=fault)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
