#!/usr/bin/env bash
# Makes the environment that `make demo`, `make test`, `make lint` and `make bench` run in. Variables:
#   PYTHON           interpreter, Python 3.11 or 3.12 (default: the first of them on the PATH)
#   VENV             folder of the environment (default: .venv)
#   SYSTEM_SITE=1    see the interpreter's own packages: its PyTorch and Detectron2 are used as they are
#   DETECTRON2_SPEC  what pip installs as Detectron2: git+https://..., a folder, a wheel
# A second run finds nothing to do and ends at once; an interrupted one is taken up by the next.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

VENV="${VENV:-.venv}"
PYTHON="${PYTHON:-}"
SYSTEM_SITE="${SYSTEM_SITE:-}"
DETECTRON2_SPEC="${DETECTRON2_SPEC:-}"
# Release 0.6 without its compiled operators, file by file the tag v0.6 (see docs/install.md).
DETECTRON2_RELEASE="pb1-detectron2==0.6"
DETECTRON2_SHA256="5d2e9e51e523ec72f6a31cca04b0a515492e9514b773a3d134cedc0677170b29"

LOG="$VENV/setup.log"
ENVIRONMENT_STAMP="$VENV/.environment-stamp"
PACKAGE_STAMP="$VENV/.package-stamp"
VERSION_NAME='import sys; print("%d.%d" % sys.version_info[:2])'
VERSION_CHECK='import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))'

say() { echo "setup: $*"; }
fail() { echo "setup: $*" >&2; exit 1; }

has_module() { "$VENV/bin/python" -c "import $1" > /dev/null 2>&1; }
is_found() {
  "$VENV/bin/python" -c "import importlib.util as u, sys; sys.exit(u.find_spec('$1') is None)"
}
is_system_site() { grep -qi '^include-system-site-packages = true' "$VENV/pyvenv.cfg"; }

choose_python() {
  if [[ -n "$PYTHON" ]]; then
    "$PYTHON" -c "$VERSION_CHECK" 2> /dev/null \
      || fail "PYTHON=$PYTHON is not a Python 3.11 or 3.12."
    return
  fi
  local candidate
  for candidate in "$VENV/bin/python" python3.11 python3.12 python3; do
    if "$candidate" -c "$VERSION_CHECK" 2> /dev/null; then
      PYTHON="$candidate"
      return
    fi
  done
  fail "Python 3.11 or 3.12 is needed and none is on the PATH: install one, or name it with PYTHON=/path/to/python3.11."
}

check_compiler() {
  command -v "${CXX:-c++}" > /dev/null \
    || fail "A C++ compiler (${CXX:-c++}) is needed and not on the PATH: install one (Debian, Ubuntu: apt install g++)."
}

environment_hash() {
  { "$VENV/bin/python" -c 'import sys; print(sys.version)'; pwd
    cat requirements-dev.txt scripts/setup_env.sh; } | sha256sum | cut -d' ' -f1
}
package_hash() {
  { cat setup.py setup.cfg pyproject.toml
    find projects/deeplab2_d2 -path '*/csrc/*' -type f | LC_ALL=C sort | xargs -r cat
  } | sha256sum | cut -d' ' -f1
}
is_stamped() { [[ -f "$1" && "$(cat "$1")" == "$2" ]]; }

# Installs with pip; if that fails, ends with one sentence that names what is missing.
pip_install() {
  : > "$LOG"
  "$VENV/bin/python" -m pip --disable-pip-version-check install --log "$LOG" "$@" && return
  local what
  what="$(sed -n 's/.*No matching distribution found for \([^ ]*\).*/\1/p' "$LOG" | head -n 1)"
  if [[ -n "$what" ]]; then
    fail "$what could not be downloaded: check the network connection or pip's index settings, then run the same command again."
  fi
  if grep -qE 'ConnectionError|NewConnectionError|Max retries exceeded|ReadTimeout|Could not (install packages due to an OSError|fetch URL)|Failed to resolve|unable to access' "$LOG"; then
    what="$(sed -nE 's/.* (Downloading|Collecting|Cloning) ([^ ]+).*/\2/p' "$LOG" | tail -n 1)"
    fail "The download of ${what:-a package} failed: check the network connection, then run the same command again."
  fi
  fail "pip could not install $* (the full log is $LOG)."
}

make_venv() {
  if [[ -n "$SYSTEM_SITE" && -f "$VENV/pyvenv.cfg" ]] && ! is_system_site; then
    fail "$VENV was made without SYSTEM_SITE: remove it, or choose another folder with VENV=."
  fi
  if [[ -x "$VENV/bin/python" ]] && "$VENV/bin/python" -m pip --version > /dev/null 2>&1; then
    local has wanted
    has="$("$VENV/bin/python" -c "$VERSION_NAME")" wanted="$("$PYTHON" -c "$VERSION_NAME")"
    [[ "$has" == "$wanted" ]] \
      || fail "$VENV was made with Python $has, not $wanted: remove it, or choose another folder with VENV=."
    return
  fi
  "$PYTHON" -c 'import ensurepip, venv' 2> /dev/null \
    || fail "The venv module of $PYTHON is missing: install it (Debian, Ubuntu: apt install python$("$PYTHON" -c "$VERSION_NAME")-venv)."
  say "making $VENV with $("$PYTHON" --version)"
  "$PYTHON" -m venv --clear ${SYSTEM_SITE:+--system-site-packages} "$VENV" > /dev/null \
    || fail "$PYTHON -m venv could not make $VENV."
}

install_requirements() {
  local wanted="$VENV/requirements.txt" kept=""
  if is_system_site && has_module torchvision; then
    say "using the interpreter's own PyTorch, $("$VENV/bin/python" -c 'import torch; print(torch.__version__)')"
    kept='^(torch|torchvision|triton|nvidia-[^=]*|cuda-[^=]*)=='
  fi
  grep -vE "${kept:-^$}" requirements-dev.txt > "$wanted"
  say "installing what installs the rest"
  # shellcheck disable=SC2046
  pip_install --quiet $(grep -E '^(pip|setuptools|wheel)==' requirements-dev.txt)
  say "installing requirements-dev.txt (PyTorch is large: several minutes on a slow connection)"
  pip_install --no-deps --no-build-isolation --requirement "$wanted"
}

install_detectron2() {
  if [[ -n "$DETECTRON2_SPEC" ]]; then
    say "installing Detectron2 from $DETECTRON2_SPEC"
    pip_install --no-deps --no-build-isolation --force-reinstall "$DETECTRON2_SPEC"
  elif is_found detectron2; then
    say "using the Detectron2 that is already there"
  else
    say "installing Detectron2 ($DETECTRON2_RELEASE)"
    local folder
    folder="$(mktemp -d)"
    # Its setup.py wants to compile sources that it does not contain.
    printf '[aliases]\nbdist_wheel = build_py bdist_wheel --skip-build\n' > "$folder/pure.cfg"
    echo "$DETECTRON2_RELEASE --hash=sha256:$DETECTRON2_SHA256" > "$folder/requirements.txt"
    DIST_EXTRA_CONFIG="$folder/pure.cfg" pip_install --no-deps --no-build-isolation --use-pep517 \
      --requirement "$folder/requirements.txt"
    rm -r "$folder"
  fi
  mend_on_import
  "$VENV/bin/python" -c 'import detectron2' \
    || fail "The installed Detectron2 cannot be imported (the error is above)."
}

# A script may import Detectron2 before deeplab2_d2: whichever comes first, Detectron2 is mended.
mend_on_import() {
  local site
  site="$("$VENV/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
  cp projects/deeplab2_d2/compat.py "$site/_deeplab2_d2_compat.py"
  echo 'import _deeplab2_d2_compat; _deeplab2_d2_compat.mend_on_import()' \
    > "$site/deeplab2_d2_compat.pth"
}

choose_python
check_compiler
make_venv
environment="$(environment_hash)"
if [[ -n "$DETECTRON2_SPEC" ]]; then environment="$environment $DETECTRON2_SPEC"; fi
# Without DETECTRON2_SPEC, the environment is as it should be whatever Detectron2 it was made with.
if ! is_stamped "$ENVIRONMENT_STAMP" "$environment" \
  && ! { [[ -z "$DETECTRON2_SPEC" && -f "$ENVIRONMENT_STAMP" ]] \
    && [[ "$(cut -d' ' -f1 "$ENVIRONMENT_STAMP")" == "$environment" ]]; }; then
  rm -f "$ENVIRONMENT_STAMP" "$PACKAGE_STAMP"
  install_requirements
  install_detectron2
  echo "$environment" > "$ENVIRONMENT_STAMP"
fi
package="$(package_hash)"
if ! is_stamped "$PACKAGE_STAMP" "$package"; then
  rm -f "$PACKAGE_STAMP"
  say "installing deeplab2_d2 (its operators are compiled: a minute or two)"
  pip_install --quiet --no-deps --no-build-isolation --editable .
  echo "$package" > "$PACKAGE_STAMP"
  say "done"
fi
