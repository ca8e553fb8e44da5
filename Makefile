# Each target is spelled out in README.md for those without make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup run demo test bench clean

setup: $(VENV)/.dev-installed  ## .venv with everything the other targets need

run: $(VENV)/.installed  ## start the stack, watch the sample agent work, keep serving until Ctrl-C
	$(BIN)/python tools/demo.py --keep-serving

demo: $(VENV)/.installed  ## the same, then stop
	$(BIN)/python tools/demo.py

test: $(VENV)/.dev-installed  ## lint, types, tests, and the wheel in a clean environment
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tools/run_tests.py
	$(BIN)/python tools/check_wheel.py

bench: $(VENV)/.dev-installed  ## speed beside the physical limit, and beside peers where they are installed
	$(BIN)/python -m benchmarks.run

clean:
	rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.dev-installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/.installed
