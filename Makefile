# `make rehearse` and `make test` install whatever they need; nothing else has to be run first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
.DEFAULT_GOAL := help

.PHONY: help rehearse test parts bench check format lock clean

help: ## Show the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | expand -t 12

rehearse: $(VENV)/.installed ## Show the whole stack at work on this machine, with no cloud account
	$(BIN)/python -m rehearsal run

test: check parts ## Run every test
	$(BIN)/python -m pytest -n 4

parts: $(VENV)/.installed ## Build the real parts, once
	$(BIN)/python -m rehearsal parts

bench: parts ## Measure; writes docs/
	$(BIN)/python -m bench

check: $(VENV)/.installed ## Lint and type-check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: $(VENV)/.installed ## Pin what requirements*.in name, with checksums
	$(BIN)/python -m pip install --quiet uv
	for name in requirements requirements-dev rehearsal/parts/go/requirements; do \
	  $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	    --no-emit-index-url --no-header $$name.in -o $$name.txt || exit 1; done

clean: ## Remove what the rehearsal and the checks left in this folder
	-[ -d $(VENV) ] && $(BIN)/python -m rehearsal down
	rm -rf .rehearsal .mypy_cache .pytest_cache .ruff_cache

$(VENV)/.installed: requirements.txt requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11"; exit 1; }
	@echo "installing Python packages into $(VENV)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --require-hashes \
	  -r requirements-dev.txt
	@touch $@
