# make demo | test | check | bench        (PYTHON=python3.12 or VENV=/path/to/environment to choose another)
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.lens-installed

.PHONY: demo test test-slow check format bench clean

demo: $(INSTALLED)  ## train Lens and its baselines on the built-in world, evaluate, show the table
	$(BIN)/lens reproduce recipes/demo.yaml

test: $(INSTALLED)
	$(BIN)/python -m pytest

test-slow: $(INSTALLED)
	$(BIN)/python -m pytest -m slow

check: $(INSTALLED)  ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(INSTALLED)  ## speed and memory, each against a stated baseline; writes results/bench/
	$(BIN)/python -m benchmarks

# torch comes first and alone: what depends on it would otherwise choose a build of its own.
# The task files are installed as copies, so a changed one means installing again.
$(INSTALLED): pyproject.toml constraints.txt $(shell find tasks -type f)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[train,report,langdetect,dev]'
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
