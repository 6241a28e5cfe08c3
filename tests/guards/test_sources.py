"""Habits that a reader relies on: linked to-dos, no machine paths, unique kernel names, ..."""

import ast
import configparser
import fnmatch
import re
from collections import Counter
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "projects" / "deeplab2_d2"
SKIPPED = {".git", ".venv", "build", "output", "__pycache__", "LICENSE"}
SUFFIXES = {
    ".py",
    ".md",
    ".yaml",
    ".yml",
    ".cfg",
    ".toml",
    ".sh",
    ".txt",
    ".h",
    ".cpp",
    ".cu",
    ".cuh",
    "",
}

# Written in two parts, so that these lines do not match themselves.
TO_DO = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b")
MACHINE_PATH = re.compile(r"""(?<![\w.\-~}$/])/(home|root|Users|work|mnt|scratch)/\w""")


def text_files():
    for path in sorted(REPOSITORY.rglob("*")):
        parts = path.relative_to(REPOSITORY).parts
        is_hidden_cache = any(part.endswith(("_cache", ".egg-info")) for part in parts)
        if SKIPPED.intersection(parts) or is_hidden_cache or ".hypothesis" in parts:
            continue
        if path.is_file() and path.suffix in SUFFIXES and path != Path(__file__).resolve():
            yield path


def lines_matching(pattern):
    for path in text_files():
        for number, line in enumerate(path.read_text(errors="ignore").splitlines(), start=1):
            if pattern.search(line):
                yield f"{path.relative_to(REPOSITORY)}:{number}", line


def test_every_to_do_links_its_issue():
    assert [place for place, line in lines_matching(TO_DO) if "http" not in line] == []


def test_no_path_of_a_machine_is_written_anywhere():
    # An interpreter line is the one absolute path that is the same everywhere.
    found = [place for place, line in lines_matching(MACHINE_PATH) if not line.startswith("#!")]
    assert found == []


@pytest.mark.parametrize(
    "line, matches",
    [
        ('open("/ho' 'me/someone/data")', True),
        ("OUTPUT_DIR: /wo" "rk/run", True),
        ("https://example.org/ho" "me/page", False),
        ("$HO" "ME/work/x", False),
        ("../work/x", False),
    ],
)
def test_machine_paths_are_told_from_others(line, matches):
    assert bool(MACHINE_PATH.search(line)) is matches


def test_only_programs_print():
    offenders = []
    for path in sorted(PACKAGE.rglob("*.py")):
        source = path.read_text()
        is_program = path.name == "__main__.py" or 'if __name__ == "__main__":' in source
        calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
        names = {call.func.id for call in calls if isinstance(call.func, ast.Name)}
        if "print" in names and not is_program:
            offenders.append(str(path.relative_to(REPOSITORY)))
    assert offenders == []


def test_no_module_has_a_name_that_says_nothing():
    empty_names = {"utils", "util", "misc", "common", "helpers", "tools"}
    paths = list(PACKAGE.rglob("*.py")) + [path for path in PACKAGE.rglob("*") if path.is_dir()]
    assert [str(path) for path in paths if path.stem in empty_names] == []


def test_kernel_files_have_unique_stems():
    # Equal stems become one object file, and one of the two kernels is silently lost.
    sources = [path for path in PACKAGE.rglob("csrc/**/*") if path.suffix in (".cpp", ".cu", ".cc")]
    counts = Counter(path.stem for path in sources)
    assert [stem for stem, count in counts.items() if count > 1] == []


def test_every_file_of_the_package_is_distributed():
    # Python's own files and what is built are; of others those that match a pattern.
    settings = configparser.ConfigParser()
    settings.read(REPOSITORY / "setup.cfg")
    patterns = settings["options.package_data"]["deeplab2_d2"].split(", ")
    depths = [(pattern, pattern.count("/")) for pattern in patterns]
    paths = [path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*") if path.is_file()]
    others = [path for path in paths if not path.endswith((".py", ".pyc", ".so"))]
    assert "ops/csrc/exponential.h" in others
    assert [
        path
        for path in others
        if not any(fnmatch.fnmatch(path, p) and path.count("/") == n for p, n in depths)
    ] == []
