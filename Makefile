# `make` alone lists the targets. VENV, PYTHON and PORT may be given: `make serve PORT=3100`.

VENV ?= .venv
PORT ?= 3000
DATA ?= ../data
FUZZ_CASES ?= 10000
FUZZ_EXAMPLES ?= 1000
FUZZ_SEED ?= 0
# The newest that runs and can make environments; a shim without a Python behind it doesn't count.
PYTHON ?= $(shell for python in python3.12 python3.11 python3; do \
	"$$python" -c '$(SUITABLE)' 2>/dev/null && { command -v "$$python"; break; }; done)
SUITABLE = import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))

BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check
# Stamps: each install is done once, and again when pyproject.toml changes.
CREATED = $(VENV)/created.stamp
BASE = $(VENV)/base.stamp
DEV = $(VENV)/dev.stamp
# In an environment of its own: it holds back what the tests need.
CHECKOV = $(VENV)/checkov/bin/checkov

LOCK = --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-annotate --no-header

# BentoML reports usage to its makers unless told not to.
export BENTOML_DO_NOT_TRACK = True

.DEFAULT_GOAL = help
.DELETE_ON_ERROR:
.PHONY: help serve test test-web smoke e2e fuzz soak lint format types imports checkov train model \
	bench image tools-image context lock bento clean

# What follows ## is the help.
help: ## List the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1	/p' $(MAKEFILE_LIST) | expand -t 20

# exec: signals reach the server itself, so that Ctrl-C and SIGTERM end it in its own order.
serve: $(BASE) ## Serve the embedded model on port 3000 until Ctrl-C
	@exec $(BIN)/timbre serve --port $(PORT)

# A file at a time in each of two processes: much of a test is waiting for a server to start.
# PYTEST_ARGS narrows it: make test PYTEST_ARGS='-n 0 -k batching'.
test: $(DEV) ## Run every test
	$(BIN)/python -m pytest -n 2 --dist loadfile $(PYTEST_ARGS)

# Takes Chromium: Debian's package, or the program that CHROMIUM names. Pictures are in runs/web.
test-web: $(DEV) ## Look at the page in a real browser
	@$(BIN)/python -m tests.support.browser
	$(BIN)/python -m pytest tests/web $(PYTEST_ARGS)

smoke: $(DEV) ## Train, evaluate, export and serve a model worth nothing, in a minute
	@$(BIN)/python -m tests.support.smoke

# Takes any cluster, which tests/e2e/cluster.py says how to name, with helm, kubectl, k6 and openssl.
# E2E_ARGS narrows it: make e2e E2E_ARGS='-k install -x'. What it measures is in runs/e2e/report.md.
e2e: $(DEV) ## Install, update, scale, disturb and remove a release on a Kubernetes cluster
	TIMBRE_E2E=1 $(BIN)/python -m pytest tests/e2e --timeout 900 $(E2E_ARGS)

# The long version, of hours: make fuzz FUZZ_CASES=1000000 FUZZ_EXAMPLES=10000 FUZZ_SEED=1.
fuzz: $(DEV) ## Send damaged files and requests, and requests made of the contract
	$(BIN)/python -m tests.fuzz --cases $(FUZZ_CASES) --seed $(FUZZ_SEED)
	FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) $(BIN)/python -m pytest tests/fuzz/test_openapi.py

# Both parts run, so that one call shows everything that is wrong.
lint: $(DEV) ## Check style and format
	@$(BIN)/ruff check .; checked=$$?; $(BIN)/ruff format --check . && exit $$checked

# Fixes come first: they can leave lines that the formatter then wraps.
format: $(DEV) ## Put style and format right where that is safe
	$(BIN)/ruff check --fix --exit-zero .
	$(BIN)/ruff format .

types: $(DEV) ## Check the types
	$(BIN)/mypy

imports: $(DEV) ## Check that imports point one way
	$(BIN)/lint-imports --no-logo

checkov: $(DEV) $(CHECKOV) ## Check what the chart renders by checkov's rules
	@$(BIN)/python -m tests.support.checkov $(CHECKOV)

# TRAIN_ARGS goes to the pipeline: make train TRAIN_ARGS='run compact --data ../data'.
train: $(DEV) ## Train a model and make its bundle
	$(BIN)/python -m training $(TRAIN_ARGS)

# DATA has the recordings, noise and the checkpoint of the start: make model DATA=../data.
model: $(DEV) ## Make the embedded model again, from recordings in DATA
	$(BIN)/python -m training run compact --data $(DATA) --run runs/compact

# Nothing else should be busy for the 50 minutes it takes. BENCH_ARGS narrows it, or asks for others:
# make bench BENCH_ARGS='peers --quick', make bench BENCH_ARGS=load.
bench: $(DEV) ## Measure Timbre beside other ways to serve
	$(BIN)/python -m benchmarks $(or $(BENCH_ARGS),peers)

# Nothing else should be busy for the 25 minutes it takes. SOAK_ARGS narrows it:
# make soak SOAK_ARGS='--quick', make soak SOAK_ARGS='overload --model base'.
soak: $(DEV) ## Overload, slow and vanishing clients, dying decoders, SIGTERM, and memory over time
	$(BIN)/python -m benchmarks soak $(SOAK_ARGS)

.PHONY: canary-simulation
# Minutes; needs no quiet machine, as no time is measured. CANARY_ARGS narrows it: --quick.
canary-simulation: $(DEV) ## Count how often the canary's judge errs, in simulated rollouts
	$(BIN)/python -m benchmarks canary $(CANARY_ARGS)

bento: $(BASE) ## Build the Bento, BentoML's archive of the service
	$(BIN)/bentoml build

# ENGINE, BASE_IMAGE, IMAGE and BUILD_ARGS are told of in k8s/image/build.sh.
image: $(BASE) ## Build the container image; ARCHIVE=FILE keeps it as a file, too
	@PATH="$(abspath $(BIN)):$$PATH" k8s/image/build.sh $(ARCHIVE)

tools-image: $(BASE) ## Build the image that compares and judges; ARCHIVE=FILE as above
	@TARGET=tools PATH="$(abspath $(BIN)):$$PATH" k8s/image/build.sh $(ARCHIVE)

context: $(BASE) ## Make build/image, the folder that the image is built from
	@PATH="$(abspath $(BIN)):$$PATH" k8s/image/context.sh build/image

# By uv in an environment of its own: it locks for all architectures at once, pip for this one only.
lock: $(CREATED) ## Fix anew which versions the image has
	@"$(PYTHON)" -m venv build/uv && build/uv/bin/python -m pip install --quiet uv
	@build/uv/bin/uv pip compile $(LOCK) --output-file k8s/image/requirements.lock pyproject.toml
	@build/uv/bin/uv pip compile $(LOCK) --extra compare --constraints k8s/image/requirements.lock \
		--output-file k8s/image/tools.lock pyproject.toml
	@echo cyclonedx-bom | build/uv/bin/uv pip compile $(LOCK) --output-file k8s/image/sbom.lock -

.PHONY: kind-up kind-down deploy rollout
# MONITORING=yes adds Prometheus, and what autoscalers ask for its figures; ENGINES=yes adds Flagger
# and Argo Rollouts.
kind-up: ## Make a cluster on this machine with kind, and a gateway in it
	@k8s/kind/cluster.sh up

kind-down: ## Delete that cluster
	@k8s/kind/cluster.sh down

# ARCHIVE names an image that is built already: make deploy ARCHIVE=timbre.tar. BentoML, which
# building asks for, is in the environment.
deploy: $(BASE) ## Build the image and install the chart in that cluster
	@PATH="$(abspath $(BIN)):$$PATH" k8s/kind/cluster.sh deploy

# A release on the cluster that kubectl is set to: make rollout ROLLOUT='walk -- --values FILE'.
rollout: ## Give a new version more clips step by step, as k8s/rollouts/helm/rollout.sh says
	@k8s/rollouts/helm/rollout.sh $(ROLLOUT)

# .venv and runs/ stay: they cost minutes and hours to make.
clean: ## Remove builds and caches
	rm -rf build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find service training tests benchmarks -name __pycache__ -prune -exec rm -rf {} +

# An environment that works is kept, whoever made it.
$(CREATED):
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { \
		"$(PYTHON)" -c '$(SUITABLE)' 2>/dev/null || { \
			echo "Timbre needs Python 3.11 or newer with its venv module, and none was found." \
				"Name one: make PYTHON=/path/to/python" >&2; \
			exit 1; }; \
		echo "Making $(VENV) with $(PYTHON)"; \
		"$(PYTHON)" -m venv --clear $(VENV); }
	@touch $@

$(BASE): $(CREATED) pyproject.toml
	@echo "Installing what serving needs (about 400 MB, once)"
	@$(PIP) install --quiet --editable .
	@touch $@

# After the base install, not beside it: two pips in one environment break each other. The repair
# comes after every install, because installing torchaudio anew brings its fault back.
$(DEV): $(BASE) pyproject.toml
	@echo "Installing what training and the tests need (about 2 GB, once)"
	@$(PIP) install --quiet --editable '.[compare,train,track,parquet,test,bench]'
	@$(BIN)/python -m training.repair
	@$(BIN)/python -m tests.support.tools $(BIN)
	@touch $@

$(CHECKOV): $(CREATED) Makefile
	@$(BIN)/python -m venv --clear $(VENV)/checkov
	@$(VENV)/checkov/bin/python -m pip --disable-pip-version-check install --quiet 'checkov==3.3.30'
	@touch $@
