# Two commands do all the set-up: `make demo` runs the main job, `make test` proves it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test check lint types layers unit chaos clients years bench fuzz tools format clean

help: ## list the targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/.runtime: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/.runtime

$(VENV)/.fuzz: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[fuzz]'
	@touch $@ $(VENV)/.runtime

demo: $(VENV)/.runtime ## run the exporter against a simulated cloud; Ctrl-C ends it
	@$(BIN)/dcs-task-exporter demo

test: check tools ## everything: style, types, layers, all tests with the real parts
	$(BIN)/pytest -n 4 --cov --cov-report=term

check: lint types layers ## style, types and import layers

lint: $(VENV)/.dev ## ruff, every rule
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/.dev ## mypy, strict
	$(BIN)/mypy

layers: $(VENV)/.dev ## imports run one way
	$(BIN)/lint-imports --no-cache

unit: $(VENV)/.dev ## the tests that need no real Prometheus or browser
	$(BIN)/pytest -n auto -m 'not real'

chaos: tools ## kill the exporter 20 times in 3 minutes; nothing may be lost or counted twice
	$(BIN)/python bench/chaos.py

clients: $(VENV)/.dev ## measure what clients that hang cost the others; takes two minutes
	$(BIN)/python bench/bad_clients.py

years: $(VENV)/.dev ## play simulated worlds, 5,000 steps each; N=100 plays a hundred
	$(BIN)/python bench/years.py --years $(or $(N),10)

bench: $(VENV)/.dev ## measure against the official SDK and the floor; takes 25 minutes
	$(BIN)/python bench/performance.py

FUZZ := error_answers task_pages instances center_and_progress times_and_numbers http_wire

fuzz: $(VENV)/.fuzz ## look for answers that break the parsers; takes up to 30 minutes
	@failed=; for target in $(FUZZ); do $(BIN)/python fuzz/run.py $$target || failed=1; done; test -z "$$failed"

tools: $(VENV)/.dev ## fetch Prometheus 2 and 3 and Chromium for the tests
	scripts/install-test-tools

format: $(VENV)/.dev ## format the code
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean: ## remove what the targets made
	rm -rf $(VENV) .tools .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage .import_linter_cache
