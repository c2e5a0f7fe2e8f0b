# `make` alone lists the targets. Variables:
#   PYTHON=...           a Python 3.11 (found by itself when on the PATH)
#   CUDA=1               CUDA build of fbgemm, in its own environment .venv-cuda
#   TORCH_INDEX_URL=...  one more package index to take torch and fbgemm from
#   ARGS=...             passed on to pytest by `make test`
#   KUAIRAND=..., CONTENT=...  data of your own that `make records` measures on
#   NPROC=2              ranks that the demo trains and predicts on

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help demo test test-vllm soak lint format bench records lock venv clean

KIND := $(if $(filter-out 0,$(CUDA)),cuda,cpu)
VENV ?= .venv$(if $(filter cuda,$(KIND)),-cuda)
NPROC ?= 2
ifdef TORCH_INDEX_URL
export TORCH_INDEX_URL
endif

# Each candidate is run: a version manager's shim can be on the PATH and still not start.
FIND_PYTHON = for p in python3.11 python3 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null && { echo "$$p"; exit; }; done
PYTHON ?= $(shell $(FIND_PYTHON))
BIN := $(VENV)/bin

ONE = $(BIN)/python -m

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-9s %s\n", $$1, $$2}' Makefile

venv: ## make the virtual environment, or leave it when it matches the lock
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 found: install it, or say make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@"$(PYTHON)" requirements/install.py --lock requirements/$(KIND).lock --venv $(VENV)

demo: venv ## MovieLens-1M end to end: train, proxies, simulated users, first feedback, all together, export, report
	@$(ONE) tools.pipeline configs/demo.yaml --nproc $(NPROC)

test: venv ## run the tests (ARGS="tests/data -k splits" for some)
	@$(ONE) pytest -n 2 --dist loadfile $(ARGS)

test-vllm: venv ## test the judge against a real vLLM server, whose environment is .venv-vllm
	@"$(PYTHON)" requirements/install.py --lock requirements/vllm.lock --venv .venv-vllm
	@VLLM_PYTHON=.venv-vllm/bin/python $(ONE) pytest tests/vllm $(ARGS)

soak: venv ## 200 kills of the table service (KILLS=... for more), ten minutes of load on a server (SOAK=seconds)
	@KILLS=$(or $(KILLS),200) $(ONE) pytest tests/tables/test_crash.py tests/tables/test_crash_delta.py \
		tests/training/test_killed.py $(ARGS)
	@SOAK=$(or $(SOAK),600) $(ONE) pytest -o faulthandler_timeout=1200 tests/serving/test_soak.py $(ARGS)

lint: venv ## ruff (check and format) and mypy; all three report before it fails
	@failed=0; \
	$(ONE) ruff check -q . || failed=1; \
	$(ONE) ruff format --check -q . || { echo "not formatted: run make format" >&2; failed=1; }; \
	$(ONE) mypy || failed=1; \
	exit $$failed

format: venv ## let ruff fix and format the code
	@$(ONE) ruff check -q --fix . ; $(ONE) ruff format .

bench: venv ## speed against the nearest bounds, into runs/bench.json
	@OMP_NUM_THREADS=1 $(ONE) tools.bench configs/bench.yaml

records: venv ## measure the tables of the pages and write them there (KUAIRAND=folder CONTENT=file ARGS="--only demo")
	@$(ONE) tools.records $(if $(KUAIRAND),--kuairand "$(KUAIRAND)") $(if $(CONTENT),--content "$(CONTENT)") $(ARGS)

lock: ## resolve pyproject.toml anew into requirements/*.lock
	@"$(PYTHON)" requirements/lock.py

clean: ## remove the virtual environments and caches (data/ and runs/ stay)
	rm -rf .venv .venv-cuda .venv-vllm .venv*.lock .venv*.old .venv*.new .mypy_cache .ruff_cache .pytest_cache build *.egg-info
