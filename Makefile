# shapesweep. `make` lists the targets. ARGS goes through, e.g. make search ARGS="--num-trials 64".

# Tried in this order; the first that is 3.11 to 3.14 makes .venv.
PYTHON ?= python3 python3.12 python3.13 python3.14 python3.11

# pip must install into .venv, whatever pip.conf says.
export PIP_USER := 0

VENV := .venv
PY := $(VENV)/bin/python
UV := $(VENV)/bin/uv
UV_VERSION := 0.13.8
INSTALLED := $(VENV)/.installed
# What setup installs; requirements-cuda12.lock on machines with an NVIDIA GPU.  By default what it
# installed before, which the marker's first line names (read now: .venv may go); the second is where.
LOCK ?= $(or $(wildcard $(shell head -n 1 $(INSTALLED) 2>/dev/null)),requirements.lock)
LOCK := $(LOCK)
# A virtual environment holds its own path and the packages of one version of Python: in a copy of the
# project it would run the original's code, and after an upgrade of the system find no package.  One
# that is a link is somebody's choice.
TELL_VERSION := import sys; print("%d.%d" % sys.version_info[:2])
SPOILT := $(shell [ -L $(VENV) ] || [ ! -e $(INSTALLED) ] || { [ "$$(sed -n 2p $(INSTALLED))" -ef . ] && \
  [ -d "$(VENV)/lib/python$$($(PY) -c '$(TELL_VERSION)' 2>/dev/null)" ]; } || echo yes)
# graphene 3.4.3 (of mlflow) needs python-dateutil < 3. Left alone, the resolver takes dateutil 4 for
# pandas and falls back to an old graphene that states no bound.
COMPILE := echo "python-dateutil<3" | $(UV) pip compile --quiet --universal --generate-hashes \
  --no-header --no-emit-index-url --no-emit-find-links --constraint - $(ARGS) pyproject.toml

EXTRAS := --extra dev --extra simulators --extra cluster --extra aws

# Most tests keep one core busy. tests/conftest.py says which stay together. ARGS=-n0 for one process,
# as --pdb needs.
IN_TWO := -n 2 --dist loadfile

# What the slow tests need beside Python, each as command:package (Debian's name for it).
SYSTEM := chromium:chromium

.DEFAULT_GOAL := help
.PHONY: help search setup test test-slow test-services test-cluster can-make-hosts lint types system wheels lock hooks

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-13s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

search: setup ## search for the best reward shape, of a size that fits this machine (ARGS)
	@$(PY) sweeps/reward_search.py $(ARGS)

setup: $(INSTALLED) ## make .venv with the locked packages; the other targets do it themselves

test: setup ## the fast tests, on the CPU (ARGS)
	@JAX_PLATFORMS=cpu $(PY) -m pytest -m "not (slow or services or cluster)" $(IN_TWO) $(ARGS)

test-slow: setup system ## the tests with real processes and a browser (ARGS)
	@JAX_PLATFORMS=cpu $(PY) -m pytest -m slow $(IN_TWO) $(ARGS)

test-services: SYSTEM := psql:postgresql
test-services: setup system ## the tests with S3 (moto), a PostgreSQL server and Ray on several nodes (ARGS)
	@JAX_PLATFORMS=cpu $(PY) -m pytest -m services $(IN_TWO) $(ARGS)

# The hosts of these tests are namespaces of this machine.
test-cluster: SYSTEM := ssh:openssh-client sshd:openssh-server ip:iproute2 rsync:rsync
test-cluster: can-make-hosts setup system ## `ray up` on several hosts and on a fake cloud, for real; needs root and twelve minutes (ARGS)
	@JAX_PLATFORMS=cpu $(PY) -m pytest -m cluster --durations=10 $(ARGS)

can-make-hosts:
	@[ "$$(id -u)" = 0 ] || { \
	  echo "test-cluster: needs root, to make hosts of namespaces" >&2; exit 1; }
	@unshare --fork --net --pid --mount --uts --ipc true || { \
	  echo "test-cluster: root may not make namespaces here" >&2; exit 1; }
	@! command -v ip >/dev/null 2>&1 || \
	  unshare --net sh -c 'ip link add br0 type bridge && ip link add one type veth peer name other' || { \
	  echo "test-cluster: root may not make networks here" >&2; exit 1; }

lint: setup ## ruff: rules and formatting
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .

types: setup ## mypy
	@$(PY) -m mypy

system: ## what the slow tests need beside Python (installs it as root on Debian, else says what is missing)
	@missing=; packages=; \
	for pair in $(SYSTEM); do \
	  command -v "$${pair%%:*}" >/dev/null 2>&1 && continue; \
	  missing="$$missing $${pair%%:*}"; packages="$$packages $${pair#*:}"; \
	done; \
	if [ -z "$$missing" ]; then \
	  echo "system: nothing is missing"; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
	  echo "system: installing$$packages with apt-get (once, about a minute) ..."; \
	  export DEBIAN_FRONTEND=noninteractive; \
	  apt-get update -qq && apt-get install -y -qq --no-install-recommends $$packages >/dev/null; \
	else \
	  echo "system: not on the PATH:$$missing. Install them (Debian's names:$$packages), or run" \
	    "'make system' as root on a machine with apt-get." >&2; \
	  exit 1; \
	fi

# A package without a wheel is built, for which most machines lack something.
WHEELS := requirements.lock:x86_64-manylinux_2_28 requirements.lock:aarch64-manylinux_2_28 \
  requirements.lock:aarch64-apple-darwin requirements-cuda12.lock:x86_64-manylinux_2_28
wheels: setup ## see that Python 3.11 to 3.14, on Linux and macOS, find wheels of all that is locked
	@for python in 3.11 3.12 3.13 3.14; do for pair in $(WHEELS); do \
	  $(UV) pip install --quiet --dry-run --only-binary :all: --require-hashes --python $(PY) \
	    --python-version $$python --python-platform "$${pair#*:}" --target $(VENV)/none -r "$${pair%%:*}" || { \
	    echo "wheels: $${pair%%:*} cannot be installed by Python $$python on $${pair#*:}" >&2; exit 1; }; \
	done; done

lock: | $(UV) ## resolve both requirements files anew (ARGS=--upgrade for newer versions)
	@$(COMPILE) $(EXTRAS) -o requirements.lock
	@$(COMPILE) --extra cuda12 $(EXTRAS) --constraint requirements.lock -o requirements-cuda12.lock

hooks: setup ## check every commit with the locked ruff and mypy
	@$(VENV)/bin/pre-commit install

# --compile-bytecode: Ray starts a dozen Python processes, and each would compile what it imports
# where PYTHONDONTWRITEBYTECODE is set, as in many containers.
$(INSTALLED): $(LOCK) pyproject.toml | $(UV)
	@echo "Installing the locked packages into $(VENV) (once, about 30 to 90 s) ..."
	@$(UV) pip install --quiet --compile-bytecode --python $(PY) --require-hashes -r $(LOCK) || { \
	  echo "uv could not; trying pip, which reads this machine's pip settings ..."; \
	  $(PY) -m pip install -qq --require-hashes -r $(LOCK); }
	@$(UV) pip install --quiet --python $(PY) --no-deps -e . || \
	  $(PY) -m pip install -qq --no-deps -e .
	@{ echo $(LOCK); pwd -P; } > $@

ifdef SPOILT
.PHONY: discard
$(INSTALLED) $(UV): discard
discard:
	@echo "Making $(VENV) anew: this one was not made in this folder, or its Python is gone or another ..."
	@rm -rf "$(VENV)" && mkdir "$(VENV)" && echo $(LOCK) > $(INSTALLED)
endif

$(UV):
	@for python in $(PYTHON); do \
	  "$$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null || continue; \
	  echo "Making $(VENV) with $$("$$python" --version) ..."; \
	  "$$python" -m venv $(VENV) && \
	    $(PY) -m pip install -qq --disable-pip-version-check "uv==$(UV_VERSION)"; \
	  exit; \
	done; \
	echo "shapesweep needs Python 3.11 to 3.14, and found none among: $(PYTHON)" \
	  "(python3 is $$(python3 --version 2>&1 | head -n 1)). Name one: make PYTHON=/path/to/python3.12" >&2; \
	exit 1
