# Everything a newcomer needs: make run, make test, make check.
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
PORT ?= 8000
BIN := .venv/bin

.PHONY: run reset test verify costs test-pg15 check freeze wheel migration fuzz consent mutants faults bench bench-peers bench-scale bench-memory wrk lock clean

run: .venv/installed
	@DIARY_PORT=$(PORT) $(BIN)/pain-diary demo

# Deletes the demo's data, never a configured database.
reset: .venv/installed
	@$(BIN)/pain-diary reset

# Nothing is resolved and nothing is built: what the lock file names is all that is fetched, whatever an index offers.
INSTALL := -m pip install --disable-pip-version-check --no-deps --only-binary :all: --require-hashes
# $(call environment,DIRECTORY,LOCK) makes a virtual environment that holds what the lock file names.
define environment
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'Python 3.11 or newer is needed.'; exit 1; }
	$(call debian,python3-venv,python3 -c 'import ensurepip')
	@echo 'Making $(1) of $(2); this takes a minute or two.'
	@python3 -m venv --clear $(1)
	@$(1)/bin/python $(INSTALL) -r $(2) | $(call counted,$(2))
	@$(1)/bin/python -m pip check
endef
# pip's long story in a few lines, each when it is true.
counted = { n=0; all=`grep -c == $(1)`; while read -r word rest; do case $$word in \
	Collecting | Processing) n=$$((n + 1)); test $$((n % 20)) != 0 -a $$n != $$all || echo "  $$n of $$all packages are here";; \
	Installing) echo '  Putting them in place';; esac; done; }
# $(call debian,PACKAGE,TEST) installs a package of Debian where the test fails, if we are root.
debian = @$(2) > /dev/null 2>&1 || { test `id -u` = 0 || { echo 'As root, once: apt-get install $(1)'; exit 1; }; \
	echo 'Installing $(1) from Debian.'; apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qqy $(1) > /dev/null; }

# As long as this is not there the next run begins anew, so that one that was interrupted does no harm.
.venv/locked: requirements-dev.lock
	$(call environment,.venv,requirements-dev.lock)
	@touch $@

.venv/installed: .venv/locked pyproject.toml
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# Modules are compiled once, whatever the shell says, and not anew in each of a hundred processes.
test verify: export PYTHONDONTWRITEBYTECODE =

# A test waits for much of its time, so there is one process more than processors.
test verify: SPREAD = -n $$(($$(nproc) + 1))
# In another order: ORDER=random, ORDER=reverse, or the number that a random order was called.
# COVERAGE=1, as CI runs them, refuses too little: to trace a line costs more than to run it, so nobody else waits for that.
# CI runs `make verify` too, so it leaves out what is there in its whole form.
test: .venv/installed
	$(BIN)/pytest $(SPREAD) $(if $(COVERAGE),--cov --cov-report=term -m "not long and not scaled and not survey") --durations=10 $(if $(ORDER),--order=$(ORDER))

# What is long by nature, or short in `make test`; CI runs both.
verify: .venv/installed
	$(call debian,nginx,command -v nginx)
	$(call debian,systemd,command -v systemd-analyze)
	$(call debian,prometheus,command -v promtool)
	LONG=1 $(BIN)/pytest $(SPREAD) -m 'long or scaled' --durations=10

# What operations cost, measured and written down: docs/costs.md.
costs: .venv/installed
	DOCS=1 LONG=1 $(BIN)/pytest -n0 -m survey tests/attacks/test_costs.py

# Debian 12's own PostgreSQL: the oldest that is supported.
test-pg15: .venv/installed
	$(call debian,postgresql-15,test -x /usr/lib/postgresql/15/bin/postgres)
	DIARY_POSTGRES_BINARIES=/usr/lib/postgresql/15/bin $(BIN)/pytest
	DIARY_POSTGRES_BINARIES=/usr/lib/postgresql/15/bin LONG=1 $(BIN)/pytest -m long tests/test_rolling_deploy.py tests/test_operate_guide.py

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m migrations.check
	mkdir -p build && $(BIN)/pain-diary openapi > build/openapi.json && $(BIN)/python -m openapi_spec_validator build/openapi.json
	$(BIN)/python -m openapi.check build/openapi.json

# What docs/operate.md installs. From a clean build: setuptools would pack what was built once and is gone.
wheel: .venv/installed
	rm -rf build/lib build/wheel
	$(BIN)/python -m pip wheel -q --no-deps --no-build-isolation --no-index --wheel-dir build/wheel .

# Keeps today's OpenAPI document as that of the release that is being made.
freeze: .venv/installed
	mkdir -p build && $(BIN)/pain-diary openapi > build/openapi.json && $(BIN)/python -m openapi.freeze build/openapi.json

# Writes the migration to what app/models says now: tables, and the files of SQL that changed.
migration: .venv/installed
	$(BIN)/python -m migrations.new $(NAME)

# The longest form of tests/test_schemathesis.py.
fuzz: .venv/installed
	SCHEMATHESIS_EXAMPLES=$(or $(EXAMPLES),200) $(BIN)/pytest -n0 tests/test_schemathesis.py

# The longest form of tests/test_consent_model.py: so many random walks, other ones than before from 8 on.
consent: .venv/installed
	CONSENT_SEEDS=$(or $(SEEDS),100) $(BIN)/pytest tests/test_consent_model.py

# Takes each permission check away in turn: a test must notice. A quarter of an hour; WORDS="notes code" chooses some.
mutants: .venv/installed
	$(BIN)/python -m mutants.run $(WORDS)

# The long form of tests/faults: kills servers, loses replies, restores backups; writes docs/faults.md. SEED=, WORDS=.
# Then those of the model of sync (500 walks of 60 steps) and of a pull of a million changes.
faults: .venv/installed
	SEED=$(SEED) $(BIN)/python -m tests.faults.run $(WORDS)
	SYNC_SEEDS=50 SYNC_STEPS=60 SYNC_CHANGES=1000000 $(BIN)/pytest tests/test_sync_model.py tests/routers/test_sync_cost.py

# The table of docs/performance.md; SIZE=100000 SECONDS=2 ROUNDS=1 for a quick look, ONLY="create pull" for some of it.
BENCH = $(foreach name,SIZE PATIENTS SECONDS ROUNDS CONNECTIONS WORKERS DEVICES MINUTES PAUSE,$(if $($(name)),--$(shell tr A-Z a-z <<< $(name)) $($(name))))
bench: .venv/installed wrk
	$(BIN)/python -m bench.run $(BENCH) $(if $(ONLY),--only "$(ONLY)") $(if $(DOCS),--docs)

# The same beside PocketBase, from its wheel; only on the loopback.
bench-peers: .venv/installed wrk build/peers/bin/pocketbase
	$(BIN)/python -m bench.peers $(BENCH) --pocketbase build/peers/bin/pocketbase $(if $(DOCS),--docs)

# Sizes, crowds, an outage, the disk: docs/scale.md reckons with them. WHAT="growth disk" for some of it.
bench-scale: .venv/installed wrk
	$(BIN)/python -m bench.scale $(BENCH) $(if $(SIZES),--sizes "$(SIZES)") $(if $(WHAT),--what "$(WHAT)") $(if $(DOCS),--docs)

# The memory of a worker, minute by minute of a mixed load; MINUTES=4 for a quick look.
bench-memory: .venv/installed wrk
	$(BIN)/python -m bench.memory $(BENCH) $(if $(DOCS),--docs)

build/peers/bin/pocketbase: bench/peers.txt
	$(call environment,build/peers,bench/peers.txt)
	@touch $@

wrk:
	$(call debian,wrk,command -v wrk)

lock: .venv/installed
	$(BIN)/uv pip compile -q --upgrade --generate-hashes --no-header --python-version 3.11 pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile -q --upgrade --generate-hashes --no-header --python-version 3.11 --extra dev -c requirements.lock pyproject.toml -o requirements-dev.lock
	for made in examples/python tests/clients/generators; do (cd $$made && $(CURDIR)/$(BIN)/uv pip compile -q --upgrade \
		--generate-hashes --no-header --python-version 3.11 requirements.in -o requirements.lock) || exit; done
	$(BIN)/uv pip compile -q --upgrade --generate-hashes --no-header --python-version 3.11 - -o deploy/barman.lock <<< barman
	$(BIN)/uv pip compile -q --upgrade --generate-hashes --no-header --python-version 3.11 - -o deploy/barman-build.lock <<< setuptools

clean:
	rm -rf .venv build examples/python/.venv examples/typescript/node_modules examples/node_modules tests/clients/generators/.venv tests/clients/generators/node_modules *.egg-info .mypy_cache .ruff_cache .pytest_cache
