# Everything starts here: `make help`. Needs a Python from 3.11 to 3.14, make, and a package index for the first set-up; nothing else.
# Paths are relative, so that a checkout below a folder with spaces in its name works too; GNU make 3.81 (macOS) is enough.

.DEFAULT_GOAL := help
SHELL := /bin/sh
RUN := .venv/bin/python
# Options for the command behind a target, such as: make demo ARGS=--json, make test ARGS="-k stop -x"
ARGS :=

.PHONY: help setup demo run test test-fast test-kafka test-chaos chaos check lint format types layers schemas docs-check model bench pins clean

help:  ## show this
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile
	@echo
	@echo '  ARGS="..." is passed on, as in: make demo ARGS=--json     PYTHON=python3.12 chooses the Python of make setup'

setup: .venv/.project  ## make .venv and install into it what requirements/dev.txt pins (does nothing when that is done)
	@:

demo: setup  ## two tenants, two providers, 700 messages, STOP and a troubled carrier, live; the summary is checked
	@$(RUN) -m gateway demo $(ARGS)

run: setup  ## stay up with embedded PostgreSQL, broker and carrier simulator
	@$(RUN) -m gateway run $(ARGS)

test: setup  ## every test that needs no more than this machine
	@$(RUN) -m pytest -n 3 --dist loadfile tests/unit tests/contract tests/integration tests/acceptance $(ARGS)

test-fast: setup  ## the tests that take seconds
	@$(RUN) -m pytest tests/unit tests/contract -m 'not slow' $(ARGS)

test-kafka: setup  ## the tests that use a broker, on Apache Kafka (needs Java 17 and Maven)
	@$(RUN) -m tests.kafka.jars
	@$(RUN) -m pytest tests/integration --kafka $(ARGS)

test-chaos: setup  ## the short form of make chaos, and the tests of its own parts
	@$(RUN) -m pytest tests/chaos $(ARGS)

chaos: setup  ## everything under fire for five minutes, and the account (ARGS="--seed N --minutes M --json")
	@$(RUN) -m tests.chaos $(ARGS)

check: lint types layers schemas docs-check test  ## all that a change must pass before it is committed

lint: setup  ## ruff: rules and format
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .

format: setup  ## let ruff mend what it can
	@$(RUN) -m ruff check --fix .
	@$(RUN) -m ruff format .

types: setup  ## mypy, strict
	@$(RUN) -m mypy

layers: setup  ## import-linter: imports point inward
	@$(RUN) -c 'from importlinter.cli import lint_imports_command; lint_imports_command()'

schemas: setup  ## the schemas are those of the models, and break no reader or writer of a released one
	@$(RUN) -m gateway schemas check $(ARGS)

docs-check: setup  ## links in the documents lead somewhere
	@$(RUN) .ci/links

model: setup  ## all interleavings of the protocol, and each safeguard taken out (needs spin and gcc)
	@model/check $(ARGS)

bench: setup  ## decisions/s and sends/s against floors of the same run
	@$(RUN) -m bench $(ARGS)

PIN := $(RUN) -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header --annotation-style line

pins: setup  ## compile requirements/*.in again (ARGS=--upgrade takes the newest versions)
	@$(PIN) $(ARGS) --output-file requirements/run.txt requirements/run.in
	@$(PIN) $(ARGS) --output-file requirements/dev.txt requirements/dev.in

clean:  ## remove .venv and what tools have left; never the gateway's own data
	@rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Set-up speaks on standard error only: the last thing on standard output is what was asked for.
.venv/.requirements: requirements/dev.txt .ci/venv
	@PYTHON="$(PYTHON)" .ci/venv requirements/dev.txt >&2
	@touch $@

.venv/.project: .venv/.requirements pyproject.toml
	@PYTHON="$(PYTHON)" .ci/venv >&2
	@touch $@
