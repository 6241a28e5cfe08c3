#!/usr/bin/env bash
# Builds the CPU operators under AddressSanitizer in a copy of the files that git does not ignore, and runs the
# operators' tests with them: reads and writes beyond a tensor are seen. Takes as long as a build and the tests.
# Arguments go to pytest; without any it runs tests/ops.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PYTHON="$PWD/${VENV:-.venv}/bin/python"
FOLDER="$(mktemp -d)"
trap 'rm -rf "$FOLDER"' EXIT

git ls-files -z --cached --others --exclude-standard \
  | while IFS= read -r -d '' file; do if [[ -e "$file" ]]; then printf '%s\0' "$file"; fi; done \
  | tar c --null -T - | tar x -C "$FOLDER"
cd "$FOLDER"
export PYTHONPATH="$FOLDER/projects" FORCE_CUDA=0
CFLAGS="-fsanitize=address -fno-omit-frame-pointer" LDFLAGS="-fsanitize=address" \
  "$PYTHON" setup.py --quiet build_ext --inplace

[[ $# -gt 0 ]] || set -- tests/ops
# Without leak detection: the interpreter frees little at its end. Python itself is built without the
# sanitizer, so its library is loaded first; what Python allocates goes through malloc, to be checked as well.
LD_PRELOAD="$("${CXX:-c++}" -print-file-name=libasan.so) $("${CXX:-c++}" -print-file-name=libstdc++.so)" \
  ASAN_OPTIONS=detect_leaks=0:detect_odr_violation=0 PYTHONMALLOC=malloc DEEPLAB2_D2_REQUIRE_OPS=1 \
  "$PYTHON" -m pytest -q -p no:cacheprovider -m "not slow" "$@"
