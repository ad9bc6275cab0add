# Two commands do all: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
SOURCES := platform serve_apps train_jobs tests examples scripts

ONEBOX := PYTHONPATH=tests/cluster $(BIN)/python -m onebox

.PHONY: help demo test check bench crd lock clean setup-demo setup-dev \
	bench-controller bench-memory simulate-nodes soak cluster-kairay cluster-up cluster-down cluster-status cluster-env cluster-tools

help:            ## what there is
	@grep -E '^[a-z-]+: .*##' Makefile | sed -E 's/:[^#]*##/\t/' | expand -t 16

demo: setup-demo ## tune a real small model on this machine and chat with it (FRESH=1: from the beginning)
	@$(BIN)/python examples/quickstart/demo.py $(if $(FRESH),--fresh)

test: setup-dev  ## every test that this machine can run
	@sh scripts/install-registry.sh
	@$(ONEBOX) build --if-possible
	@$(BIN)/pytest $(PYTEST_ARGS)

check: setup-dev ## format, lint, types, import rules, locks
	@$(BIN)/ruff format --check $(SOURCES)
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/mypy
	@$(BIN)/lint-imports

cluster-up: setup-dev     ## a real Kubernetes with KubeRay on this machine (GPUS=4 pretended ones)
	@$(ONEBOX) up $(if $(GPUS),--gpus $(GPUS))

cluster-kairay: setup-dev ## install Kairay on it
	@$(ONEBOX) kairay

soak: setup-dev  ## the walk-through on it with ten kills of the controller
	@KAIRAY_KILLS=10 KAIRAY_REQUIRE=cluster $(BIN)/pytest -s tests/cluster/test_workspaces.py -k walk_through_survives

cluster-down: setup-dev   ## stop it and leave nothing behind (FORCE=1: also another clone's)
	@$(ONEBOX) down $(if $(FORCE),--force)

cluster-status: setup-dev ## what runs of it, and how much memory it takes
	@$(ONEBOX) status

cluster-env: setup-dev    ## print the lines for `eval` that point kubectl at it
	@$(ONEBOX) env

cluster-tools: setup-dev  ## build its programs without starting it
	@$(ONEBOX) build

bench: setup-dev ## throughput as ratios: tuning and serving
	@$(BIN)/python tests/bench/bench_tuning.py
	@$(BIN)/python tests/bench/bench_serving.py

simulate-nodes: setup-dev ## a week of jobs and services: GPU-hours with Kairay's nodes and with two other ways
	@$(BIN)/python tests/bench/simulate_week.py

bench-memory: setup-dev ## memory of tuning and serving, measured against the planner's estimates
	@$(BIN)/python tests/bench/bench_memory.py

bench-controller: setup-dev ## the controller against 1,000 Workspaces on a real API server
	@$(ONEBOX) build
	@$(BIN)/python tests/bench/bench_controller.py

crd: setup-dev   ## write the generated files of kuberay/install and docs/admission.md again
	@$(BIN)/python -m kairay.crd

lock: setup-dev  ## compile the requirement sets again
	@$(BIN)/python scripts/lock.py

clean:           ## stop what runs and remove the environment and caches of this clone
	@test ! -x $(BIN)/kairay || $(BIN)/kairay stop --all
	@rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache examples/quickstart/adapter

setup-demo:
	@$(PYTHON) scripts/setup.py demo

setup-dev:
	@$(PYTHON) scripts/setup.py dev
