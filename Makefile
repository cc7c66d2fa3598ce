# `make quickstart` and `make test` need nothing but a Python 3.11 or newer and a package index.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help setup sandbox-tools test-tools quickstart test check soak mutants bench mac-wheels mac-check clean

VENV := .venv
BIN := $(VENV)/bin
JOBS := 2 # test files at a time; most start several processes
STAMP := $(VENV)/.installed
CANDIDATES := python3.13 python3.12 python3.11 python3
# Runs (a shim may not), is new enough, can make a venv, and is native on Apple silicon.
USABLE := import ensurepip, platform, sys, venv; \
  sys.exit(sys.version_info < (3, 11) or (sys.platform, platform.machine()) == ("darwin", "x86_64"))

help:
	@echo 'make setup       make $(VENV) and install everything into it'
	@echo 'make quickstart  a whole training run, every role a process (configs/quickstart.yaml)'
	@echo 'make test        run the tests (make test-tools: what they need besides)'
	@echo 'make check       ruff, pyright, import rules'
	@echo 'make soak        the long forms of what the tests run short (about 25 minutes)'
	@echo 'make mutants     mutation testing of the ledger (about 6 minutes)'
	@echo 'make bench       every row of the table against its rival, into bench/results.json (75 minutes)'
	@echo 'make mac-wheels  ask pip whether everything we need has wheels for a Mac'
	@echo 'make mac-check   on a Mac: run every check there is, write mac-report-*.json'
	@echo 'make clean       remove $(VENV) and caches; runs/ stays'

setup: $(STAMP)

$(STAMP): pyproject.toml
	@if ! $(BIN)/python -c '$(USABLE)' 2>/dev/null; then \
	  for candidate in $(CANDIDATES); do \
	    if "$$candidate" -c '$(USABLE)' >/dev/null 2>&1; then python="$$candidate"; break; fi; \
	  done; \
	  if [ -z "$$python" ]; then \
	    echo 'error: no usable Python 3.11 or newer among $(CANDIDATES)' \
	      '(it needs the venv module; on a Mac it must be the arm64 build)' >&2; exit 2; \
	  fi; \
	  echo "setup: making $(VENV) with $$python ($$("$$python" --version))"; \
	  "$$python" -m venv --clear $(VENV); \
	fi
	@echo 'setup: installing the dependencies into $(VENV) (about a minute and 700 MB, once)'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[reasoning-gym]' \
	  >/dev/null 2>&1 || echo 'setup: without reasoning-gym: no C compiler for a part of it'
	@touch $@
	@echo 'setup: done'

quickstart: $(STAMP)
	$(BIN)/mlx-train --config configs/quickstart.yaml \
	  --run-dir runs/quickstart-$$(date +%Y%m%d-%H%M%S)

# What the sandbox of code rewards needs of Linux and pip cannot install. macOS brings its own.
sandbox-tools:
	@if [ "$$(uname)" = Linux ] && ! command -v bwrap >/dev/null; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo 'sandbox-tools: installing bubblewrap'; \
	    apt-get update -qq && apt-get install -y -qq bubblewrap >/dev/null; \
	  else \
	    echo 'error: bubblewrap is missing: sudo apt install bubblewrap' >&2; exit 2; \
	  fi; \
	fi

# What the tests run besides: a real Prometheus, and a browser for the run page. apt would start
# Prometheus as a service, on the port of anyone's own: policy-rc.d forbids that for the moment.
test-tools: $(STAMP)
	@missing=; \
	command -v promtool >/dev/null && command -v prometheus >/dev/null || missing=prometheus; \
	if [ "$$(uname)" = Linux ]; then \
	  command -v chromium >/dev/null || missing="$$missing chromium"; \
	  [ -n "$$missing" ] || exit 0; \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "test-tools: installing $$missing"; \
	    policy=/usr/sbin/policy-rc.d; made=; \
	    [ -e $$policy ] || { printf '#!/bin/sh\nexit 101\n' >$$policy && chmod +x $$policy && made=1; }; \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	      apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	    result=$$?; [ -z "$$made" ] || rm -f $$policy; exit $$result; \
	  fi; \
	  echo "error: missing for the tests: sudo apt install --no-install-recommends $$missing" >&2; exit 2; \
	fi; \
	[ -z "$$missing" ] || { echo 'error: missing for the tests: brew install prometheus' >&2; exit 2; }; \
	$(BIN)/playwright install chromium

test: $(STAMP) sandbox-tools test-tools
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

soak: $(STAMP) sandbox-tools test-tools
	LEDGER_EVENTS=40000 $(BIN)/python -m pytest tests/learner/ledger
	$(BIN)/python bench/chaos.py --events 30
	$(BIN)/python bench/determinism.py
	$(BIN)/python tests/reward_workers/sandbox/adversarial/suite.py --load 4
	SOAK_JOBS=10000 CONTROLS=all $(BIN)/python -m pytest tests/reward_workers/sandbox/adversarial

# From the start each time: mutmut does not run again what a test that has gone once killed.
mutants: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[mutation]'
	rm -rf mutants && mkdir mutants && echo '*' >mutants/.gitignore
	LEDGER_EVENTS=600 $(BIN)/mutmut run
	$(BIN)/python bench/mutants.py --at-least 0.9

# On a quiet machine. ONLY=engine,weights/chunks_vs_tcp and ROUNDS=1 make it shorter.
bench: $(STAMP)
	$(BIN)/python -m bench.table --only '$(ONLY)' --rounds $(or $(ROUNDS),5)

mac-wheels: $(STAMP)
	$(BIN)/python bench/mac_wheels.py

mac-check: $(STAMP)
	$(BIN)/python bench/mac_check.py

clean:
	rm -rf $(VENV) dist mutants .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
