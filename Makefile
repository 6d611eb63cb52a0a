# radixroute: `make help` lists the targets. Every target sets up what it needs.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.radixroute-ready
export RAY_AUTH_MODE ?= token
export RAY_USAGE_STATS_ENABLED ?= 0
export TOKENIZERS_PARALLELISM ?= false
# Some images set it; then each of the hundreds of processes of the tests would compile our modules.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help dev demo check test test-deep test-slow simulate simulate-long planted fuzz-index fuzz-events e2e proto bench bench-demo bench-engine bench-numerics bench-index bench-events bench-compat bench-replay bench-policy bench-overload bench-pause bench-chats bench-router bench-compile bench-calibration chaos chaos-long e2e-vllm model clean

help: ## List the targets
	@grep -hE '^[a-z][a-z0-9-]*:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

dev: $(STAMP) ## Create .venv with everything the project needs

# torch goes first and alone: anything else that wants torch then finds it satisfied.
$(STAMP): pyproject.toml constraints.txt
	@test -L radixroute/radix || { echo "links in radixroute/ are missing: use a checkout that keeps symbolic links"; exit 1; }
	@echo "==> creating $(VENV) (about 2 GB, some minutes the first time)"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt pip setuptools wheel
	@echo "==> installing torch"
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	@echo "==> installing radixroute and the rest"
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[ray,worker,dev]'
	@echo "==> compiling the index's kernels"
	$(BIN)/radixroute warm
	@touch $@

demo: $(STAMP) ## Two real workers behind the router; compares three policies (4-10 minutes)
	@$(BIN)/python -m radixroute.demo

bench-demo: $(STAMP) ## The demo over three seeds, each policy twice (about 30 minutes)
	@$(BIN)/python -m radixroute.demo --repeat

bench-numerics: $(STAMP) model ## Greedy answers batched, chunked, preempted, cached against alone; TOKENS=2000 is short (75 minutes)
	@$(BIN)/python -m bench.numerics $(if $(TOKENS),--tokens $(TOKENS))

# The peer lives in an environment of its own: it pins what we do not.
DYNAMO := .cache/dynamo/bin
$(DYNAMO)/.ready: constraints.txt
	test -x $(DYNAMO)/python || $(PYTHON) -m venv .cache/dynamo
	$(DYNAMO)/pip install --quiet --disable-pip-version-check ai-dynamo-runtime==1.6.1 -e .
	@touch $@

bench-index: $(STAMP) $(DYNAMO)/.ready ## Index, keys and events beside NVIDIA Dynamo's wheel (about 3 minutes)
	DYN_LOG=error $(DYNAMO)/python -m bench.index

bench-events: $(STAMP) ## Event streams over real sockets: rates, losses, a router's restart (1 minute)
	$(BIN)/python -m bench.events

bench-compat: $(STAMP) $(DYNAMO)/.ready ## Does NVIDIA Dynamo's indexer understand our compat endpoint? (10 seconds)
	$(DYNAMO)/python -m bench.compat

bench-replay: $(STAMP) $(DYNAMO)/.ready ## The simulated fleet and the default policy beside NVIDIA Dynamo's replay (18 minutes)
	DYN_LOG=error $(DYNAMO)/python -m bench.replay

bench-policy: $(STAMP) ## Is the default policy the best? All policies over a grid, paired draws, bars (WORKLOADS=chats,rag is a part; about an hour)
	$(BIN)/python -m bench.policy $(if $(WORKLOADS),--workloads $(WORKLOADS))

bench-overload: $(STAMP) ## More asked than can be served; what an input costs while many wait (2 minutes)
	$(BIN)/python -m bench.overload

bench-pause: $(STAMP) ## Small streams while others send 2 MB prompts and 200,000-message chats (1 minute)
	$(BIN)/python -m bench.pause

bench-chats: $(STAMP) model ## Chats that grow by turns, with and without a memo of tokenisation (2 minutes)
	$(BIN)/python -m bench.pause.chats

# The peers' routers have an environment of their own, too, and nginx is the system's.
ROUTERS := .cache/routers/bin
$(ROUTERS)/.ready:
	test -x $(ROUTERS)/python || $(PYTHON) -m venv .cache/routers
	$(ROUTERS)/pip install --quiet --disable-pip-version-check vllm-router==0.1.17 sglang-router==0.3.2
	command -v nginx /usr/sbin/nginx >/dev/null || apt-get install --yes --quiet nginx-light
	@touch $@

bench-router: $(STAMP) $(ROUTERS)/.ready ## What a token and a request cost beside nginx, sglang-router and vllm-router (13 minutes)
	$(BIN)/python -m bench.router

bench-compile: $(STAMP) ## CPU seconds of compiling and loading all kernels (5 minutes)
	$(BIN)/python -m bench.compile

bench-calibration: $(STAMP) model ## The simulated fleet, calibrated, beside our own engine that serves (12 minutes on two quiet cores)
	$(BIN)/python -m bench.calibration

# vLLM for CPU and the routers that are compared: 3.5 GB, in an environment of their own.
VLLM := .cache/vllm
$(VLLM)/.ready: $(STAMP) bench/real_vllm/install.py
	$(BIN)/python -m bench.real_vllm.install $(VLLM) .cache/aiperf
	@touch $@

e2e-vllm: $(STAMP) $(VLLM)/.ready model ## Two real vLLMs behind the router: predictions, deaths, other routers beside it (about an hour)
	$(BIN)/python -m bench.real_vllm

bench-engine: $(STAMP) $(VLLM)/.ready model ## Engine speed against transformers and vLLM, cold and warm TTFT (20 minutes)
	@$(BIN)/python -m bench.engine

bench: bench-engine bench-demo bench-index bench-events bench-compat bench-replay ## Every measurement in docs/benchmarks.md

chaos: $(STAMP) ## 2,000 streams, 40 processes killed and others stopped: none lost, none torn (20 minutes)
	$(BIN)/python -m bench.chaos

chaos-long: $(STAMP) ## The same with 10,000 streams and 100 kills (50 minutes)
	$(BIN)/python -m bench.chaos --long

model: $(STAMP) ## Download and convert the demo's model into .cache/
	@$(BIN)/python -m radixroute.demo.model

check: $(STAMP) ## Format, lint, imports, types, generated code
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy radixroute tests bench examples
	$(BIN)/python -m tests.tools.protoc --check

test: $(STAMP) model ## Test suite: all but deep, slow and gpu; clusters after the rest, alone on the machine
	$(BIN)/python -m pytest -m "not deep and not slow and not gpu and not e2e" --numprocesses 2 --dist worksteal
	$(BIN)/python -m pytest tests/e2e -m "e2e and not deep and not slow and not gpu"

test-deep: $(STAMP) model ## What takes longer and must not break; CI runs it after `make test`
	$(BIN)/python -m pytest -m "deep and not gpu and not e2e" --numprocesses 2 --dist worksteal --timeout 900
	$(BIN)/python -m pytest tests/e2e -m "deep and e2e and not gpu" --timeout 900

test-slow: $(STAMP) model ## The long tests
	$(BIN)/python -m pytest -m slow --timeout 3600

fuzz-index: $(STAMP) ## Ten million lookups of the prefix index against brute force
	$(BIN)/python -m tests.tools.fuzz_index

fuzz-events: $(STAMP) ## Five million inputs for the decoders of events; part of test-slow (2 minutes)
	$(BIN)/python -m tests.tools.fuzz_events

simulate: $(STAMP) ## The router in virtual time, 300 seeds of bad days; SEED=n does one again
	$(BIN)/python -m tests.simulation $(if $(SEED),--seed $(SEED),--seeds 300)

simulate-long: $(STAMP) ## The same, 50,000 seeds (about an hour on one core)
	$(BIN)/python -m tests.simulation --seeds 50000

planted: $(STAMP) ## How many seeds of the simulation find each bug planted in a copy of the router
	$(BIN)/python -m tests.simulation.planted

e2e: $(STAMP) model ## End-to-end tests only
	$(BIN)/python -m pytest tests/e2e -m "e2e and not deep and not slow"

proto: $(STAMP) ## Regenerate the stubs in protos/
	$(BIN)/python -m tests.tools.protoc

clean: ## Remove the environment and caches
	rm -rf $(VENV) .cache build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
