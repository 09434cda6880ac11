# make demo                    the demo clip into a 4D scene, from nothing but Python
# make demo INPUT=my.mp4       the same for any video or folder of images
# make test                    everything that must hold: style, types, tests
PYTHON ?= python3
VENV ?= .venv
OUT ?= demo-out
INPUT ?= stereo4d/assets/demo/clip.mp4
BIN := $(VENV)/bin
# pip leaves a package alone that already fits, so a stamp per set of requirements is all the bookkeeping there is.
USER_STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev
REQUIREMENTS := pyproject.toml constraints.txt

.PHONY: demo test lint types unit install install-dev clean

demo: $(USER_STAMP)
	$(BIN)/stereo4d reconstruct "$(INPUT)" --out "$(OUT)" --overwrite

test: lint types unit

lint: $(DEV_STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(DEV_STAMP)
	$(BIN)/mypy

# One thread a process: workers fill the processors, and threads that wait for one another would only take turns. A file
# stays in one worker, so what its tests share is made once.
unit: $(DEV_STAMP)
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --durations=25

install: $(USER_STAMP)

install-dev: $(DEV_STAMP)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "stereo4d needs Python >= 3.11; $(PYTHON) is $$($(PYTHON) --version 2>&1 || true). Try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(USER_STAMP): $(REQUIREMENTS) | $(BIN)/python
	@echo "installing into $(VENV); torch brings its CUDA build on Linux, several GB, so this takes minutes"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(DEV_STAMP): $(REQUIREMENTS) | $(BIN)/python
	@echo "installing into $(VENV) what tests need; torch brings its CUDA build on Linux, several GB, so this takes minutes"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@ $(USER_STAMP)

clean:
	rm -rf $(VENV) demo-out .mypy_cache .ruff_cache .pytest_cache
