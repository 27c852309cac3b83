# Everything sets itself up in .venv. PYTHON may name another interpreter, 3.11 or later.
PYTHON ?= python3
BIN := $(CURDIR)/.venv/bin
PYTEST := $(BIN)/python -m pytest -q
# Of 13,000 files few are ever imported: Python compiles those.
PIP := $(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt
export PATH := $(BIN):$(PATH)
# One thread a process: tests and trials run side by side.
export OMP_NUM_THREADS ?= 1
# Hundreds of processes import the same files: they are compiled once, whatever the shell around says.
export PYTHONDONTWRITEBYTECODE :=
# What a night has time for: `make nightly` empties it.
SAMPLED = and not nightly

.PHONY: demo test check nightly lint fast slow gpu clean

demo: .venv/ready           ## the main job on real images; ARGS="--data DIR" for Fashion-MNIST
	$(BIN)/python examples/quickstart/demo.py $(ARGS)

test: lint fast slow        ## everything but the whole sweeps; a quarter of an hour on two cores

check: lint fast            ## what takes less than three minutes

nightly:                    ## everything, whole sweeps instead of samples
	$(MAKE) test SAMPLED=

lint: .venv/ready
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

fast: .venv/ready           ## unit tests, properties, doctests
	$(PYTEST) -n 2 --dist worksteal -m "not slow"

# Three processes on two cores: subprocesses and experiments are waited for.
# Experiments run in one process, what computes in the others (tests/conftest.py).
slow: .venv/ready           ## real NNI experiments, kills, examples; at last, one by one, what is timed
	$(PYTEST) -n 3 --dist loadfile --no-loadscope-reorder --durations=10 -m "slow and not alone $(SAMPLED)"
	$(PYTEST) -m "alone $(SAMPLED)"

gpu: .venv/ready            ## what needs a GPU: parity, half precision, kills; some of it wants two. Minutes
	$(PYTEST) tests/gpu

.venv/ready: setup.py constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=...")'
	$(PYTHON) -m venv --clear .venv
	$(PIP) setuptools wheel
	$(PIP) --no-build-isolation --editable ".[dev]"
	touch $@

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis build *.egg-info runs
