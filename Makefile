# make results    the default run: rendered data, narrow networks, two cores, minutes
# make status     how far the run in RESULTS (config.yaml's by default) takes each paper
# make pack       a finished run, RESULTS (results/demo by default), as one archive, ARCHIVE
# make restore    an archive of a run, ARCHIVE, back into results/, every byte compared; then tables and figures need no data
# make test       lint, a real smoke run of the workflow, unit tests
# make benchmark  speed beside zennit on this machine; QUICK=1: what has bounds, in less than two minutes
# make networks   docs/networks.md: which networks trace, and what their maps conserve
# make docs       the site of docs/, into site/
# make wheel      the library as a wheel, into dist/
# make config     config.yaml from the schema
# make lock       resolve requirements.in anew
# make resolve    whether the lock has wheels for the oldest and newest Python that is supported
# make clean      remove what the workflow made, and .venv

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.PHONY: results status pack restore test lint smoke unit benchmark networks docs wheel config lock resolve clean

PYTHON ?= python3
CORES ?= all
VENV := .venv
# Tools inside an environment name each other by absolute paths, which scripts and shells split at spaces.
ifneq ($(words $(CURDIR)),1)
$(error this folder's path has a space, $(CURDIR); move the checkout to one without)
endif
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SOURCES := workflow papers tests benchmarks notebooks docs/site
# What builds the site has an environment of its own: no part of the workflow needs it.
SITE_VENV := .venv-docs

results: $(READY)
	$(BIN)/snakemake --cores $(CORES)

# The first interpreter that is new enough makes the environment.
$(READY): requirements.lock pyproject.toml
	@if [ -x $(BIN)/python ] && [ "$(origin PYTHON)" = "command line" ] && ! $(BIN)/python -c \
	  'import subprocess, sys; sys.exit(subprocess.check_output([sys.argv[1], "-c", "import sys; print(*sys.version_info[:2])"], text=True).split() != [*map(str, sys.version_info[:2])])' \
	  "$(PYTHON)"; then \
	  echo "error: $(VENV) was made with another Python than $(PYTHON); remove it first: rm -rf $(VENV)" >&2; exit 1; \
	fi
	@if [ ! -x $(BIN)/python ]; then \
	  for python in $(PYTHON) python3 python3.13 python3.12 python3.11; do \
	    if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	      "$$python" -m venv $(VENV); break; \
	    fi; \
	  done; \
	fi
	@[ -x $(BIN)/python ] || { echo "error: no Python 3.11 or newer found; name one: make PYTHON=/path/to/python" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null 2>&1 || \
	  { echo "error: $(VENV) has no pip and cannot get one; install your system's python3-venv, rm -rf $(VENV), and run again" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	@touch $@

status: $(READY)
	@$(BIN)/python -m relmap.evidence.status $(RESULTS)

pack: $(READY)
	@$(BIN)/relmap pack $(or $(RESULTS),results/demo) $(or $(ARCHIVE),$(notdir $(or $(RESULTS),demo)).tar.gz)

restore: $(READY)
	@$(if $(ARCHIVE),,echo "error: name the archive: make restore ARCHIVE=demo.tar.gz" >&2; exit 1;) \
	$(BIN)/relmap restore $(ARCHIVE)

test: lint smoke unit

lint: $(READY)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile workflow/rules papers
	$(BIN)/snakemake --lint

# The whole workflow, really run, small, in a folder of its own.
smoke: $(READY)
	@folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; \
	$(BIN)/snakemake --cores $(CORES) --configfile config/smoke.yaml --directory "$$folder" --quiet rules host; \
	test -s "$$folder/results/smoke/index.html"

unit: $(READY)
	@command -v slurmctld >/dev/null || echo "no Slurm here, its trials are skipped: apt-get install slurm-wlm munge"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

# QUICK=1 takes less than two minutes; CHECK=1 fails where a bound does not hold.
benchmark: $(READY)
	$(BIN)/python benchmarks/relevance_speed.py $(if $(QUICK),--quick) $(if $(CHECK),--check)
	$(BIN)/python benchmarks/road.py
	$(BIN)/python benchmarks/deletion_insertion.py $(if $(QUICK),,--full) $(if $(CHECK),--check)
	$(BIN)/python benchmarks/unfold_and_conquer.py

networks: $(READY)
	$(BIN)/python -m relmap.inspection.networks docs/networks.md

docs: $(READY) $(SITE_VENV)/.ready
	$(BIN)/python docs/site/api.py > docs/api.md.new && mv docs/api.md.new docs/api.md
	NO_MKDOCS_2_WARNING=1 $(SITE_VENV)/bin/mkdocs build --quiet
	@echo "site/index.html"

$(SITE_VENV)/.ready: docs/site/requirements.lock $(READY)
	$(BIN)/python -m venv $(SITE_VENV)
	$(SITE_VENV)/bin/python -m pip install --quiet --requirement $<
	@touch $@

wheel: $(READY)
	$(BIN)/python -m pip wheel . --no-deps --no-build-isolation --quiet --wheel-dir dist

# Written aside first: a config that cannot be read must not stop its own mending.
config: $(READY)
	$(BIN)/python -m relmap.job.config_text > config.yaml.new && mv config.yaml.new config.yaml

# The same pins for other Pythons, from whatever index pip is configured with; nothing is installed.
resolve: $(READY)
	$(BIN)/python -m relmap.job.resolving requirements.lock pyproject.toml

lock:
	@folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; \
	$(PYTHON) -m venv "$$folder"; \
	"$$folder/bin/python" -m pip install --quiet --requirement requirements.in; \
	"$$folder/bin/python" -m pip freeze | $(PYTHON) workflow/relmap/job/environment.py requirements.lock envs/relmap.yaml

clean:
	rm -rf results/*/ .snakemake $(VENV) $(SITE_VENV) site dist build .pytest_cache .ruff_cache .mypy_cache .hypothesis report.zip report.html
