"""Becomes a server's process that cannot outlive its parent, and that runs under another account where one is named.

A program of its own, started by :mod:`gateway.embedded.child` as ``python -I -S launch.py '<json>' command...``: what it does
between fork and exec is not safe to do in a process with threads. It imports nothing of the gateway.

On Linux the kernel sends the signal when the parent ends, however it ends (prctl(2), PR_SET_PDEATHSIG). Elsewhere a watcher
process waits for the end of a pipe that only the parent holds open.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import sys

__all__: list[str] = []

_PR_SET_PDEATHSIG = 1


def _become(account: list[int]) -> None:
    user, group = account
    os.setgroups([])
    os.setgid(group)
    os.setuid(user)


def _ask_the_kernel(signal_number: int, parent: int) -> None:
    """The signal comes also when the *thread* that started this process ends. A change of account would clear it: do that first."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0) != 0:
        sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:  # it ended before the request was made
        sys.exit("the parent has ended")


def _watch(signal_number: int, pipe: int) -> None:
    """Fork a watcher, no child of the server's, that waits for the parent's end: a byte on the pipe calls it off."""
    server = os.getpid()
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    if os.fork():
        os._exit(0)
    os.setsid()
    if os.read(pipe, 1) == b"":
        with contextlib.suppress(ProcessLookupError):
            os.kill(server, signal_number)
    os._exit(0)


def _main() -> None:
    order = json.loads(sys.argv[1])
    command = sys.argv[2:]
    if order["account"] is not None:
        _become(order["account"])
    if order["kernel"]:
        _ask_the_kernel(order["signal"], order["parent"])
    else:
        _watch(order["signal"], sys.stdin.fileno())
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.execv(command[0], command)  # noqa: S606 - there is no shell, and that is wanted


if __name__ == "__main__":
    _main()
