# Two commands: `make demo` runs the benchmark on packaged images, `make test` checks everything.
# Everything is installed inside the checkout: .venv (workflow), .venv-test (tests), resources/envs (jobs).

PYTHON ?= $(shell command -v python3.11 || command -v python3)
CORES ?= $(shell nproc 2>/dev/null || sysctl -n hw.ncpu)
STUDY ?= config/demo.yaml
BIN := .venv/bin
TEST := .venv-test/bin
BENCH := .venv-bench/bin
COMPILE = $(BIN)/uv pip compile --quiet --no-header --generate-hashes --python-version 3.11 $(UPGRADE)
ENVS := envs/data.yaml envs/analysis.yaml envs/torch.yaml envs/onnx.yaml envs/mammo_clip.yaml

.PHONY: setup demo test lint types unit test-full test-slurm test-slurm-full test-faults fuzz robustness parity bench throughput lock audit containerfile schemas clean

setup: .venv/.ready

# The stamp is written last, so an interrupted set-up starts over.
.venv/.ready: requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and "Python 3.11 is needed: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv --clear .venv
	sed -n '/^uv==/,/[^\\]$$/p' requirements.txt > .venv/uv.txt
	$(BIN)/python -m pip install --quiet --require-hashes -r .venv/uv.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.txt \
	  || $(BIN)/python -m pip install --quiet --require-hashes -r requirements.txt
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
test-slurm: .venv-test/.ready .venv-slurm/.ready
	$(TEST)/python -m pytest -m "slurm and not full" -rs tests/slurm

# The whole demonstration on it: half an hour.
test-slurm-full: .venv-test/.ready .venv-slurm/.ready
	$(TEST)/python -m pytest -m "slurm and full" -rs tests/slurm

# The executor has an environment of its own: it lengthens every start of Snakemake, also where nobody asks for it.
.venv-slurm/.ready: .venv/.ready pyproject.toml
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-slurm
	$(BIN)/uv pip install --quiet --python .venv-slurm/bin/python -r requirements.txt -e '.[slurm]'
	touch $@

# A running study is killed at 30 moments, starved and damaged; its machine is lost (needs Debian's rclone).
test-faults: .venv-test/.ready
	$(TEST)/python -m pytest -m faults tests/faults tests/conda tests/cloud

# Thousands of hostile inputs of each kind: half an hour.
fuzz: .venv-test/.ready
	DISCERN_FUZZ=long $(TEST)/python -m pytest tests/hostile
	$(TEST)/python -m pytest -m faults tests/hostile tests/report

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

# Versions that still fit stay; `make lock UPGRADE=--upgrade` takes the newest.
lock: .venv/.ready
	$(BIN)/python -m discern lock $(UPGRADE)
	$(COMPILE) pyproject.toml -o requirements.txt
	$(COMPILE) audit/requirements.in -o audit/requirements.txt

.venv-audit/.ready: .venv/.ready audit/requirements.txt
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-audit
	$(BIN)/uv pip sync --quiet --python .venv-audit/bin/python --require-hashes audit/requirements.txt
	touch $@

# Vulnerabilities and licences of everything that is locked; writes docs/environments.md. Where no service answers,
# ADVISORIES=FOLDER names a checkout of PyPA's advisory database.
audit: .venv-audit/.ready
	ADVISORIES=$(ADVISORIES) $(BIN)/python -m audit

# Snakemake asks conda for the platform; where there is none, the front end of the tests answers. Sharded and
# unsharded extraction must both be in the plan, and the hashes need not be said twice.
containerfile: .venv-test/.ready
	PATH="$(CURDIR)/$(TEST):$$PATH:$(CURDIR)/tests/conda/bin" snakemake --containerize \
	  --configfile config.yaml config/table1.yaml --config 'extract={shard_images: 5000}' > Containerfile.new
	grep -v '^#  *--hash=' Containerfile.new > Containerfile
	rm Containerfile.new

schemas: setup
	$(BIN)/python -m discern schemas

clean:
	rm -rf .venv .venv-test .venv-bench .venv-slurm .venv-audit
