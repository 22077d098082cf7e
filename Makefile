# Two commands do all the set-up: `make demo` runs the main job, `make test` proves it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The tests start some 200 processes: without compiled files each would compile the package anew, in
# a third of its start.
PYTEST = env -u PYTHONDONTWRITEBYTECODE $(BIN)/pytest --basetemp=$(VENV)/tmp

# What the tests need is installed by uv, in 5 s instead of 26, and by pip where uv cannot. Of pip's
# settings uv is told the index only: if you need the others, call `make test UV=false`.
UV = UV_HTTP_RETRIES=1 UV_DEFAULT_INDEX=$${UV_DEFAULT_INDEX:-$${PIP_INDEX_URL:-$$($(BIN)/pip config get global.index-url 2>/dev/null)}} \
  $(BIN)/uv pip install --quiet --python $(BIN)/python --editable
PIP = $(BIN)/python -m pip install --quiet --no-compile --editable

.DEFAULT_GOAL := help
.PHONY: help demo test collection all-tests coverage check lint types layers unit unit-all unit-lowest thorough chaos reloads clients soak scale years bench fuzz mutants tools programs packages docs dashboards alerts deploy lock format audit dist release-notes clean

help: ## list the targets
	@awk -F ':.*## ' '/^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  %-13s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.runtime: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	-$(BIN)/python -m pip install --quiet --no-compile uv==0.13.9
	$(UV) '.[dev]' $(PIP_FLAGS) || $(PIP) '.[dev]' $(PIP_FLAGS)
	@touch $@ $(VENV)/.runtime

$(VENV)/.deploy: $(VENV)/.dev
	$(UV) '.[dev,deploy]' || $(PIP) '.[dev,deploy]'
	@touch $@

$(VENV)/.fuzz: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[fuzz]'
	@touch $@ $(VENV)/.runtime

$(VENV)/.mutants: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev,mutants]'
	@touch $@ $(VENV)/.dev $(VENV)/.runtime

##@ Run

demo: $(VENV)/.runtime ## run the exporter against a simulated cloud; Ctrl-C ends it
	@$(BIN)/dcs-task-exporter demo

##@ Test

test: ## everything: style, types, layers, all tests with the real parts
	@$(MAKE) --no-print-directory --jobs=2 --output-sync programs check packages collection
	@$(MAKE) --no-print-directory all-tests

# Compiles the tests and what they import once, not in each process.
collection: $(VENV)/.deploy ## list all tests in .venv/collection.txt
	@$(PYTEST) --collect-only --quiet >$(VENV)/collection.txt || { cat $(VENV)/collection.txt; exit 1; }

# Many of them wait for another program: more processes than cores.
all-tests: $(VENV)/.deploy ## all tests, without the set-up of `make test` and its checks
	$(PYTEST) -n 6 --dist worksteal

coverage: tools ## the same tests, and which lines and branches they leave out; takes twice as long
	$(PYTEST) -n 4 --dist worksteal --cov --cov-report=term

check: lint types layers ## style, types and import layers

lint: $(VENV)/.dev ## ruff, every rule
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/.dev ## mypy, strict
	$(BIN)/mypy

layers: $(VENV)/.dev ## imports run one way
	$(BIN)/lint-imports --no-cache

unit: $(VENV)/.dev ## the tests that need no real Prometheus or browser
	$(PYTEST) -n auto --dist worksteal -m 'not real'

unit-all: ## the same on each Python from 3.10 to 3.13 that is on the PATH
	@failed=; for version in 3.10 3.11 3.12 3.13; do \
	  if python$$version -c '' 2>/dev/null; then \
	    $(MAKE) --no-print-directory unit PYTHON=python$$version VENV=.venvs/$$version || failed="$$failed $$version"; \
	  else echo "python$$version is not on the PATH: nothing was tested on it"; fi; \
	done; test -z "$$failed" || { echo "failed on$$failed"; exit 1; }

unit-lowest: ## the same with the lowest versions that pyproject.toml allows
	@mkdir -p .venvs
	$(PYTHON) scripts/lowest_versions.py >.venvs/lowest.txt
	@$(MAKE) --no-print-directory unit VENV=.venvs/lowest PIP_FLAGS='--constraint .venvs/lowest.txt'

thorough: $(VENV)/.dev ## the unit tests with 25 times as many examples, and a hundred simulated worlds
	HYPOTHESIS_PROFILE=thorough WORLDS=100 $(PYTEST) -n auto --dist worksteal --timeout=3000 -m 'not real'

FUZZ := error_answers task_pages instances center_and_progress times_and_numbers http_wire \
  configuration key_file state_rows state_file requests timeouts \
  web_configuration authorization token_answers key_answers metadata_answers profile_file

fuzz: $(VENV)/.fuzz ## look for input that breaks what reads it; takes up to five minutes a target
	@failed=; for target in $(FUZZ); do \
	  $(BIN)/python -m fuzz.run $$target --seed $(or $(SEED),1) || failed="$$failed $$target"; \
	done; test -z "$$failed" || { echo "failed:$$failed"; exit 1; }

mutants: $(VENV)/.mutants ## change a sample of the code and list what no test notices; takes up to 30 minutes
	$(BIN)/python scripts/mutants.py --seed $(or $(SEED),1)

tools: programs packages ## fetch Prometheus 2 and 3, Chromium, Helm and more for the tests

programs: ## the part of them that is no Python
	scripts/install-test-tools

packages: $(VENV)/.deploy ## the packages that a test builds the image from
	@for lock in requirements.txt deploy/container/build-requirements.txt; do \
	  $(BIN)/python -m pip download --quiet --disable-pip-version-check --require-hashes --only-binary :all: \
	    --dest .tools/wheels --requirement $$lock || test "$$CI" != true || exit 1; \
	done

##@ Write: files that are generated, and the format of the code

docs: $(VENV)/.dev ## write what repeats the code: tables of docs/, the schema of the configuration
	$(BIN)/python scripts/generate_docs.py

dashboards: $(VENV)/.dev ## write the dashboards from grafana/*.py
	$(BIN)/python grafana/dashboards.py

alerts: ## write the alert rules from prometheus/alerts.py
	$(PYTHON) prometheus/alerts.py

deploy: $(VENV)/.deploy ## write what deploy/ repeats: rules, dashboards, the chart's schema, plain manifests
	$(BIN)/python scripts/generate_deploy.py

lock: ## write requirements.txt, and what builds the image: the newest versions, with their hashes
	$(PYTHON) -m venv .venvs/lock
	.venvs/lock/bin/python -m pip install --quiet uv==0.13.9
	.venvs/lock/bin/uv pip compile --quiet --upgrade --universal --python-version 3.10 --generate-hashes \
	  --custom-compile-command 'make lock' --output-file requirements.txt pyproject.toml
	echo hatchling | .venvs/lock/bin/uv pip compile --quiet --upgrade --universal --python-version 3.10 --generate-hashes \
	  --custom-compile-command 'make lock' --output-file deploy/container/build-requirements.txt -

format: $(VENV)/.dev ## format the code
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

##@ Audit

audit: ## look up known vulnerabilities of the versions in requirements.txt
	$(PYTHON) -m venv .venvs/audit
	.venvs/audit/bin/python -m pip install --quiet pip-audit==2.10.1
	.venvs/audit/bin/pip-audit --requirement requirements.txt --require-hashes --disable-pip --strict

##@ Measure

chaos: tools ## kill the exporter 20 times in 3 minutes; nothing may be lost or counted twice
	$(BIN)/python -m bench chaos

reloads: tools ## reload 100 times under two Prometheus servers; nothing may be lost, fail or grow
	$(BIN)/python -m bench reloads

clients: $(VENV)/.dev ## measure what clients that hang cost the others; takes two minutes
	$(BIN)/python -m bench clients

soak: $(VENV)/.dev ## run for an hour under faults, reloads and changing keys: nothing may grow or be lost
	$(BIN)/python -m bench soak --minutes $(or $(N),60)

scale: tools ## read 20,000 instances on 8 shards of the chart, lose, move and add one; takes eight minutes
	$(BIN)/python -m bench scale

years: $(VENV)/.dev ## play simulated worlds, 5,000 steps each; N=100 plays a hundred
	$(BIN)/python -m bench years --years $(or $(N),10)

bench: $(VENV)/.dev ## measure against the official SDK and the floor; takes 25 minutes
	$(BIN)/python -m bench table

##@ Release

dist: ## build the wheel and the sdist, and check that a second build has the same bytes
	$(PYTHON) -m venv .venvs/dist
	.venvs/dist/bin/python -m pip install --quiet --require-hashes --requirement deploy/container/build-requirements.txt
	.venvs/dist/bin/python -m pip install --quiet twine==7.0.0
	rm -rf dist .venvs/dist/again
	.venvs/dist/bin/hatchling build --directory dist
	.venvs/dist/bin/hatchling build --directory .venvs/dist/again
	diff --recursive dist .venvs/dist/again
	.venvs/dist/bin/twine check --strict dist/*

release-notes: ## print what is new in the release TAG=v..., or what is missing for it
	@$(PYTHON) scripts/release_notes.py $(TAG)

##@ Clean

clean: ## remove what the targets made
	rm -rf $(VENV) .venvs .tools .mutants .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage .import_linter_cache
