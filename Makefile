# The environment lives in .venv; every target makes it when it is missing or when the pins have changed.
PYTHON ?= python3
VENV ?= .venv
PIP_FLAGS ?=
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-slow lint bench

demo: $(STAMP)  ## train the demo study, fit its laws and write the report
	$(BIN)/scaling run performance_vs_data --store runs/performance_vs_data
	$(BIN)/scaling report runs/performance_vs_data

# XLA compiles for CPUs in half the time without its fusions; slow tests, and commands that tests start, have them.
test: $(STAMP)  ## the fast tests
	QUICK_XLA_FLAGS=--xla_cpu_use_fusion_emitters=false \
	$(BIN)/python -m pytest -q -n 2 --dist loadscope --no-loadscope-reorder -m "not slow"

test-slow: $(STAMP)  ## the tests that take minutes
	$(BIN)/python -m pytest -q -m slow

lint: $(STAMP)  ## format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(STAMP)  ## this project beside what one would use instead; installs PyTorch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[bench]"
	for name in input_pipeline populations transformers convnets fits; do \
	  $(BIN)/python benchmarks/$$name.py --out benchmarks/$$name.md || exit 1; \
	done

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; try make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) -c constraints.txt -e ".[dev]"
	@touch $@
