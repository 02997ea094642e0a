# Two commands: `make lab` to read and run the course, `make test` to check every output.
# PYTHON=python3.12       this Python (3.11, 3.12 or 3.13) and no other; else the first one that fits, or uv's
# TORCH_INDEX=https://... PyTorch's own index, for torch alone: its CPU build (see the README)
# WHEELS=DIR              install from a folder filled by `make wheels`, without a network

PYTHON ?=
FITS := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
BIN := .venv/bin
READY := .venv/.ready
SITE := .venv/.site
PIP := $(BIN)/python -m pip --disable-pip-version-check
FROM_WHEELS := $(if $(WHEELS),--no-index --find-links $(WHEELS))
TORCH = $(shell grep '^torch==' requirements.txt)
FROM_TORCH_INDEX := $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))
# what `make lock` and `make bom` run, in an environment of their own
TOOLS := .scratch/tools/bin
TOOL_VERSIONS := uv==0.13.9 cyclonedx-bom==7.5.0 pip-licenses==5.5.5
INTO_BOM := $(TOOLS)/uv pip install --quiet --python .scratch/bom --no-deps
ANY_BUILD := sed -E 's/(\+|%2B)(cpu|cu[0-9]+)//g'
# a clone of one's own reads .gitconfig from now on; a folder without .git, or a machine without git, stays as it is
SHOW_TEXT = if [ -e .git ]; then git config --local --replace-all include.path ../.gitconfig '^[.][.]/[.]gitconfig$$' || true; fi
LINT := $(BIN)/python -m ruff check . && $(BIN)/python -m ruff format --check --diff .
# two workers, each on one thread, share two cores better than two threads of one program do
SIDE_BY_SIDE := OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false
PYTEST := $(SIDE_BY_SIDE) $(BIN)/python tests/offline.py $(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder
NBVAL := --nbval --nbval-current-env --nbval-cell-timeout 900 --nbval-sanitize-with tests/nbval.cfg

.PHONY: help setup lab site slides buttons guide test unit format lessons diffs hub stress wheels lock bom

help:  ## this list
	@grep -E '^[a-z]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 10

setup: $(READY)  ## build the environment in .venv
$(READY): requirements.txt requirements.lock pyproject.toml
	@if [ -z "$(PYTHON)" ] && $(BIN)/python -c "import pip; $(FITS)" 2>/dev/null; then exit 0; fi; \
	for python in $(if $(PYTHON),"$(PYTHON)",python3 python3.13 python3.12 python3.11); do \
		if $$python -c "$(FITS)" 2>/dev/null; then set -x; exec $$python -m venv .venv; fi; \
	done; \
	if [ -z "$(PYTHON)" ] && command -v uv >/dev/null; then set -x; exec uv venv --python 3.12 --seed --allow-existing .venv; fi; \
	echo "This course needs Python 3.11, 3.12 or 3.13, and $(if $(PYTHON),$(PYTHON) is none of them,this machine has none of them under its usual name): install one beside the Python you have, or install uv, and run the same command again." >&2; \
	exit 1
	$(PIP) install $(FROM_WHEELS) --no-deps --require-hashes -r requirements.lock
	$(PIP) install $(FROM_WHEELS) $(if $(WHEELS),,$(FROM_TORCH_INDEX)) --no-build-isolation $(TORCH) -e .
	@$(BIN)/python -c "import matplotlib.font_manager"
	@$(SHOW_TEXT)
	@touch $(READY)

lab: $(READY)  ## open JupyterLab on notebooks/00_start_here.ipynb
	@$(BIN)/jupyter lab --config=jupyter/jupyter_lab_config.py

# what renders the course is in the same environment, installed when it is asked for
$(SITE): requirements-site.lock $(READY)
	$(PIP) install --quiet $(FROM_WHEELS) --no-deps --require-hashes -r requirements-site.lock
	@touch $(SITE)

site: $(SITE)  ## render the course as pages, with search and slides: site/_build/html/index.html
	$(BIN)/python site/build.py

slides: $(SITE)  ## make the slides alone: site/_build/html/slides/
	$(BIN)/python site/slides.py

buttons: $(SITE)  ## write links to Binder, Colab and Codespaces into README.md: make buttons COURSE_REPOSITORY=owner/name
	COURSE_REPOSITORY="$(COURSE_REPOSITORY)" $(BIN)/python site/build.py --buttons

guide: $(READY)  ## write questions into the notebooks and minutes into the teacher's guide again
	$(BIN)/python site/quiz.py
	$(BIN)/python site/guide.py

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

hub: $(READY)  ## install JupyterHub for a class in .scratch/hub and its proxy in deploy/node_modules
	$(BIN)/python -m venv .scratch/hub
	.scratch/hub/bin/python -m pip install --disable-pip-version-check --no-deps -r deploy/requirements.txt
	npm ci --prefix deploy

stress: $(READY)  ## the long tests, every cell of every lesson twice, benchmarks, a class of ten
	COURSE_MODELS=bundled $(BIN)/python -m pytest tests/benchmarks tests/classroom -s
	$(PYTEST) $(NBVAL) notebooks

wheels: $(READY)  ## fill wheels/ so that a room without network can install
	$(PIP) download -d wheels --no-deps --require-hashes -r requirements.lock
	$(PIP) download -d wheels --no-deps --require-hashes -r requirements-site.lock
	$(PIP) freeze | grep -E '^(torch|cuda|nvidia|triton|pytorch)' | sed 's/+.*//' > .venv/torch.txt
	$(PIP) download -d wheels --no-deps $(FROM_TORCH_INDEX) -r .venv/torch.txt

$(TOOLS)/uv: Makefile
	python3 -m venv --clear .scratch/tools
	$(TOOLS)/python -m pip install --quiet $(TOOL_VERSIONS)
	@touch $@

lock: $(TOOLS)/uv  ## write the lock files again after a change of versions; UPGRADE=--upgrade: all that may be newer
	$(TOOLS)/uv pip compile --quiet $(UPGRADE) requirements.txt -o requirements.lock
	$(TOOLS)/uv pip compile --quiet $(UPGRADE) --extra ann --extra cluster pyproject.toml -c requirements.lock -o requirements-extras.lock
	$(TOOLS)/uv pip compile --quiet $(UPGRADE) --extra site pyproject.toml -c requirements.lock -o requirements-site.lock

bom: $(TOOLS)/uv  ## write docs/sbom.json and docs/licences.md again, from a fresh environment of all that is locked
	$(TOOLS)/uv venv --quiet --clear --python $(BIN)/python .scratch/bom
	$(INTO_BOM) --require-hashes -r requirements.lock
	$(INTO_BOM) --require-hashes --no-build-isolation -r requirements-extras.lock
	$(INTO_BOM) --require-hashes -r requirements-site.lock
	$(PIP) --python .scratch/bom install --quiet --no-deps $(FROM_TORCH_INDEX) $(TORCH)
	@# and what is for other systems and Pythons alone: unpacked, never run
	sed -nE "s/^([^ ]+) ; .*'(darwin|win32|nt|3.12)'.*/\1/p" requirements.lock > .scratch/elsewhere.txt
	$(INTO_BOM) --no-build --python-platform windows -r .scratch/elsewhere.txt
	$(TOOLS)/cyclonedx-py environment --output-reproducible --pyproject pyproject.toml -o .scratch/sbom.json .scratch/bom
	$(TOOLS)/pip-licenses --python .scratch/bom/bin/python --with-system --format markdown > .scratch/table.md
	$(ANY_BUILD) .scratch/sbom.json > docs/sbom.json
	sed '/^|/d' docs/licences.md > .scratch/licences.md
	$(ANY_BUILD) .scratch/table.md | sed -E 's/ +/ /g; s/-{4,}/---/g' | cat .scratch/licences.md - > docs/licences.md
