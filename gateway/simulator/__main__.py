"""``python -m gateway.simulator``: a simulated carrier as a process of its own."""

from __future__ import annotations

import sys

from gateway.domain.errors import GatewayError
from gateway.simulator.arguments import parse_arguments
from gateway.simulator.server import run_simulator

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    """Run the simulator until SIGINT or SIGTERM; the exit code is 2 for bad arguments, 1 where the address can't be used."""
    try:
        run_simulator(*parse_arguments(arguments))
    except GatewayError as error:
        sys.stderr.write(f"simulator: {error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"simulator: cannot listen: {error.strerror}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
