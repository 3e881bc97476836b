# A newcomer's two commands are `make demo` and `make test`. Both need nothing but
# Python 3.11 to 3.14, git and make: all else goes into the folder .venv, once.

# The Python that .venv is made with. Where it does not fit, others are tried.
PYTHON ?= python3

# The build of torch: cpu, or auto for the one that fits this machine's GPU, or a
# name that `uv pip install --torch-backend` knows, such as cu130.
TORCH_BACKEND ?= cpu

# Two test processes, each with one thread of its own (below).
PYTEST_ARGS ?= -n 2 --dist worksteal

PY    := .venv/bin/python
PIP   := $(PY) -m pip --disable-pip-version-check
UV    := .venv/bin/uv
BENCH := build/bench-venv
TORCH := $(shell sed -n 's/^torch==//p' requirements/torch.txt)

# What mypy checks: those of these folders that exist.
TYPED := $(wildcard fsmtrain tests examples diagrams benchmarks tools)

.PHONY: help demo quick test lint mutants bench pins clean
.NOTPARALLEL:

help:  ## this list
	@sed -n 's/^\([a-z]*\): .*## /  make \1	/p' Makefile

demo: .venv/demo.stamp  ## train the example, examples/digits.py
	$(PY) examples/digits.py

quick: .venv/test.stamp  ## run the tests that are not marked slow: about 90 seconds
	OMP_NUM_THREADS=1 $(PY) -m pytest $(PYTEST_ARGS) -m "not slow"

test: .venv/test.stamp  ## run all tests, then make lint
	OMP_NUM_THREADS=1 $(PY) -m pytest $(PYTEST_ARGS)
	@$(MAKE) --no-print-directory lint

lint: .venv/test.stamp  ## check types (mypy) and style (ruff)
	$(PY) -m mypy $(TYPED)
	$(PY) -m ruff check .

# What an earlier run has found is in build/mutants.jsonl, and is not asked for again: docs/mutants.md.
mutants: .venv/test.stamp  ## see which small changes of the core no test notices: some hours
	OMP_NUM_THREADS=1 $(PY) -m tools.mutants

# The trainers that are compared with are installed for this alone, beside .venv. BENCH_ARGS=--quick is a short run; for parts
# of it, see python -m benchmarks --help.
bench: $(BENCH)/bench.stamp  ## measure what things cost, beside other trainers: half an hour
	$(BENCH)/bin/python -m benchmarks $(BENCH_ARGS)

clean:  ## remove .venv and all that was made
	rm -rf .venv build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Both environments are the one folder .venv. A stamp says what it holds; while the
# files named here are older than the stamp, nothing is installed or asked for again.
# --no-build-isolation: built with the pinned setuptools, not with a newer one.
.venv/demo.stamp .venv/test.stamp: .venv/%.stamp: requirements/%.txt setup.cfg .venv/torch-$(TORCH_BACKEND).stamp
	@echo "installing the versions in $<"
	@$(PIP) install --quiet -r $<
	@$(PIP) install --quiet --no-deps --no-build-isolation --use-pep517 --editable .
	@touch $@

# An environment that has all of .venv too, torch with it, by a path to its packages.
packages = import sysconfig; print(sysconfig.get_path("purelib"))

$(BENCH)/bench.stamp: requirements/bench.txt .venv/demo.stamp
	@echo "installing the versions in $<"
	@rm -rf $(BENCH) && $(PY) -m venv $(BENCH)
	@$(PY) -c '$(packages)' > "$$($(BENCH)/bin/python -c '$(packages)')/venv.pth"
	@$(BENCH)/bin/python -m pip --disable-pip-version-check install --quiet -r $<
	@touch $@

# torch's usual Linux build brings several GB for GPUs, so a CPU build is looked for
# first: with pip, in case it is set up to find one, then with uv, which knows where
# PyTorch keeps its builds. A torch of this version that is there already is left alone.
has_torch = $(PY) -c 'import importlib.metadata as m; assert m.version("torch").split("+")[0] == "$(TORCH)"' 2>/dev/null

.venv/torch-$(TORCH_BACKEND).stamp: requirements/torch.txt | $(PY)
	@echo "installing torch $(TORCH), build: $(TORCH_BACKEND)"
	@if [ "$(TORCH_BACKEND)" = cpu ] && $(has_torch); then \
	    echo "it is installed already"; \
	elif [ "$(TORCH_BACKEND)" = cpu ] && \
	    $(PIP) install --quiet -c requirements/demo.txt 'torch==$(TORCH)+cpu' 2>/dev/null; then :; \
	else \
	    $(PIP) install --quiet -r requirements/uv.txt && \
	    $(UV) pip install --python $(PY) -c requirements/demo.txt \
	        --torch-backend=$(TORCH_BACKEND) --reinstall-package torch 'torch==$(TORCH)' || { \
	        echo "No such build of torch was found. Any other will do as well: install it with"; \
	        echo "    $(PY) -m pip install torch==$(TORCH)"; \
	        echo "and run make again, without TORCH_BACKEND."; \
	        exit 1; \
	    }; \
	fi
	@touch $@

$(PY):
	@for python in '$(PYTHON)' python3.14 python3.13 python3.12 python3.11; do \
	    if "$$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null; then \
	        echo "making .venv with $$python"; \
	        "$$python" -m venv .venv || { rm -rf .venv; exit 1; }; \
	        exit 0; \
	    fi; \
	done; \
	echo "Python 3.11 to 3.14 is needed, and neither $(PYTHON) nor python3.11 to python3.14 is one."; \
	echo "Install one, or say where it is: make demo PYTHON=/path/to/python3.12"; \
	exit 1

# The newest versions that serve Python 3.11; later Pythons can use those too. They
# are looked up as for macOS, where torch brings no GPU packages: nothing else in the
# lists differs on Linux, but appnope, which ipykernel needs on macOS alone and which is
# left out. demo.txt starts as a copy of test.txt, so that its versions are kept: the two
# share .venv. bench.txt has the versions of both where it needs them.
PINS = MACOSX_DEPLOYMENT_TARGET=14.0 $(UV) pip compile --quiet --python-version 3.11 \
    --python-platform aarch64-apple-darwin --annotation-style line --no-emit-package torch --no-emit-package appnope \
    --custom-compile-command 'make pins    (the newest versions that serve Python 3.11)' \
    -c requirements/torch.txt

pins: | $(PY)  ## renew demo.txt, test.txt and bench.txt in requirements/
	@$(PIP) install --quiet -r requirements/uv.txt
	@$(PINS) setup.cfg --extra test --upgrade -o requirements/test.txt
	@cp requirements/test.txt requirements/demo.txt
	@$(PINS) setup.cfg --extra draw --extra examples -o requirements/demo.txt
	@$(PINS) requirements/bench.in -c requirements/test.txt --upgrade -o requirements/bench.txt
