"""Free ports of the loopback address, and starting a server on one."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Final

from gateway.embedded.child import Child, EmbeddedServerError, until

__all__ = ["LOOPBACK", "free_port", "start_on_port"]

LOOPBACK: Final = "127.0.0.1"
_PORTS_TRIED: Final = 5


def free_port() -> int:
    """A port that nobody listened on a moment ago. Another process may take it first: try again with another then."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind((LOOPBACK, 0))
        return int(listener.getsockname()[1])


def start_on_port(
    start: Callable[[int], Child],
    ready: Callable[[Child], bool],
    *,
    port: int | None,
    taken: str,
    seconds: float,
) -> tuple[Child, int]:
    """Start a server on ``port`` if there is one, else on a free one, and on another when it says that the port is ``taken``.

    Returns when it is ``ready``; raises EmbeddedServerError when it ends instead, or is not ready after ``seconds``.
    """
    for _ in range(_PORTS_TRIED):
        chosen = port or free_port()
        child = start(chosen)
        try:
            answered = until(lambda child=child: not child.alive() or ready(child), seconds)  # type: ignore[misc] # no type can be given
            if answered and child.alive():
                return child, chosen
        except BaseException:
            child.stop()
            raise
        child.stop()
        if not answered:
            raise EmbeddedServerError(f"it was not ready after {seconds:.0f} s; see {child.log}")
        if taken not in child.last_words():
            raise EmbeddedServerError(f"it ended at once: {child.last_words()}; see {child.log}")
        port = None
    raise EmbeddedServerError(f"no free port was found in {_PORTS_TRIED} attempts")
