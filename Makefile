# Everything a person does here is one of these words; `make` alone lists them.

PYTHON ?= python3
PORT ?= 8000
MODEL ?= gpt2
STACK ?= gpt2
EXAMPLES ?= 500
EVENT ?= tests/events/http-api-v2.json

BIN := .venv/bin
NATIVE := handler/inference/libnative.so
# From PyTorch's own index: the CPU build. The package index's default brings gigabytes of CUDA along. macOS has one build.
TORCH := torch==2.13.0$(if $(filter Linux,$(shell uname)),+cpu)
TORCH_INDEX := https://download.pytorch.org/whl/cpu

# A process that may not keep what it has compiled compiles it anew each time, and tests start hundreds.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
# Whatever `make help` lists is a word, and no file.
.PHONY: $(shell sed -n 's/^\([a-z-]*\):.*\#\# .*/\1/p' $(firstword $(MAKEFILE_LIST)))

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.ready $(NATIVE) ## create the Python environment, and compile the kernels where there is a compiler

.venv/.ready: requirements/dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	@echo "Setting up .venv; this takes a minute or two, once."
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --retries 1 "$(TORCH)" --extra-index-url $(TORCH_INDEX)
	@$(BIN)/pip install --quiet --no-deps --require-hashes --requirement requirements/dev.txt
	@$(BIN)/pip install --quiet --no-deps --editable .
	@touch $@

# Without a compiler there is no such file, and the engine in torch serves in its place.
$(NATIVE): $(wildcard handler/inference/native/*.cpp handler/inference/native/*.h) handler/inference/native/Makefile
	@if command -v $(CXX) >/dev/null; then echo "Compiling the kernels of the native engine."; \
		$(MAKE) --silent --jobs --directory handler/inference/native CXX="$(CXX)"; \
	else echo "There is no C++ compiler ($(CXX)): the service will run on torch, at a fifth of the speed."; fi

# The serverless tools pin their dependencies so tightly that each has an environment of its own: the AWS SAM command
# line; checkov, which holds templates against good practice; lm-eval, which evaluates the endpoint as researchers do.
TOOLS := .venv-sam/.ready .venv-checkov/.ready .venv-lm-eval/.ready
$(TOOLS): .venv-%/.ready: requirements/%.txt
	@echo "Setting up .venv-$*, once."
	@$(PYTHON) -m venv .venv-$*
	@.venv-$*/bin/pip install --quiet --no-deps --require-hashes --requirement $<
	@touch $@

run: setup ## serve MODEL=gpt2|demo|FOLDER on http://127.0.0.1:PORT
	@$(BIN)/python -m lifecycle.local serve --model "$(MODEL)" --port $(PORT)

run-stream: setup ## serve MODEL as its Lambda function does, streaming through our own runtime, on http://127.0.0.1:PORT
	@$(BIN)/python -m lifecycle.local stream --model "$(MODEL)" --port $(PORT)

run-container: setup ## serve MODEL as its container does on http://127.0.0.1:PORT, with metrics at the next free port
	@$(BIN)/python -m lifecycle.local container --model "$(MODEL)" --port $(PORT)

test: setup .venv-sam/.ready ## run all tests that need no container engine
	@$(BIN)/pytest --numprocesses auto --dist loadfile --cov --cov-report=term:skip-covered

test-reference: setup .venv-sam/.ready ## run the tests that serve a model once more, on the engine in torch
	@ENGINE=reference $(BIN)/pytest --numprocesses auto --dist loadfile --no-cov tests/functional/events tests/functional/test_*.py tests/contract

test-continuous: setup .venv-sam/.ready ## run the same tests on transformers' continuous batching (DEVICE=cuda: on a GPU)
	@ENGINE=continuous DEVICE="$(or $(DEVICE),cpu)" $(BIN)/pytest --numprocesses auto --dist loadfile --no-cov tests/functional/events tests/functional/test_*.py tests/contract

soak: setup ## serve 64 clients that come and go, for MINUTES=5, and see that nothing is lost and nobody waits too long
	@MINUTES="$(or $(MINUTES),5)" $(BIN)/pytest --no-cov --capture=no -m soak --timeout 7200 tests/soak

test-kernels: ## run the native engine's own tests under the sanitizers (needs a C++ compiler)
	@$(MAKE) --silent --directory handler/inference/native check check-threads

lm-eval: setup .venv-lm-eval/.ready ## evaluate the served demo model with lm-evaluation-harness, and check its figures
	@$(BIN)/pytest --no-cov -m lm_eval --timeout 900 tests/evaluation

fuzz: setup ## send 500 requests an operation that the API's description allows, or just not (EXAMPLES=)
	@EXAMPLES="$(EXAMPLES)" $(BIN)/pytest --no-cov -m fuzz --timeout 3600 tests/fuzz

test-containers: setup .venv-sam/.ready ## run the tests that build and run the image (needs a container engine)
	@$(BIN)/pytest -m container --timeout 1200

test-training: setup ## run the tests that train in several processes, and a model's whole life
	@$(BIN)/pytest -m training --no-cov --timeout 900

test-cuda: setup ## run the tests that need a GPU
	@$(BIN)/pytest --no-cov -m cuda

test-hub: setup ## run the tests that need the Hugging Face hub
	@$(BIN)/pytest -m hub

browser: setup ## run the playground's tests in Chromium (Playwright's own, or Debian's)
	@$(BIN)/pytest --no-cov -m browser tests/browser

screenshot: setup ## take the README's picture of the playground anew (needs Chromium)
	@$(BIN)/python -m tests.browser.screenshot

check: setup ## lint, format, types and import rules; writes nothing
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports

check-templates: setup .venv-sam/.ready .venv-checkov/.ready ## hold the templates against AWS's rules and good practice
	@$(BIN)/pytest --no-cov -m templates tests/infrastructure
	@.venv-checkov/bin/checkov --config-file .checkov.yaml --file template.yaml infra/*.yaml

fix: setup ## format, and fix what can be fixed
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

docs: setup ## regenerate the parts of the documents that mirror code
	@$(BIN)/python -m lifecycle.readme

# Hashes for every file of every package, and no index address: the lock works with any index.
RESOLVE = uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --quiet \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"
LOCK = $(RESOLVE) --overrides requirements/overrides.txt

# Without what the image has anyway; the hub's client is deleted from there, and is part of transformers.
BESIDE_IMAGE = $$(sed -n '/^huggingface-hub==/d; s/^\([a-z0-9.-]*\)==.*/--no-emit-package \1/p' requirements/image.txt)

lock: ## resolve the dependencies anew (needs uv)
	@$(LOCK) pyproject.toml --group lifecycle --group check --output-file requirements/dev.txt
	@$(LOCK) pyproject.toml --constraints requirements/dev.txt --output-file requirements/image.txt
	@$(LOCK) --group transformers --constraints requirements/dev.txt $(BESIDE_IMAGE) --output-file requirements/transformers.txt
	@$(LOCK) pyproject.toml --group transformers --constraints requirements/dev.txt --output-file requirements/gpu.txt
	@$(RESOLVE) --group cuda --constraints requirements/gpu.txt --output-file requirements/cuda.txt
	@$(LOCK) pyproject.toml --group lifecycle --constraints requirements/dev.txt --output-file requirements/lifecycle.txt
	@for group in sam checkov lm-eval; do $(LOCK) --group $$group --output-file requirements/$$group.txt; done

invoke: setup .venv-sam/.ready ## send EVENT=FILE to the function under Lambda's runtime interface emulator
	@$(BIN)/python -m lifecycle.local invoke "$(EVENT)" --model demo

batch: MODEL = demo
batch: setup ## answer the requests in FILE with MODEL=demo|gpt2|FOLDER, as the state machine for bulk does, into OUT
	@$(BIN)/python -m lifecycle.local batch "$(or $(FILE),$(error FILE= is needed, requests in OpenAI's batch format, one a line))" --model "$(MODEL)" $(if $(OUT),--out "$(OUT)")

sam-build: .venv-sam/.ready ## build the image with `sam build` (needs a container engine)
	@.venv-sam/bin/sam build

sam-invoke: setup sam-build ## send EVENT=FILE to the function in its container
	@$(BIN)/python -m lifecycle.local sam-invoke "$(EVENT)" --model demo

sam-api: setup sam-build ## serve the HTTP API in front of the function in its container, on PORT
	@$(BIN)/python -m lifecycle.local sam-api --model demo --port $(PORT)

gpu-image: ## build the image of the GPU service (needs a container engine), and say how to push it
	@docker build --file infra/gpu.Dockerfile --tag gpt2-gpu .
	@echo "Push it to ECR of the account and region that you deploy to, and name it there:"
	@echo "  aws ecr create-repository --repository-name gpt2-gpu    # once"
	@echo "  REGISTRY=\$$(aws sts get-caller-identity --query Account --output text).dkr.ecr.\$$(aws configure get region).amazonaws.com"
	@echo "  aws ecr get-login-password | docker login --username AWS --password-stdin \$$REGISTRY"
	@echo "  docker tag gpt2-gpu \$$REGISTRY/gpt2-gpu:1 && docker push \$$REGISTRY/gpt2-gpu:1"
	@echo "  make deploy SET=\"ComputeTarget=both GpuImageUri=\$$REGISTRY/gpt2-gpu:1\""

doctor: setup .venv-sam/.ready ## say what a deployment needs and whether it is there
	@CXX="$(CXX)" $(BIN)/lifecycle doctor

lifecycle-demo: setup ## take a tiny model through its whole life, on TEXTS=FOLDER of books or on texts of its own
	@$(BIN)/python -m lifecycle.local life $(if $(TEXTS),--texts "$(TEXTS)")

deploy: setup .venv-sam/.ready ## deploy the stack to your AWS account, with MODEL live in it
	@$(BIN)/lifecycle deploy "$(MODEL)" --stack "$(STACK)" $(foreach setting,$(SET),--set $(setting)) $(if $(SIGN_WITH),--sign-with "$(SIGN_WITH)")

smoke: setup ## hold the deployment at URL=, with KEY=, to what every deployment must do
	@SMOKE_URL="$(or $(URL),$(error URL= is needed, the address of the API))" SMOKE_KEY="$(or $(KEY),$(error KEY= is needed, an API key or a token))" \
		$(BIN)/pytest --no-cov --quiet tests/contract/test_smoke.py

destroy: setup .venv-sam/.ready ## delete STACK with its results and keys, and with MODELS=delete its models; asks first
	@$(BIN)/lifecycle destroy "$(STACK)" $(if $(MODELS),--models "$(MODELS)")

bench-engine: setup ## measure the engine beside the baseline and peers, ROUNDS times (peers are compiled once, which takes long)
	@$(BIN)/python -m bench.engine $(if $(ROUNDS),--rounds "$(ROUNDS)") $(if $(SUBJECTS),--subjects "$(SUBJECTS)")

bench-sizes: setup ## measure every size of GPT-2 on the native engine
	@$(BIN)/python -m bench.sizes

bench-drafting: setup ## measure what drafts win and cost, on the demo model
	@$(BIN)/python -m bench.drafting

bench-coldstart: setup .venv-sam/.ready ## measure cold starts beside the program of the tutorials, ROUNDS times (needs nginx, curl and root)
	@$(BIN)/python -m bench.coldstart $(if $(ROUNDS),--rounds "$(ROUNDS)")

bench-streaming: setup ## measure what the path through Lambda's runtime adds to a token, beside uvicorn, ROUNDS times
	@$(BIN)/python -m bench.streaming $(if $(ROUNDS),--rounds "$(ROUNDS)")

bench-bulk: setup .venv-sam/.ready ## measure prompts a second of queue and bulk beside one at a time, ROUNDS times
	@$(BIN)/python -m bench.bulk $(if $(ROUNDS),--rounds "$(ROUNDS)")

bench-gpu: setup ## measure many requests at once on a GPU, ROUNDS times (DEVICE=cpu SIZES=try REQUESTS=1,4 tries it without one)
	@$(BIN)/python -m bench.gpu $(if $(ROUNDS),--rounds "$(ROUNDS)") $(if $(DEVICE),--device "$(DEVICE)") $(if $(SIZES),--sizes "$(SIZES)") $(if $(REQUESTS),--requests "$(REQUESTS)")

bench-quality: setup ## measure what quantizing costs the demo model on TEXT=FILE, beside llama.cpp
	@$(BIN)/python -m bench.quality "$(or $(TEXT),$(error TEXT= is needed, a file of plain text that the demo model was not trained on))"

clean: ## remove environments, caches and builds
	@rm -rf .venv .venv-sam .venv-checkov .venv-lm-eval .cache .aws-sam *.egg-info $(NATIVE) handler/inference/native/build
