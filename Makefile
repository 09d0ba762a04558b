# `make` lists the targets. Each installs what it needs into .venv, once, until settings.ini or setup.py change;
# after that nothing here needs a network.
.DEFAULT_GOAL := help
.PHONY: help report test lab export same-python moved

# Any Python from 3.11 on: make test PYTHON=python3.12
PYTHON ?= python3
# Two environments side by side: make test PYTHON=python3.12 VENV=.venv312
VENV ?= .venv
# A smaller torch without CUDA: make report TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
# Changes of the default run: make report OVERRIDES="epochs=3 model=resnet"
OVERRIDES ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "%-9s%s\n", $$1, $$2}' Makefile

report: $(VENV)/report.stamp  ## install, train on the embedded digits, write an HTML report (OVERRIDES="epochs=3" changes the run)
	@$(BIN)/ic report $(OVERRIDES)

test: $(VENV)/dev.stamp  ## install, then all that CI checks: the notebooks, the tests, export without a diff, coverage
	OMP_NUM_THREADS=1 $(BIN)/nbdev_test --n_workers 2
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --cov --durations=10

lab: $(VENV)/dev.stamp  ## open JupyterLab on the notebooks, with this environment's kernel
	JUPYTER_PREFER_ENV_PATH=1 $(BIN)/python -m jupyterlab --notebook-dir=nbs

export: $(VENV)/dev.stamp  ## write the package and README.md from the notebooks, and clean the notebooks
	$(BIN)/nbdev_export
	$(BIN)/nbdev_clean
	$(BIN)/python nbs/_readme.py

# The stamp holds the checkout's path: an environment that was moved or copied still imports the old place, so it is made
# anew, as is one that an interrupted make left without a working pip.
HERE := $(shell [ "$$(cat $(VENV)/venv.stamp 2>/dev/null)" = "$$(pwd -P)" ] && echo yes)
ASKED := $(filter command,$(origin PYTHON))

$(VENV)/venv.stamp: $(if $(HERE),,moved) | $(if $(ASKED),same-python)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: Python 3.11 or newer is needed ($(PYTHON)). name one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 2; }
	@if [ -e $@ ] || ! $(PIP) --version >/dev/null 2>&1; then $(PYTHON) -m venv --clear $(VENV); fi
	@pwd -P > $@

$(VENV)/torch.stamp: $(VENV)/venv.stamp
	@echo "installing into $(VENV): some minutes the first time, not again"
	@$(if $(TORCH_INDEX),$(PIP) install --quiet --index-url $(TORCH_INDEX) torch torchvision)
	@touch $@

$(VENV)/report.stamp: $(VENV)/torch.stamp settings.ini setup.py
	@$(PIP) install --quiet --editable '.[report]'
	@touch $@

$(VENV)/dev.stamp: $(VENV)/torch.stamp settings.ini setup.py
	@$(PIP) install --quiet --editable '.[dev]'
	@touch $(VENV)/report.stamp $@

# A Python named on the command line is the one in the environment, if there is one.
same-python:
	@version='import sys; print("%d.%d" % sys.version_info[:2])'; \
	asked=$$($(PYTHON) -c "$$version") && found=$$($(BIN)/python -c "$$version" 2>/dev/null || echo "$$asked"); \
	[ "$$asked" = "$$found" ] || { \
	  echo "error: $(VENV) holds Python $$found, not $$asked. keep both: make $(MAKECMDGOALS) PYTHON=$(PYTHON) VENV=.venv-$$asked" >&2; exit 2; }

moved:
