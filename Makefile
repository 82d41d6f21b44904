# Everything a person does here is one of these words; `make` alone lists them.

PYTHON ?= python3
PORT ?= 8000
MODEL ?= gpt2
STACK ?= gpt2
EVENT ?= tests/events/http-api-v2.json

BIN := .venv/bin
NATIVE := handler/inference/libnative.so
# From PyTorch's own index: the CPU build. The package index's default brings gigabytes of CUDA along. macOS has one build.
TORCH := torch==2.13.0$(if $(filter Linux,$(shell uname)),+cpu)
TORCH_INDEX := https://download.pytorch.org/whl/cpu

.DEFAULT_GOAL := help
.PHONY: help setup run test test-reference test-kernels test-containers test-training test-hub check fix docs lock invoke sam-build sam-invoke sam-api lifecycle-demo deploy bench-engine bench-coldstart bench-sizes bench-drafting bench-quality clean

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

test: setup .venv-sam/.ready ## run all tests that need no container engine
	@$(BIN)/pytest --cov --cov-report=term:skip-covered

test-reference: setup .venv-sam/.ready ## run the tests that serve a model once more, on the engine in torch
	@ENGINE=reference $(BIN)/pytest --no-cov tests/functional/events tests/functional/test_*.py tests/contract

test-kernels: ## run the native engine's own tests under the sanitizers (needs a C++ compiler)
	@$(MAKE) --silent --directory handler/inference/native check check-threads

test-containers: setup .venv-sam/.ready ## run the tests that build and run the image (needs a container engine)
	@$(BIN)/pytest -m container --timeout 1200

test-training: setup ## run the tests that train in several processes, and a model's whole life
	@$(BIN)/pytest -m training --no-cov --timeout 900

test-hub: setup ## run the tests that need the Hugging Face hub
	@$(BIN)/pytest -m hub

check: setup ## lint, format, types and import rules; writes nothing
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports

fix: setup ## format, and fix what can be fixed
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

docs: setup ## regenerate the parts of the README that mirror code
	@$(BIN)/python -m lifecycle.readme

# Hashes for every file of every package, and no index address: the lock works with any index.
LOCK = uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --quiet \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" --overrides requirements/overrides.txt

lock: ## resolve the dependencies anew (needs uv)
	@$(LOCK) pyproject.toml --group lifecycle --group check --output-file requirements/dev.txt
	@$(LOCK) pyproject.toml --constraints requirements/dev.txt --output-file requirements/image.txt
	@for group in sam checkov lm-eval; do $(LOCK) --group $$group --output-file requirements/$$group.txt; done

invoke: setup .venv-sam/.ready ## send EVENT=FILE to the function under Lambda's runtime interface emulator
	@$(BIN)/python -m lifecycle.local invoke "$(EVENT)" --model demo

sam-build: .venv-sam/.ready ## build the image with `sam build` (needs a container engine)
	@.venv-sam/bin/sam build

sam-invoke: setup sam-build ## send EVENT=FILE to the function in its container
	@$(BIN)/python -m lifecycle.local sam-invoke "$(EVENT)" --model demo

sam-api: setup sam-build ## serve the HTTP API in front of the function in its container, on PORT
	@$(BIN)/python -m lifecycle.local sam-api --model demo --port $(PORT)

lifecycle-demo: setup ## take a tiny model through its whole life, on TEXTS=FOLDER of books or on texts of its own
	@$(BIN)/python -m lifecycle.local life $(if $(TEXTS),--texts "$(TEXTS)")

deploy: setup .venv-sam/.ready ## deploy the stack to your AWS account, with MODEL live in it
	@$(BIN)/lifecycle deploy "$(MODEL)" --stack "$(STACK)" $(foreach setting,$(SET),--set $(setting))

bench-engine: setup ## measure the engine beside the baseline and peers, ROUNDS times (peers are compiled once, which takes long)
	@$(BIN)/python -m bench.engine $(if $(ROUNDS),--rounds "$(ROUNDS)") $(if $(SUBJECTS),--subjects "$(SUBJECTS)")

bench-sizes: setup ## measure every size of GPT-2 on the native engine
	@$(BIN)/python -m bench.sizes

bench-drafting: setup ## measure what drafts win and cost, on the demo model
	@$(BIN)/python -m bench.drafting

bench-coldstart: setup .venv-sam/.ready ## measure cold starts beside the program of the tutorials, ROUNDS times (needs nginx, curl and root)
	@$(BIN)/python -m bench.coldstart $(if $(ROUNDS),--rounds "$(ROUNDS)")

bench-quality: setup ## measure what quantizing costs the demo model on TEXT=FILE, beside llama.cpp
	@$(BIN)/python -m bench.quality "$(TEXT)"

clean: ## remove environments, caches and builds
	@rm -rf .venv .venv-sam .venv-checkov .venv-lm-eval .cache .aws-sam *.egg-info $(NATIVE) handler/inference/native/build
