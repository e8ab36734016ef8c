# Every target builds what it needs, in .venv, without root. `make help` lists them.
# Another Python: make PYTHONS=/path/to/python test

PYTHONS := python3.13 python3.12 python3.11 python3
# Most tests wait more than they compute; those marked `alone` follow by themselves. `worksteal`: the slowest are all in
# one folder.
PARALLEL := -n auto --maxprocesses 4 --dist worksteal
PYTEST := .venv/bin/python -m pytest
DEMO := .venv/.demo.stamp
DEV := .venv/.dev.stamp
LOWEST := .venv-lowest/.stamp
SELFWATCH := .venv-self/.stamp

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-all soak bench bench-quick lint format docs clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(DEMO) ## Train a rain model on real weather, replay three years of it, and show how good it was
	.venv/bin/otel-ml demo

test: $(DEV) ## Run the tests, then the linters
	$(PYTEST) $(PARALLEL) -m "not slow and not alone"
	$(PYTEST) -m "alone and not slow"
	@$(MAKE) --no-print-directory lint

test-all: $(DEV) $(LOWEST) $(SELFWATCH) ## Run what `make test` leaves out: slow tests, oldest versions, self-observation
	$(PYTEST) $(PARALLEL) -m "slow and not alone"
	$(PYTEST) -m "slow and alone"
	.venv-lowest/bin/python -m pytest $(PARALLEL) -m "not slow and not alone and not checkout"
	.venv-lowest/bin/python -m pytest -m "alone and not slow and not checkout"
	.venv-self/bin/python -m pytest tests/selfwatch

soak: $(DEV) ## Half an hour of faults at random, with a recorded seed: make soak SECONDS=60 SEED=7
	.venv/bin/python -m tests.faults.soak --seconds $(or $(SECONDS),1800) $(if $(SEED),--seed $(SEED))

bench: $(DEV) ## Measure the cost of every path beside the same telemetry written by hand
	.venv/bin/python benchmarks/overhead.py
	.venv/bin/python benchmarks/throughput.py

bench-quick: $(DEV) ## The same in a minute or two; fails where a figure is far off
	.venv/bin/python benchmarks/overhead.py --quick
	.venv/bin/python benchmarks/throughput.py --seconds 10

lint: $(DEV) ## Check style, types, import layers and spelling
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/pyright --pythonpath .venv/bin/python
	.venv/bin/lint-imports
	.venv/bin/codespell

format: $(DEV) ## Let ruff mend what it can
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

docs: $(DEV) ## Write docs/telemetry.md from the catalogue and run every Python block of README and docs
	.venv/bin/python docs/generate.py
	$(PYTEST) tests/test_docs.py

clean: ## Remove what the other targets have built
	rm -rf .venv .venv-lowest .venv-self .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

# ---------------------------------------------------------------------------------------- environments
# Made anew only when pyproject.toml changes. Old pips know no dependency groups (PEP 735), hence pip first.

$(DEMO): pyproject.toml | .venv/bin/python
	@echo 'Installing otel_ml and what its demo needs into .venv; this takes a minute.'
	@.venv/bin/python -m pip install --quiet --editable '.[demo]'
	@touch $@

$(DEV): pyproject.toml | .venv/bin/python
	@echo 'Installing otel_ml and its test tools into .venv; this takes a minute or two.'
	@.venv/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	@.venv/bin/python -m pip install --quiet --editable '.[all]' --group dev
	@touch $@ $(DEMO)

$(LOWEST): pyproject.toml | .venv-lowest/bin/python
	@echo 'Installing otel_ml and the oldest versions it admits into .venv-lowest; this takes a minute or two.'
	@.venv-lowest/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	@.venv-lowest/bin/python -m pip install --quiet --editable '.[all]' --group test --group lowest
	@touch $@

$(SELFWATCH): pyproject.toml | .venv-self/bin/python
	@echo 'Installing otel_ml and the instrumentations of OpenTelemetry into .venv-self; this takes a minute or two.'
	@.venv-self/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	@.venv-self/bin/python -m pip install --quiet --editable . --group test --group selfwatch
	@touch $@

# A name on PATH may be a stub that fails, so each candidate has to answer.
.venv/bin/python .venv-lowest/bin/python .venv-self/bin/python: %/bin/python:
	@for python in $(PYTHONS); do \
	  if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	    echo "Making $* with $$("$$python" --version)"; \
	    "$$python" -m venv $* && exit 0; \
	    rm -rf $*; \
	    echo "$$python could not make a virtual environment. On Debian and Ubuntu type: apt-get install python3-venv" >&2; \
	    exit 1; \
	  fi; \
	done; \
	echo "No Python 3.11 or newer was found. Install one, or type: make PYTHONS=/path/to/python $(MAKECMDGOALS)" >&2; \
	exit 1
