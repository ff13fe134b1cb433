# The front door. `make demo` and `make test` need python3, a C++20 compiler and CMake; the rest comes into
# .venv from the package index, at the versions of constraints.txt.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --constraint constraints.txt
NOX := $(BIN)/nox --reuse-existing-virtualenvs

# the environment's ninja, which the CMake presets ask for
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help demo test lint sanitizers wheel bench pictures gpu stubs clean build-tools install-demo install-test

help:
	@echo "make demo    build an index over the sample that ships here, search it, print and draw the results"
	@echo "make test    build, then run the C++ and the Python tests"
	@echo "make lint    formatters and type checks, the same hooks that pre-commit runs"
	@echo "make stubs   write python/tessella/_core.pyi (and _cuda.pyi, where it is built) again"
	@echo "make sanitizers   C++ tests under ASan/UBSan, under TSan, and the NEON level under qemu-user"
	@echo "make wheel   the CPU wheel, repaired, weighed and tried in an empty environment"
	@echo "make bench   the benchmarks, into bench/history"
	@echo "make pictures   draw bench/history into docs/pictures"
	@echo "make gpu     on a machine with an NVIDIA GPU: build, check and time the CUDA kernels"

demo: install-demo
	$(BIN)/tessella demo

test: install-test
	cmake --preset release -B build/test -DTESSELLA_BUILD_TESTS=ON -DTESSELLA_PYTHON=OFF -DTESSELLA_CUDA=OFF
	cmake --build build/test
	ctest --test-dir build/test --output-on-failure --no-tests=error
	$(BIN)/python -m pytest -n 2

lint: $(BIN)/nox
	$(NOX) -s lint

sanitizers: $(BIN)/nox
	$(NOX) -s asan tsan neon

wheel: $(BIN)/nox
	$(NOX) -s wheel

bench: $(BIN)/nox
	$(NOX) -s bench

pictures: install-demo
	$(BIN)/python -m bench.pictures

stubs: install-test
	$(PIP) pybind11-stubgen ruff
	$(BIN)/python tools/stubs.py $(STUBS)

# Plain scripts and what the machine already has: no nox, no pip.
gpu:
	$(PYTHON) bench/gpu.py

clean:
	rm -rf build dist .nox

# The build requirements live in .venv so that a second build compiles only what changed.
$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(BIN)/nox: | $(BIN)/python
	$(PIP) nox

build-tools: | $(BIN)/python
	$(PIP) scikit-build-core pybind11 ninja

install-demo: build-tools
	$(PIP) --no-build-isolation ".[cli,filters]"

install-test: build-tools
	$(PIP) --no-build-isolation ".[test]"
