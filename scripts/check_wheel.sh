#!/usr/bin/env bash
# Builds a wheel from the files that git does not ignore, installs it into a new environment beside
# PyTorch, Detectron2 and the rest of .venv, and runs it from an empty folder: what is missing from
# the wheel shows. Takes as long as a build.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PYTHON="$PWD/${VENV:-.venv}/bin/python"
FOLDER="$(mktemp -d)"
trap 'rm -rf "$FOLDER"' EXIT

mkdir "$FOLDER/source" "$FOLDER/empty"
git ls-files -z --cached --others --exclude-standard \
  | while IFS= read -r -d '' file; do if [[ -e "$file" ]]; then printf '%s\0' "$file"; fi; done \
  | tar c --null -T - | tar x -C "$FOLDER/source"
"$PYTHON" -m pip --disable-pip-version-check wheel --quiet --no-deps --no-build-isolation \
  --wheel-dir "$FOLDER" "$FOLDER/source"
ls -l "$FOLDER"/*.whl

"$PYTHON" -m venv "$FOLDER/venv"
# A folder that is only on the path: its own .pth files, the editable package's among them, are not read.
"$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
  > "$("$FOLDER/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/rest.pth"
"$FOLDER/venv/bin/python" -m pip --disable-pip-version-check install --quiet --no-deps "$FOLDER"/*.whl
cd "$FOLDER/empty"
DEEPLAB2_D2_REQUIRE_OPS=1 PYTHONPATH='' "$FOLDER/venv/bin/python" - "$FOLDER/venv" << 'CODE'
import sys

import deeplab2_d2
import torch
from detectron2.config import get_cfg
from detectron2.modeling import META_ARCH_REGISTRY

from deeplab2_d2 import add_deeplab2_config, ops

assert deeplab2_d2.__file__.startswith(sys.argv[1]), deeplab2_d2.__file__
assert ops.has_extension()
pairs, counts = ops.label_overlap(torch.tensor([1, 1, 2]), torch.tensor([3, 3, 4]))
assert pairs.tolist() == [[1, 3], [2, 4]] and counts.tolist() == [2, 1]
heatmap = torch.tensor([[[0.0, 0.5, 0.0]]])
options = {"threshold": 0.1, "nms_kernel": 3, "top_k": 1}
centers, _, _ = ops.find_centers(heatmap, (1, 3), (1.0, 1.0), **options)
assert centers.tolist() == [[[0, 1]]]
cfg = get_cfg()
add_deeplab2_config(cfg)
names = [name for name, _ in META_ARCH_REGISTRY if name.startswith("DeepLab2")]
print("wheel: imported, operators run;", ", ".join(sorted(names)))
CODE
