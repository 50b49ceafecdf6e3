"""The fuse: a kernel timer that kills this process when its event loop stops turning.

A lease that is only looked at fences nothing: a process may look, sleep (SIGSTOP, swap, a stalled loop) and wake past it. The timer
runs in the kernel and delivers SIGKILL, which also ends a *stopped* process, so that a claim is over when its lease is, however
its process was frozen. See docs/protocol.md, and timer_create(2).
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import struct
import sys
import time
from typing import Final

from gateway.domain.errors import GatewayError

__all__ = ["Fuse", "FuseBroken", "clock"]

_CLOCK_BOOTTIME: Final = 7
_SIGEV_SIGNAL: Final = 0


def clock() -> float:
    """Seconds on the clock that leases are compared with here: it goes on while the machine sleeps, where the system has one."""
    return time.clock_gettime(_CLOCK_BOOTTIME) if sys.platform == "linux" else time.monotonic()


class FuseBroken(GatewayError):
    """The fuse would not kill this process: it must not send."""


class _KernelTimer:
    """One POSIX timer that sends SIGKILL to this process."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._timer = ctypes.c_void_p()
        # struct sigevent: sigev_value, sigev_signo, sigev_notify, and a union that SIGEV_SIGNAL does not read; 64 bytes in all
        event = struct.pack("@Pii48x", 0, signal.SIGKILL, _SIGEV_SIGNAL)
        if self._libc.timer_create(_CLOCK_BOOTTIME, event, ctypes.byref(self._timer)) != 0:
            raise FuseBroken(f"the kernel gave no timer for the fuse: {os.strerror(ctypes.get_errno())}")

    def arm(self, seconds: float) -> None:
        """Kill this process in ``seconds`` from now unless armed again before; 0 disarms."""
        whole = int(seconds)
        value = struct.pack("@llll", 0, 0, whole, int((seconds - whole) * 1e9))  # struct itimerspec: interval, then value
        if self._libc.timer_settime(self._timer, 0, value, None) != 0:
            raise FuseBroken(f"the fuse could not be armed: {os.strerror(ctypes.get_errno())}")


class Fuse:
    """Armed by :meth:`start`, re-armed by the event loop as long as it turns. ``seconds`` is F of docs/protocol.md.

    macOS has no such timer: there the fuse does nothing and ``works`` is False, which the gateway says at its start.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.works = sys.platform == "linux"
        self._timer: _KernelTimer | None = None
        self._next: asyncio.TimerHandle | None = None

    @staticmethod
    def prove(limit: float = 5.0) -> None:
        """Show on a forked child, stopped as by SIGSTOP, that the timer kills. Raises :class:`FuseBroken`.

        A process that is PID 1 of its PID namespace is immune to its own SIGKILL: it is refused. Call before threads are started.
        """
        if sys.platform != "linux":
            return
        if os.getpid() == 1:
            raise FuseBroken("this process is PID 1, which its own SIGKILL cannot end: run it as the child of an init")
        child = os.fork()
        if child == 0:
            try:
                _KernelTimer().arm(0.02)
                os.kill(os.getpid(), signal.SIGSTOP)
            finally:
                os._exit(1)
        ends = time.monotonic() + limit
        while time.monotonic() < ends:
            found, status = os.waitpid(child, os.WNOHANG)
            if found:
                if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
                    return
                break
            time.sleep(0.005)
        else:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        raise FuseBroken("the kernel's timer did not kill a stopped process: the fuse would not work here")

    def start(self) -> None:
        """Arm, and keep re-arming from the running event loop."""
        if not self.works:
            return
        self._timer = _KernelTimer()
        self._again()

    def stop(self) -> None:
        """Disarm, at an orderly end."""
        if self._next is not None:
            self._next.cancel()
        if self._timer is not None:
            self._timer.arm(0)

    def _again(self) -> None:
        if self._timer is not None:
            self._timer.arm(self.seconds)
            self._next = asyncio.get_running_loop().call_later(self.seconds / 8, self._again)
