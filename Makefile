# Each target makes its own .venv. Needed: Python 3.11+ with its venv module, make, and a network to PyPI.

PYTHON ?= $(firstword $(foreach p,python3 python3.14 python3.13 python3.12 python3.11,\
  $(shell $(p) -c 'import sys; sys.version_info >= (3, 11) and print("$(p)")' 2>/dev/null)))
NAME ?= http1
SECONDS ?= 600
# How long good and hostile clients of all protocols run at once in make soak
XPROXY_SOAK_SECONDS ?= 3600
# pytest arguments, for example: make test TESTS="tests/codecs -x"
TESTS ?=
# Rows and options of the benchmark, for example: make bench BENCH="http1-32 --quick"
BENCH ?=

BIN := .venv/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check install
PROJECTS := pyproject.toml $(wildcard plugins/*/pyproject.toml)
PLUGINS := $(foreach p,$(wildcard plugins/*/pyproject.toml),-e $(dir $(p)))

.DEFAULT_GOAL := help
.PHONY: help demo test soak soak-takeover lint format bench bench-takeover fuzz docs clean

help:
	@echo "make demo      real requests of several protocols through one port, an upgrade, and a table of what happened"
	@echo "make test      all tests"
	@echo "make lint      ruff, ruff format --check, mypy --strict"
	@echo "make format    ruff format and its safe fixes"
	@echo "make bench     CPU, latency and memory figures, against other proxies in the same run"
	@echo "make fuzz      NAME=http1 SECONDS=600: any installed codec, or relay, tls, detect, config, carried, channel, states, hash_policy"
	@echo "make bench-takeover  what clients notice of an upgrade, for each protocol (BENCH=\"http2 --plot f.svg\")"
	@echo "make soak      an hour of good and hostile clients of all protocols, with reloads (XPROXY_SOAK_SECONDS=3600);"
	@echo "               half a minute of each load test, a minute of all protocols at once and of each attack,"
	@echo "               2,000 slow clients, ten minutes of each fuzz target"
	@echo "make soak-takeover   a hundred upgrades in a row under all protocols, 1 GiB streams, 10,000 connections"
	@echo "make docs      regenerate docs/reference from the code"

demo: .venv/.run
	$(BIN)/xproxy demo --once

test: .venv/.dev
	$(BIN)/python -m pytest $(TESTS)

soak: .venv/.fuzz
	$(BIN)/python tests/process/soak.py $(XPROXY_SOAK_SECONDS)
	$(BIN)/python tests/process/garbage.py 60
	XPROXY_LOAD_SECONDS=30 $(BIN)/python -m pytest tests/process/test_bolt_load.py tests/process/test_serving.py \
	  tests/process/test_http2_bulk.py tests/process/test_http2_drain.py $(TESTS)
	XPROXY_FLOOD_MIB=200 $(BIN)/python -m pytest tests/process/test_grpc.py
	$(BIN)/python tests/process/slowloris.py
	$(BIN)/python tests/process/mixed.py
	$(BIN)/python tests/process/attacks.py
	$(BIN)/python tests/process/hogs.py
	for name in http1 http2 bolt dubbo thrift xs1 opaque relay tls detect config carried channel states hash_policy; do \
	  $(BIN)/python fuzz/run.py $$name --seconds $(SECONDS) || exit 1; done

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/.dev
	$(BIN)/ruff check --fix --exit-zero .
	$(BIN)/ruff format .

bench: .venv-bench/.made
	.venv-bench/bin/python bench/run.py $(BENCH)

bench-takeover: .venv/.dev
	$(BIN)/python -m bench.takeover $(BENCH)

soak-takeover: .venv/.dev
	$(BIN)/python -m bench.takeover soak
	$(BIN)/python -m bench.takeover bulk
	$(BIN)/python -m bench.takeover idle
	$(BIN)/python -m bench.takeover workers

fuzz: .venv/.fuzz
	$(BIN)/python fuzz/run.py $(NAME) --seconds $(SECONDS)

docs: .venv/.run
	$(BIN)/python docs/generate.py

clean:
	rm -rf .venv .venv-bench .mypy_cache .pytest_cache .ruff_cache .hypothesis

# Stamps: what is installed, renewed when a pyproject.toml changes.

.venv/.made:
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or newer found; say where: make PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	@touch $@

.venv/.run: .venv/.made $(PROJECTS)
	$(PIP) -e . $(PLUGINS)
	@touch $@

.venv/.dev: .venv/.made $(PROJECTS)
	$(PIP) -e '.[dev]' $(PLUGINS)
	@touch .venv/.run $@

# atheris has no wheel for every Python; without it fuzz/run.py mutates by itself.
.venv/.fuzz: .venv/.dev
	$(PIP) -e '.[fuzz]' || echo "atheris cannot be installed here: the built-in mutation loop is used" >&2
	@touch $@

# An environment of its own: the peers pin older versions of what xproxy and its tests use.
.venv-bench/.made: .venv/.made $(PROJECTS)
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip --quiet --disable-pip-version-check install -e '.[bench]'
	@touch $@
