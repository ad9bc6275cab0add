# Two commands do all: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
SOURCES := platform serve_apps train_jobs tests examples scripts

.PHONY: help demo test check bench lock clean setup-demo setup-dev

help:            ## what there is
	@grep -E '^[a-z-]+: .*##' Makefile | sed -E 's/:[^#]*##/\t/' | expand -t 12

demo: setup-demo ## tune a real small model on this machine and chat with it (FRESH=1: from the beginning)
	@$(BIN)/python examples/quickstart/demo.py $(if $(FRESH),--fresh)

test: setup-dev  ## every test that this machine can run
	@sh scripts/install-registry.sh
	@$(BIN)/pytest $(PYTEST_ARGS)

check: setup-dev ## format, lint, types, import rules, locks
	@$(BIN)/ruff format --check $(SOURCES)
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: setup-dev ## throughput as ratios: tuning and serving
	@$(BIN)/python tests/bench/bench_tuning.py
	@$(BIN)/python tests/bench/bench_serving.py

lock: setup-dev  ## compile the requirement sets again
	@$(BIN)/python scripts/lock.py

clean:           ## stop what runs and remove the environment and caches of this clone
	@test ! -x $(BIN)/kairay || $(BIN)/kairay stop --all
	@rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache examples/quickstart/adapter

setup-demo:
	@$(PYTHON) scripts/setup.py demo

setup-dev:
	@$(PYTHON) scripts/setup.py dev
