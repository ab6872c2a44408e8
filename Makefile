# Everything a newcomer needs: `make demo`, `make test`. Each target sets up .venv when it is missing or older
# than the project's own files.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.up-to-date
SDK := sdk/js
SDK_STAMP := $(SDK)/node_modules/.up-to-date
SDK_DIST := $(SDK)/dist/fanout-device.umd.min.js
# Where the faults of tests/chaos/README.md are caused that live elsewhere; a test compares.
FAULTS := tests/bus/test_put_back.py tests/bus/test_reader.py tests/bus/test_reader_failures.py \
  tests/bus/test_vouching.py tests/console/test_pages.py tests/console/test_signin.py tests/control/test_http.py \
  tests/control/test_idempotency.py tests/device/test_client.py tests/device/test_clock.py \
  tests/device/test_machine_laws.py tests/e2e/test_gateways.py tests/e2e/test_outages.py \
  tests/gateway/test_gateway.py tests/gateway/test_slow_readers.py tests/gateway/test_worker_processes.py

.PHONY: demo test test-slow sdk lint format audit conformance chaos soak fuzz bench million locust agreement peers screenshots
.PHONY: clean docs release-check

demo: $(STAMP)
	$(BIN)/fanout demo $(ARGS)

test: $(STAMP) $(SDK_DIST)
	$(BIN)/python -m pytest -m "not slow" $(ARGS)

# What `make test` leaves out: the whole product at size, or started again and again. Two at a time, for each would
# have the machine to itself.
test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow -n 2 $(ARGS)

# The JavaScript SDK's dist/, and the copy of it that the demo serves, which is committed.
sdk: $(SDK_DIST)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# What is known of the pinned versions; it asks PyPI about each, and fails on one it learns nothing of.
audit: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[audit]'
	$(BIN)/pip-audit --strict --no-deps --disable-pip --requirement constraints.txt $(ARGS)

conformance: $(STAMP)
	$(BIN)/python -m pytest -n 0 -s tests/conformance $(ARGS)

chaos: $(STAMP)
	$(BIN)/python -m pytest tests/chaos $(FAULTS) --deselect tests/chaos/test_model.py $(ARGS)
	FANOUT_MODEL_EXAMPLES=2000 $(BIN)/python -m pytest -n 0 -s tests/chaos/test_model.py

soak: $(STAMP)
	$(BIN)/python -m loadtest.soak $(ARGS)

fuzz: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[fuzz]'
	$(BIN)/python -m tests.fuzz $(ARGS)

bench: $(STAMP)
	$(BIN)/python -m loadtest.bench $(ARGS)

million: $(STAMP)
	$(BIN)/python -m loadtest.bench.million $(ARGS)

# Options in ARGS, FANOUT_DEVICE_KEY in the environment; docs/locust.md.
locust: $(STAMP)
	$(BIN)/locust -f loadtest/locustfile.py $(ARGS)

# One experiment by locust, by the dense swarm, and by the simulator again: docs/agreement.md, in some seven minutes.
agreement: $(STAMP)
	$(BIN)/python -m loadtest.agreement $(ARGS)

peers: $(STAMP)
	$(BIN)/python -m loadtest.peers $(ARGS)

# Every page of the control room at both sizes and in both themes; it needs Debian's package chromium.
screenshots: $(STAMP)
	PYTHONPATH=.:tests $(BIN)/python -m console.screenshots $(ARGS)

# The documentation as a site in build/site/html; ARGS=serve shows it at 127.0.0.1:8000, ARGS=pages makes anew what is
# made from the code.
docs: $(STAMP)
	$(BIN)/python -m docsite $(ARGS)

# Everything docs/releasing.md asks of a wheel, in an empty environment: it asks the registry for every dependency.
release-check: $(STAMP)
	PYTHONPATH=.:tests $(BIN)/python -m release $(ARGS)

clean:
	rm -rf $(VENV) $(SDK)/node_modules $(SDK)/dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage*

$(STAMP): pyproject.toml constraints.txt Makefile
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "fanout needs Python 3.11 or newer; try: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,docs,loadtest,otel]'
	touch $@

$(SDK_DIST): $(SDK_STAMP) $(wildcard $(SDK)/src/*) $(SDK)/build.mjs
	@if [ -e $(SDK_STAMP) ]; then cd $(SDK) && npm run --silent build; fi

# Without npm, or without a registry, the tests that need these tools say so and are skipped.
$(SDK_STAMP): $(SDK)/package.json
	@if ! command -v npm >/dev/null; then \
	  echo "npm is not installed: the JavaScript SDK's own tests will be skipped"; \
	elif (cd $(SDK) && npm install --no-audit --no-fund --no-package-lock --loglevel=error); then \
	  touch $@; \
	else \
	  echo "npm could not install the JavaScript SDK's tools: its own tests will be skipped"; \
	fi
