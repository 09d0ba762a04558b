# `make` lists the targets. Each installs what it needs into .venv once, until settings.ini or setup.py change;
# after that no target needs a network.
.DEFAULT_GOAL := help
.PHONY: help report test quick lint lab export docs quarto docker serve lock clean same-python moved

# Any Python from 3.11 on: make test PYTHON=python3.12
PYTHON ?= python3
# Two environments side by side: make test PYTHON=python3.12 VENV=.venv312
VENV ?= .venv
# A smaller torch without CUDA: make report TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
# The packages that CI tests, by version and hash, instead of the newest ones: make test LOCK=requirements/ci.txt
LOCK ?=
# Changes of the default run: make report OVERRIDES="epochs=3 model=resnet"
OVERRIDES ?=
# A selection of the tests: make test ARGS="-k resume"
ARGS ?=
# The run that is served, instead of the newest one: make serve RUN=runs/first
RUN ?=
# What builds the images: make docker ENGINE=podman
ENGINE ?= docker
BUILD_OPTIONS ?=

# The folder's name stands unquoted in rules and commands.
UNFIT := : ; & | < > * ? [ ] ( ) { } % ~ ' " ` = \ \# $$
ifneq ($(words $(value VENV))$(strip $(foreach mark,$(UNFIT),$(findstring $(mark),$(value VENV))) $(filter -%,$(VENV))),1)
$(error VENV must be one name without spaces and special characters, not '$(value VENV)'. name another: VENV=.venv2)
endif
# A run's name may hold anything: make does not expand it, and the shell finds it in its environment.
unexport RUN
export RUN_FOLDER := $(value RUN)

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

lint: $(VENV)/lint.stamp  ## check every file: export, ruff, types, secrets, spelling, YAML, Dockerfile, workflows, licenses (ARGS="ruff" selects)
	PATH="$(abspath $(BIN)):$$PATH" VIRTUAL_ENV="$(abspath $(VENV))" $(BIN)/prek run --all-files --show-diff-on-failure $(ARGS)

serve: $(VENV)/serve.stamp  ## export the newest run, or RUN=runs/first, and serve it on http://127.0.0.1:8000 (ARGS="--port 9000")
	@run="$$RUN_FOLDER"; \
	[ -n "$$run" ] || { run=$$(ls -dt runs/*/classifier runs/*/seed_*/classifier 2>/dev/null | head -n 1); run=$${run%/classifier}; }; \
	[ -n "$$run" ] || { echo "error: no run in runs/ has a classifier. train one first: make report" >&2; exit 2; }; \
	[ -e "$$run/model.onnx" ] || [ -e "$$run/classifier/model.onnx" ] || $(BIN)/ic export "$$run" || exit; \
	exec $(BIN)/ic serve $(ARGS) "$$run"

docker:  ## build the three images: train, lab, serve (ENGINE=podman, BUILD_OPTIONS="--build-arg TORCH_INDEX=")
	@$(ENGINE) images >/dev/null 2>&1 || { \
	  echo "error: no container engine answers ($(firstword $(ENGINE))). start Docker, or name another one: make docker ENGINE=podman" >&2; exit 2; }
	$(ENGINE) build $(BUILD_OPTIONS) --target train --tag image_classifier .
	$(ENGINE) build $(BUILD_OPTIONS) --target lab --tag image_classifier_lab .
	$(ENGINE) build $(BUILD_OPTIONS) --target serve --tag image_classifier_serve .

lab: $(VENV)/dev.stamp  ## open JupyterLab on the notebooks
	JUPYTER_PREFER_ENV_PATH=1 $(BIN)/python -m jupyterlab --notebook-dir=nbs

quarto:
	@command -v quarto >/dev/null || { echo "error: quarto is not installed. install version 1.7.34 from quarto.org" >&2; exit 2; }

docs: quarto $(VENV)/dev.stamp  ## build the site into _docs (needs Quarto)
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/nbdev_docs
	$(BIN)/python nbs/_readme.py
	$(BIN)/python nbs/_gallery.py _docs/gallery

export: $(VENV)/dev.stamp  ## write the package and README.md from the notebooks, and clean the notebooks
	$(BIN)/nbdev_export
	$(BIN)/nbdev_clean
	$(BIN)/python nbs/_readme.py

# uv keeps what setup.py said, and does not see that settings.ini has changed: hence --refresh.
# torch and CUDA have a file of their own, because the images and CI take torch for the CPU from another index. Each file agrees with ci.txt.
COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --annotation-style line --refresh --custom-compile-command "make lock" $(ARGS)
NO_TORCH = $$(sed -n -E 's/^(torch|torchvision|triton|cuda-[a-z]+|nvidia-[a-z0-9-]+)==.*/--no-emit-package \1/p' requirements/torch.txt)

lock: $(VENV)/venv.stamp  ## renew the hashed files in requirements/ after a change of settings.ini (ARGS=--upgrade: the newest versions)
	@$(PIP) install --quiet uv==0.13.9
	$(COMPILE) requirements/torch.in --output-file requirements/torch.txt
	$(COMPILE) setup.py --extra dev --extra lint --constraint requirements/torch.in $(NO_TORCH) --output-file requirements/ci.txt
	$(COMPILE) requirements/torch.in --constraint requirements/ci.txt --output-file requirements/torch.txt
	$(COMPILE) setup.py --extra dev --constraint requirements/torch.txt --constraint requirements/ci.txt $(NO_TORCH) --output-file requirements/lab.txt
	$(COMPILE) setup.py --extra report --extra pretrained --constraint requirements/torch.txt --constraint requirements/ci.txt $(NO_TORCH) \
	  --output-file requirements/train.txt
	$(COMPILE) requirements/serve.in --constraint requirements/ci.txt --output-file requirements/serve.txt

# What make wrote, and nothing else: runs, data, keys, unsaved notebooks and wheels stay. The environment goes if make has made it for this folder.
clean:  ## remove the environment, the site, caches and coverage; runs/ stays
	$(if $(HERE),rm -rf $(VENV))
	rm -rf _docs _proc .pytest_cache .ruff_cache .hypothesis .coverage .coverage.* coverage.xml literate_image_classifier.egg-info
	find image_classifier nbs tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp holds the checkout's path: an environment that was moved or copied still imports the old checkout, so it is built
# again, like one that make was interrupted in: its stamp says that it is unfinished. Nothing is removed that make has not made.
HERE := $(shell [ "$$(cat $(VENV)/venv.stamp 2>/dev/null)" = "$$(pwd -P)" ] && echo yes)
ASKED := $(filter command,$(origin PYTHON))

NO_PYTHON = { echo "error: Python 3.11 or newer is needed ($(PYTHON)). name one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 2; }

$(VENV)/venv.stamp: $(if $(HERE),,moved) | $(if $(ASKED),same-python)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || $(NO_PYTHON)
	@[ -z "$$(ls -A $(VENV) 2>/dev/null)" ] || grep -qs '^unfinished' $@ || \
	  { [ -e $(VENV)/pyvenv.cfg ] && { grep -qs '^/' $@ || ls $(STAMPS) 2>/dev/null | grep -q .; }; } || { \
	  echo "error: $(VENV) holds files that make did not write. name another: make $(MAKECMDGOALS) VENV=.venv2" >&2; exit 2; }
	@mkdir -p $(VENV) && echo unfinished > $@
	@find $(VENV)/ -mindepth 1 -maxdepth 1 ! -name venv.stamp -exec rm -rf {} +
	@$(PYTHON) -m venv $(VENV)
	@pwd -P > $@

STAMPS := $(foreach name,torch report serve dev lint,$(VENV)/$(name).stamp)
.PRECIOUS: $(VENV)/venv.stamp

# Nothing is compiled when it is installed: most of it is never imported. With LOCK, nothing comes without a hash that the files do not hold.
INSTALL := $(PIP) install --quiet --no-compile
HASHED := $(INSTALL) --no-deps --require-hashes
EDITABLE := $(INSTALL) $(if $(LOCK),--no-deps --no-build-isolation) --editable

$(VENV)/torch.stamp: $(VENV)/venv.stamp $(LOCK)
	@echo "installing into $(VENV): some minutes the first time, not again"
	@$(if $(LOCK),$(HASHED) --requirement $(LOCK))
	@$(if $(TORCH_INDEX),$(INSTALL) --index-url $(TORCH_INDEX) $(if $(LOCK),--no-deps --requirement requirements/torch.in,torch torchvision),\
	  $(if $(LOCK),$(HASHED) --requirement requirements/torch.txt))
	@touch $@

$(VENV)/report.stamp: $(VENV)/torch.stamp settings.ini setup.py
	@$(EDITABLE) '.[report,pretrained]' $(if $(LOCK),&& $(PIP) check)
	@touch $@

$(VENV)/serve.stamp: $(VENV)/torch.stamp settings.ini setup.py
	@$(EDITABLE) '.[export,serve]'
	@touch $@

$(VENV)/dev.stamp: $(VENV)/torch.stamp settings.ini setup.py
	@$(EDITABLE) '.[dev]' $(if $(LOCK),&& $(PIP) check)
	@touch $(VENV)/report.stamp $(VENV)/serve.stamp $@

$(VENV)/lint.stamp: $(VENV)/dev.stamp
	@$(EDITABLE) '.[lint]'
	@touch $@

# If a Python is named on the command line, the environment must hold that version.
same-python:
	@version='import sys; print("%d.%d" % sys.version_info[:2])'; \
	asked=$$($(PYTHON) -c "$$version" 2>/dev/null) || $(NO_PYTHON); \
	found=$$($(BIN)/python -c "$$version" 2>/dev/null || echo "$$asked"); \
	[ "$$asked" = "$$found" ] || { \
	  echo "error: $(VENV) holds Python $$found, not $$asked. keep both: make $(MAKECMDGOALS) PYTHON=$(PYTHON) VENV=.venv-$$asked" >&2; exit 2; }

moved:
