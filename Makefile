# `make demo` and `make test` are all one needs. Both work in a fresh clone.

PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable

.PHONY: demo test lint clean

demo: .venv/demo  ## Install, then train, sample and report on handwritten digits, in minutes
	$(BIN)/ddim reproduce digits --quick

# One thread for each test process: two that use two cores each wait for one another most of the time.
test: .venv/test  ## Install what tests need, and pass them
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2

lint: .venv/test  ## Style, formatting and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

clean:
	rm -rf .venv .*_cache

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/demo: .venv/bin/python pyproject.toml constraints.txt
	$(INSTALL) .
	touch $@

.venv/test: .venv/bin/python pyproject.toml constraints.txt
	$(INSTALL) ".[test]"
	touch $@ .venv/demo
