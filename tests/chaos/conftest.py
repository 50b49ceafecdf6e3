"""The seed: ``pytest tests/chaos --seed N`` or ``CHAOS_SEED=N``; without one, a new one each time."""

from __future__ import annotations

import os
import secrets

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, default=None, help="what is drawn in tests/chaos; it is printed at the end")


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    given: int | None = request.config.getoption("--seed", default=None)
    return given if given is not None else int(os.environ.get("CHAOS_SEED") or secrets.randbelow(1_000_000))
