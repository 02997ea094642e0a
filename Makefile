# Two commands: `make lab` to read and run the course, `make test` to check every output.
# PYTHON=python3.12       this Python (3.11, 3.12 or 3.13) and no other; else the first one that fits, or uv's
# TORCH_INDEX=https://... PyTorch's own index for the CPU build (see the README)
# WHEELS=DIR              install from a folder filled by `make wheels`, without a network

PYTHON ?=
FITS := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
BIN := .venv/bin
READY := .venv/.ready
PIP := $(BIN)/python -m pip install --disable-pip-version-check \
	$(if $(WHEELS),--no-index --find-links $(WHEELS)) \
	$(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
# a clone of one's own reads .gitconfig from now on; a folder without .git, or a machine without git, stays as it is
SHOW_TEXT = if [ -e .git ]; then git config --local --replace-all include.path ../.gitconfig '^[.][.]/[.]gitconfig$$' || true; fi
LINT := $(BIN)/python -m ruff check . && $(BIN)/python -m ruff format --check --diff .
# two workers, each on one thread, share two cores better than two threads of one program do
SIDE_BY_SIDE := OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false
PYTEST := $(SIDE_BY_SIDE) $(BIN)/python tests/offline.py $(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder
NBVAL := --nbval --nbval-current-env --nbval-cell-timeout 900 --nbval-sanitize-with tests/nbval.cfg

.PHONY: help setup lab test unit format lessons diffs stress wheels

help:  ## this list
	@grep -E '^[a-z]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 10

setup: $(READY)  ## build the environment in .venv
$(READY): requirements.txt constraints.txt pyproject.toml
	@if [ -z "$(PYTHON)" ] && $(BIN)/python -c "import pip; $(FITS)" 2>/dev/null; then exit 0; fi; \
	for python in $(if $(PYTHON),"$(PYTHON)",python3 python3.13 python3.12 python3.11); do \
		if $$python -c "$(FITS)" 2>/dev/null; then set -x; exec $$python -m venv .venv; fi; \
	done; \
	if [ -z "$(PYTHON)" ] && command -v uv >/dev/null; then set -x; exec uv venv --python 3.12 --seed --allow-existing .venv; fi; \
	echo "This course needs Python 3.11, 3.12 or 3.13, and $(if $(PYTHON),$(PYTHON) is none of them,this machine has none of them under its usual name): install one beside the Python you have, or install uv, and run the same command again." >&2; \
	exit 1
	$(if $(WHEELS),$(PIP) --upgrade setuptools)
	$(PIP) $(if $(WHEELS),--no-build-isolation) -r requirements.txt -c constraints.txt
	@$(BIN)/python -c "import matplotlib.font_manager"
	@$(SHOW_TEXT)
	@touch $(READY)

lab: $(READY)  ## open JupyterLab on notebooks/00_start_here.ipynb
	@$(BIN)/jupyter lab --config=jupyter/jupyter_lab_config.py

test: $(READY)  ## run every test and every lesson against its saved outputs, or what LESSONS="03 07" needs
	$(LINT)
	$(PYTEST) $(NBVAL) --again-within 20 $(if $(LESSONS),--lessons "$(LESSONS)") tests notebooks

unit: $(READY)  ## run every test but the notebooks
	$(LINT)
	$(PYTEST) tests

format: $(READY)  ## lay out code and notebooks, mend what the linter can
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

lessons: $(READY)  ## run lessons again and save their outputs: all, or LESSONS="03 07"
	COURSE_MODELS=bundled $(BIN)/python tests/offline.py $(BIN)/python tests/execute.py $(LESSONS)

diffs:  ## let git diff show notebooks as text, not as JSON (make setup has done so)
	@$(SHOW_TEXT)

stress: $(READY)  ## the long tests, every cell of every lesson twice, and the benchmarks
	COURSE_MODELS=bundled $(BIN)/python -m pytest tests/benchmarks -s
	$(PYTEST) $(NBVAL) notebooks

wheels: $(READY)  ## fill wheels/ so that a room without network can install
	grep -v '^-e' requirements.txt > .venv/downloads.txt
	$(BIN)/python -m pip download --disable-pip-version-check -d wheels \
		$(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) \
		-r .venv/downloads.txt setuptools -c constraints.txt
