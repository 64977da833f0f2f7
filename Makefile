# Set-up, tests and the demonstration. `make install` is what the others start with.

PYTHON ?= python3
VENV ?= .venv
# PyTorch's CPU builds have a package index of their own, which its installation page
# names. Without it, pip on Linux takes the CUDA build: larger, and it works as well.
TORCH_INDEX ?=
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet \
	--constraint constraints.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

# Interpreter of a virtual environment with the `peers` extra, for sb3-contrib's rows.
PEER_PYTHON ?=

.PHONY: install demo test proofs certificate mutation torture versions bounds gpu gpu-wheels audit lint types wheel check clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch
	# As a path, where type checkers and editors find it.
	$(PIP) --config-settings editable_mode=compat --editable ".[dev]"
	touch $@

# Train Pendulum-v1 in both backends from one seed, compare, time, draw.
demo: install
	$(BIN)/python -m benchmarks.demo

# Compiling takes most of the time of both suites: here it is done quickly, to slower
# programs. `certificate` compiles as users do, and so does `pytest` called by itself.
QUICK = $$($(BIN)/python -c 'import parity_tests.common.process_setup as e; print(e.QUICK_FLAGS)')

# Two processes, because JAX's 64-bit mode is one setting of a whole process; at the same
# time, with one thread each, because PyTorch's threads spin while they wait for a core.
# The second ends with some of the tests, so that both take about as long.
SECOND = tests/cli tests/runs

test: export OMP_NUM_THREADS = 1
test: install
	@log=$$(mktemp); \
	$(MAKE) --no-print-directory proofs > "$$log" 2>&1 & \
	proofs=$$!; trap 'kill $$proofs 2> /dev/null; rm -f "$$log"' EXIT INT TERM; \
	$(BIN)/python -m pytest tests $(SECOND:%=--ignore=%); status=$$?; \
	wait $$proofs || status=1; cat "$$log"; exit $$status

# The parity suite, the quick certificate, a rehearsal of `gpu`, a twentieth of `torture`,
# and the rest of the tests.
proofs: export OMP_NUM_THREADS = 1
proofs: install
	XLA_FLAGS="$(QUICK)" JAX_ENABLE_X64=1 $(BIN)/pytest --pyargs parity_tests
	$(MAKE) --no-print-directory certificate
	$(BIN)/python -m benchmarks.gpu --rehearse --sizes 1 --minutes 5 --out runs/gpu-ci \
		--parts doctor determinism update compiled memory
	XLA_FLAGS="$(QUICK)" $(BIN)/python -m benchmarks.faults --fraction 0.05 --fresh \
		--runs runs/torture-part --out runs/torture-part
	$(BIN)/python -m pytest $(SECOND)

# Parity as a user proves it: the quick certificate.
certificate: export OMP_NUM_THREADS = 1
certificate: install
	$(BIN)/trpo parity --quick --out runs/parity

# Ten of the planted faults, other ones with each commit; all: `--count` left out.
mutation: install
	$(BIN)/python -m parity_tests.mutation --count 10 --workers 2 \
		--seed "$$(git rev-parse HEAD 2>/dev/null || echo none)"

# Every fault at full size; what is done is not run again.
torture: export OMP_NUM_THREADS = 1
torture: install
	$(BIN)/python -m benchmarks.faults $(if $(PEER_PYTHON),--peer-python $(PEER_PYTHON))

# The suites with the oldest and the newest versions of every package, an hour or more;
# what has run is not run again. `bounds`: the part of it that CI runs.
versions: install
	$(BIN)/python -m benchmarks.versions $(if $(TORCH_INDEX),--torch-index $(TORCH_INDEX))

bounds: export OMP_NUM_THREADS = 1
bounds: install
	$(BIN)/python -m benchmarks.versions --quick

# What is to be known of a GPU, in eight minutes; again goes on. Its machine may lack the
# network: `gpu-wheels` brings along what `benchmarks.gpu` needs there, in .wheels/.
gpu: install
	$(BIN)/python -m benchmarks.gpu

gpu-wheels:
	$(PYTHON) -m pip download --disable-pip-version-check --quiet --no-deps \
		--only-binary=:all: --python-version 3.12 --implementation cp \
		--abi cp312 --abi abi3 --abi none \
		$(foreach old,2_28 2_27 2_17 2_5,--platform manylinux_$(old)_x86_64) \
		--platform manylinux2014_x86_64 \
		--dest .wheels --requirement benchmarks/gpu_wheels.txt
	du -sh .wheels

# Known vulnerabilities of what is installed; needs the network, or a local database.
audit: install
	$(PIP) pip-audit
	$(BIN)/python -m pip_audit --requirement constraints.txt --no-deps --disable-pip

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/pyright --pythonpath $(BIN)/python

# Install the wheel outside the tree, without a framework, and start it from there.
wheel: install
	rm -rf build dist
	$(BIN)/python -m build --wheel --outdir dist . > /dev/null
	bash .ci/check_wheel dist/*.whl

check: lint types test wheel

clean:
	rm -rf build dist runs .pytest_cache .ruff_cache .hypothesis *.egg-info
