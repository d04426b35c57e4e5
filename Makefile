# Two commands: `make demo` runs the benchmark on packaged images, `make test` checks everything.
# Everything is installed inside the checkout: .venv (workflow), .venv-test (tests), resources/envs (jobs).

PYTHON ?= $(shell command -v python3.11 || command -v python3)
CORES ?= $(shell nproc 2>/dev/null || sysctl -n hw.ncpu)
STUDY ?= config/demo.yaml
BIN := .venv/bin
TEST := .venv-test/bin
BENCH := .venv-bench/bin
ENVS := envs/data.yaml envs/analysis.yaml envs/torch.yaml envs/onnx.yaml envs/mammo_clip.yaml

.PHONY: setup demo test lint types unit test-full test-slurm test-faults robustness parity bench throughput lock schemas clean

setup: .venv/.ready

# The stamp is written last, so an interrupted set-up starts over.
.venv/.ready: requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and "Python 3.11 is needed: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet "$$(grep '^uv==' requirements.txt)"
	$(BIN)/uv pip install --quiet --python $(BIN)/python -r requirements.txt \
	  || $(BIN)/python -m pip install --quiet -r requirements.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -e . \
	  || $(BIN)/python -m pip install --quiet --no-deps -e .
	touch $@

demo: setup
	$(BIN)/snakemake --configfile $(STUDY) --cores $(CORES); status=$$?; \
	$(BIN)/python -m discern results $(STUDY); exit $$status

.venv-test/.ready: .venv/.ready $(ENVS)
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-test
	$(BIN)/python -m discern.environments $(ENVS) > .venv-test/pins.txt
	$(BIN)/uv pip install --quiet --python $(TEST)/python -r requirements.txt -r .venv-test/pins.txt -e '.[dev]'
	# An authors' implementation for parity tests, without the training stack that it names as dependencies.
	$(BIN)/uv pip install --quiet --python $(TEST)/python --no-deps consisid-eva-clip==1.0.2
	touch $@

test: lint types unit

lint: .venv-test/.ready
	$(TEST)/ruff format --check .
	$(TEST)/ruff check .
	$(TEST)/snakefmt --check Snakefile workflow
	$(TEST)/snakemake --lint

types: .venv-test/.ready
	$(TEST)/mypy

# In as many processes as there are cores, each with whole files; they share the one long run of the workflow.
unit: .venv-test/.ready
	$(TEST)/python -m pytest -n logical --dist loadfile --no-loadscope-reorder

# Full-size architectures and the authors' own environments: memory for the largest (8 GB) and half an hour.
test-full: .venv-test/.ready
	$(TEST)/python -m pytest -m "not slurm and not faults"

# A Slurm of two nodes on this machine, from Debian's packages: needs root, and installs them where missing.
test-slurm: .venv-test/.ready
	$(TEST)/python -m pytest -m slurm tests/slurm

# A running study is killed at 30 moments, starved and damaged.
test-faults: .venv-test/.ready
	$(TEST)/python -m pytest -m faults tests/faults

# Everything that the table of docs/robustness.md names.
robustness: .venv-test/.ready
	rm -f results/survived.jsonl; mkdir -p results
	DISCERN_SURVIVED=$(CURDIR)/results/survived.jsonl $(TEST)/python -m pytest -m "not full"
	$(TEST)/python -m tests.survived results/survived.jsonl

parity: .venv-test/.ready
	rm -rf results/parity
	DISCERN_PARITY=$(CURDIR)/results/parity $(TEST)/python -m pytest -m "not slurm and not faults" tests/parity
	$(TEST)/python -m tests.parity.table results/parity

# Peers have an environment of their own: the pins of the tests and benchmarks/peers.txt. A peer whose
# requirements contradict the pins comes without them; one that cannot be had is left out.
.venv-bench/.ready: .venv-test/.ready benchmarks/peers.txt
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-bench
	$(BIN)/uv pip install --quiet --python $(BENCH)/python \
	  -r requirements.txt -r .venv-test/pins.txt -e '.[dev]'
	grep -v '^ *\(#\|$$\)' benchmarks/peers.txt | while read -r peer; do \
	  $(BIN)/uv pip install --quiet --python $(BENCH)/python -c .venv-test/pins.txt "$$peer" 2> /dev/null \
	  || $(BIN)/uv pip install --quiet --python $(BENCH)/python --no-deps "$$peer" \
	  || echo "left out: $$peer"; done
	touch $@

bench: .venv-bench/.ready
	$(BENCH)/python -m benchmarks --write $(SECTION)

throughput: .venv-bench/.ready
	$(BENCH)/python -m benchmarks.throughput

lock: .venv/.ready
	$(BIN)/uv pip compile --quiet --no-header --python-version 3.11 pyproject.toml -o requirements.txt

schemas: setup
	$(BIN)/python -m discern schemas

clean:
	rm -rf .venv .venv-test .venv-bench
