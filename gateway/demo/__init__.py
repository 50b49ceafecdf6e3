"""The demo: the whole gateway with two tenants, a troubled carrier and people who text STOP; what it says at the end is checked."""

from __future__ import annotations

from gateway.demo.run import main

__all__ = ["main"]
