# Everything sets itself up in .venv. PYTHON may name another interpreter, 3.11 or later.
PYTHON ?= python3
BIN := $(CURDIR)/.venv/bin
export PATH := $(BIN):$(PATH)
# One thread a process: tests and trials run side by side.
export OMP_NUM_THREADS ?= 1

.PHONY: demo test check lint fast slow clean

demo: .venv/ready           ## the main job on real images; ARGS="--data DIR" for Fashion-MNIST
	$(BIN)/python examples/quickstart/demo.py $(ARGS)

test: lint fast slow        ## everything

check: lint fast            ## what takes less than three minutes

lint: .venv/ready
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

fast: .venv/ready           ## unit tests, properties, doctests
	$(BIN)/python -m pytest -q -m "not slow" -n auto

slow: .venv/ready           ## real NNI experiments, kills, examples
	$(BIN)/python -m pytest -q -m slow --durations=10

.venv/ready: setup.py constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=...")'
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt setuptools wheel
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable ".[dev]"
	touch $@

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis build *.egg-info runs
