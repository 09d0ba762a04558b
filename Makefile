# `make` lists the targets. Each installs what it needs into .venv once, until settings.ini or setup.py change;
# after that no target needs a network.
.DEFAULT_GOAL := help
.PHONY: help report test quick lint lab export docs same-python moved

# Any Python from 3.11 on: make test PYTHON=python3.12
PYTHON ?= python3
# Two environments side by side: make test PYTHON=python3.12 VENV=.venv312
VENV ?= .venv
# A smaller torch without CUDA: make report TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
# Changes of the default run: make report OVERRIDES="epochs=3 model=resnet"
OVERRIDES ?=
# A selection of the tests: make test ARGS="-k resume"
ARGS ?=

BIN := $(VENV)/bin
# Tests do not depend on the user's settings; tests/conftest.py hides the rest. A hundred of them start a Python: without the compiled
# files that the first one writes, each would compile torch again.
OURS := env -u PYTHONDONTWRITEBYTECODE -u PYTHONWARNINGS -u PYTHONIOENCODING -u MPLBACKEND -u MATPLOTLIBRC PYTHONUTF8=1 LC_ALL=C.UTF-8 TZ=UTC OMP_NUM_THREADS=1
PIP := $(BIN)/python -m pip --disable-pip-version-check

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "%-9s%s\n", $$1, $$2}' Makefile

report: $(VENV)/report.stamp  ## install, train on the embedded digits, write an HTML report (OVERRIDES="epochs=3" changes the run)
	@env -u PYTHONDONTWRITEBYTECODE $(BIN)/ic report $(OVERRIDES)

test: $(VENV)/dev.stamp  ## install, then run what CI runs: notebooks, tests, export without a diff, coverage (ARGS="-k resume" selects)
	$(if $(ARGS),,home=$$(mktemp -d) && $(OURS) HOME=$$home XDG_CACHE_HOME=$$home XDG_CONFIG_HOME=$$home $(BIN)/nbdev_test --n_workers 2; \
	  code=$$?; rm -rf "$$home"; exit $$code)
	$(OURS) $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(or $(ARGS),--cov --durations=15)

quick: $(VENV)/dev.stamp  ## the tests that start no long training and no other process, for use between edits
	$(OURS) $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -q -m "not slow" tests $(ARGS)

lint: $(VENV)/lint.stamp  ## check every file: export, ruff, types, secrets, spelling, YAML, Dockerfile (ARGS="ruff" selects)
	PATH="$(abspath $(BIN)):$$PATH" VIRTUAL_ENV="$(abspath $(VENV))" $(BIN)/prek run --all-files --show-diff-on-failure $(ARGS)

lab: $(VENV)/dev.stamp  ## open JupyterLab on the notebooks
	JUPYTER_PREFER_ENV_PATH=1 $(BIN)/python -m jupyterlab --notebook-dir=nbs

docs: $(VENV)/dev.stamp  ## build the site into _docs (needs Quarto)
	@command -v quarto >/dev/null || { echo "error: quarto is not installed. install version 1.7.34 from quarto.org" >&2; exit 2; }
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/nbdev_docs
	$(BIN)/python nbs/_readme.py

export: $(VENV)/dev.stamp  ## write the package and README.md from the notebooks, and clean the notebooks
	$(BIN)/nbdev_export
	$(BIN)/nbdev_clean
	$(BIN)/python nbs/_readme.py

# The stamp holds the checkout's path: an environment that was moved or copied still imports the old checkout, so it is built
# again, like one that an interrupted make left without a working pip.
HERE := $(shell [ "$$(cat $(VENV)/venv.stamp 2>/dev/null)" = "$$(pwd -P)" ] && echo yes)
ASKED := $(filter command,$(origin PYTHON))

$(VENV)/venv.stamp: $(if $(HERE),,moved) | $(if $(ASKED),same-python)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: Python 3.11 or newer is needed ($(PYTHON)). name one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 2; }
	@if [ -e $@ ] || ! $(PIP) --version >/dev/null 2>&1; then $(PYTHON) -m venv --clear $(VENV); fi
	@pwd -P > $@

# Nothing is compiled when it is installed: most of it is never imported.
$(VENV)/torch.stamp: $(VENV)/venv.stamp
	@echo "installing into $(VENV): some minutes the first time, not again"
	@$(if $(TORCH_INDEX),$(PIP) install --quiet --no-compile --index-url $(TORCH_INDEX) torch torchvision)
	@touch $@

$(VENV)/report.stamp: $(VENV)/torch.stamp settings.ini setup.py
	@$(PIP) install --quiet --no-compile --editable '.[report,pretrained]'
	@touch $@

$(VENV)/dev.stamp: $(VENV)/torch.stamp settings.ini setup.py
	@$(PIP) install --quiet --no-compile --editable '.[dev]'
	@touch $(VENV)/report.stamp $@

$(VENV)/lint.stamp: $(VENV)/dev.stamp
	@$(PIP) install --quiet --no-compile --editable '.[lint]'
	@touch $@

# If a Python is named on the command line, the environment must hold that version.
same-python:
	@version='import sys; print("%d.%d" % sys.version_info[:2])'; \
	asked=$$($(PYTHON) -c "$$version") && found=$$($(BIN)/python -c "$$version" 2>/dev/null || echo "$$asked"); \
	[ "$$asked" = "$$found" ] || { \
	  echo "error: $(VENV) holds Python $$found, not $$asked. keep both: make $(MAKECMDGOALS) PYTHON=$(PYTHON) VENV=.venv-$$asked" >&2; exit 2; }

moved:
