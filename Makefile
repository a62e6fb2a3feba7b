# The environment lives in .venv; every target makes it when it is missing or when the pins have changed.
PYTHON ?= python3
VENV ?= .venv
PIP_FLAGS ?=
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# XLA of JAX 0.10 compiles for CPUs in half the time without its fusions; that of 0.12 does not know the flag, which is
# left out then. Slow tests, and commands that tests start, are compiled as users' programs are.
FAST_TESTS := QUICK_XLA_FLAGS=--xla_cpu_use_fusion_emitters=false \
  $(BIN)/python -m pytest -q -n 2 --dist loadscope --no-loadscope-reorder -m "not slow"

.PHONY: install demo test test-part test-pythons test-slow lint bench

install: $(STAMP)  ## the environment

demo: $(STAMP)  ## train the demo study, fit its laws and write the report
	$(BIN)/scaling run performance_vs_data --store runs/performance_vs_data
	$(BIN)/scaling report runs/performance_vs_data

test: $(STAMP)  ## the fast tests
	$(FAST_TESTS)

test-part: $(STAMP)  ## every 20th of the fast tests, at least one of every folder
	$(FAST_TESTS) --every 20

test-pythons:  ## the fast tests on every Python of this machine, each in an environment of its own
	@versions=$$("$(PYTHON)" tests/pythons.py) || exit 1; \
	failed=; for version in $$versions; do $(MAKE) on-$$version || failed="$$failed $$version"; done; \
	if [ -n "$$failed" ]; then echo "Tests failed on$$failed"; exit 1; fi

on-%:  ## make on-3.13 DO=demo: a target, the fast tests without DO, on a Python of this machine; on-newest: on another
	@path=$$("$(PYTHON)" tests/pythons.py $*) || exit 1; \
	if [ -z "$$path" ]; then echo "There is no other Python on this machine"; exit 0; fi; \
	echo "make $(or $(DO),test) on $$path"; \
	$(MAKE) $(or $(DO),test) PYTHON="$$path" VENV=.venv-$*

test-slow: $(STAMP)  ## the tests that take minutes
	$(BIN)/python -m pytest -q -m slow

lint: $(STAMP)  ## format, lint, who imports whom, and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy

bench: $(STAMP)  ## this project beside what one would use instead; installs PyTorch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[bench]"
	for name in input_pipeline populations transformers convnets fits; do \
	  $(BIN)/python benchmarks/$$name.py --out benchmarks/$$name.md || exit 1; \
	done

$(STAMP): pyproject.toml constraints.txt
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; try make PYTHON=python3.12"; exit 1; }
	"$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) -c constraints.txt -e ".[dev]"
	@touch $@
