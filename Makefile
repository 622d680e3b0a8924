# make demo | test | lint | types | check | parity | bench | clean. PYTHON=… chooses the interpreter, JOBS=… the test processes.
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= 2
# The first of these that is new enough; `python3` alone when none is, so that the complaint names it.
PYTHON ?= $(shell for p in python3 python3.12 python3.11 python3.13; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo "$$p"; exit; }; done; echo python3)

.PHONY: help demo test lint types check parity bench clean

help:
	@echo 'make demo    the whole pipeline on the built-in task, into runs/demo'
	@echo 'make test    the test suite'
	@echo 'make lint    ruff: rules and format'
	@echo 'make types   mypy'
	@echo 'make check   lint, types, test'
	@echo 'make parity  losses and gradients beside those of TRL, which gets an environment of its own'
	@echo 'make bench   Keel beside TRL, some hours on a quiet machine (BENCH="--workload sft --model tiny" for one row)'
	@echo 'make clean   remove the environment'

demo: $(VENV)/.installed
	$(BIN)/keel demo

test: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE TOKENIZERS_PARALLELISM=false $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev
	$(BIN)/mypy

check: lint types test

parity: $(VENV)/.installed-dev
	KEEL_REQUIRE=trl $(BIN)/python -m pytest -q tests/parity

bench: $(VENV)/.installed
	$(BIN)/python -m benchmarks.versus_trl $(BENCH)

clean:
	rm -rf $(VENV)

# torch first and alone: whichever build is at hand satisfies the pin, and nothing that comes later replaces it.
$(VENV)/.installed: pyproject.toml constraints.txt
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Keel needs Python 3.11 or newer, and '$(PYTHON)' is not: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' || { \
	  echo "'$(PYTHON)' has no venv module: install it (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@echo "Installing into $(VENV); the first time takes a few minutes."
	"$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@
