# Two commands do everything on a machine with python3, make and apt: `make demo` and `make check`.

SHELL := /bin/sh
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYTHON
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -qq --constraint ci/constraints.txt
JOBS ?= 2
FUZZ_CASES ?= 1000000
FUZZ_SEED ?= 1
SCHEMAS := config config-v3.2 index policy report rule finding diff
PYTHONS := 3.11 3.12 3.13

.PHONY: help demo check check-all check-pythons format format-check lint types imports browser test test-slow fuzz benchmark \
	benchmark-content benchmark-families benchmark-fleet benchmark-remote benchmark-service schemas service-api service-settings sample clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*##  *\(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

# --- environments: one folder, two stamps. The demo needs no development tool; `dev` adds everything else. ---

$(VENV)/.pip: ci/venv.sh
	@echo "making $(VENV)"
	@./ci/venv.sh $(VENV)
	@touch $@

$(VENV)/.demo: $(VENV)/.pip pyproject.toml ci/constraints.txt
	@echo "installing the project"
	@$(PIP) hatchling editables
	@$(PIP) --no-build-isolation --editable '.[forge,content]'
	@touch $@

$(VENV)/.dev: $(VENV)/.demo
	@echo "installing the development tools and the references of the tests"
	@$(PIP) --no-build-isolation --editable . --group dev
	@touch $@

# --- the demo ---

demo: $(VENV)/.demo  ## audit a forged full-size layout, and a small checkpoint byte by byte; write demo/report.html
	@mkdir -p demo
	@if [ -f demo/v3/.forged ]; then echo "demo/v3 is there already"; else \
	  rm -rf demo/v3 && $(BIN)/auditor forge demo/v3 --like v3 --sparse && touch demo/v3/.forged; fi
	@if [ -f demo/tiny/.forged ]; then echo "demo/tiny is there already"; else \
	  rm -rf demo/tiny && $(BIN)/auditor forge demo/tiny --like tiny && touch demo/tiny/.forged; fi
	$(BIN)/auditor audit demo/tiny --depth full --quiet --html demo/tiny.html
	$(BIN)/auditor audit demo/v3 --html demo/report.html --json demo/report.json
	@echo
	@echo "the page: $(CURDIR)/demo/report.html, and of a small one read in full: $(CURDIR)/demo/tiny.html"
	@echo "the data: $(CURDIR)/demo/report.json"

# --- checks ---

check: format-check lint types imports test  ## everything a change must pass: format, lint, types, layers, tests, wheel

check-all: check test-slow fuzz benchmark  ## check, and the slow tests, the long fuzz and the benchmark

format-check: $(VENV)/.dev
	$(BIN)/ruff format --check .

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	@twice=$$(find tests -name 'test_*.py' | sed 's|.*/||' | sort | uniq -d); \
	  [ -z "$$twice" ] || { echo "test files of one name, all but one of which pytest passes over:" $$twice; exit 1; }
	@for version in $(PYTHONS); do \
	  $(BIN)/ruff check -q --select E9,F --target-version py$$(echo $$version | tr -d .) . || exit 1; done

types: $(VENV)/.dev
	@for version in $(PYTHONS); do \
	  echo "mypy, Python $$version"; $(BIN)/mypy --python-version $$version || exit 1; done

imports: $(VENV)/.dev
	PYTHONPATH=.:schemas:reports $(BIN)/lint-imports

browser:  ## a Chromium for the browser tests, through apt where that is allowed
	@./ci/browser.sh

$(VENV)/.servers: $(VENV)/.dev ci/servers.sh
	@./ci/servers.sh $(VENV)/azurite
	@touch $@

# The built wheel is tested in a clean environment by tests/test_wheel.py, the page in Chromium by tests/browser,
# remote sources against servers on loopback.
test: $(VENV)/.servers browser  ## the tests but the slow ones; the end says how many were skipped, and why
	$(BIN)/python -m pytest --dist loadfile -n $(JOBS)

test-slow: $(VENV)/.servers  ## the slow tests
	$(BIN)/python -m pytest --dist loadfile -n $(JOBS) -m slow

check-pythons:  ## the tests under each Python of PYTHONS that is installed, each in an environment of its own
	@for version in $(PYTHONS); do \
	  if command -v python$$version >/dev/null; then \
	    $(MAKE) --no-print-directory VENV=.venv-$$version PYTHON=python$$version test || exit 1; \
	  else echo "python$$version is not installed: nothing was tested under it"; fi; done

fuzz: $(VENV)/.dev  ## the long fuzz: FUZZ_CASES cases from FUZZ_SEED, recorded in benchmarks/results
	$(BIN)/python -m tests.fuzz all --cases $(FUZZ_CASES) --seed $(FUZZ_SEED) --jobs $(JOBS) --record

$(VENV)/.peers: $(VENV)/.dev benchmarks/peers/requirements.txt
	@./ci/venv.sh $(VENV)/peers
	@$(VENV)/peers/bin/python -m pip install -qq -r benchmarks/peers/requirements.txt
	@touch $@

benchmark: $(VENV)/.peers  ## whole processes against their peers, recorded in benchmarks/results
	$(BIN)/python benchmarks/headers.py --hub-python $(VENV)/peers/bin/python --record
	$(BIN)/python benchmarks/render.py --record
	$(BIN)/python benchmarks/remote.py --hub-python $(VENV)/peers/bin/python --record

benchmark-content: $(VENV)/.dev  ## kernels and whole audits of content against their peers, on some 10 GB of forged data
	$(BIN)/python benchmarks/content.py --record

benchmark-families: $(VENV)/.dev  ## every family at full size, against V3, recorded in benchmarks/results
	$(BIN)/python benchmarks/families.py --record

benchmark-fleet: $(VENV)/.dev  ## parts and a Ray cluster of this machine, on some 10 GB of forged data, and a simulated fleet
	$(BIN)/python benchmarks/fleet.py --record

benchmark-remote: $(VENV)/.peers  ## remote sources alone, against huggingface_hub and raw sockets
	$(BIN)/python benchmarks/remote.py --hub-python $(VENV)/peers/bin/python --record

benchmark-service: $(VENV)/.peers  ## the service under load, by wrk (apt) and k6
	$(BIN)/python benchmarks/service.py --k6 $(VENV)/peers/bin/k6 --record

format: $(VENV)/.dev  ## rewrite the source as the format check wants it
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

schemas: $(VENV)/.dev  ## write schemas/json again from the models
	@mkdir -p schemas/json
	@for name in $(SCHEMAS); do \
	  $(BIN)/auditor schema $$name > schemas/json/$$name.json || exit 1; echo "schemas/json/$$name.json"; done

service-settings: $(VENV)/.dev  ## write deploy/service.toml and its table again after a change to the service's settings
	PYTHONPATH=.:schemas:reports $(BIN)/python docs/make_service_settings.py

service-api: $(VENV)/.dev  ## write docs/service-api.md again after a change to the service's API
	$(BIN)/python docs/make_service_api.py

sample: $(VENV)/.demo  ## audit the sample's checkpoint again and write reports/sample/ from it
	$(BIN)/python reports/sample/make.py

clean:  ## remove environments, caches and the demo
	rm -rf $(VENV) .venv-* demo dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
