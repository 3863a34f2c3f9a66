# Bare `make` lists what there is. Everything happens in .venv; nothing is installed elsewhere, except
# by `make setup-broker`, which says so.

PYTHON ?= python3
VENV ?= .venv
# For the command behind the target: make demo ARGS="--rounds 3"
ARGS ?=
# How many test files `make test` has at work at a time: most of their time they wait for programs.
JOBS ?= 2
# How many seeds `make storms` draws.
SEEDS ?= 10000
# How long `make fuzz` tries each decoder.
SECONDS ?= 60
BENCHMARKS = agent_footprint round_overhead flood coordinator_memory demo_accuracy \
  simulation_speed fleet_scale live_connections mode_agreement masked_round_close status_cost \
  quiet_fleet fleet_size broker_memory
# Extra words for the one `pip install` that fetches torch. On x86-64 Linux the wheel that pip finds by
# itself brings several gigabytes of CUDA. To do without, say where your CPU build is:
#   make demo PIP_TORCH_ARGS="--index-url <address of a CPU wheel index>"
PIP_TORCH_ARGS ?=

BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# The one place that names torch's version is constraints.txt.
TORCH := $(shell sed -n '/^torch==/p' constraints.txt)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help: ## List the targets (this)
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# ------------------------------------------------------------------------------------ to use it

.PHONY: demo
demo: $(VENV)/.installed-demo ## A small federation on this machine, from nothing (ARGS="--rounds 3")
	@$(BIN)/fedmqtt demo $(ARGS)

.PHONY: install
install: $(VENV)/.installed-dev ## Set up .venv with everything that developing needs

.PHONY: setup-broker
setup-broker: ## Install Mosquitto on this machine, where apt is available
	@if PATH="$$PATH:/usr/sbin:/usr/local/sbin" command -v mosquitto >/dev/null; then \
	  echo "Mosquitto is already here: $$(PATH="$$PATH:/usr/sbin:/usr/local/sbin" command -v mosquitto)"; \
	elif ! command -v apt-get >/dev/null; then \
	  echo "There is no apt-get here. Install Mosquitto 2.0 or later the way this system does it" >&2; \
	  echo "(brew install mosquitto, dnf install mosquitto, apk add mosquitto). Nothing was changed." >&2; \
	  exit 1; \
	elif [ "$$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then \
	  echo "Installing needs root, and there is no sudo here. As root:" >&2; \
	  echo "  apt-get update && apt-get install mosquitto mosquitto-clients" >&2; \
	  exit 1; \
	else \
	  if [ "$$(id -u)" = 0 ]; then as_root=; else as_root=sudo; fi; \
	  echo "Installing Mosquitto with apt-get. Debian also starts it as a service on port 1883;"; \
	  echo "fedmqtt's tests start brokers of their own and do not use that one."; \
	  $$as_root apt-get update -qq && \
	  $$as_root env DEBIAN_FRONTEND=noninteractive \
	    apt-get install -y -qq --no-install-recommends mosquitto mosquitto-clients; \
	fi

# ---------------------------------------------------------------------------------- to change it

.PHONY: setup-brokers
setup-brokers: setup-broker ## Install RabbitMQ, NATS, PostgreSQL, bubblewrap, Chromium, promtool too, for tests
	@export PATH="$$PATH:/usr/sbin"; \
	if command -v rabbitmq-server && command -v nats-server && command -v bwrap && \
	  command -v chromium && command -v promtool && ls -d /usr/lib/postgresql/*/bin/postgres; then \
	  echo "RabbitMQ, NATS, PostgreSQL, bubblewrap, Chromium and promtool are already here."; \
	else \
	  if [ "$$(id -u)" = 0 ]; then as_root=; else as_root=sudo; fi; \
	  echo "Installing RabbitMQ, NATS, PostgreSQL, bubblewrap, Chromium and promtool (of Debian's"; \
	  echo "prometheus) with apt-get. Debian also starts RabbitMQ as a service; fedmqtt's tests start one"; \
	  echo "of their own and do not use that. A Prometheus that was not here before is not left running,"; \
	  echo "and a PostgreSQL that was not has no database."; \
	  if command -v prometheus; then had_prometheus=yes; else had_prometheus=; fi; \
	  $$as_root apt-get update -qq && \
	  if ! ls -d /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1; then \
	    $$as_root env DEBIAN_FRONTEND=noninteractive \
	      apt-get install -y -qq --no-install-recommends postgresql-common && \
	    $$as_root sed -i 's/^#*create_main_cluster .*/create_main_cluster = false/' \
	      /etc/postgresql-common/createcluster.conf; \
	  fi && \
	  $$as_root env DEBIAN_FRONTEND=noninteractive \
	    apt-get install -y -qq --no-install-recommends rabbitmq-server nats-server bubblewrap \
	    chromium fonts-dejavu-core prometheus postgresql && \
	  if [ -z "$$had_prometheus" ]; then \
	    if [ -d /run/systemd/system ]; then $$as_root systemctl disable --now --quiet prometheus; \
	    else $$as_root service prometheus stop >/dev/null 2>&1 || true; fi; \
	  fi; \
	fi

.PHONY: test
test: $(VENV)/.installed-dev ## Run all tests, JOBS=2 files at a time (ARGS="tests/coordinator -k quorum" for some)
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(ARGS)

.PHONY: check
check: check-format check-lint check-types check-imports check-spelling ## Format, lint, types, architecture, spelling

.PHONY: check-format check-lint check-types check-imports check-spelling
check-format: $(VENV)/.installed-dev
	@$(BIN)/ruff format --check .
check-lint: $(VENV)/.installed-dev
	@$(BIN)/ruff check .
check-types: $(VENV)/.installed-dev
	@$(BIN)/mypy
check-imports: $(VENV)/.installed-dev
	@$(BIN)/lint-imports --no-logo
check-spelling: $(VENV)/.installed-dev
	@$(BIN)/codespell

.PHONY: format
format: $(VENV)/.installed-dev ## Format the code and mend what ruff can mend
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

.PHONY: storms
storms: $(VENV)/.installed-dev ## Simulated fleets in bad weather, many seeds (SEEDS=10000)
	@$(BIN)/python -m fleet_sim --storms $(SEEDS) \
	  --processes $$($(BIN)/python -c 'import os; print(os.cpu_count() or 1)') $(ARGS)

.PHONY: mutants
mutants: $(VENV)/.installed-dev ## Small mistakes put into the machines: do the tests notice them?
	@$(BIN)/python -m tests.mutants $(ARGS)

.PHONY: faults
faults: $(VENV)/.installed-dev ## Real programs and a real broker, hurt on purpose; writes docs/faults.md
	@$(BIN)/python -m tests.faults $(ARGS)

.PHONY: tutorials
tutorials: $(VENV)/.installed-dev ## Run the tutorials' pages and write their notebooks (ARGS="2 3" for some)
	@$(BIN)/python -m tests.tutorials $(ARGS)

.PHONY: fuzz
fuzz: $(VENV)/.installed-fuzz ## Hostile bytes for every decoder, SECONDS=60 for each (ARGS="offer")
	@$(BIN)/python -m tests.fuzz --seconds $(SECONDS) $(ARGS)

.PHONY: lock
lock: $(VENV)/.installed-supply ## Write requirements/*.txt anew: what images install, with hashes
	@$(BIN)/python requirements/lock.py

.PHONY: audit
audit: $(VENV)/.installed-supply ## Known advisories about what constraints.txt pins
	@$(BIN)/python requirements/audit.py

.PHONY: bench
bench: $(VENV)/.installed-dev ## Measure what README and docs tell, all of it (half an hour)
	@for benchmark in $(BENCHMARKS); do \
	  echo "== $$benchmark"; $(BIN)/python benchmarks/$$benchmark.py || exit 1; \
	done

.PHONY: site
site: $(VENV)/.installed-dev ## The documentation as a site, in site/: open site/index.html
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet $(ARGS)

.PHONY: clean
clean: ## Remove .venv, caches and build outputs; runs/ stays, it is yours
	rm -rf -- "$(VENV)" build dist site *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis \
	  .import_linter_cache .grimp_cache
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

# ----------------------------------------------------------------------------------- the venv
#
# A stamp for each set of packages, renewed when what it was made from changes: a second `make demo`
# installs nothing. `dev` comes after `demo`, which it contains, so that `make -j demo test` never has
# two pips in one venv.

$(VENV)/.installed-dev: $(VENV)/.installed-demo
	@echo "Installing what developing needs ..."
	@$(PIP_INSTALL) -e '.[dev]'
	@touch $@

$(VENV)/.installed-fuzz $(VENV)/.installed-supply: $(VENV)/.installed-%: $(VENV)/.installed-dev
	@echo "Installing what \`make\` needs for this ..."
	@$(PIP_INSTALL) -e '.[$*]'
	@touch $@

# torch goes first, alone, and by exact version: asked for as `torch>=2.2` among others, pip takes the
# newest build, with gigabytes of CUDA. Once this one is there the range is met and pip leaves it.
# --no-deps: what torch needs comes with the next line, from where everything else comes from, at the
# versions of constraints.txt; an index of CPU builds need not have them.
$(VENV)/.installed-demo: $(VENV)/pyvenv.cfg pyproject.toml constraints.txt
	@echo "Installing $(TORCH) (the large one; PIP_TORCH_ARGS in the Makefile tells how to get a CPU build) ..."
	@$(PIP_INSTALL) --no-deps $(PIP_TORCH_ARGS) '$(TORCH)'
	@echo "Installing fedmqtt and what its demo needs ..."
	@$(PIP_INSTALL) -e '.[demo]'
	@touch $@

$(VENV)/pyvenv.cfg:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "There is no '$(PYTHON)' here. fedmqtt needs Python 3.11 or later: make PYTHON=/path/to/python3.11" >&2; \
	  exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(PYTHON) is $$($(PYTHON) --version 2>&1). fedmqtt needs Python 3.11 or later: make PYTHON=/path/to/python3.11" >&2; \
	  exit 1; }
	@# Debian splits what venv needs off into a package of its own.
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "$(PYTHON) cannot make virtual environments. On Debian and Ubuntu: sudo apt-get install python3-venv" >&2; \
	  exit 1; }
	@echo "Making $(VENV) with $$($(PYTHON) --version) ..."
	@$(PYTHON) -m venv $(VENV)
