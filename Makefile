# make demo   set up a virtual environment, install the base package, make a map offline
# make test   install what the tests need and run them
# make check  the gate before a commit: lint, format, types, architecture, tests

VENV ?= .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	&& echo $$p && break; done)
DEMO ?= demo
EXTRAS := finetune,spark,fetch,azure,s3,notebook,fast-png,test

.PHONY: demo test test-slow check lint docs debian clean
.DELETE_ON_ERROR:

$(PY):
	@test -n "$(PYTHON)" || { echo "Quadrat needs Python 3.11 or newer; set PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/base.stamp: pyproject.toml | $(PY)
	$(PY) -m pip install --quiet --editable .
	@touch $@

$(VENV)/test.stamp: pyproject.toml | $(PY)
	$(PY) -m pip install --quiet --editable '.[$(EXTRAS)]'
	@touch $@ $(VENV)/base.stamp

demo: $(VENV)/base.stamp
	$(BIN)/quadrat demo --out $(DEMO)

# Debian packages that some tests use; those tests are skipped, and say so, where they are missing
debian:
	@if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
		missing=""; \
		command -v chromium >/dev/null || missing="$$missing chromium chromium-driver"; \
		command -v java >/dev/null || missing="$$missing default-jre-headless"; \
		if [ -n "$$missing" ]; then apt-get update -qq && \
			DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing \
			>/dev/null || echo "some Debian packages are missing:$$missing"; fi; fi

test: $(VENV)/test.stamp debian
	OMP_NUM_THREADS=1 $(PY) -m pytest -m "not slow"

test-slow: $(VENV)/test.stamp debian
	OMP_NUM_THREADS=1 $(PY) -m pytest

lint: $(VENV)/test.stamp
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy

check: lint test

docs: $(VENV)/base.stamp
	$(PY) -m quadrat.cli.reference > docs/cli.md

clean:
	rm -rf $(VENV) $(DEMO) build dist .mypy_cache .ruff_cache .pytest_cache
