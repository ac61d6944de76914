# Every target does its own set-up: a fresh clone and Python 3.11 or newer are enough.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# uv does not read pip's configuration: where pip takes packages from a folder, so does uv. Empty means the usual registry.
export UV_FIND_LINKS := $(or $(PIP_FIND_LINKS),$(shell $(PYTHON) -m pip config get global.find-links 2>/dev/null))
export UV_PYTHON_DOWNLOADS := never
# Where a machine's settings switch Python's cache off, every process would compile PyTorch anew: seconds, a hundred times.
export PYTHONDONTWRITEBYTECODE :=
# On Linux the usual registry's PyTorch brings CUDA; `make setup UV_TORCH_BACKEND=cpu` is a much smaller download.

.PHONY: setup demo test lint check format clean

setup: $(VENV)/.stamp

$(VENV)/.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(VENV) --constraint constraints.txt --editable '.[demo,faces,hub,onnx,private,serve,postgres,cluster,storage]' --group dev
	touch $@

demo: setup
	$(BIN)/withhold demo

# Files go side by side, in their order, so that the longest are not the last; each process has one thread.
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test

format: setup
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:
	rm -rf $(VENV) demo .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
