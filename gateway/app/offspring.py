"""Processes that end with the one that started them, also when that is killed."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

__all__ = ["ending_with_parent"]


def ending_with_parent() -> Callable[[], None] | None:
    """For Popen's ``preexec_fn``: the kernel kills the process when its parent ends (prctl(2), PR_SET_PDEATHSIG).

    The parent must have no threads when it forks, and its main thread must do it. None where the system cannot.
    """
    if sys.platform != "linux":
        return None
    import ctypes

    prctl = ctypes.CDLL(None).prctl  # before the fork
    parent = os.getpid()

    def ask() -> None:
        prctl(1, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it ended before the kernel was asked
            os._exit(1)

    return ask
