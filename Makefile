# A fresh clone needs only `make demo` and `make test`. Both install into .venv first.

PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable
# One thread for each test process: with two threads each, two processes on two cores slow each other down.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2

.PHONY: demo test test-fast coverage lint docs page bench clean

demo: .venv/demo  ## Install, then train, sample and report on handwritten digits, in minutes
	$(BIN)/ddim reproduce digits --quick

test: .venv/test  ## Install what the tests need and run all tests
	$(PYTEST)

test-fast: .venv/test  ## Run the tests that are not marked slow: under two minutes
	$(PYTEST) -m "not slow"

coverage: .venv/test  ## Run all tests and print the lines of src/ddim that none of them executes
	$(PYTEST) --cov --cov-report term

lint: .venv/test  ## Check style, formatting and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

docs: .venv/docs docs/_build/vendor/tex-svg.js  ## Run the tutorials and write the documentation site to docs/_build/html
	$(BIN)/sphinx-build --fail-on-warning --keep-going --conf-dir docs . docs/_build/html

bench: .venv/bench  ## Install other libraries, and time sampling against them, in about half an hour
	$(BIN)/python benchmarks/sampling_peers.py

page: .venv/test  ## Build the page without a server into build/page: the MNIST model in the visitor's browser; needs npm
	$(BIN)/python docs/page/build.py

clean:  ## Remove the environment and the caches
	rm -rf .venv .*_cache .coverage* docs/_build

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/demo: .venv/bin/python pyproject.toml constraints.txt
	$(INSTALL) ".[fast]"
	touch $@

.venv/test: .venv/bin/python pyproject.toml constraints.txt
	$(INSTALL) ".[test]"
	touch $@ .venv/demo

.venv/docs: .venv/bin/python pyproject.toml constraints.txt
	$(INSTALL) ".[docs]"
	touch $@ .venv/demo

docs/_build/vendor/tex-svg.js:  # MathJax, from npm, so that the pages need no other server
	mkdir -p $(@D)
	cd $(@D) && npm pack --silent mathjax@3.2.2 && tar -xzf mathjax-3.2.2.tgz --strip-components=2 package/es5/tex-svg.js
	rm $(@D)/mathjax-3.2.2.tgz
	touch $@

.venv/bench: .venv/bin/python pyproject.toml constraints.txt benchmarks/requirements.txt
	$(INSTALL) ".[fast]"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --requirement benchmarks/requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps denoising-diffusion-pytorch==2.3.4 azula==0.11.1
	touch $@ .venv/demo
