"""What every command starts from: the settings, the parts that stand on them, and who asks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

if TYPE_CHECKING:
    from gateway.app.wiring import Parts
    from gateway.domain.policy import Policies
    from gateway.settings import Settings

__all__ = ["Invocation", "actor", "tenant_of"]

T = TypeVar("T")


class Invocation:
    """One run of the command line: the environment, and the file named by ``--config``."""

    def __init__(self, environment: Mapping[str, str], config: Path | None) -> None:
        self.environment = environment
        self.config = config

    @property
    def arguments(self) -> list[str]:
        """What a process of the same settings is started with."""
        return [] if self.config is None else ["--config", str(self.config)]

    def settings(self) -> Settings:
        """The settings as they are set. Raises SettingsError."""
        from gateway.settings import load

        return load(self.environment, self.config)

    def reach(self) -> Settings:
        """The settings, and for what they leave out, what the gateway embeds that runs here. Raises SettingsError.

        What is set is never replaced: a command that names a database must not change another.
        """
        from gateway.app.running import running_environment
        from gateway.settings import load
        from gateway.telemetry import configure_logging

        settings = self.settings()
        configure_logging("warning", settings.log_format)
        given = {
            "GATEWAY_DATABASE_URL": settings.database_url is not None,
            "GATEWAY_KAFKA__": settings.kafka.servers is not None,
            "GATEWAY_ACCOUNTS__": bool(settings.accounts),
        }
        embedded = running_environment(settings.state_directory) if not all(given.values()) else {}
        kept = tuple(name for name, is_given in given.items() if is_given)
        missing = {name: value for name, value in embedded.items() if not name.startswith(kept)}
        return load({**self.environment, **missing}, self.config) if missing else settings

    def policies(self) -> Policies:
        """The tenants' policies. Raises SettingsError, PolicyError."""
        from gateway.domain.policy_files import load_policies

        return load_policies(self.settings().policies_directory)

    def with_parts(self, work: Callable[[Parts], Awaitable[T]], *, with_providers: bool = False) -> T:
        """Do something with the store and the keys, and the providers if wanted. Raises what ``open_parts`` raises."""
        import asyncio

        from gateway.app.wiring import open_parts
        from gateway.domain.errors import SettingsError

        settings = self.reach()
        if settings.database_url is None:
            raise SettingsError(
                "settings: no database: set GATEWAY_DATABASE_URL, or start `gateway run`, whose embedded one is then used"
                f" (none runs with the state directory {settings.state_directory})"
            )

        async def run() -> T:
            async with open_parts(settings, "cli", with_providers=with_providers) as parts:
                return await work(parts)

        return asyncio.run(run())


def actor() -> str:
    """Who asks, for the audit: ``cli:`` and the operating system's user."""
    import os
    import pwd

    try:
        return f"cli:{pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:
        return f"cli:{os.getuid()}"


def tenant_of(policies: Policies, tenant: str | None) -> str:
    """The tenant that is meant: the one named, or the only one. Raises UsageError."""
    known = [policy.tenant for policy in policies]
    if tenant is None and len(known) == 1:
        return known[0]
    if tenant is None:
        raise click.UsageError(f"--tenant is needed: there are {', '.join(known)}")
    if tenant not in known:
        raise click.UsageError(f"--tenant: no policy has this tenant: there are {', '.join(known)}")
    return tenant
