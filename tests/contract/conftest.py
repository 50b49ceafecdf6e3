"""Contract tests open and close a provider hundreds of times, in a process that does not end in between."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from gateway.providers import http


@pytest.fixture(autouse=True, scope="session")
def _one_grace_for_all() -> Iterator[None]:
    """What each HTTP client waits when it is closed, for an interpreter that may leave then, is waited for once."""
    with pytest.MonkeyPatch.context() as patch:
        grace = http.EXIT_GRACE_SECONDS
        patch.setattr(http, "EXIT_GRACE_SECONDS", 0.0)
        yield
        time.sleep(grace)
