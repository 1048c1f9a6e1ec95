# Two commands: make demo, make test. Both set up what they need; a second run uses the caches.
PYTHON ?= python3
BIN := .venv/bin
.DEFAULT_GOAL := help
# How many host VMs work side by side: each keeps a processor busy where it is emulated, and has 4 GiB, now and then 8.
HOSTS = $(shell [ $$(nproc) -ge 2 ] && [ $$(awk '/^MemAvailable/ { print int($$2 / 1048576) }' /proc/meminfo) -ge 12 ] && echo 2 || echo 1)

.PHONY: help setup check unit lab-test lab-7.3 lab-6.12 integration all-7.3 all-6.12 six-guests fuzz bench bench-quick test demo deb rpm dist vagrant-box vagrant-boxes vagrant-test clean

help:  ## What there is
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

setup: .venv/.done  ## Install what the machine and the virtual environment need
	@integration/lab/setup.sh

.venv/.done: pyproject.toml integration/lab/setup.sh
	@integration/lab/setup.sh
	@echo "== virtual environment"
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install -qq --disable-pip-version-check --upgrade "pip>=25.1"
	@$(BIN)/pip install -qq --disable-pip-version-check --group dev --editable .
	@touch $@

check: setup  ## Static checks: format, lint, types, layers
	@echo "== static checks"
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-cache >/tmp/lint-imports.$$$$ 2>&1 || { cat /tmp/lint-imports.$$$$; exit 1; }; rm -f /tmp/lint-imports.$$$$

unit: setup  ## Tests that need no virtual machine
	@echo "== unit, plan, property, contract and fault tests"
	@$(BIN)/pytest -q -n auto

lab-test: setup  ## A part of the integration suite that takes a quarter of an hour, one host VM per kernel, side by side where the machine allows
	@echo "== lab tests on kernels 7.3 and 6.12, $(HOSTS) at a time"
	@$(BIN)/python -m integration.lab build
	@$(MAKE) --no-print-directory -j$(HOSTS) lab-7.3 lab-6.12

lab-7.3 lab-6.12: lab-%: setup
	@$(BIN)/pytest integration/suite --kernel $* -v

integration: setup  ## The whole integration suite on both kernels side by side: some two hours
	@$(BIN)/pip install -qq --disable-pip-version-check --group ansible
	@echo "== the whole integration suite on kernels 7.3 and 6.12, $(HOSTS) at a time"
	@$(BIN)/python -m integration.lab build
	@$(MAKE) --no-print-directory -j$(HOSTS) all-7.3 all-6.12

all-7.3 all-6.12: all-%: setup
	@$(BIN)/pytest integration/suite --kernel $* --all --kills 5 -v --durations=15

six-guests: setup  ## Six real guests over-promised, three of which are no help: a quarter of an hour
	@$(BIN)/pytest integration/suite/test_six_guests.py --kernel 7.3 --all -v

fuzz: setup  ## Each fuzzer for an hour, at random: MINUTES=5 JOBS=1 ONLY=units SEED=7 (tests/fuzz/README.md)
	@$(BIN)/python -m tests.fuzz --minutes $(or $(MINUTES),60) $(if $(JOBS),--jobs $(JOBS)) \
	  $(if $(ONLY),--only $(ONLY)) $(if $(SEED),--seed $(SEED))

bench: setup  ## Memory returned against pain, this product and its peers, on real guests: days; resumes in artifacts/bench (BENCH="--scenario kv --repeats 5")
	@$(BIN)/pip install -qq --disable-pip-version-check --group bench
	@$(BIN)/python -m integration.bench.compare $(BENCH)

bench-quick: setup  ## The same in twenty minutes: one scenario, one level of each controller, once (BENCH="--controller apply")
	@$(BIN)/pip install -qq --disable-pip-version-check --group bench
	@$(BIN)/python -m integration.bench.compare --quick --minutes 20 --out artifacts/bench-quick $(BENCH)

test: check unit lab-test  ## All checks, all tests without a VM, and a part of the integration suite

demo: setup  ## The main job on four real guests
	@$(BIN)/python -m integration.demo

deb: setup  ## The Debian package, built and checked for Debian 13, into dist/
	@$(BIN)/python -m integration.lab deb dist

rpm: setup  ## The RPM package as far as Debian's rpmbuild goes, compared with the Debian package, into dist/
	@$(BIN)/python -m integration.lab rpm dist

dist: setup  ## Wheel and source distribution for PyPI, built and checked, into dist/python/
	@$(BIN)/pip install -qq --disable-pip-version-check --group dist
	@rm -rf dist/python
	@$(BIN)/python -m build --no-isolation --outdir dist/python >/tmp/overcommit-dist.$$$$ 2>&1 || { cat /tmp/overcommit-dist.$$$$; exit 1; }; rm -f /tmp/overcommit-dist.$$$$
	@$(BIN)/twine check --strict dist/python/*

vagrant-box:  ## Make the Vagrant boxes (as root: for the user overcommit-vagrant) and add them
	@vagrant/setup.sh
	@vagrant/as_user.sh $(MAKE) --no-print-directory vagrant-boxes

vagrant-test: vagrant-box  ## Hosts by Vagrant: up, provision, doctor, the part of lab-test, destroy (MACHINES="host-7-3")
	@vagrant/as_user.sh vagrant/test.sh $(MACHINES)

vagrant-boxes: setup
	@for kernel in 6.12 7.3; do \
	  box=$$($(BIN)/python -m integration.lab box --kernel $$kernel) && \
	  VAGRANT_CHECKPOINT_DISABLE=1 vagrant box add --force --provider libvirt --name overcommit/host-$$kernel $$box && rm $$box || exit 1; \
	done

clean:  ## End all host VMs of your lab, other checkouts' as well, and remove the virtual environment (images stay cached)
	-@$(BIN)/python -m integration.lab down --all
	@rm -rf .venv
