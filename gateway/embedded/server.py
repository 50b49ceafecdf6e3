"""What the embedded servers have in common: one process on one port, for as long as a context lasts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Self

from gateway.embedded.child import Child, EmbeddedServerError

__all__ = ["EmbeddedServer"]


class EmbeddedServer(ABC):
    """A server with a process of its own. A second start of the same object keeps the port."""

    NAME: ClassVar[str]
    """What an error calls it."""

    def __init__(self) -> None:
        self._child: Child | None = None
        self._port: int | None = None

    @property
    def port(self) -> int:
        """The TCP port on the loopback address. Raises EmbeddedServerError before the first start."""
        if self._port is None:
            raise self._not_started()
        return self._port

    @property
    def process_id(self) -> int | None:
        """The server's process while it runs."""
        return self._child.process_id if self._child is not None and self._child.alive() else None

    def alive(self) -> bool:
        """Whether the server's process runs."""
        return self.process_id is not None

    @abstractmethod
    def start(self) -> None:
        """Start the server, and return when it accepts connections; nothing when it runs already. Raises EmbeddedServerError."""

    @abstractmethod
    def stop(self) -> None:
        """End the server; nothing when it does not run."""

    def _not_started(self) -> EmbeddedServerError:
        return EmbeddedServerError(f"the {self.NAME} has not been started")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        self.start()  # not in a thread: the server would end with it
        return self

    async def __aexit__(self, *error: object) -> None:
        self.stop()
