# make demo    the whole job on a synthetic county, offline, to a map (installs the base package)
# make test    installs what the tests need and runs all but the long and the slow ones
# make test-long   kills, clusters, browsers, training: tens of seconds each; before a change lands
# make test-slow   what takes minutes; before a release
# make image BASE=NAME@sha256:...   the cluster's image from a slim Python (deploy/debian-base makes one)
# make cluster-demo BASE=NAME@sha256:...   a cluster in containers, with a worker that is killed
# make site    the documentation site in site/; a broken link is an error
# make check   what must hold before a change lands: style, types, tests, a run without extras
#
# Everything is installed into .venv; stamps there keep a second run from installing again.
# PYTHON=... chooses the interpreter (3.11 or newer), DEMO=... the demo's folder.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:

VENV := .venv
BARE := .venv-base
BIN := $(VENV)/bin
EXTRAS := finetune,spark,fetch,azure,s3,notebook,fast-png,runs-ui,docs,explore,test
DEMO ?= demo
TESTS ?= tests
# Two processes, each with whole files: what a file sets up is set up once.
PYTEST = $(BIN)/python -m pytest -n 2 --dist loadfile
# Bytecode is made when a module is first loaded: most modules of most packages never are.
INSTALL := -m pip install --quiet --disable-pip-version-check --no-input --no-compile
# Warnings are errors, but for one that the HTTP client of Azure's library gives about that library,
# and rasterio's use of affine's operator.
STRICT := -W error -W "ignore:Sending a large body directly:ResourceWarning" \
  -W "ignore:Use :PendingDeprecationWarning"
# Two-thread BLAS on a busy machine can be far slower than one thread.
export OMP_NUM_THREADS ?= 1

FIND_PYTHON = for p in $(PYTHON) python3 python3.13 python3.12 python3.11 python; do \
	  if "$$p" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
	  then echo "$$p"; exit 0; fi; \
	done; \
	echo "no Python 3.11 or newer with venv: install python3 and python3-venv, or say PYTHON=..." >&2; \
	exit 1

.PHONY: demo test test-long test-slow check smoke docs site system clean image cluster-demo

demo: $(VENV)/.base
	@$(BIN)/quadrat demo --out $(DEMO)

test: $(VENV)/.test system
	@$(PYTEST) -m "not slow and not long" $(TESTS)

test-long: $(VENV)/.test system
	@$(PYTEST) $(STRICT) -m long $(TESTS)

test-slow: $(VENV)/.test system
	@$(BIN)/python -m pytest -m slow $(TESTS)

check: $(VENV)/.test system
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(PYTEST) $(STRICT) -m "not slow and not long" $(TESTS)
	@$(MAKE) --no-print-directory smoke

# BASE is a slim Python image by its digest (see deploy/Containerfile).
PINNED = case "$(BASE)" in *@sha256:*) ;; \
	*) echo "say BASE=NAME@sha256:..., a slim Python image" >&2; exit 1;; esac

# Podman, Docker or Buildah; TARGET=finetune has PyTorch too. BUILD_OPTIONS are the builder's own.
BUILDER ?= $(firstword $(foreach p,podman docker buildah,$(if $(shell command -v $p),$p)) podman)
TARGET ?= base
IMAGE ?= localhost/quadrat:0.1.0$(if $(filter finetune,$(TARGET)),-finetune)
image:
	@$(PINNED)
	@$(BUILDER) build --file deploy/Containerfile --target "$(TARGET)" --build-arg "BASE=$(BASE)" \
	  $(BUILD_OPTIONS) --tag "$(IMAGE)" .

# Docker or Podman.
cluster-demo:
	@$(PINNED)
	@python3 deploy/rehearse --base-image "$(BASE)" --out cluster-demo

# The package as users get it: a built wheel, no extras, another folder.
smoke:
	@rm -rf $(BARE)
	@python=$$($(FIND_PYTHON)); "$$python" -m venv $(BARE)
	@$(BARE)/bin/python $(INSTALL) .
	@bare="$$PWD/$(BARE)/bin"; folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; cd "$$folder"; \
	"$$bare/python" -c 'import importlib.util as u, sys; \
	sys.exit(any(map(u.find_spec, ("torch", "pyspark", "pystac_client"))))'; \
	"$$bare/quadrat" --help > /dev/null; \
	"$$bare/quadrat" demo --out demo --tiles 320; \
	if said=$$("$$bare/quadrat" finetune demo/tiles --out model 2>&1); then exit 1; fi; \
	grep -qF "quadrat[finetune]" <<< "$$said"

docs: $(VENV)/.base
	@for page in cli api; do \
	$(BIN)/python -m quadrat.cli.$${page/cli/reference} > docs/$$page.md.new; \
	mv docs/$$page.md.new docs/$$page.md; done

site: $(VENV)/.site
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

clean:
	rm -rf $(BARE) .mypy_cache .ruff_cache .pytest_cache build dist site
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.made:
	@python=$$($(FIND_PYTHON)); "$$python" -m venv $(VENV)
	@touch $@

$(VENV)/.base: pyproject.toml | $(VENV)/.made
	@echo "installing quadrat into $(VENV)"
	@$(BIN)/python $(INSTALL) -e .
	@touch $@

$(VENV)/.site: pyproject.toml | $(VENV)/.made
	@echo "installing what the documentation site needs into $(VENV)"
	@$(BIN)/python $(INSTALL) 'mkdocs-material>=9.5'
	@touch $@

$(VENV)/.test: pyproject.toml | $(VENV)/.made
	@echo "installing quadrat and what its tests need into $(VENV)"
	@$(BIN)/python $(INSTALL) -e '.[$(EXTRAS)]'
	@touch $(VENV)/.base $@

# Programs that some tests need: a browser for the report, Java for Spark, npm for Azurite.
system:
	@need=""; \
	command -v chromedriver > /dev/null || need="$$need chromium chromium-driver"; \
	command -v java > /dev/null || need="$$need default-jre-headless"; \
	command -v npm > /dev/null || need="$$need npm"; \
	if [ -z "$$need" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
	  echo "installing$$need"; \
	  apt-get update -qq; \
	  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$need > /dev/null; \
	else \
	  echo "not installed:$$need; the tests that need them are skipped"; \
	fi
