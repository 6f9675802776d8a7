# The same targets for people, hooks and CI; `make help` lists them.
# Needs python3, cargo, a C compiler and git. Everything else is installed below this folder, at
# the versions that uv.lock and server/Cargo.lock name.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV ?= $(CURDIR)/.venv
UV_VERSION := 0.13.9
PIP := $(CURDIR)/build/uv/$(UV_VERSION)/bin/pip
MATURIN := maturin[zig]==1.16.0
TWINE := twine==7.0.0
# The tests make environments with it, too.
export UV := $(CURDIR)/build/uv/$(UV_VERSION)/bin/uv
BIN := $(VENV)/bin
GPU := $(CURDIR)/build/gpu
CARGO := cargo
MANIFEST := --locked --manifest-path server/Cargo.toml

# ONNX Runtime reports to its makers unless told not to before it is loaded.
export ORT_DISABLE_TELEMETRY := 1
export UV_PROJECT_ENVIRONMENT := $(VENV)
export UV_PYTHON := $(PYTHON)
export UV_PYTHON_DOWNLOADS := never

.PHONY: help setup build proto lint type test test-fast test-busy test-gpu clients fuzz hostile demo bench bench-gpu \
	bench-compare soak perf-analyzer docker docker-gpu audit version tag wheels check-wheels bundle clean tools engine gpu

help: ## Show this list.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1\t\2/' | expand -t 18

setup: $(UV) ## Make .venv and fetch every dependency, as locked.
	@$(UV) sync --locked --quiet --inexact --no-install-workspace
	@$(CARGO) fetch $(MANIFEST) --quiet

build: $(UV) ## Install Sigmax into .venv, its native module as a release build.
	@$(UV) sync --locked --quiet
	@$(BIN)/python -m compileall -q client/python/sigmax server/python/sigmax_server

# A client whose toolchain is not here keeps its generated code; its `test --toolchain` says what is missing.
proto: build ## Generate the stubs of every language from proto/, and the vectors of the clients.
	$(BIN)/python proto/generate
	PYTHONPATH=tests $(BIN)/python tests/vectors/clients/generate.py
	@for each in $(wildcard client/*/generate); do \
	    if $${each%generate}test --toolchain; then echo $$each; PYTHON=$(BIN)/python $$each; fi; done

lint: build ## Check formatting, lints, the protos, that the stubs are theirs, and the version.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(CARGO) fmt --check --manifest-path server/Cargo.toml --all
	PYO3_PYTHON=$(BIN)/python $(CARGO) clippy $(MANIFEST) --workspace --all-targets --quiet -- -D warnings
	$(CARGO) fmt --check --manifest-path client/rust/Cargo.toml --all
	$(CARGO) clippy --locked --manifest-path client/rust/Cargo.toml --workspace --all-targets --quiet -- -D warnings
	$(BIN)/python server/core/imports.py
	$(BIN)/buf lint proto
	$(BIN)/buf build proto
	$(BIN)/buf breaking proto --against proto/released.binpb
	$(BIN)/python proto/generate --check
	PYTHONPATH=tests $(BIN)/python tests/vectors/clients/generate.py --check
	$(BIN)/python .ci/version.py

type: build ## Check types with mypy.
	$(BIN)/mypy client/python/sigmax server/python/sigmax_server models/src/sigmax_models
	$(BIN)/mypy client/python/tests
	$(BIN)/mypy server/tests
	$(BIN)/mypy server/core/imports.py
	$(BIN)/mypy models/tests
	$(BIN)/mypy tests bench demo docker .ci/version.py client/python/test

# A file's tests share servers, so they run in one process. Many tests wait more than they work.
IN_PARALLEL := --numprocesses=3 --dist=loadfile
test: build ## Run every test.
	$(CARGO) test $(MANIFEST) --quiet -p sigmax-core
	$(BIN)/pytest -q $(IN_PARALLEL) -m "not hostile"

test-fast: build ## Run the quick tests, in less than a minute.
	$(CARGO) test $(MANIFEST) --quiet -p sigmax-core --lib
	$(BIN)/pytest -q $(IN_PARALLEL) -m "not slow and not hostile" client/python/tests server/tests tests

test-busy: build ## Run every test on a busy machine whose processes stop now and then.
	$(CARGO) test $(MANIFEST) --quiet -p sigmax-core --no-run
	$(BIN)/python tests/busy.py $(CARGO) test $(MANIFEST) --quiet -p sigmax-core
	$(BIN)/python tests/busy.py $(BIN)/pytest -q

test-gpu: gpu ## Run the tests of GPUs on this machine's own, in build/gpu with onnxruntime-gpu.
	$(GPU)/bin/pytest -q -rs tests/gpu

clients: build ## Build and test the clients whose toolchains are here, and print which cases each answers.
	@PYTHONPATH=tests $(BIN)/python tests/clients/matrix.py

fuzz: build ## Send mutated requests for some minutes.
	SIGMAX_FUZZ_EXAMPLES=$(or $(EXAMPLES),20000) $(BIN)/pytest -q tests/oip/test_fuzz.py

hostile: build ## Attack the server in every way known, TIMES (10) as hard as `make test` does.
	SIGMAX_HOSTILE=$(or $(TIMES),10) $(BIN)/pytest -q tests/hostile

demo: build ## Train, export, serve and ask every network, and report.
	@$(BIN)/python demo/demo.py

bench: build ## Measure every regime beside its peers, on this machine; REGIMES="small latency" some.
	@$(BIN)/python -m bench $(REGIMES)

bench-gpu: gpu ## Measure a GPU beside ONNX Runtime in process, in build/gpu with onnxruntime-gpu.
	@$(GPU)/bin/python -m bench gpu gpu-answers

bench-compare: build ## Measure BASE=commit beside this tree, in the same run.
	@$(BIN)/python -m bench.compare $(or $(BASE),$(error say with what: BASE=commit)) $(REGIMES)

soak: build ## Ask for SECONDS (an hour) and see that memory, files and times stay flat.
	@$(BIN)/python -m bench.soak $(or $(SECONDS),3600)

perf-analyzer: build ## Run Triton's own perf_analyzer against the server, in every mode.
	@$(BIN)/python -m bench.perf_analyzer

docker: engine build ## Build the image, run it locked down and check it; needs a Docker engine.
	@PYTHONPATH=demo:tests $(BIN)/python docker/check.py cpu

docker-gpu: engine build ## Build the image for NVIDIA GPUs, and check it.
	@PYTHONPATH=demo:tests $(BIN)/python docker/check.py gpu

# Not a part of `make lint`: cargo-deny takes minutes to install, and the last two ask for advisories
# beyond the package registries (a Git repository, osv.dev), which are not reachable everywhere.
DENY := build/cargo-deny/bin/cargo-deny $(MANIFEST) check
audit: $(UV) ## Look at the licence, source and advisories of all dependencies, and at the workflows.
	@$(CARGO) install --quiet --locked --root build/cargo-deny cargo-deny@0.20.2
	$(DENY) licenses bans sources
	@$(UV) tool run --quiet zizmor@1.32.0 --offline --quiet .github
	$(DENY) advisories
	@$(UV) audit --locked --quiet --preview-features audit-command

version: build ## Make VERSION=1.2.3 the version everywhere, and what is unreleased its changes and its protos.
	@$(PYTHON) .ci/version.py --set $(or $(VERSION),$(error say which: VERSION=1.2.3))
	@$(BIN)/buf build proto --exclude-source-info --output proto/released.binpb
	@$(CARGO) update --quiet --workspace --manifest-path server/Cargo.toml
	@$(CARGO) update --quiet --workspace --manifest-path client/rust/Cargo.toml
	@$(UV) lock --quiet
	@$(PYTHON) .ci/version.py

tag: ## Check that TAG=v1.2.3 may name this commit: the version is its, and so are the changes.
	@$(PYTHON) .ci/version.py --tag $(or $(TAG),$(error say which: TAG=v1.2.3))

# Zig links against the symbols of an old glibc: a wheel runs wherever glibc is 2.28 or newer, whatever
# this machine has. maturin checks that.
MANYLINUX = $(UV) tool run --quiet '$(MATURIN)' build --manifest-path server/native/Cargo.toml --sdist --release \
	--strip --quiet --zig --compatibility manylinux_2_28 --interpreter $(PYTHON) --out build/wheels
wheels: $(UV) ## Build source distributions, and wheels from them, in build/wheels; DISTRIBUTIONS="sigmax" some.
	@for each in $(or $(DISTRIBUTIONS),sigmax sigmax-models sigmax-server); do \
	    rm -f build/wheels/$${each/-/_}-*; \
	    if [ $$each = sigmax-server ]; then $(MANYLINUX); \
	    else $(UV) build --quiet --package $$each --out-dir build/wheels; fi; \
	    $(UV) tool run --quiet '$(TWINE)' check --strict build/wheels/$${each/-/_}-*; done

check-wheels: $(UV) ## Install build/wheels without this tree, and see what it finds to run models on.
	@$(UV) venv --quiet --clear build/installed
	@$(UV) export --locked --quiet --package sigmax --extra server --no-dev --no-emit-workspace \
	| $(UV) pip install --quiet --python build/installed --requirement -
	@$(UV) pip install --quiet --no-deps --python build/installed build/wheels/*.whl
	@build/installed/bin/sigmax --version
	@build/installed/bin/sigmax doctor

# With hashes, all as locked. TORCH is the index of another build of torch, which the lock file does not
# name: torch comes from there, in the locked version, and with it what only torch needs.
EXTRAS ?= server models
OURS = sigmax $(if $(filter server,$(EXTRAS)),sigmax-server) $(if $(filter models examples,$(EXTRAS)),sigmax-models)
LOCKED = $(UV) export --locked --quiet --package sigmax $(EXTRAS:%=--extra=%) --no-dev --no-emit-workspace
DOWNLOAD = $(PIP) download --quiet --disable-pip-version-check --only-binary=:all: --dest build/bundle
bundle: $(UV) ## Put our wheels and all that they need into build/bundle; EXTRAS=server some, TORCH=https://... whose torch.
	@$(MAKE) wheels DISTRIBUTIONS="$(OURS)"
	@rm -rf build/bundle && mkdir build/bundle
	@$(LOCKED) $(if $(TORCH),--prune=torch) > build/bundle.txt
	@$(DOWNLOAD) --no-deps --requirement build/bundle.txt
	$(if $(TORCH),@$(LOCKED) --no-hashes | grep -oE '^torch==[0-9.]+' \
	    | $(DOWNLOAD) --find-links build/bundle --index-url $(TORCH) --requirement /dev/stdin)
	@cp $(foreach each,$(subst -,_,$(OURS)),build/wheels/$(each)-*.whl) build/bundle

clean: ## Remove everything the other targets have made.
	rm -rf $(VENV) build bench/results server/target tests/foreign/node/node_modules
	rm -rf $(foreach each,build dist node_modules target,client/*/$(each))
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find client server models tests bench demo -name __pycache__ -prune -exec rm -rf {} +

engine:
	@$(PYTHON) docker/engine.py

# The same as .venv with the other ONNX Runtime: the two own the same files.
gpu: build
	@UV_PROJECT_ENVIRONMENT=$(GPU) $(UV) sync --locked --quiet --inexact --no-install-package onnxruntime
	@$(UV) export --locked --quiet --package sigmax-server --extra gpu --no-dev --no-emit-workspace \
	| $(UV) pip install --quiet --python $(GPU) --requirement -

# Stops with one line where a tool is missing or too old.
need = $(if $(shell command -v $(1)),,$(error $(1) is missing: $(2)))
check = $(if $(shell $(1) >/dev/null 2>&1 && echo yes),,$(error $(2)))
tools:
	@: $(call need,$(PYTHON),install Python 3.11 or newer)
	@: $(call need,$(CARGO),install Rust 1.92 or newer from https://rustup.rs)
	@: $(call need,cc,install a C compiler such as gcc)
	@: $(call need,git,install git)
	@: $(call check,$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))',$(PYTHON) is older than 3.11: $(shell $(PYTHON) --version))
	@: $(call check,$(CARGO) --version | awk '{ split($$2, v, "."); exit !(v[1] > 1 || v[2] >= 92) }',cargo is older than 1.92: $(shell $(CARGO) --version))
	@: $(call check,$(PYTHON) -c 'import ensurepip',$(PYTHON) has no ensurepip: install the package python3-venv)

$(UV): | tools
	@$(PYTHON) -m venv build/uv/$(UV_VERSION)
	@build/uv/$(UV_VERSION)/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
