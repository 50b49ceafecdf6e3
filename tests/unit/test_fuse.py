"""The fuse, in processes that it really ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from gateway.flow.fuse import Fuse, FuseBroken, clock

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="POSIX timers that kill a stopped process are Linux's")

# A process whose event loop does what the test says after it has said "armed".
PROGRAM = """
import asyncio, sys, time
from gateway.flow.fuse import Fuse

async def run():
    fuse = Fuse({seconds})
    fuse.start()
    print("armed", flush=True)
    {then}
    fuse.stop()
    print("left", flush=True)

asyncio.run(run())
"""


@contextmanager
def process(then: str, seconds: float = 0.5) -> Iterator[subprocess.Popen[str]]:
    program = PROGRAM.format(seconds=seconds, then=textwrap.indent(then, "    ").strip())
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "armed\n"
        yield child
    finally:
        child.kill()
        child.communicate()


def ended(child: subprocess.Popen[str], limit: float = 10.0) -> int:
    return child.wait(limit)


def test_a_process_that_was_stopped_for_longer_is_dead() -> None:
    with process("await asyncio.sleep(30)") as child:
        began = time.monotonic()
        child.send_signal(signal.SIGSTOP)
        assert ended(child) == -signal.SIGKILL  # nobody sent SIGCONT
        assert time.monotonic() - began < 5


def test_a_process_that_was_stopped_for_a_moment_lives() -> None:
    with process("await asyncio.sleep(3.5)", seconds=3.0) as child:
        child.send_signal(signal.SIGSTOP)
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(0.3)
        child.send_signal(signal.SIGCONT)
        assert ended(child) == 0


def test_a_loop_that_stands_still_is_dead() -> None:
    with process("time.sleep(30)") as child:
        assert ended(child) == -signal.SIGKILL


def test_a_loop_that_turns_lives_and_leaves_in_order() -> None:
    with process("await asyncio.sleep(2.5)", seconds=2.0) as child:  # longer than the fuse, and the machine may be busy
        assert ended(child) == 0
        assert child.stdout is not None
        assert child.stdout.read() == "left\n"


def test_once_stopped_in_order_it_kills_no_more() -> None:
    with process("fuse.stop(); time.sleep(0.7)") as child:
        assert ended(child) == 0


def test_a_busy_loop_that_still_turns_lives() -> None:
    with process("for _ in range(10): time.sleep(0.25); await asyncio.sleep(0)", seconds=2.0) as child:
        assert ended(child) == 0


def test_it_is_proved_on_a_stopped_child() -> None:
    Fuse.prove()


def _unshare(*command: str) -> subprocess.CompletedProcess[str]:
    options = ["unshare", "--pid", "--fork", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
    return subprocess.run([*options, *command], capture_output=True, text=True, timeout=30, check=False)


def test_pid_1_is_refused() -> None:
    try:
        works = _unshare("true").returncode == 0
    except FileNotFoundError:
        works = False
    if not works:
        pytest.skip("this machine gives no PID namespaces to try it in")
    program = (
        "from gateway.flow.fuse import Fuse, FuseBroken\ntry:\n    Fuse.prove()\nexcept FuseBroken as fault:\n    print(fault)"
    )
    said = _unshare(sys.executable, "-c", program)
    assert "PID 1" in said.stdout, said.stderr
    # the reason for it: there, the timer's SIGKILL does nothing
    lives = PROGRAM.format(seconds=0.2, then="time.sleep(0.6)")
    assert "left" in _unshare(sys.executable, "-c", lives).stdout


def test_a_fuse_that_does_not_kill_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.flow.fuse._KernelTimer.arm", lambda _self, _seconds: None)
    with pytest.raises(FuseBroken, match="would not work here"):
        Fuse.prove(limit=0.2)


def test_the_clock_goes_forward() -> None:
    first = clock()
    assert clock() >= first
