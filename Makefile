# `make` lists the targets. Each installs what it needs into .venv, once, until settings.ini or setup.py change.
.DEFAULT_GOAL := help
.PHONY: help report test lab export

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# A smaller, CPU-only torch: make report TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 18

report: $(VENV)/report.stamp  ## install, train on the embedded digits, write an HTML report (OVERRIDES="epochs=3 ..." changes the run)
	@$(BIN)/ic report $(OVERRIDES)

test: $(VENV)/dev.stamp  ## install, then everything CI checks: export, clean, nbdev_test, pytest with nbval, coverage
	$(BIN)/nbdev_test --n_workers 2
	$(BIN)/python -m pytest

lab: $(VENV)/dev.stamp  ## open JupyterLab on the notebooks
	$(BIN)/jupyter lab nbs

export: $(VENV)/dev.stamp  ## write the package from the notebooks, and clean the notebooks
	$(BIN)/nbdev_export
	$(BIN)/nbdev_clean

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: Python 3.11 or newer is needed ($$($(PYTHON) --version)). name one, e.g. make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/torch.stamp: $(VENV)/bin/python
	$(if $(TORCH_INDEX),$(BIN)/python -m pip install --quiet --index-url $(TORCH_INDEX) torch torchvision)
	@touch $@

$(VENV)/report.stamp: $(VENV)/torch.stamp settings.ini setup.py
	@echo "installing into $(VENV), which takes some minutes the first time"
	$(BIN)/python -m pip install --quiet --editable '.[report]'
	@touch $@

$(VENV)/dev.stamp: $(VENV)/torch.stamp settings.ini setup.py
	@echo "installing into $(VENV), which takes some minutes the first time"
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $(VENV)/report.stamp $@
