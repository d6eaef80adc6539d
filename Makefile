# `make train` and `make test` need Python 3.11 or newer and make; everything else they install into .venv.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
RUN := $(VENV)/bin/python
WORKDIR ?= runs/vae_digits

.PHONY: train test deck readme pages docs oldest faults mutants lint results clean

train: $(VENV)/.installed
	@echo "== training a variational autoencoder on the built-in digits (configs/vae_digits.py) into $(WORKDIR)"
	$(RUN) train.py --config=configs/vae_digits.py --workdir=$(WORKDIR)

test: $(VENV)/.installed-test
	@echo "== running the tests on two processes; the first run compiles, later ones take their programs from a cache"
	$(RUN) -m pytest

deck: $(VENV)/.installed-test
	@echo "== running the command of every row of docs/deck.md at the size of a test"
	$(RUN) tests/deck/run.py

readme: $(VENV)/.installed-test
	@echo "== running every command of README.md, in order, at the size of a test"
	$(RUN) tests/deck/readme.py

docs: .venv-docs/.installed
	@echo "== building the site of docs/ into build/site"
	.venv-docs/bin/mkdocs build --strict --quiet

pages: $(VENV)/.installed-test
	@echo "== making every kind of page and looking at each in a browser: 800 and 1,600 pixels, light and dark"
	$(RUN) tests/browser/run.py

oldest: $(VENV)/bin/python
	@echo "== running the contract and the losses on the lowest versions that pyproject.toml allows"
	$(RUN) tests/oldest.py > .venv-oldest.txt
	PIP_CONSTRAINT=$(CURDIR)/.venv-oldest.txt $(MAKE) VENV=.venv-oldest .venv-oldest/.installed-test
	.venv-oldest/bin/python -m pytest tests/test_contract.py tests/test_core.py tests/losses

faults: $(VENV)/.installed-test
	@echo "== breaking runs in every way that docs/reliability.md promises to survive; about an hour"
	rm -f results/faults.json.new
	FAULTS_RECORD=$(CURDIR)/results/faults.json.new $(RUN) -m pytest tests/faults/test_costs.py -n 0
	FAULTS_RECORD=$(CURDIR)/results/faults.json.new $(RUN) -m pytest tests/faults -n 2 --dist=loadfile --ignore=tests/faults/test_costs.py
	rm -f results/faults.json.lock
	mv results/faults.json.new results/faults.json
	$(RUN) tests/faults/table.py

mutants: $(VENV)/.installed-test
	@echo "== planting faults one at a time in a copy and running the tests of their files; at most two hours"
	$(RUN) tests/mutants/mutants.py

lint: $(VENV)/.installed-test
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m pyright --pythonpath $(RUN)
	$(RUN) -m pyright --pythonpath $(RUN) --project pyrightconfig.standard.json

results: $(VENV)/.installed
	$(RUN) -m dgm_jax.report --results
	$(RUN) -m dgm_jax.report --tables > /dev/null
	$(RUN) docs/site/strip.py

clean:
	rm -rf $(VENV) .venv-docs build *.egg-info .pytest_cache .ruff_cache

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 or newer found; install one, or run make PYTHON=/path/to/python"; exit 2; }
	@echo "== making a virtual environment in $(VENV) with $$($(PYTHON) --version)"
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml
	@echo "== installing the packages (a minute or two, once)"
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	@echo "== installing the packages that only the tests need"
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@

# The site is made of docstrings as text: its environment needs neither JAX nor the package.
.venv-docs/.installed: pyproject.toml
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 or newer found; install one, or run make PYTHON=/path/to/python"; exit 2; }
	$(PYTHON) -m venv .venv-docs
	$(PYTHON) -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['docs'], sep='\n')" > .venv-docs/requirements.txt
	.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check --requirement .venv-docs/requirements.txt
	@touch $@
