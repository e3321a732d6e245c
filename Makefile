# Everything a newcomer needs: `make demo`, `make test`. Both set up .venv first.
PYTHON ?= python3
BIN := .venv/bin
# Extra arguments for pip, for instance an index with a smaller CPU build of torch.
PIP_ARGS ?=
CONSTRAINTS := $(if $(shell command -v nvidia-smi),,-c constraints-cpu.txt)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS) $(PIP_ARGS)
# PyPI's torchvision can't be imported beside a CPU build of torch, and transformers stumbles over it: there it
# lies aside, for the fresh processes in which tests load exports (tests/export/operators).
TORCHVISION := $(if $(shell command -v nvidia-smi),,--no-deps --upgrade --target .venv/torchvision)
TESTS := $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist worksteal

.PHONY: demo test lint test-slow faults format clean

# One thread: on a tiny model two are hardly faster, and far slower when something else runs.
demo: .venv/installed  ## teach the tiny Jina 200 words of Turkish: before, training, after, a page to look at
	OMP_NUM_THREADS=1 $(BIN)/python train.py --config examples/new_language/config.yaml --overwrite

test: lint  ## lint and the default tests
	$(TESTS)

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

test-slow: .venv/installed-dev  ## the tests marked slow
	$(TESTS) -m slow

faults: .venv/installed-dev  ## 200 kills and more, as a table in outputs/faults.md
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.faults.campaign

format: .venv/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## forget the demo and the installed packages
	rm -rf .venv outputs/demo

.venv/installed: requirements.txt constraints-cpu.txt
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 10), "Python 3.10 or newer is needed"'
	$(PYTHON) -m venv .venv || { echo "no venv module: install python3-venv, then make again"; exit 2; }
	$(PIP) -r requirements.txt
	touch $@

.venv/installed-dev: .venv/installed requirements-dev.txt requirements-retrieval.txt constraints-cpu.txt
	$(PIP) -r requirements-dev.txt
	$(PIP) $(TORCHVISION) torchvision
	touch $@
