"""What operators and orchestrators ask, on a port that is not the public one: is it alive, is it ready, what does it measure."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.types import Receive, Scope, Send

from gateway.domain.errors import GatewayError
from gateway.telemetry import get_logger
from gateway.web.answers import Answer, answer, json_answer, problem

__all__ = ["AdminApp", "Check"]

_LOG = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must be so for the process to be ready: ``check`` returns when it is, and raises when it is not.

    A :class:`GatewayError` tells its text, any other exception its type. ``seconds`` is how long the check may take.
    """

    name: str
    check: Callable[[], Awaitable[object]]
    seconds: float = 2.0
    vital: bool = True
    """False: what it says is told, and the process counts as ready all the same."""


class AdminApp:
    """The ASGI application of the admin port: ``/healthz``, ``/readyz`` and ``/metrics``."""

    def __init__(self, registry: CollectorRegistry, checks: Sequence[Check] = ()) -> None:
        self._registry = registry
        self._checks = tuple(checks)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 -- ASGI's signature
        await (await self._answer(scope)).send(send)

    async def _answer(self, scope: Scope) -> Answer:
        if scope["path"] not in {"/healthz", "/readyz", "/metrics"}:
            return problem(404, "not_found", "There is nothing here", close=True)
        if scope["method"] not in {"GET", "HEAD"}:
            return problem(405, "wrong_method", "Only GET is answered here", headers={"allow": "GET, HEAD"}, close=True)
        match scope["path"]:
            case "/healthz":
                return json_answer(200, {"alive": True})  # that the loop comes to say so is what is asked
            case "/readyz":
                return await self._readiness()
            case _:
                return self._metrics(scope)

    async def _readiness(self) -> Answer:
        """Asks everything at once; what is not ready is named."""
        said = await asyncio.gather(*(_ask(check) for check in self._checks))
        ready = all(word is None or not check.vital for check, word in zip(self._checks, said, strict=True))
        words = {check.name: word or "ready" for check, word in zip(self._checks, said, strict=True)}
        return json_answer(200 if ready else 503, {"ready": ready, "checks": words})

    def _metrics(self, scope: Scope) -> Answer:
        accepted = next((value for name, value in scope["headers"] if name == b"accept"), b"").decode("latin-1")
        encode, media = choose_encoder(accepted)
        return answer(200, encode(self._registry), media)


async def _ask(check: Check) -> str | None:
    """None when ready, else why not."""
    try:
        async with asyncio.timeout(check.seconds):
            await check.check()
    except TimeoutError:
        return f"did not answer within {check.seconds:g} s"
    except GatewayError as fault:
        return str(fault) or type(fault).__name__
    except Exception as fault:  # noqa: BLE001 -- a check that breaks is a thing that is not ready
        _LOG.warning("readiness check failed", check=check.name, exc_info=fault)
        return type(fault).__name__
    return None
