# make demo   sets up an environment and runs the main job
# make test   sets up an environment and runs the tests
# Both reuse .venv; delete it (make clean) to start again.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# First and alone: the plain request for torch may bring gigabytes of GPU libraries.
TORCH := $(PIP) "$$(grep '^torch==' constraints.txt)"
ARGS ?=
# Tests of one file stay in one process; kernels are compiled once, before there are several.
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadscope --durations=25
KERNELS := $(shell find sklr -name '*_kernels.py' 2>/dev/null)

.PHONY: demo test test-slow lint docs check-docs bench clean

demo: $(VENV)/.demo
	$(BIN)/python -m sklr.eeg $(ARGS)

test: $(VENV)/.kernels
	$(PYTEST) -m "not slow" $(ARGS)

test-slow: $(VENV)/.kernels
	$(PYTEST) -m slow $(ARGS)

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.docs
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html

# Opens them in Chromium where there is one; links are checked in any case.
check-docs: docs
	$(BIN)/python docs/check_site.py || [ $$? -eq 77 ]

bench: $(VENV)/.bench
	$(BIN)/python benchmarks/run.py $(ARGS)

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# One stamp per set of extras; a changed requirement installs again, nothing else does.
$(VENV)/.demo: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) -e '.[eeg]'
	touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(TORCH)
	$(PIP) -e '.[eeg,torch,test,bench]'
	touch $@ $(VENV)/.demo

$(VENV)/.kernels: $(KERNELS) $(VENV)/.test
	$(BIN)/python -c "from sklr.utils import warm_up; warm_up(verbose=True, all_dtypes=True, n_jobs=-1)"
	touch $@

$(VENV)/.bench: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(TORCH)
	$(PIP) -e '.[eeg,torch,test,bench,peers]'
	touch $@ $(VENV)/.demo $(VENV)/.test

$(VENV)/.docs: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(TORCH)
	$(PIP) -e '.[eeg,torch,docs]'
	touch $@

clean:
	rm -rf $(VENV)
