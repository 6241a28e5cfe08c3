# Every command makes the environment first (scripts/setup_env.sh: its variables PYTHON, VENV, SYSTEM_SITE and
# DETECTRON2_SPEC can be given to make); once made, that takes a second.
SHELL := /bin/bash
VENV ?= .venv
export PYTHON VENV SYSTEM_SITE DETECTRON2_SPEC
BIN := $(VENV)/bin
# More arguments for the command that runs, as in: make test ARGS="tests/ops -k grouping"
ARGS ?=
# That make fuzz takes, for all readers together.
MINUTES ?= 5

EXHAUSTIVE := checkpoint/test_config_leaves.py checkpoint/test_released_checkpoints.py \
	heads/test_on_each_kind_of_backbone.py backbones/test_every_key.py backbones/test_contract.py \
	backbones/test_multiply_adds.py models/test_whole_graph.py parity/test_networks.py \
	losses/test_lean_forms.py test_compat.py

PYTHON_CODE := $(wildcard projects tests datasets demo docs scripts train_net.py setup.py)
CPP_CODE = $(shell find projects tests -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh')

.PHONY: help setup demo demo-max demo-kmax demo-video demo-motion demo-oanet demo-deeplab test test-fast lint format bench fuzz docs check-wheel check-asan gpu-build gpu-test gpu-sanitize gpu-bench

help:
	@echo "make demo    generate a dataset, train on it, evaluate and draw (minutes, on a CPU)"
	@echo "make demo-max  the same with MaX-DeepLab"
	@echo "make demo-kmax  the same with kMaX-DeepLab"
	@echo "make demo-video  generate videos, train ViP-DeepLab on them, track others; make demo-motion with Motion-DeepLab"
	@echo "make demo-oanet  train OANet on things that lie on each other, and paint its detections in three orders"
	@echo "make demo-deeplab  train DeepLab v2 and v3+, evaluate them with and without the CRF"
	@echo "make test    run the tests"
	@echo "make test-fast  those that need no training, no compiler and no process of their own (two minutes)"
	@echo "make lint    check style and types; make format mends what can be mended"
	@echo "make bench   time the operators and the network"
	@echo "make docs    build the documentation as HTML pages: build/docs/index.html"
	@echo "make fuzz MINUTES=5  give every reader of files wrong ones (docs/security.md)"
	@echo "make check-wheel   build a wheel and run it in an environment of its own"
	@echo "make check-asan    run the operators' tests under AddressSanitizer"
	@echo "make gpu-test, gpu-sanitize, gpu-bench   what needs a GPU (scripts/check_gpu.sh), after make gpu-build"
	@echo "make setup   only make the environment ($(VENV))"

setup:
	@scripts/setup_env.sh

demo: setup
	$(BIN)/python -m deeplab2_d2.engine.demo $(ARGS)

demo-max: setup
	$(BIN)/python -m deeplab2_d2.engine.demo --config-file \
		configs/Shapes-PanopticSegmentation/max_deeplab_tiny_os16_poly_bs8_crop_129_161.yaml $(ARGS)

demo-kmax: setup
	$(BIN)/python -m deeplab2_d2.engine.demo --config-file \
		configs/Shapes-PanopticSegmentation/kmax_deeplab_tiny_os32_poly_bs8_crop_129_161.yaml $(ARGS)

demo-video: setup
	$(BIN)/python -m deeplab2_d2.engine.demo_video $(ARGS)

demo-motion: setup
	$(BIN)/python -m deeplab2_d2.engine.demo_video --config-file \
		configs/ShapesVideo-PanopticSegmentation/motion_deeplab_tiny_os16_poly_bs8_crop_129_257.yaml $(ARGS)

demo-oanet: setup
	$(BIN)/python -m deeplab2_d2.engine.demo_ranking $(ARGS)

demo-deeplab: setup
	$(BIN)/python -m deeplab2_d2.engine.demo_semantic $(ARGS)

# A process a processor, a file of tests at a time. Each has one thread: threads that wait for each
# other on a busy processor take many times as long.
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile \
		--no-loadscope-reorder $(ARGS)

# What is left out beside the slow tests compiles, or goes through every config, backbone and published network.
test-fast: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile -m "not slow" \
		$(addprefix --ignore=tests/,$(EXHAUSTIVE)) $(ARGS)

lint: setup
	$(BIN)/isort --check-only --diff $(PYTHON_CODE)
	$(BIN)/black --check --diff --quiet $(PYTHON_CODE)
	$(BIN)/flake8 $(PYTHON_CODE)
	$(BIN)/mypy
	$(if $(CPP_CODE),$(BIN)/clang-format --dry-run -Werror $(CPP_CODE))

format: setup
	$(BIN)/isort $(PYTHON_CODE)
	$(BIN)/black --quiet $(PYTHON_CODE)
	$(if $(CPP_CODE),$(BIN)/clang-format -i $(CPP_CODE))

bench: setup
	$(BIN)/python tests/benchmarks/run.py $(ARGS)

docs: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -W --keep-going -q -b html -c docs/sphinx -d build/doctrees . build/docs
	@echo build/docs/index.html

fuzz: setup
	OMP_NUM_THREADS=1 $(BIN)/python tests/fuzz/run.py --minutes $(MINUTES) $(ARGS)

check-wheel: setup
	VENV=$(VENV) scripts/check_wheel.sh

check-asan: setup
	VENV=$(VENV) scripts/check_asan.sh $(ARGS)

gpu-build gpu-test gpu-sanitize gpu-bench: gpu-%: setup
	PYTHON=$(BIN)/python scripts/check_gpu.sh $*
