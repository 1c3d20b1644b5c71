# Two commands set everything up: `make quickstart` runs the pipeline on the built-in sample, `make test` runs the tests.
# Both need make and Python 3.11 or newer, and install everything into .venv/, from requirements.lock.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SAMPLE := .

.PHONY: quickstart test test-slow mutants lint types docs reference lock check-image clean

quickstart: $(READY)
	$(BIN)/fmask pipeline --sample --root $(SAMPLE)

test: $(READY)
	$(BIN)/python -m pytest -n auto --dist loadfile

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow --timeout 1200

# Mutation tests of the modules that compute the results. Half an hour on one core.
mutants: $(READY)
	$(BIN)/python bench/mutants.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

# not --quiet: with it, mkdocs does not count warnings, and --strict ignores them
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

reference: $(READY)
	$(BIN)/python docs/make_reference.py

# The lock file is universal and contains hashes; uv itself is installed from it too. The project is installed without an index.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "fmask needs Python 3.11 or newer; run: make PYTHON=/path/to/python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	awk '/^[a-z]/ {keep = /^uv==/} keep' requirements.lock > $(VENV)/uv.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $(VENV)/uv.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --compile-bytecode -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-index --no-build-isolation --editable .
	@touch $@

lock:
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --all-extras --group dev pyproject.toml -o requirements.lock

# The Dockerfile's steps in a chroot, without a Docker engine. Needs root, debootstrap, the network and 15 GB, and takes some
# 4 minutes. IMAGE passes options to `.ci/check_image.py` (see its --help).
IMAGE := --build-arg DEVICE=cuda
check-image:
	base=$$(mktemp -d) && trap 'rm -rf "$$base"' EXIT && \
	debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$$base/root" >/dev/null && \
	$(PYTHON) .ci/check_image.py "$$base/root" $(IMAGE)

clean:
	rm -rf $(VENV) .pytest_cache .hypothesis .mypy_cache .ruff_cache dist site
