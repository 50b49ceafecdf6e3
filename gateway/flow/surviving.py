"""Go on although a part of the gateway is away."""

from __future__ import annotations

from collections.abc import Awaitable

from structlog.typing import FilteringBoundLogger

from gateway.domain.errors import GatewayError

__all__ = ["survive"]


async def survive(work: Awaitable[object], log: FilteringBoundLogger, waits: str) -> bool:
    """Do a piece of work; False, with ``waits`` in the log, when a part of the gateway is away."""
    try:
        await work
    except GatewayError as fault:
        log.warning(waits, why=str(fault))
        return False
    return True
