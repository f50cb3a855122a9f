# Two commands for newcomers, `make run` and `make test`; the rest is for developers.
PYTHON ?= python3
RUN_ENV := .venv
TEST_ENV := .venv-test
MXNET_ENV := .venv-test-mxnet# MXNet's last release needs an older NumPy than the others
# Triton for the tests of the GPU kernels, and only for these: PyTorch imports it where it is
# installed, and in a process with TensorFlow it crashes
TRITON := .venv-test-triton
GPU_TESTS := $(wildcard tests/kernels/test_triton_*.py)
# what tells most in a minute: formulas, data, telemetry, training, the golden file
CORE := tests/unit tests/parity tests/shells/test_torch.py tests/shells/test_trainer_steps.py \
	src/unrolled/functional src/unrolled/training
# a file of tests stays in one process, which loads a framework and compiles once; one thread
# each, as two processes with two threads each would wait for each other
BOTH_CORES := -n 2 --dist loadfile
test test-core test-long torture: export OMP_NUM_THREADS := 1
PIP := -m pip --disable-pip-version-check install --quiet

sanitize: MINUTES ?= 10
fuzz: MINUTES ?= 5

MINUTES_OF_TRAINING ?= 1

.PHONY: help run test test-core test-long torture lint check sanitize fuzz format reproduce bench clean

help:
	@echo "make run        install into $(RUN_ENV), then train the language model (the main job)"
	@echo "make test       install into $(TEST_ENV) and $(MXNET_ENV), then run all tests in both"
	@echo "make test-core  a minute of it: formulas, training and golden file, on PyTorch"
	@echo "make test-long  training runs that take minutes: each sick one, and its remedy"
	@echo "make lint       formatting, lint, types and the order of imports only"
	@echo "make check      all of that: lint, then test"
	@echo "make torture    kill, stop, damage and resume runs (ONLY=kills,workers COUNT=100 SEED=0 CASE=7)"
	@echo "make sanitize   random calls of the native kernels under sanitizers (MINUTES=10)"
	@echo "make fuzz       bad files for everything that parses one, under atheris (MINUTES=5 for each)"
	@echo "make format     format the code"
	@echo "make reproduce  the published runs over three seeds (some minutes)"
	@echo "make bench      training speed beside everything else (five minutes)"
	@echo "make clean      remove all environments"

# an environment is made once, and again when what it needs changes
$(RUN_ENV)/installed: WANTED := -c constraints.txt -e '.[torch]'
$(TEST_ENV)/installed: WANTED := -c constraints.txt -e '.[torch,jax,beside,dev]' tensorflow-cpu
$(MXNET_ENV)/installed: WANTED := -c constraints-mxnet.txt -e '.[mxnet,dev]'
NATIVE := setup.py $(wildcard $(addprefix src/unrolled/native/,*.h *.cpp *.txt))
%/installed: pyproject.toml constraints.txt constraints-mxnet.txt $(NATIVE)
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is %s; try: make $(MAKECMDGOALS) PYTHON=python3.11" % sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	@echo "installing into $*, once; the frameworks take some minutes, and half a minute the compiler ..."
	@$(PYTHON) -m venv $*
	@$*/bin/python $(PIP) $(WANTED)
	@touch $@

TRITON_WANTED := triton; sys_platform == 'linux' and platform_machine == 'x86_64'
$(TRITON)/installed: constraints.txt $(TEST_ENV)/installed
	@$(TEST_ENV)/bin/python $(PIP) -c constraints.txt --no-deps --target $(TRITON) "$(TRITON_WANTED)"
	@mkdir -p $(TRITON) && touch $@

run: $(RUN_ENV)/installed
	@$(RUN_ENV)/bin/unrolled run language-model

test: $(TEST_ENV)/installed $(MXNET_ENV)/installed $(TRITON)/installed
	@echo "PyTorch, JAX, TensorFlow:"
	@$(TEST_ENV)/bin/python -m pytest $(BOTH_CORES)
	@echo "GPU kernels, interpreted:"
	@PYTHONPATH=$(TRITON) $(TEST_ENV)/bin/python -m pytest $(BOTH_CORES) $(GPU_TESTS)
	@echo "MXNet:"
	@$(MXNET_ENV)/bin/python -m pytest $(BOTH_CORES)

test-core: $(TEST_ENV)/installed
	@$(TEST_ENV)/bin/python -m pytest $(BOTH_CORES) $(CORE) -m "not long and not jax and not tensorflow"

test-long: $(TEST_ENV)/installed
	@$(TEST_ENV)/bin/python -m pytest $(BOTH_CORES) -m long tests

# also: MINUTES_OF_TRAINING=30, whose memory is watched
TORTURE = -m torture.run --minutes $(MINUTES_OF_TRAINING) $(if $(ONLY),--only $(ONLY)) \
	$(if $(COUNT),--count $(COUNT)) $(if $(SEED),--seed $(SEED)) $(if $(CASE),--case $(CASE))
torture: export PYTHONPATH := $(CURDIR)/src:$(CURDIR)/tests
torture: $(TEST_ENV)/installed $(MXNET_ENV)/installed
	@failed=0; echo "PyTorch, JAX, TensorFlow:"; $(TEST_ENV)/bin/python $(TORTURE) || failed=1; \
	echo "MXNet:"; $(MXNET_ENV)/bin/python $(TORTURE) || failed=1; exit $$failed

lint: $(TEST_ENV)/installed
	@$(TEST_ENV)/bin/ruff format --check .
	@$(TEST_ENV)/bin/ruff check .
	@$(TEST_ENV)/bin/mypy
	@$(TEST_ENV)/bin/lint-imports --no-cache --no-logo

check: lint test

sanitize:
	@$(PYTHON) tests/kernels/fuzz/run.py --minutes $(MINUTES)

fuzz: $(TEST_ENV)/installed
	@$(TEST_ENV)/bin/python tests/fuzz/run_fuzzers.py --minutes $(MINUTES)

format: $(TEST_ENV)/installed
	@$(TEST_ENV)/bin/ruff format .
	@$(TEST_ENV)/bin/ruff check --fix .

reproduce: $(TEST_ENV)/installed
	@$(TEST_ENV)/bin/python benchmarks/reproduce.py

bench: $(TEST_ENV)/installed
	@$(TEST_ENV)/bin/unrolled bench

clean:
	rm -rf $(RUN_ENV) $(TEST_ENV) $(MXNET_ENV) $(TRITON)
