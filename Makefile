# Every target installs what it needs; nothing else has to be run first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
STACK ?= rehearsal
.DEFAULT_GOAL := help
# Modules compiled once: every command here would compile thousands of lines of SDK again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help preview rehearse test unit parts bench check format schema lock clean

help: ## Show the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | expand -t 12

preview: $(VENV)/.installed ## Show what a stack declares (STACK=rehearsal); Python packages only
	@$(BIN)/python -m rehearsal preview $(STACK)

rehearse: $(VENV)/.installed ## Show the whole stack at work on this machine, with no cloud account
	$(BIN)/python -m rehearsal run

test: check parts ## Run every test
	$(BIN)/python -m pytest -n 4

unit: $(VENV)/.installed ## Run the tests that need no real part
	$(BIN)/python -m pytest -n 2 tests/unit

parts: $(VENV)/.installed ## Build the real parts, once
	$(BIN)/python -m rehearsal parts

bench: $(VENV)/.installed ## Measure; writes docs/
	$(BIN)/python -m bench
	$(BIN)/python -m bench.inventory

check: $(VENV)/.installed ## Lint and type-check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

schema: $(VENV)/.installed ## Write the editors' schema of the stack files
	$(BIN)/python -m settings.schema

lock: $(VENV)/.installed ## Pin what pyproject.toml names, with checksums: uv.lock and requirements.txt
	$(UV) lock
	$(UV) export --quiet --frozen --no-emit-project --no-header --output-file requirements.txt

clean: ## Remove what the rehearsal and the checks left in this folder
	-[ -d $(VENV) ] && $(BIN)/python -m rehearsal down
	rm -rf .rehearsal .mypy_cache .pytest_cache .ruff_cache

# uv, in the pinned version, comes by pip; the packages come by uv. Both check the lock's checksums
# and ask the package index that the user's own settings name.
$(VENV)/.installed: uv.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11"; exit 1; }
	@echo "installing Python packages into $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(PYTHON) -c 'import tomllib; \
	  found = [p for p in tomllib.load(open("uv.lock", "rb"))["package"] if p["name"] == "uv"][0]; \
	  print("uv==" + found["version"], *("--hash=" + w["hash"] for w in found["wheels"]))' \
	  > $(VENV)/uv.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes \
	  -r $(VENV)/uv.txt
	@$(UV) export --quiet --frozen --group dev --no-emit-project > $(VENV)/packages.txt
	@$(UV) pip install --python $(BIN)/python --require-hashes -r $(VENV)/packages.txt
	@touch $@
