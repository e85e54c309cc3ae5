# Every job in one word; bare `make` lists them. Set-up is part of every job and runs once.
#
#   PYTHON   the interpreter that makes the virtual environment (3.10 or newer)
#   BASE     mini, a Hub id or a folder; default: the recipe's, google/flan-t5-large
#   DATA     sample, hub, a data folder or your own file; default: FLAN_LORA_DATA, else the Hub
#   ARGS     anything else for flan-lora, e.g. ARGS="--set training.epochs=5 --report-to tensorboard"

PYTHON ?= python3
VENV ?= .venv
BASE ?=
DATA ?=
ARGS ?=
TORCH_CPU_INDEX ?= https://download.pytorch.org/whl/cpu

TASKS := emotion qa question-generation paraphrase summarization similarity
BIN := $(VENV)/bin
READY := $(VENV)/.installed
FLAN_LORA := $(BIN)/flan-lora
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
OPTIONS = $(if $(BASE),--base $(BASE)) $(if $(DATA),--data $(DATA)) $(ARGS)
DEMO := runs/demo

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow train-all serve compare pictures check bench docs clean
.PHONY: $(addprefix train-,$(TASKS)) $(addprefix eval-,$(TASKS))

help: ## list the jobs
	@sed -n 's/^\([a-z<>-]*\):[^#]*## \(.*\)/  make \1|\2/p' $(firstword $(MAKEFILE_LIST)) | awk -F'|' '{printf "%-32s %s\n", $$1, $$2}'
	@echo
	@echo "  <task> is one of: $(TASKS)"
	@echo "  BASE=mini trains on the small embedded base, DATA=sample on the bundled rows; see the top of the Makefile."

setup: $(READY) ## make .venv and install everything into it
	@echo "$(VENV) is ready. Next: make demo"

# torch goes first and alone. Without an NVIDIA driver the CPU build is enough, and a tenth of the download.
$(READY): pyproject.toml .ci/constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "flan_lora needs Python 3.10 or newer; try make PYTHON=python3.11")'
	@echo "Setting up $(VENV) (once; a few minutes, mostly torch)"
	@$(PYTHON) -m venv $(VENV)
	@if command -v nvidia-smi >/dev/null 2>&1; then index=; \
	elif $(BIN)/python -c 'import urllib.request as r; r.urlopen("$(TORCH_CPU_INDEX)/torch/", timeout=5)' 2>/dev/null; \
	then index="--extra-index-url $(TORCH_CPU_INDEX)"; else index=; fi; \
	$(PIP) install -c .ci/constraints.txt $$index torch
	@$(PIP) install -c .ci/constraints.txt -e '.[dev]'
	@touch $@

demo: $(READY) ## train an adapter on the bundled rows, publish it, ask it beside the bare base
	@rm -rf $(DEMO)
	@echo "== 1 of 3: a task as the model sees it (flan-lora data inspect) =="
	@$(FLAN_LORA) data inspect emotion --base mini --data sample --examples 1
	@echo
	@echo "== 2 of 3: one frozen 8-bit base, one small adapter (flan-lora train) =="
	@$(FLAN_LORA) train emotion --base mini --data sample --adapters-dir $(DEMO)/adapters --run-dir $(DEMO)/run
	@echo
	@echo "== 3 of 3: the same base, without and with the adapter (flan-lora generate) =="
	@$(FLAN_LORA) generate --adapter emotion --adapters-dir $(DEMO)/adapters --compare \
	  "i feel so happy that the whole family came to visit" \
	  "i cannot believe that he lied to me again i am furious" \
	  "i keep thinking about the exam tomorrow and my hands shake" \
	  "i miss her every day and the house feels empty" \
	  "i was not expecting this at all it left me speechless"
	@echo
	@echo "The adapter is a plain PEFT folder: $(DEMO)/adapters/mini/emotion (its README.md is the model card)."
	@echo "Next: make train-emotion BASE=mini DATA=sample publishes under adapters/; without BASE it takes FLAN-T5-large."

# A worker per core, at most four: each takes 2 GB of memory and one thread (tests/conftest.py).
PYTEST := $(BIN)/python -m pytest -q -n logical --maxprocesses 4 --dist loadgroup

test: $(READY) ## run the default tests: unit, parity, one small main job
	@$(PYTEST)

test-slow: $(READY) ## run the slow tests too: killed processes, real data, a fresh clone
	@$(PYTEST) -m "not gpu"

$(addprefix train-,$(TASKS)): train-%: $(READY)
	@$(FLAN_LORA) train $* $(OPTIONS)
train-<task>: ## train and publish one adapter, on FLAN-T5-large unless BASE says otherwise

train-all: $(READY) ## train all six in turn; goes on where it stopped, leaves alone what is published and unchanged
	@$(FLAN_LORA) train-all $(OPTIONS)

$(addprefix eval-,$(TASKS)): eval-%: $(READY)
	@$(FLAN_LORA) eval $* $(OPTIONS)
eval-<task>: ## score a published adapter again, with 95 % intervals

serve: $(READY) ## every adapter behind one URL, OpenAI's API, and a page to try them; BASE=mini needs no download
	@$(FLAN_LORA) serve $(if $(BASE),--base $(BASE)) $(ARGS)

compare: $(READY) ## every published adapter against its bare base: tables, pages and pictures under reports/
	@$(FLAN_LORA) compare --all $(OPTIONS)

pictures: $(READY) ## compare emotion on mini, and put its overview into docs/pictures/ for the README
	@$(FLAN_LORA) compare emotion --base mini $(if $(DATA),--data $(DATA)) $(ARGS)
	@mkdir -p docs/pictures
	@cp reports/mini-emotion/overview-light.png reports/mini-emotion/overview-dark.png docs/pictures/

check: $(READY) ## what must pass before a commit: format, lint, types, tests, README
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/python docs/refresh.py --check
	@$(PYTEST)

bench: $(READY) ## measure: each benchmark prints a table and one JSON line
	@for benchmark in benchmarks/bench_*.py; do $(BIN)/python $$benchmark || exit 1; done
	@$(FLAN_LORA) bench router --skip merged --skip traffic --skip memory

docs: $(READY) ## write the generated parts of README and docs/ again
	@$(BIN)/python docs/refresh.py

clean: ## remove caches, build leftovers and the demo's run; keep .venv, runs and adapters
	@rm -rf $(DEMO) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +
