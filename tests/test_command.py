"""How programs end: one last line where a user can mend it, a traceback where the code is wrong."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from deeplab2_d2.command import TRACEBACK_VARIABLE, run_command

PROJECTS = Path(__file__).resolve().parents[1] / "projects"


@pytest.fixture
def end_of(tmp_path, monkeypatch, capsys):
    """A function: the body of a program's ``main`` to its exit status and its stderr."""
    monkeypatch.chdir(tmp_path)

    def run(body):
        source = "def main():\n" + textwrap.indent(textwrap.dedent(body), "    ")
        (tmp_path / "program.py").write_text(source)
        names = {"__name__": "__main__"}
        exec(compile(source, "program.py", "exec"), names)
        return run_command("prog", names["main"]), capsys.readouterr().err

    return run


@pytest.mark.parametrize(
    "body, line",
    [
        ("raise ValueError('key K must be 1, got 2')", "prog: key K must be 1, got 2"),
        ("raise KeyError('no \"such\" name')", 'prog: no "such" name'),
        ("open('nowhere.txt')", "prog: nowhere.txt: No such file or directory"),
        ("import no_such_package", "prog: No module named 'no_such_package'"),
        # A table comes before the line that it belongs to.
        ("raise ValueError('does not fit:\\na table')", "prog: does not fit:"),
        # The name of a file may hold what moves the cursor.
        ("raise ValueError('a\\x1b[2Jb')", r"prog: a\x1b[2Jb"),
        ("import json; open('x', 'w').write('{'); json.load(open('x'))", "prog: x: no JSON: "),
        ("open('x', 'wb').write(b'\\xfc'); f = open('x'); f.read()", "prog: x: no UTF-8 text: "),
    ],
)
def test_what_was_raised_for_a_user_is_one_last_line(body, line, end_of):
    status, said = end_of(body)
    assert status == 1 and "Traceback" not in said
    last = said.splitlines()[-1]
    assert last.startswith(line) if line.endswith(": ") else last == line


@pytest.mark.parametrize(
    "body",
    ["int('x')", "[][0]", "None.x", "a, b = [1]", "assert 1 == 2, 'code is wrong'", "{}['k']"],
)
def test_a_fault_of_the_code_shows_where_it_is(body, end_of):
    status, said = end_of(body)
    assert status == 1 and "Traceback" in said and "program.py" in said
    assert said.splitlines()[-1].startswith("prog: ")


def test_a_variable_of_the_environment_shows_where_an_expected_error_was_raised(
    end_of, monkeypatch
):
    monkeypatch.setenv(TRACEBACK_VARIABLE, "1")
    said = end_of("raise ValueError('no')")[1]
    assert "Traceback" in said and said.splitlines()[-1] == "prog: no"
    monkeypatch.setenv(TRACEBACK_VARIABLE, "0")
    assert end_of("raise ValueError('no')")[1] == "prog: no\n"


def test_an_error_of_a_data_worker_is_told_as_it_was_raised_there(end_of):
    # As PyTorch's loader hands it over.
    body = """
        from torch._utils import ExceptionWrapper
        try:
            open("photo.jpg")
        except OSError:
            wrapped = ExceptionWrapper(where="in DataLoader worker process 0")
        wrapped.reraise()
    """
    status, said = end_of(body)
    assert status == 1 and "Traceback" not in said
    assert said.splitlines()[-1] == "prog: [Errno 2] No such file or directory: 'photo.jpg'"


def test_ctrl_c_ends_quietly(end_of):
    assert end_of("raise KeyboardInterrupt") == (130, "prog: interrupted\n")


def test_a_reader_that_has_gone_ends_quietly():
    # The file alone: the package imports much of Detectron2.
    code = (
        f"import sys; sys.path.insert(0, {str(PROJECTS / 'deeplab2_d2')!r})\n"
        "from command import run_command\n"
        "sys.exit(run_command('prog', lambda: [print(k) for k in range(10**5)]))"
    )
    pipe = f'{sys.executable} -c "{code}" | head -n 1; echo ${{PIPESTATUS[0]}}'
    result = subprocess.run(["bash", "-c", pipe], capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ("0\n141\n", "")


def test_the_status_is_the_programs_own(capsys, monkeypatch):
    # A full disk silences what Python tells of files that it cannot close.
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    assert run_command("prog", lambda: 3) == 3
    assert run_command("prog", lambda: {"PQ": 1.0}) == 0
    assert run_command("prog", json.loads, "1", status=2) == 1

    def refuse():
        raise OSError(28, "No space left on device", "model.pth")

    assert run_command("prog", refuse, status=2) == 2
    assert capsys.readouterr().err == "prog: model.pth: No space left on device\n"


def test_every_program_of_the_repository_ends_this_way():
    root = PROJECTS.parent
    folders = [*(root / "datasets").glob("*.py"), *(root / "demo").glob("*.py")]
    programs = [
        path
        for path in [root / "train_net.py", *folders, *PROJECTS.rglob("*.py")]
        if path.name == "__main__.py" or 'if __name__ == "__main__":' in path.read_text()
    ]
    assert len(programs) > 15
    assert [str(path) for path in programs if "run_command(" not in path.read_text()] == []
