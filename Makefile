# Parley's commands. `make help` lists them; each set-up step runs only when its inputs changed.
SHELL := /bin/sh
PYTHON ?= python3.11
VENV := .venv/bin
unexport PYTHONDONTWRITEBYTECODE # vLLM starts half a minute slower without byte-code

# Variables of `make run`, passed on as the settings they stand for.
ifdef MODEL
export PARLEY_INFERENCE_LLM_MODEL := $(MODEL)
endif
ifdef IMAGE_MODEL
export PARLEY_INFERENCE_IMAGE_MODEL := $(IMAGE_MODEL)
endif
ifdef EDGE_PORT
export PARLEY_EDGE_PORT := $(EDGE_PORT)
endif
ifdef INTERNAL_PORT
export PARLEY_INTERNAL_PORT := $(INTERNAL_PORT)
endif

.DEFAULT_GOAL := help
.PHONY: help run test faults setup setup-dev generate fix verify bench models token lock clean forget rotate-keys

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' Makefile
	@echo
	@echo "Variables, e.g. make run MODEL=../my-model EDGE_PORT=8081:"
	@echo "  MODEL=…          language model: a folder, or org/name@<commit> of the Hugging Face hub (default: the built-in one)"
	@echo "  IMAGE_MODEL=…    diffusers pipeline: likewise"
	@echo "  EDGE_PORT=8080   where apps come in          INTERNAL_PORT=9090  where operators come in (gRPC)"
	@echo "  DATABASE_URL=…   another Postgres, as a role that may create roles and databases"
	@echo "  PYTHON=…         the Python 3.11 to build .venv with"
	@echo "  PYTEST_ARGS=…    what make test hands to pytest, e.g. PYTEST_ARGS=tests/e2e"
	@echo "  PARLEY_HOME, PARLEY_BASE_PORT, PARLEY_BIND_ADDRESS, PARLEY_ACCELERATOR: see dev/README.md"

run: setup ## Install what is missing and run the whole mesh on this machine; Ctrl-C stops it
	@exec $(VENV)/python -m parley_dev run

test: setup-dev ## All checks, then the whole test suite, end to end included
	@$(VENV)/python -m parley_dev verify
	@exec $(VENV)/python -m pytest $(PYTEST_ARGS)

faults: setup-dev ## The fault tests at full length, with figures: kills, races, generated ledgers, wrong tokens
	@PARLEY_POSTMASTER_KILLS=50 PARLEY_STORM_KILLS=100 PARLEY_LEDGER_SEQUENCES=10000 exec $(VENV)/python -m pytest tests/faults \
		services/billing/tests/test_races.py services/billing/tests/test_mutants.py services/billing/tests/test_sequences.py

setup: ## Install what running needs into .venv and generate the stubs (run does it by itself)
	@$(PYTHON) dev/bootstrap.py

setup-dev: ## … and what checks and tests need (test does it by itself)
	@$(PYTHON) dev/bootstrap.py --dev

generate: setup ## Generate stubs and the descriptor set from proto/, even when nothing changed
	@PATH="$(CURDIR)/.venv/bin:$$PATH" $(VENV)/python proto/generate.py

verify: setup-dev ## Formatting, lint, types, import boundaries, protos, Envoy's configuration
	@exec $(VENV)/python -m parley_dev verify

fix: setup-dev ## Repair what verify can repair by itself
	@exec $(VENV)/python -m parley_dev verify --fix

bench: setup-dev ## Benchmarks against peers; prints ratios
	@exec $(VENV)/python -m bench

models: setup-dev ## Train both built-in models (hours on two cores; interrupted, it goes on; ANEW=--anew starts over)
	@$(VENV)/python models/chat/train.py $(ANEW)
	@exec $(VENV)/python models/image/train.py $(ANEW)

token: ## Print an operator's token for the internal port (of a running mesh)
	@exec $(VENV)/python -m parley_dev token

rotate-keys: ## Make the next key that signs access tokens; nobody is signed out
	@exec $(VENV)/python -m parley_dev rotate-keys

UV_COMPILE = $(VENV)/uv pip compile --quiet --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate
# torch's CPU build comes from pip's wheel folders where one has it, else from the index that uv knows.
TORCH_CPU = $(if $(wildcard $(addsuffix /torch-*cpu*,$(PIP_FIND_LINKS))),$(addprefix --find-links ,$(PIP_FIND_LINKS)),--torch-backend cpu)

lock: setup ## Resolve requirements/*.in into the hash-pinned locks (keeps versions that still fit; UPGRADE=--upgrade takes new ones)
	$(UV_COMPILE) $(UPGRADE) $(TORCH_CPU) --override requirements/cpu-overrides.txt requirements/cpu.in -o requirements/cpu.txt > /dev/null
	$(UV_COMPILE) $(UPGRADE) requirements/dev.in -o requirements/dev.txt > /dev/null
	$(UV_COMPILE) $(UPGRADE) requirements/gpu.in -o requirements/gpu.txt > /dev/null
	$(UV_COMPILE) $(UPGRADE) -c requirements/cpu.txt requirements/base.in -o requirements/service.txt > /dev/null
	$(UV_COMPILE) $(UPGRADE) requirements/stubs.in -o requirements/stubs.txt > /dev/null

clean: ## Remove what make made, but not the data: .venv, stubs, caches
	@rm -rf .venv proto/gen .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

forget: setup ## Delete this machine's accounts, conversations, ledger, pictures and secrets, after asking
	@exec $(VENV)/python -m parley_dev forget
