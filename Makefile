# The one door: everything that is done with this repository is done from here.

VENV = .venv
BIN = $(VENV)/bin
INSTALLED = $(VENV)/.installed
TESTABLE = $(VENV)/.group-test
BENCHABLE = $(VENV)/.group-bench
DOCUMENTABLE = $(VENV)/.group-docs
NOX = $(VENV)/.group-nox

# Which Python to make a new environment with: `make PYTHON=python3.13 demo`
PYTHON =
# More arguments for pytest or for the benchmarks: `make test ARGS='-k batch'`
ARGS =

PIP = $(BIN)/python -m pip --disable-pip-version-check --no-input install --quiet

# The tests look for commands by name: those of the environment first, and those that only root has in its PATH.
# They start make too, which must not think that it was called by this one.
RUN = env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL PATH="$(abspath $(BIN)):$$PATH:/usr/sbin:/sbin"

.PHONY: help demo test test-all bench bench-tee soak docs format lint type share clean system
.DELETE_ON_ERROR:

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' Makefile

demo: $(INSTALLED) ## make the environment if need be, and show what dtee-async does (some seconds)
	@scripts/demo $(BIN)

test: system $(TESTABLE) $(DOCUMENTABLE) ## everything that has to hold: formatting, lint, types, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(RUN) pytest --ignore=tests/soak $(ARGS)
	@scripts/as-nobody $(BIN)

test-all: system $(NOX) ## the tests with every Python found, the lowest versions, and the wheel (some 10 minutes each)
	$(RUN) nox $(if $(ARGS),-- $(ARGS))

bench: system $(TESTABLE) $(BENCHABLE) ## the benchmarks
	$(RUN) python -m benchmarks $(ARGS)

bench-tee: $(TESTABLE) ## duplicate() and tee of coreutils (ARGS=--quick: 256 MiB instead of 4 GiB)
	$(BIN)/python benchmarks/tee.py $(ARGS)

soak: system $(TESTABLE) ## the tests that take long, in their order
	$(RUN) pytest tests/soak -p no:randomly $(ARGS)

docs: $(DOCUMENTABLE) ## the documentation site, in .cache/site
	$(BIN)/python scripts/docs.py
	$(BIN)/mkdocs build --strict

format: $(TESTABLE) ## format the code, and mend what ruff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: $(TESTABLE) ## ruff
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

type: $(TESTABLE) ## mypy
	$(BIN)/mypy

share: $(TESTABLE) ## the manual pages, completions and message catalogues, from the option table and the sources
	$(BIN)/python scripts/share.py
	$(BIN)/python scripts/lifecycle.py

clean: ## remove the environment, the caches and what the examples wrote
	rm -rf $(VENV) dist .cache/site .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	find examples/out examples/stack/out -type f ! -name .gitignore -delete

system:
	@scripts/system-packages

# Done again when pyproject.toml changes: there may be new dependencies.
$(INSTALLED): pyproject.toml
	@if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
		python=$$(PYTHON='$(PYTHON)' scripts/python) && \
		echo "making the virtual environment $(VENV) with $$python" && \
		"$$python" -m venv --clear $(VENV); \
	fi
	@echo 'installing dtee-async into $(VENV)'
	@$(PIP) --editable .
	@touch $@

# What a group of pyproject.toml names. pip knows --group only since 25.1, and an environment has the pip of its Python.
$(VENV)/.group-%: $(INSTALLED)
	@echo 'installing the packages of the group $* into $(VENV)'
	@$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]["$*"], sep="\n")' >$(VENV)/$*.txt
	@$(PIP) --requirement $(VENV)/$*.txt
	@touch $@
