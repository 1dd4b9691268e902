# The commands of this kit. On a fresh clone they need Python >= 3.10, make, and pip's network.
#
#   make book    make test    make help
#
# Inside a conda environment made from environment.yml: make book VENV=$$CONDA_PREFIX

PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
INSTALLED := $(VENV)/.dpo_lab-installed
EXTRAS := train,book,test
# The browser tests alone, without the shape checks and training fixtures that they never use.
PAGES := -m browser -p no:training_fixtures -o addopts='-q -rs --strict-markers' \
  $$(grep -l 'mark.browser' tests/*.py)
ONE_THREAD := OMP_NUM_THREADS=1
RESULTS := book/results
# Two workers, whole files in the order of tests/conftest.py: the slow ones first. nbval runs
# inside tests/test_notebooks_alone.py; as a plugin here it would cost each worker seconds.
TWO := -n 2 --dist loadscope --no-loadscope-reorder -p no:nbval

# $(call step,name,command): run one step and say how long it took.
step = @printf '== %s\n' '$(1)'; begin=$$(date +%s); \
  $(2) && printf '== %s: done in %s s\n' '$(1)' $$(( $$(date +%s) - begin ))

.DEFAULT_GOAL := help
.PHONY: help install book test lab notebooks check bench repository clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(INSTALLED)  ## set up .venv with the pinned versions

$(INSTALLED): pyproject.toml constraints.txt
	@test -x $(PY) || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and \
	  "This kit needs Python 3.10 or newer; name one with: make PYTHON=python3.12 ...")'
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@rm -f $@
	$(call step,install,{ $(PY) -m pip install --disable-pip-version-check \
	  --constraint constraints.txt --editable '.[$(EXTRAS)]' && touch $@; } \
	  | sed '/already satisfied/d' && test -f $@)

book: $(INSTALLED)  ## execute every chapter, build the site, print where it is
	$(call step,book,$(PY) book/_tools/make_site.py)

test: $(INSTALLED)  ## lint, library, notebooks, and the built pages in a browser
	@$(MAKE) --no-print-directory check
	$(call step,library and notebooks,$(ONE_THREAD) $(PY) -m pytest $(TWO) -m 'not browser')
	@$(MAKE) --no-print-directory book
	$(call step,pages,$(ONE_THREAD) $(PY) -m pytest $(TWO) $(PAGES))

check: $(INSTALLED)  ## lint, format, and the types of floor 0
	$(call step,lint,$(PY) -m ruff check && $(PY) -m ruff format --check --quiet)
	$(call step,types,$(PY) -m mypy)

lab: $(INSTALLED)  ## open the chapters in JupyterLab
	$(PY) -m jupyter lab notebooks

notebooks: $(INSTALLED)  ## re-execute the chapters in place and store their outputs
	$(call step,chapters,$(PY) book/_tools/execute.py)

# The results are the book's; a quiet machine is wanted. BENCH=... adds options of `dpo-lab bench`.
bench: $(INSTALLED)  ## time training beside TRL, and the rest; results in book/results
	@$(PY) -c 'import trl, scipy' 2>/dev/null || $(PY) -m pip install --disable-pip-version-check \
	  --constraint constraints.txt --editable '.[bench]'
	$(call step,beside TRL,$(PY) -m dpo_lab bench --output $(RESULTS)/bench_cpu.json $(BENCH))
	$(call step,technique by technique,$(PY) -m dpo_lab bench --ladder --shapes tiny --rounds 1 \
	  --output $(RESULTS)/ladder_cpu.json $(BENCH))
	$(call step,scoring,$(PY) bench/scoring.py --output $(RESULTS)/scoring.json)
	$(call step,scaling,$(PY) bench/scaling.py --output $(RESULTS)/scaling.json)
	$(call step,solvers,$(PY) bench/solvers.py --output $(RESULTS)/solvers.json)
	$(call step,redraw,$(PY) bench/redraw.py --output $(RESULTS)/redraw.json)
	$(call step,the small model,$(PY) bench/step.py)

repository: $(INSTALLED)  ## URL=... moves the project to another address, everywhere
	@$(PY) book/_tools/repository.py $(URL)

clean:  ## delete what was built (not .venv)
	rm -rf book/_build build dist *.egg-info
