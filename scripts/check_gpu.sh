#!/usr/bin/env bash
# What only a GPU can show. Usage: scripts/check_gpu.sh [build] [test] [sanitize] [bench]; all without arguments.
#   build      compiles the operators with their CUDA kernels, in place
#   test       runs the tests marked gpu
#   sanitize   runs the kernels' tests under compute-sanitizer: memcheck, racecheck, initcheck
#   bench      times operators, losses, networks and training steps on the GPU
# PYTHON names the interpreter (default: .venv/bin/python where it is, else python3); it needs PyTorch with CUDA,
# Detectron2, pytest and hypothesis. Nothing is downloaded.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() { echo "check_gpu: $*" >&2; exit 1; }

if [[ -z "${PYTHON:-}" ]]; then
  PYTHON=python3
  [[ -x .venv/bin/python ]] && PYTHON=.venv/bin/python
fi
export PYTHONPATH="$PWD/projects${PYTHONPATH:+:$PYTHONPATH}"
# An operator without its kernel is an error, not the reference.
export DEEPLAB2_D2_REQUIRE_OPS=1

"$PYTHON" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' \
  || fail "PyTorch of $PYTHON sees no CUDA device."

build() { FORCE_CUDA=1 "$PYTHON" setup.py build_ext --inplace; }

test() { "$PYTHON" -m pytest -m gpu tests; }

sanitize() {
  local sanitizer tool
  sanitizer="$(command -v compute-sanitizer || true)"
  [[ -n "$sanitizer" ]] || sanitizer="${CUDA_HOME:-/usr/local/cuda}/bin/compute-sanitizer"
  [[ -x "$sanitizer" ]] || fail "compute-sanitizer is neither on the PATH nor at $sanitizer: it comes with the CUDA toolkit."
  # Every tensor is an allocation of its own, so that reading beyond one is seen.
  export PYTORCH_NO_CUDA_MEMORY_CACHING=1
  for tool in memcheck racecheck initcheck; do
    echo "check_gpu: $tool"
    "$sanitizer" --tool "$tool" --error-exitcode 9 \
      "$PYTHON" -m pytest -m gpu -k "not graph" -p no:cacheprovider tests/ops/test_cuda_kernels.py tests/ops/test_slots_cuda.py \
      tests/ops/test_slots.py tests/ops/test_assignment.py tests/ops/test_axial_attention_cuda.py
  done
}

bench() {
  "$PYTHON" tests/benchmarks/run.py gpu postprocessing loss max_loss networks backbones max_training \
    axial axial_gpu inference_gpu \
    --device cuda --repeats 50
}

[[ $# -gt 0 ]] || set -- build test sanitize bench
for step in "$@"; do
  case "$step" in
    build | test | sanitize | bench) "$step" ;;
    *) fail "there is no step $step; there are build, test, sanitize, bench." ;;
  esac
done
