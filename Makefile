# Everything a developer does here. Each target first makes the virtual environment that it needs.
#   ARGS="-k ledger"    further arguments of pytest         PYTHON=python3.12   which Python to use
#   WORKERS=0           tests in one process
.DEFAULT_GOAL := help
.SUFFIXES:
SHELL := /bin/sh

VENV ?= .venv
BIN := $(VENV)/bin
BENCH_VENV ?= .cache/venv-bench
# What `make run` collects: `simulator`, or the name of an exchange.
EXCHANGE ?= simulator
DATA ?= data
FOR ?=
ARGS ?=
# In how many processes tests run: most of their time they wait. 0: in one, which is what a debugger needs.
WORKERS ?= 2
BUCKET ?=
START ?=
SPEED ?=
IMAGE ?= crypto-lake:dev
BENCHMARKS ?= transform collector control_plane ledger reading dashboard
UV_VERSION := 0.13.9

ENVIRONMENT = python=$$(tools/find-python) && "$$python" tools/environment.py --venv $(VENV)

.PHONY: help
help: ## what can be done here
	@echo 'usage: make TARGET'
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: run
run: ## a lake on a simulated exchange for two minutes (EXCHANGE=binance: the real one, until Ctrl-C or FOR=2m)
	@$(ENVIRONMENT) run
ifeq ($(EXCHANGE),simulator)
	@exec $(BIN)/crypto-lake run --simulate --for $(or $(FOR),2m) --data $(DATA)
else
	@CRYPTO_LAKE_COLLECTOR_EXCHANGE=$(EXCHANGE) exec $(BIN)/crypto-lake run $(if $(FOR),--for $(FOR)) --data $(DATA)
endif

.PHONY: test
test: ## unit and integration tests
	@$(ENVIRONMENT) dev
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

.PHONY: lint
lint: ## style, format, which room may import which, locks, addresses
	@$(ENVIRONMENT) dev
	@failed=; \
	for check in "ruff check" "ruff format --check" "lint-imports --no-logo" "python tools/check_house.py"; do \
	  echo "== $$check"; $(BIN)/$$check || failed="$$failed [$$check]"; \
	done; \
	[ -z "$$failed" ] || { echo "not clean:$$failed" >&2; exit 1; }

.PHONY: format
format: ## put the code into its form
	@$(ENVIRONMENT) dev
	@$(BIN)/ruff check --fix-only --quiet
	@$(BIN)/ruff format

.PHONY: type
type: ## static types
	@$(ENVIRONMENT) dev
	@$(BIN)/pyright

.PHONY: bench
bench: ## measure against other programs (BENCHMARKS=transform: one of them)
	@$(MAKE) --no-print-directory VENV=$(BENCH_VENV) _bench
.PHONY: _bench
_bench:
	@$(ENVIRONMENT) bench
	@failed=; for name in $(BENCHMARKS); do \
	  echo "== bench/$$name.py"; $(BIN)/python bench/$$name.py $(ARGS) || failed="$$failed $$name"; \
	done; [ -z "$$failed" ] || { echo "targets missed:$$failed" >&2; exit 1; }

.PHONY: e2e
e2e: ## the image, and lakes on a cluster of kind (needs Docker; for the cluster kind, kubectl and helm)
	@$(ENVIRONMENT) dev
	@$(BIN)/python -m pytest tests/e2e --timeout 1800 $(ARGS)

.PHONY: kind
kind: ## a lake on a cluster of kind, and what to look at (BUCKET=1: with an object store, START=2024-08-08T23:50:00 SPEED=10: its market)
	@IMAGE='$(IMAGE)' BUCKET='$(BUCKET)' START='$(START)' SPEED='$(SPEED)' tools/kind up

.PHONY: kind-delete
kind-delete: ## delete that cluster
	@tools/kind delete

.PHONY: faults
faults: ## every crash point, kill loops, power loss, full disks and broken networks (some need root)
	@$(ENVIRONMENT) dev
	@$(BIN)/python -m pytest tests/unit tests/integration -m 'faults or root' --timeout 1800 $(ARGS)

.PHONY: search
search: ## every property with examples that no run had before, and more of them
	@$(ENVIRONMENT) dev
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m 'hypothesis and not faults' --hypothesis-profile search --timeout 1800 $(ARGS)

.PHONY: chart
chart: ## what of the chart, its pages and manifests/ is made of the operator's types (with helm: install.yaml, too)
	@$(ENVIRONMENT) dev
	@$(BIN)/python tools/chart.py

.PHONY: lock
lock: ## resolve the dependencies of pyproject.toml anew into requirements/*.lock
	@python=$$(tools/find-python) && PYTHON="$$python" UV_VERSION=$(UV_VERSION) tools/lock

.PHONY: image
image: ## build the container image, named by IMAGE
	@tools/build-image $(IMAGE)

.PHONY: clean
clean: ## remove what was made here, but for data
	rm -rf $(VENV) .cache dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find app operator tests bench tools -name __pycache__ -type d -prune -exec rm -rf {} +
