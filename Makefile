# The environment lives in .venv; every target makes what it needs of it when that is missing or when the pins changed.
PYTHON ?= python3
VENV ?= .venv
PIP_FLAGS ?=
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DEVELOPED := $(VENV)/.developed
# uv installs in a fraction of the time that pip takes, where it is; both take the same pins. `make demo UV=` takes pip.
UV := $(shell command -v uv 2>/dev/null)
ifeq ($(UV),)
MAKE_VENV = "$(PYTHON)" -m venv $(VENV)
PIP_INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS)
else
MAKE_VENV = "$(UV)" venv --quiet --allow-existing --python "$(PYTHON)" $(VENV)
PIP_INSTALL = "$(UV)" pip install --quiet --python $(BIN)/python
endif

# XLA of JAX 0.10 compiles for CPUs in half the time without its fusions; that of 0.12 does not know the flag, which is
# left out then. Slow tests, and commands that tests start, are compiled as users' programs are.
FAST_TESTS := QUICK_XLA_FLAGS="--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1" \
  $(BIN)/python -m pytest -q -n 2 --dist loadscope --no-loadscope-reorder -m "not slow"

.PHONY: install demo test test-part test-pythons test-slow lint bench

install: $(DEVELOPED)  ## the environment, with what tests and linters need

demo: $(INSTALLED)  ## train the demo study, fit its laws and write the report
	$(BIN)/scaling run performance_vs_data --store runs/performance_vs_data
	$(BIN)/scaling report runs/performance_vs_data

test: $(DEVELOPED)  ## the fast tests
	$(FAST_TESTS)

test-part: $(DEVELOPED)  ## every 25th of the fast tests, at least one of every folder
	$(FAST_TESTS) --every 25

test-pythons:  ## the fast tests on every Python of this machine, each in an environment of its own
	@versions=$$("$(PYTHON)" tests/pythons.py) || exit 1; \
	failed=; for version in $$versions; do $(MAKE) on-$$version || failed="$$failed $$version"; done; \
	if [ -n "$$failed" ]; then echo "Tests failed on$$failed"; exit 1; fi

on-%:  ## make on-3.13 DO=demo: a target, the fast tests without DO, on a Python of this machine; on-newest: on another
	@path=$$("$(PYTHON)" tests/pythons.py $*) || exit 1; \
	if [ -z "$$path" ]; then echo "There is no other Python on this machine"; exit 0; fi; \
	echo "make $(or $(DO),test) on $$path"; \
	$(MAKE) $(or $(DO),test) PYTHON="$$path" VENV=.venv-$*

test-slow: $(DEVELOPED)  ## the tests that take minutes
	$(BIN)/python -m pytest -q -m slow

lint: $(DEVELOPED)  ## format, lint, who imports whom, and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy

bench: $(DEVELOPED)  ## this project beside what one would use instead; installs PyTorch
	$(PIP_INSTALL) -e ".[bench]"
	for name in first_result stores input_pipeline populations transformers convnets fits; do \
	  $(BIN)/python benchmarks/$$name.py --out benchmarks/$$name.md || exit 1; \
	done

$(INSTALLED): WANTED = .
$(DEVELOPED): WANTED = .[dev]
$(INSTALLED) $(DEVELOPED): pyproject.toml constraints.txt
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; try make PYTHON=python3.12"; exit 1; }
	$(MAKE_VENV)
	$(PIP_INSTALL) -c constraints.txt -e "$(WANTED)"
	@touch $(INSTALLED) $@
